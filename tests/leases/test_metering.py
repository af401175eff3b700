"""Metering: however often and whenever it is read, the same evidence gives the same usage, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from tests.leases.test_reclaim import NOW, a_lease

from sublet.leases.backends.base import Delivery
from sublet.leases.lifecycle.metering import UsageInterval, read_meter
from sublet.leases.model import Lease
from sublet.values.windows import Window

RUNS = st.lists(st.tuples(st.integers(0, 90_000_000), st.integers(0, 400_000_000)), max_size=6)


def lease_of(seconds: int) -> Lease:
    return replace(a_lease(1, "notice", 2), window=Window.starting(NOW, seconds), active_at=NOW, reclaim_at=None)


def deliveries_of(runs: list[tuple[int, int]], offset_us: int) -> list[Delivery]:
    """Runs that follow one another: (pause, length) in microseconds."""
    found, moment = [], NOW + timedelta(microseconds=offset_us)
    for pause_us, length_us in runs:
        start = moment + timedelta(microseconds=pause_us)
        moment = start + timedelta(microseconds=length_us)
        found.append(Delivery(start, moment, 2))
    return found


def until(deliveries: list[Delivery], share: float) -> list[Delivery]:
    """The same evidence as it stood earlier: `share` of the way."""
    if not deliveries:
        return []
    now = deliveries[0].start + (deliveries[-1].end - deliveries[0].start) * share
    return [replace(item, end=min(item.end, now)) for item in deliveries if item.start <= now]


@given(RUNS, st.integers(-70_000_000, 70_000_000), st.integers(60, 900), st.lists(st.floats(0, 1), max_size=8))
def test_reading_often_and_reading_once_bill_the_same(
    runs: list[tuple[int, int]], offset_us: int, seconds: int, looks: list[float]
) -> None:
    lease, deliveries = lease_of(seconds), deliveries_of(runs, offset_us)
    once = _read_all(lease, [deliveries])
    often = _read_all(lease, [*(until(deliveries, share) for share in sorted(looks)), deliveries])
    assert once == often
    total = sum(interval.accelerator_s for interval in once.values())
    inside_s = sum(
        max(0.0, (min(item.end, lease.window.end) - max(item.start, lease.window.start)).total_seconds())
        for item in deliveries
    )
    assert total <= 2 * inside_s, "never more than was delivered"
    assert total >= 2 * (inside_s - 2 * len(deliveries)), (
        "at most the broken seconds at both ends of a run are given away"
    )
    for interval in once.values():
        assert lease.window.start <= interval.start < interval.end <= lease.window.end
        assert 0 < interval.accelerator_s <= 120


def _read_all(lease: Lease, looks: list[list[Delivery]]) -> dict[str, UsageInterval]:
    found: dict[str, UsageInterval] = {}
    for index, deliveries in enumerate(looks):
        final = index == len(looks) - 1
        while (reading := read_meter(lease, deliveries, final=final)) is not None:
            for interval in reading.intervals:
                assert interval.id not in found, "billed twice"
                found[interval.id] = interval
            lease = replace(lease, metered_until=reading.metered_until)
            if reading.complete:
                break
    return found


def test_nothing_outside_the_window_or_after_the_deadline_is_billed() -> None:
    lease = replace(lease_of(600), reclaim_at=NOW + timedelta(seconds=90))
    early_and_late = [Delivery(NOW - timedelta(seconds=30), NOW + timedelta(seconds=700), 2)]
    assert sum(i.accelerator_s for i in _read_all(lease, [early_and_late]).values()) == 2 * 90


def test_f15_a_lost_accelerator_stops_its_own_meter_alone() -> None:
    lease = lease_of(600)
    parts = [
        Delivery(NOW, NOW + timedelta(seconds=100), 2),
        Delivery(NOW + timedelta(seconds=100), NOW + timedelta(seconds=600), 1),
    ]
    assert sum(i.accelerator_s for i in _read_all(lease, [parts]).values()) == 2 * 100 + 500


def test_long_evidence_is_read_in_pieces() -> None:
    lease = replace(lease_of(90 * 86_400), accelerators=1)
    reading = read_meter(lease, [Delivery(NOW, lease.window.end, 1)], final=False)
    assert reading is not None and len(reading.intervals) == 1440 and not reading.complete


def test_overlapping_evidence_counts_once() -> None:
    lease = lease_of(600)
    twice = [Delivery(NOW, NOW + timedelta(seconds=60), 2), Delivery(NOW, NOW + timedelta(seconds=60), 2)]
    assert sum(i.accelerator_s for i in _read_all(lease, [twice]).values()) == 120
