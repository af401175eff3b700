"""One backend that hangs, fails or answers late holds up nobody else, and what it has is unknown, never gone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest
from tests.leases.world import KEY, PRICE_NANO, World

from sublet.api.wire import BackendState
from sublet.fleet.model import PoolSpec
from sublet.leases.backends.base import BackendFailedError, Observation, RunState, StartOrder
from sublet.leases.backends.guard import FAILURES_MAX, Breaker, Deadlines, GuardedBackend, UnansweredError
from sublet.leases.backends.simulated import SimulatedBackend
from sublet.leases.lifecycle.lanes import Lanes
from sublet.leases.model import LeaseState
from sublet.leases.service import Leases
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.wire import as_answer

QUICK = Deadlines(look_s=0.05, terms_s=0.05, run_s=0.05)


class Hanging(SimulatedBackend):
    """A simulated backend whose calls hang while `open` is not set."""

    name = "hanging"

    def __init__(self, clock: SimulatedClock) -> None:
        super().__init__(clock)
        self.open = threading.Event()
        self.open.set()
        self.hang_on = {"observe_all", "observe", "start", "stop"}
        self.calls = 0

    def _gate(self, name: str) -> None:
        if name in self.hang_on and not self.open.is_set():
            self.calls += 1
            self.open.wait(30)

    def observe_all(self) -> dict[str, Observation]:
        self._gate("observe_all")
        return super().observe_all()

    def observe(self, lease_id: str) -> Observation:
        self._gate("observe")
        return super().observe(lease_id)

    def start(self, order: StartOrder) -> Observation:
        self._gate("start")
        return super().start(order)

    def stop(self, lease_id: str, reason: str, grace_s: float = 2.0) -> Observation:
        self._gate("stop")
        return super().stop(lease_id, reason, grace_s)


@pytest.fixture
def hanging(clock: SimulatedClock) -> Iterator[Hanging]:
    backend = Hanging(clock)
    yield backend
    backend.open.set()


class Two(World):
    """A world with a second pool on a backend that may hang; both run as the service runs them, side by side."""

    def __init__(self, store: Store, clock: SimulatedClock, slow: Hanging) -> None:
        self.slow = slow
        super().__init__(store, clock)
        specs = [
            PoolSpec(
                name,
                "here",
                "cpu",
                backend,
                tuple(f"cpu:{index}" for index in range(4)),
                Decimal(10),
                "assumed",
                PRICE_NANO,
            )
            for name, backend in (("metal", "simulated"), ("slow", "hanging"))
        ]
        self.slow_pool = {pool.name: pool for pool in self.fleet.sync(specs)}["slow"]

    def restart(self) -> Leases:
        leases = super().restart()
        ports = leases._ports
        self.leases = Leases(self.store, {"simulated": self.backend, "hanging": self.slow}, ports, workers=2)
        guards = {name: GuardedBackend(backend, QUICK) for name, backend in leases._backends.items()}
        guards["hanging"] = GuardedBackend(self.slow, QUICK)
        guards["simulated"] = GuardedBackend(self.backend)
        self.leases._backends = self.leases._executor._backends = guards
        self.leases._lanes = Lanes(round_s=2.0)
        return self.leases

    def sell_slow(self, seconds: int = 600) -> str:
        request = replace(self.request(1, "notice", seconds), pool="slow")
        return self.leases.accept("org_slow", self.leases.quote("org_slow", request).id, [KEY]).id


def test_the_leases_of_other_backends_go_on_while_one_hangs(
    store: Store, clock: SimulatedClock, hanging: Hanging
) -> None:
    world = Two(store, clock, hanging)
    kept = world.sell_slow()
    world.run(3)
    assert world.leases.lease(kept).state is LeaseState.ACTIVE
    hanging.open.clear()
    lease = world.sell(seconds=60)
    world.run(70, 5)
    found = world.lease(lease)
    assert found.state is LeaseState.ENDED and found.metered_s >= 50, "started, metered and ended on time"
    assert world.leases.lease(kept).state is LeaseState.ACTIVE, "unknown, and neither degraded nor started again"
    assert [step.subject for step in world.leases.plan().pending if step.kind == "observe"] == ["hanging"]
    told = {item["name"]: item for item in world.leases.backends()}
    assert (told["simulated"]["state"], told["hanging"]["state"]) == ("closed", "open")
    assert "no answer" in told["hanging"]["last_error"] or "not come back" in told["hanging"]["last_error"]
    hanging.open.set()


def test_what_hung_is_billed_to_the_second_once_it_answers_again(
    store: Store, clock: SimulatedClock, hanging: Hanging
) -> None:
    world = Two(store, clock, hanging)
    kept = world.sell_slow(300)
    world.run(3)
    hanging.open.clear()
    world.run(100, 20)
    hanging.open.set()
    world.leases._backends["hanging"]._breaker.answered()  # type: ignore[attr-defined]
    world.run(300, 20)
    found = world.leases.lease(kept)
    assert (found.state, found.metered_s) == (LeaseState.ENDED, 299)


def test_a_start_that_hangs_holds_up_its_own_lane_alone(store: Store, clock: SimulatedClock, hanging: Hanging) -> None:
    world = Two(store, clock, hanging)
    hanging.hang_on = {"start"}
    hanging.open.clear()
    stuck, lease = world.sell_slow(), world.sell(seconds=600)
    world.run(10)
    assert world.lease(lease).state is LeaseState.ACTIVE
    assert world.leases.lease(stuck).state is LeaseState.PREPARING
    hanging.open.set()
    world.leases._backends["hanging"]._breaker.answered()  # type: ignore[attr-defined]
    world.run(10)
    assert world.leases.lease(stuck).state is LeaseState.ACTIVE


def test_a_first_round_does_not_wait_for_a_backend_that_hangs(
    store: Store, clock: SimulatedClock, hanging: Hanging
) -> None:
    world = Two(store, clock, hanging)
    hanging.open.clear()
    world.restart()
    lease = world.sell(seconds=600)
    world.run(5)
    assert world.lease(lease).state is LeaseState.ACTIVE
    hanging.open.set()


def test_nothing_is_reaped_or_forgotten_on_a_backend_that_is_silent(
    store: Store, clock: SimulatedClock, hanging: Hanging
) -> None:
    world = Two(store, clock, hanging)
    world.run(2)
    order = StartOrder(
        "lse_" + "0" * 24, "org_x", ("cpu:3",), (KEY,), datetime.fromisoformat("2026-02-01T00:00:00+00:00")
    )
    world.backend.start(order)
    hanging.open.clear()
    world.run(10)
    assert world.backend.observe(order.lease_id).state is RunState.ABSENT, "the orphan of the other one is reaped"
    hanging.open.set()


def test_a_call_that_hangs_is_not_made_again_and_again(hanging: Hanging) -> None:
    """F21: an engine that is known not to answer is not called until its pause is over."""
    guard = GuardedBackend(hanging, QUICK)
    hanging.open.clear()
    for _ in range(20):
        with pytest.raises(UnansweredError):
            guard.observe_all()
    assert hanging.calls == 1
    assert guard.status()["hanging_calls"] == 1
    hanging.open.set()


def test_a_failure_about_one_lease_does_not_open_the_breaker(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = GuardedBackend(hanging, QUICK)

    def fails(*words: object) -> Observation:
        raise BackendFailedError("its shim does not obey")

    monkeypatch.setattr(hanging, "stop", fails)
    for _ in range(10):
        with pytest.raises(BackendFailedError, match="does not obey"):
            guard.stop("lse_1", "x")
    assert guard.status()["state"] == "closed" and guard.observe_all() == {}
    assert as_answer(BackendState, guard.status()).last_error == guard.status()["last_error"]


def test_a_backend_that_fails_for_all_is_left_alone(hanging: Hanging, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = GuardedBackend(hanging, QUICK)

    def fails() -> dict[str, Observation]:
        raise BackendFailedError("slurmctld is away")

    monkeypatch.setattr(hanging, "observe_all", fails)
    for _ in range(FAILURES_MAX):
        with pytest.raises(BackendFailedError, match="slurmctld is away"):
            guard.observe_all()
    with pytest.raises(UnansweredError, match="tries again in"):
        guard.start(StartOrder("lse_1", "o", ("cpu:0",), (KEY,), datetime.fromisoformat("2026-02-01T00:00:00+00:00")))
    assert guard.status()["state"] == "open"


def test_the_breaker_tries_again_after_ever_longer_pauses() -> None:
    now = [0.0]
    breaker = Breaker(lambda: now[0])
    for _ in range(FAILURES_MAX):
        assert breaker.wait_s() == 0
        opened = breaker.failed()
    assert opened and breaker.state == "open" and breaker.wait_s() > 0
    pauses = []
    for _ in range(8):
        wait_s = breaker.wait_s()
        pauses.append(round(wait_s))
        now[0] += wait_s
        assert breaker.state == "half-open"
        assert breaker.wait_s() == 0, "one tries"
        assert breaker.wait_s() > 0, "and only one"
        assert not breaker.failed()
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    now[0] += 60
    assert breaker.wait_s() == 0 and breaker.answered()
    assert breaker.state == "closed" and breaker.failures == 0 and not breaker.answered()


def test_a_busy_lane_gets_nothing_and_the_others_everything() -> None:
    hold, done = threading.Event(), []
    lanes = Lanes(round_s=0.05)

    def work(items: Sequence[str]) -> None:
        for item in items:
            if item == "slow":
                hold.wait(30)
            done.append(item)

    assert lanes.run({"a": ["slow"], "b": ["x"]}, work) == {"a"}
    assert lanes.busy() == {"a"} and done == ["x"]
    lanes.run({"a": ["y"], "b": ["z"]}, work)
    assert done == ["x", "z"]
    hold.set()
    for thread in list(lanes._running.values()):
        thread.join(30)
    assert lanes.busy() == frozenset() and done == ["x", "z", "slow"]


def test_what_never_failed_has_a_status_too(clock: SimulatedClock) -> None:
    told = as_answer(BackendState, GuardedBackend(SimulatedBackend(clock)).status())
    assert (told.state, told.failures, told.last_error) == ("closed", 0, None)
