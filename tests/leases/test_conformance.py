"""What every backend must do. The same tests run on the simulated backend and, marked real, on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.leases.world import KEY

from sublet.leases.backends.base import Backend, Observation, RunState, StartOrder
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.simulated import SimulatedBackend
from sublet.values.clock import Clock, SimulatedClock, SystemClock
from sublet.values.errors import InvalidInputError
from sublet.values.ids import new_id

PATIENCE_S = 60.0


class Bench:
    """A backend, its clock, and a way to let time pass on either."""

    def __init__(self, backend: Backend, clock: Clock, crash: Callable[[str], None]) -> None:
        self.backend, self.clock, self.crash = backend, clock, crash

    def order(self, seconds: float = 60, lease_id: str | None = None, **changes: Any) -> StartOrder:
        end = self.clock.now() + timedelta(seconds=seconds)
        values = {"lease_id": lease_id or new_id("lse"), "tenant": "org_a", "devices": ("cpu:0",),
                  "authorized_keys": (KEY,), "ends_at": end}  # fmt: skip
        return StartOrder(**{**values, **changes})

    def until(self, lease_id: str, wanted: Callable[[Observation], bool]) -> Observation:
        """Wait for real, or move the clock, until `wanted`."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            seen = self.backend.observe(lease_id)
            if wanted(seen):
                return seen
            assert time.monotonic() < deadline, f"still {seen}"
            if isinstance(self.clock, SimulatedClock):
                self.clock.advance(0.1)
            else:
                time.sleep(0.01)

    def running(self, seconds: float = 60, **changes: Any) -> StartOrder:
        order = self.order(seconds, **changes)
        self.backend.start(order)
        self.until(order.lease_id, lambda seen: seen.state is RunState.RUNNING)
        return order


@pytest.fixture(params=["simulated", pytest.param("local", marks=pytest.mark.real)])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    if request.param == "simulated":
        clock = SimulatedClock(datetime.now(UTC))
        simulated = SimulatedBackend(clock)
        yield Bench(simulated, clock, simulated.crash)
        return
    from tests.leases.machine import kill_shim, local_settings

    backend = LocalBackend(local_settings(tmp_path))
    yield Bench(backend, SystemClock(), lambda lease_id: kill_shim(tmp_path, lease_id))
    left = [seen for lease_id in backend.observe_all() if not (seen := backend.stop(lease_id, "test", 0.0)).clean]
    assert left == []


def test_unknown(bench: Bench) -> None:
    for call in (bench.backend.observe, bench.backend.withdraw_notice, bench.backend.pause):
        assert call("lse_0").state is RunState.ABSENT
    assert bench.backend.stop("lse_0", "x").state is RunState.ABSENT
    bench.backend.forget("lse_0")


def test_start_twice_is_one_lease(bench: Bench) -> None:
    order = bench.order()
    for _ in range(3):
        bench.backend.start(order)
    first = bench.until(order.lease_id, lambda seen: seen.state is RunState.RUNNING)
    again = bench.backend.start(order)
    assert again.endpoint == first.endpoint and len(bench.backend.observe_all()) == 1
    assert len(bench.backend.observe(order.lease_id).deliveries) == 1


def test_a_running_lease_says_what_it_promises_and_where_its_door_is(bench: Bench) -> None:
    order = bench.running()
    seen = bench.backend.observe(order.lease_id)
    assert seen.endpoint is not None and seen.endpoint.port > 0 and seen.endpoint.fingerprint.startswith("SHA256:")
    assert seen.guarantees and all(item["level"] in ("hard", "soft", "none") for item in seen.guarantees.values())
    assert seen.ends_at == order.ends_at and seen.reclaim_at is None and seen.clean is None


def test_it_ends_by_itself_on_time_and_evidence_stops_there(bench: Bench) -> None:
    order = bench.running(3)
    seen = bench.until(order.lease_id, lambda seen: seen.state is RunState.STOPPED)
    assert (seen.reason, seen.clean, seen.endpoint) == ("window_over", True, None)
    end = seen.delivered_until
    assert end is not None and order.ends_at - timedelta(seconds=1.5) <= end <= order.ends_at
    assert bench.clock.now() < order.ends_at + timedelta(seconds=3)
    assert not any(item.open for item in seen.deliveries)


def test_notice_moves_the_end_and_can_be_withdrawn(bench: Bench) -> None:
    order = bench.running()
    soon = bench.clock.now() + timedelta(seconds=30)
    for _ in range(2):
        assert bench.backend.notice(order.lease_id, soon, "notice").reclaim_at is not None
    assert bench.until(order.lease_id, lambda seen: seen.reclaim_at == soon).state is RunState.RUNNING
    bench.backend.withdraw_notice(order.lease_id)
    bench.until(order.lease_id, lambda seen: seen.reclaim_at is None)
    bench.backend.notice(order.lease_id, bench.clock.now() + timedelta(seconds=1), "now")
    seen = bench.until(order.lease_id, lambda seen: seen.state is RunState.STOPPED)
    assert (seen.reason, seen.clean) == ("reclaimed", True)


