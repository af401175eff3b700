"""Every shipped backend passes its suite, and the suite catches backends that break a promise each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.leases.slurm_cluster import SlurmCluster

from sublet.conformance import Check, NonconformingError, backends
from sublet.conformance.backends import CHECKS, BackendStage
from sublet.leases.backends.base import Endpoint, Observation, RunState, StartOrder
from sublet.leases.backends.engine import Inventory, Node, ReserveOrder, Traits
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.registry import KINDS
from sublet.leases.backends.simulated import Simulated, SimulatedBackend
from sublet.leases.backends.simulated_shared import SharedSimulatedBackend
from sublet.leases.backends.slurm.backend import SlurmBackend
from sublet.values.clock import SimulatedClock, SystemClock

FLEET = Traits(reserves=True, picks_units=True, unreserved=frozenset({"spot"}))
SHIPPED = [
    "simulated",
    "simulated-file",
    "simulated-fleet",
    pytest.param("local", marks=pytest.mark.real),
    pytest.param("slurm", marks=pytest.mark.real),
]


def fleet_on_a_clock(backend: SimulatedBackend, clock: SimulatedClock, **changes: Any) -> BackendStage:
    """A stage of an engine that reserves, picks, and takes leases back by itself."""

    def preempt(lease_id: str) -> None:
        backend.preempt(lease_id, clock.now() + timedelta(seconds=2))

    return on_a_clock(backend, clock, preempt=preempt, **changes)


def on_a_clock(backend: SimulatedBackend, clock: SimulatedClock, **changes: Any) -> BackendStage:
    stage = BackendStage(backend, clock, lambda: clock.advance(0.1), backend.crash, lambda: backend, patience_s=0.5)
    return replace(stage, **changes)


@pytest.fixture
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BackendStage]:
    clock = SimulatedClock(datetime.now(UTC))
    if request.param == "simulated":
        yield on_a_clock(SimulatedBackend(clock), clock)
    elif request.param == "simulated-fleet":
        yield fleet_on_a_clock(SimulatedBackend(clock, traits=FLEET), clock)
    elif request.param == "simulated-file":
        path = tmp_path / "leases.json"
        shared = SharedSimulatedBackend(clock, path)
        yield on_a_clock(shared, clock, reopen=lambda: SharedSimulatedBackend(clock, path))
    elif request.param == "slurm":
        yield from on_slurm(request.getfixturevalue("slurm_cluster"), tmp_path)
    else:
        from tests.leases.machine import kill_shim, local_settings

        backend = LocalBackend(local_settings(tmp_path))
        yield BackendStage(
            backend,
            SystemClock(),
            lambda: time.sleep(0.01),
            lambda lease_id: kill_shim(tmp_path, lease_id),
            lambda: LocalBackend(local_settings(tmp_path)),
        )
        left = [seen for lease_id in backend.observe_all() if not (seen := backend.stop(lease_id, "test", 0.0)).clean]
        assert left == []


def on_slurm(cluster: SlurmCluster, tmp_path: Path) -> Iterator[BackendStage]:
    """A cluster on which nothing runs. Internal work preempts the spot lease."""
    cluster.clear()
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o700)

    def fresh() -> SlurmBackend:
        return SlurmBackend("slurm", SystemClock(), cluster.settings(shared))

    def preempt(lease_id: str) -> None:
        cluster.submit("sleep 1", "-p", "internal", f"--nodes={cluster.nodes}", "--exclusive")

    backend = fresh()
    yield BackendStage(
        backend,
        SystemClock(),
        lambda: time.sleep(0.05),
        lambda lease_id: cluster.kill_holders(shared, lease_id),
        fresh,
        devices=("n1:0", "n2:0"),
        preempt=preempt,
        start_s=8.0,
    )
    left = [seen for lease_id in backend.observe_all() if not (seen := backend.stop(lease_id, "test", 0.0)).clean]
    assert left == []


@pytest.mark.parametrize("check", CHECKS, ids=str)
@pytest.mark.parametrize("stage", SHIPPED, indirect=True)
def test_every_shipped_backend_conforms(stage: BackendStage, check: Check[BackendStage]) -> None:
    check(stage)


def test_every_kind_of_the_registry_is_here() -> None:
    assert set(KINDS) == {"simulated", "local", "slurm"}
    assert all(check.promise.endswith(".") for check in CHECKS)


class StartsTwice(SimulatedBackend):
    """Makes another lease each time that it is asked to start one."""

    def start(self, order: StartOrder) -> Observation:
        seen = super().start(order)
        self._leases[order.lease_id].port += 1
        return seen


class SaysStopped(SimulatedBackend):
    """Takes what it does not know for what is over."""

    def observe(self, lease_id: str) -> Observation:
        seen = super().observe(lease_id)
        return replace(seen, state=RunState.STOPPED) if seen.state is RunState.ABSENT else seen


class DeliversForEver(SimulatedBackend):
    """Goes on counting after the end."""

    def observe(self, lease_id: str) -> Observation:
        seen = super().observe(lease_id)
        if not seen.state.over or not seen.deliveries:
            return seen
        last = replace(seen.deliveries[-1], end=self._clock.now())
        return replace(seen, deliveries=(*seen.deliveries[:-1], last))


class CountsOne(SimulatedBackend):
    """Tells of one accelerator, whatever was ordered."""

    def observe(self, lease_id: str) -> Observation:
        seen = super().observe(lease_id)
        return replace(seen, deliveries=tuple(replace(item, accelerators=1) for item in seen.deliveries))


class OnlyWarns(SimulatedBackend):
    """Tells the tenant, and lets the lease run on."""

    def notice(self, lease_id: str, reclaim_at: datetime, text: str, *, comes_back: bool | None = None) -> Observation:
        return super().notice(lease_id, reclaim_at + timedelta(days=1), text, comes_back=comes_back)


class NeverWithdraws(SimulatedBackend):
    def withdraw_notice(self, lease_id: str) -> Observation:
        return self.observe(lease_id)


class OnlyLonger(SimulatedBackend):
    def extend(self, lease_id: str, ends_at: datetime) -> Observation:
        seen = self.observe(lease_id)
        return super().extend(lease_id, max(ends_at, seen.ends_at or ends_at))


class NeverClean(SimulatedBackend):
    def _over(self, found: Simulated, state: RunState, reason: str, error: str | None = None) -> None:
        super()._over(found, state, reason, error)
        found.clean = None


class StopsAll(SimulatedBackend):
    def stop(self, lease_id: str, reason: str, grace_s: float = 2.0) -> Observation:
        for known in list(self._leases):
            super().stop(known, reason)
        return super().stop(lease_id, reason)


class MovesTheDoor(SimulatedBackend):
    """A lease that comes back has a host key of its own."""

    def observe(self, lease_id: str) -> Observation:
        seen = super().observe(lease_id)
        door = Endpoint("127.0.0.1", 22, "tenant", "ssh-ed25519 BBBB", f"SHA256:{len(seen.deliveries)}")
        return replace(seen, endpoint=door if seen.endpoint else None)


class Forgets(SimulatedBackend):
    def forget(self, lease_id: str) -> None:
        self._leases.pop(lease_id, None)


class ReapsAll(SimulatedBackend):
    def reap(self, known: frozenset[str]) -> list[Observation]:
        return super().reap(frozenset())


class SparesAll(SimulatedBackend):
    def reap(self, known: frozenset[str]) -> list[Observation]:
        return []


class TakesAnything(SimulatedBackend):
    """Writes an order down before it looks at it."""

    def start(self, order: StartOrder) -> Observation:
        now = self._clock.now()
        self._leases.setdefault(order.lease_id, Simulated(order, RunState.STARTING, 1, now, order.reclaim_at, now))
        return super().start(order)


class KeepsItsKeys(SimulatedBackend):
    """Lets in who was let in first, whatever it is told afterwards."""

    def start(self, order: StartOrder) -> Observation:
        found = self._leases.get(order.lease_id)
        return super().start(replace(order, authorized_keys=found.order.authorized_keys) if found else order)


class IgnoresTheDeadline(SimulatedBackend):
    def start(self, order: StartOrder) -> Observation:
        return super().start(replace(order, reclaim_at=None))


class Restarts(SimulatedBackend):
    """Begins again what is over."""

    def start(self, order: StartOrder) -> Observation:
        found = self._leases.get(order.lease_id)
        if found is not None and found.state.over:
            del self._leases[order.lease_id]
        return super().start(order)


class NeverPauses(SimulatedBackend):
    def pause(self, lease_id: str) -> Observation:
        return self.observe(lease_id)


class CountsWrong(SimulatedBackend):
    def served_max(self) -> int | None:
        return -1


BROKEN = {
    StartsTwice: "starting_again_is_one_lease",
    SaysStopped: "unknown_leases_are_absent",
    DeliversForEver: "stop_is_complete_and_may_be_repeated",
    CountsOne: "delivery_is_evidence",
    OnlyWarns: "notice_moves_the_end_and_can_be_withdrawn",
    NeverWithdraws: "notice_moves_the_end_and_can_be_withdrawn",
    OnlyLonger: "extend_moves_the_end_in_either_direction",
    NeverClean: "it_ends_by_itself",
    StopsAll: "leases_are_apart",
    MovesTheDoor: "a_crash_is_seen_and_start_brings_the_same_lease_back",
    Forgets: "forget_takes_only_what_is_over_and_clean",
    ReapsAll: "reap_ends_strangers_and_spares_what_is_known",
    SparesAll: "reap_ends_strangers_and_spares_what_is_known",
    KeepsItsKeys: "a_running_lease_takes_other_keys",
    TakesAnything: "a_bad_order_leaves_nothing",
    IgnoresTheDeadline: "an_order_may_carry_a_deadline",
    Restarts: "stop_is_complete_and_may_be_repeated",
    NeverPauses: "pause_keeps_the_lease_for_the_next_start",
    CountsWrong: "limits_are_told",
}


@pytest.mark.parametrize(("kind", "promise"), BROKEN.items(), ids=[kind.__name__ for kind in BROKEN])
def test_a_backend_that_breaks_a_promise_is_caught(kind: type[SimulatedBackend], promise: str) -> None:
    [check] = [check for check in CHECKS if check.name == promise]
    clock = SimulatedClock(datetime.now(UTC))
    with pytest.raises(NonconformingError):
        check(on_a_clock(kind(clock), clock))


class KeepsTheFirst(SimulatedBackend):
    """Takes no change of what it keeps."""

    def reserve(self, order: ReserveOrder) -> Observation:
        return super().reserve(self._kept.get(order.lease_id, order))


class KeepsForEver(SimulatedBackend):
    def release(self, lease_id: str) -> None:
        return None


class SaysNothingOfPlaces(SimulatedBackend):
    def observe(self, lease_id: str) -> Observation:
        return replace(super().observe(lease_id), devices=())


class TakesInSilence(SimulatedBackend):
    """Takes a lease back, and does not say so."""

    def observe(self, lease_id: str) -> Observation:
        return replace(super().observe(lease_id), taken_at=None)


class ListsTwice(SimulatedBackend):
    def inventory(self) -> Inventory:
        return Inventory((Node("n1", 8), Node("n1", 8)))


BROKEN_FLEETS = {
    KeepsTheFirst: "capacity_is_kept_ahead_and_released",
    KeepsForEver: "capacity_is_kept_ahead_and_released",
    SaysNothingOfPlaces: "a_lease_says_where_it_is",
    TakesInSilence: "what_the_engine_takes_back_is_told",
    ListsTwice: "what_the_engine_has_is_told",
}


@pytest.mark.parametrize(("kind", "promise"), BROKEN_FLEETS.items(), ids=[kind.__name__ for kind in BROKEN_FLEETS])
def test_an_engine_of_a_fleet_that_breaks_a_promise_is_caught(kind: type[SimulatedBackend], promise: str) -> None:
    [check] = [check for check in CHECKS if check.name == promise]
    clock = SimulatedClock(datetime.now(UTC))
    with pytest.raises(NonconformingError):
        check(fleet_on_a_clock(kind(clock, traits=FLEET), clock))


def test_a_backend_that_forgets_at_a_restart_is_caught() -> None:
    clock = SimulatedClock(datetime.now(UTC))
    stage = on_a_clock(SimulatedBackend(clock), clock, reopen=lambda: SimulatedBackend(clock))
    with pytest.raises(NonconformingError, match="after a restart"):
        backends.leases_outlive_the_caller(stage)
