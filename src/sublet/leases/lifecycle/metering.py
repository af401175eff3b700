"""Turns evidence of delivery into usage: whole seconds, in intervals that are the same each time they are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any

from sublet.leases.backends.base import Delivery
from sublet.leases.model import METER_STEP_S, Lease
from sublet.values.clock import format_time, from_micros, to_micros
from sublet.values.ids import derived_id

INTERVALS_MAX = 1440
_SECOND_US = 1_000_000
_STEP_US = METER_STEP_S * _SECOND_US


@dataclass(frozen=True, slots=True)
class UsageInterval:
    """`accelerator_s` delivered seconds of a lease within one minute of the clock, at one price. `id` is derived from the
    lease, the minute and the index of the price, so that reporting an interval twice counts once. `hold_number` is the
    reservation that pays for it."""

    id: str
    lease_id: str
    organization_id: str
    pool_id: str
    class_name: str
    start: datetime
    end: datetime
    accelerator_s: int
    price_nano: int
    currency: str
    price_number: int = 0
    hold_number: int = 0

    @property
    def resource(self) -> str:
        """The resource name in the ledger, where each name has one agreed price."""
        return f"{self.lease_id}.{self.price_number + 1}" if self.price_number else self.lease_id

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "lease_id": self.lease_id,
            "start": format_time(self.start),
            "end": format_time(self.end),
            "accelerator_seconds": self.accelerator_s,
        }


@dataclass(frozen=True, slots=True)
class Reading:
    """Intervals to bill, and the time until which the lease is then metered. `complete` means that all evidence is used."""

    intervals: tuple[UsageInterval, ...]
    metered_until: datetime
    complete: bool


def read_meter(lease: Lease, deliveries: Sequence[Delivery], *, final: bool) -> Reading | None:
    """What `deliveries` add to the usage that is metered already, or None if nothing is due.

    A minute is read once the evidence has passed its end; the last, shorter one if `final` is set. Only whole delivered seconds
    count: starts are rounded up, ends down. Nothing counts outside the sold window or after the deadline.
    """
    pieces = _pieces(lease, deliveries)
    if not pieces:
        return None
    first = pieces[0][0] // _STEP_US * _STEP_US
    begin = to_micros(lease.metered_until) if lease.metered_until else first
    settled = max(end for _, end, _ in pieces)
    last = -(-settled // _STEP_US) * _STEP_US if final else settled // _STEP_US * _STEP_US
    if last <= begin:
        return None
    intervals: list[UsageInterval] = []
    minute = begin
    while minute < last and len(intervals) < INTERVALS_MAX:
        found = _intervals(lease, pieces, minute)
        if found:
            intervals += found
            minute += _STEP_US
        else:
            minute = min(last, _next_minute(pieces, minute))
    return Reading(tuple(intervals), from_micros(minute), minute >= last)


def delivered_s(lease: Lease, deliveries: Sequence[Delivery]) -> int:
    """The delivered accelerator-seconds in `deliveries`, as the meter counts them."""
    return sum((end - start) // _SECOND_US * count for start, end, count in _pieces(lease, deliveries))


def _pieces(lease: Lease, deliveries: Sequence[Delivery]) -> list[tuple[int, int, int]]:
    """The delivered pieces; for a lease with a deadline, never more than was promised."""
    pieces = _worked(lease, deliveries)
    if lease.service_s is None:
        return pieces
    left = lease.service_s * lease.sold
    promised = []
    for start, end, count in pieces:
        last = min(end, start + left // count * _SECOND_US)
        if last > start:
            promised.append((start, last, count))
            left -= (last - start) // _SECOND_US * count
        if 0 < left < count and last < end:
            # If an accelerator failed meanwhile, the last second counts fewer accelerators.
            promised.append((last, last + _SECOND_US, left))
            left = 0
    return promised


def _worked(lease: Lease, deliveries: Sequence[Delivery]) -> list[tuple[int, int, int]]:
    """(start, end, accelerators) in microseconds at whole seconds, in order, without overlaps: what was delivered, and at most
    by the lease's accelerators that worked."""
    delivered = _delivered(lease, deliveries)
    if not lease.outages:
        return delivered
    # A second in which an accelerator failed is not billed for it: starts are rounded down, ends up.
    outages = [
        (
            item.unit_id,
            to_micros(item.start) // _SECOND_US * _SECOND_US,
            -(-to_micros(item.end) // _SECOND_US) * _SECOND_US,
        )
        for item in lease.outages
    ]
    edges = sorted({edge for _, begin, finish in outages for edge in (begin, finish)})
    pieces = []
    for start, end, count in delivered:
        cuts = [start, *(edge for edge in edges if start < edge < end), end]
        for first, last in pairwise(cuts):
            out = len({unit for unit, begin, finish in outages if begin <= first and last <= finish})
            worked = min(count, lease.sold - out)
            if worked > 0:
                pieces.append((first, last, worked))
    return pieces


def _delivered(lease: Lease, deliveries: Sequence[Delivery]) -> list[tuple[int, int, int]]:
    opening, closing = to_micros(lease.window.start), to_micros(lease.deadline)
    pieces, until = [], 0
    for delivery in sorted(deliveries, key=lambda item: item.start):
        start = -(-max(to_micros(delivery.start), opening, until) // _SECOND_US) * _SECOND_US
        end = min(to_micros(delivery.end), closing) // _SECOND_US * _SECOND_US
        if start < end:
            pieces.append((start, end, min(delivery.accelerators, lease.sold)))
            until = end
    return pieces


def _intervals(lease: Lease, pieces: list[tuple[int, int, int]], minute: int) -> list[UsageInterval]:
    """The usage delivered in that minute, one interval for each price in it."""
    edges = [minute, *(to_micros(step.start) for step in lease.price_steps), minute + _STEP_US]
    cuts = sorted({edge for edge in edges if minute <= edge <= minute + _STEP_US})
    found = [_interval(lease, pieces, minute, span) for span in pairwise(cuts)]
    return [interval for interval in found if interval is not None]


def _interval(
    lease: Lease, pieces: list[tuple[int, int, int]], minute: int, span: tuple[int, int]
) -> UsageInterval | None:
    first, last = span
    inside = [
        (max(start, first), min(end, last), count) for start, end, count in pieces if start < last and end > first
    ]
    if not inside:
        return None
    number = lease.price_number(from_micros(first))
    parts = [lease.id, format_time(from_micros(minute)), *([str(number)] if number else [])]
    return UsageInterval(
        id=derived_id("evt", *parts),
        lease_id=lease.id,
        organization_id=lease.organization_id,
        pool_id=lease.pool_id,
        class_name=lease.class_name,
        start=from_micros(inside[0][0]),
        end=from_micros(inside[-1][1]),
        accelerator_s=sum((end - start) // _SECOND_US * count for start, end, count in inside),
        price_nano=lease.price_at(from_micros(first)),
        currency=lease.currency,
        price_number=number,
        hold_number=lease.hold_number,
    )


def _next_minute(pieces: list[tuple[int, int, int]], minute: int) -> int:
    """The next minute with any delivery."""
    later = [start for start, _, _ in pieces if start >= minute + _STEP_US]
    return min(later) // _STEP_US * _STEP_US if later else max(end for _, end, _ in pieces) + _STEP_US