def test_extend_moves_the_end_in_either_direction(bench: Bench) -> None:
    order = bench.running(2.5)
    later = order.ends_at + timedelta(seconds=60)
    bench.backend.extend(order.lease_id, later)
    bench.until(order.lease_id, lambda seen: bench.clock.now() > order.ends_at + timedelta(seconds=1))
    assert bench.backend.observe(order.lease_id).state is RunState.RUNNING
    bench.backend.extend(order.lease_id, bench.clock.now())
    assert bench.until(order.lease_id, lambda seen: seen.state is RunState.STOPPED).reason == "window_over"


def test_stop_is_complete_and_may_be_repeated(bench: Bench) -> None:
    order = bench.running()
    for _ in range(2):
        seen = bench.backend.stop(order.lease_id, "released")
        assert (seen.state, seen.reason, seen.clean) == (RunState.STOPPED, "released", True)
    assert bench.backend.start(order).state is RunState.STOPPED, "what is over does not begin again"


def test_stop_before_it_runs(bench: Bench) -> None:
    order = bench.order()
    bench.backend.start(order)
    seen = bench.backend.stop(order.lease_id, "canceled")
    assert seen.state.over and seen.clean


def test_a_crash_is_seen_and_start_brings_the_same_lease_back(bench: Bench) -> None:
    order = bench.running()
    before = bench.backend.observe(order.lease_id)
    bench.crash(order.lease_id)
    bench.until(order.lease_id, lambda seen: seen.state is RunState.PAUSED)
    bench.backend.start(order)
    after = bench.until(order.lease_id, lambda seen: seen.state is RunState.RUNNING)
    assert after.endpoint == before.endpoint, "same port, same host key"
    first, second = after.deliveries
    assert first.end <= second.start and not first.open and second.open


def test_pause_keeps_the_lease_for_the_next_start(bench: Bench) -> None:
    order = bench.running()
    assert bench.backend.pause(order.lease_id).state is RunState.PAUSED
    assert bench.backend.pause(order.lease_id).state is RunState.PAUSED
    bench.backend.start(order)
    bench.until(order.lease_id, lambda seen: seen.state is RunState.RUNNING)


def test_new_terms_of_a_paused_lease_hold_when_it_comes_back(bench: Bench) -> None:
    order = bench.running()
    bench.backend.pause(order.lease_id)
    reclaim_at = bench.clock.now() + timedelta(seconds=40)
    bench.backend.start(StartOrder(order.lease_id, order.tenant, order.devices, order.authorized_keys,
                                   order.ends_at, reclaim_at=reclaim_at))  # fmt: skip
    seen = bench.until(order.lease_id, lambda seen: seen.state is RunState.RUNNING)
    assert seen.reclaim_at == reclaim_at


@pytest.mark.parametrize("devices", [("cpu:1",), ("cpu:0", "cpu:1")])
def test_a_paused_lease_comes_back_on_other_devices(bench: Bench, devices: tuple[str, ...]) -> None:
    """With its door and home; what was delivered counts the devices of its time."""
    order = bench.running(devices=("cpu:0",))
    before = bench.backend.observe(order.lease_id)
    bench.backend.pause(order.lease_id)
    bench.backend.start(replace(order, devices=devices))
    after = bench.until(order.lease_id, lambda seen: seen.state is RunState.RUNNING)
    assert after.endpoint == before.endpoint
    assert [item.accelerators for item in after.deliveries] == [1, len(devices)]


def test_forget_only_what_is_over_and_clean(bench: Bench) -> None:
    order = bench.running()
    with pytest.raises(InvalidInputError):
        bench.backend.forget(order.lease_id)
    bench.backend.stop(order.lease_id, "x")
    bench.backend.forget(order.lease_id)
    assert bench.backend.observe(order.lease_id).state is RunState.ABSENT and bench.backend.observe_all() == {}


def test_reap_ends_strangers_and_spares_what_is_known(bench: Bench) -> None:
    known, stranger = bench.running(), bench.running(devices=("cpu:1",))
    bench.crash(stranger.lease_id)
    bench.backend.reap(frozenset({known.lease_id}))
    bench.backend.reap(frozenset({known.lease_id}))
    assert list(bench.backend.observe_all()) == [known.lease_id]
    assert bench.backend.observe(known.lease_id).state is RunState.RUNNING


@pytest.mark.parametrize("changes", [{"devices": ()}, {"authorized_keys": ()}, {"authorized_keys": ("x",)}])
def test_a_bad_order_leaves_nothing(bench: Bench, changes: dict[str, Any]) -> None:
    order = bench.order(**changes)
    with pytest.raises(InvalidInputError):
        bench.backend.start(order)
    assert bench.backend.stop(order.lease_id, "x").state is RunState.ABSENT
    assert bench.backend.observe_all() == {}
