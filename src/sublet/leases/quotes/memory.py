"""The calendar in memory: what the one writer knows of each pool's fences, so that a sale need not read a thousand of them.

It is a copy. `calendar` changes it with each of its statements, and `store.changes` tells when anything else has changed the table:
then it is dropped and read again. Readers, and PostgreSQL, ask the database.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from sublet.values.clock import to_micros
from sublet.values.windows import Window

NEVER = 2**63 - 1
TAIL = 1_024
POOLS_MAX = 1_000

Integers = NDArray[np.int64]
Flags = NDArray[np.bool_]
Kind = tuple[str, str | None]
"""A class and a block."""
Fence = tuple[str, str, int]
"""Which fence: its holder, its accelerator, and when it begins."""

_START, _END, _FENCE_START, _FENCE_END, _EXPIRES, _UNIT, _KIND, _HOLDER = range(8)


@dataclass(frozen=True, slots=True)
class Row:
    """A fence as the database has it: times in microseconds since the epoch."""

    holder_id: str
    unit_id: str
    class_name: str
    block_id: str | None
    start: int
    end: int
    fence_start: int
    fence_end: int
    expires: int | None


class PoolCalendar:
    """The fences of one pool: most of them in the order of their beginnings, the latest as they came.

    A row that is deleted stays, and overlaps nothing: its times are 0.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self._units: dict[str, int] = {}
        self._kinds: dict[Kind, int] = {}
        self._names: list[Kind] = []
        listed = np.array([self._numbers(row) for row in rows], dtype=np.int64).reshape(len(rows), 8)
        self._sorted = np.ascontiguousarray(listed[np.argsort(listed[:, _FENCE_START], kind="stable")].T)
        self._tail = np.zeros((8, TAIL), dtype=np.int64)
        self._used = 0
        self._longest = int((listed[:, _FENCE_END] - listed[:, _FENCE_START]).max(initial=0))
        self._expires = int(listed[:, _EXPIRES].min(initial=NEVER))
        self.version = 0
        """Changes with every change of the calendar."""

    # -- changes

    def add(self, rows: Iterable[Row]) -> None:
        """New fences."""
        self.version += 1
        for row in rows:
            if self._used == TAIL:
                self._merge()
            numbers = self._numbers(row)
            self._tail[:, self._used] = numbers
            self._used += 1
            self._longest = max(self._longest, row.fence_end - row.fence_start)
            self._expires = min(self._expires, numbers[_EXPIRES])

    def remove(self, fence: Fence) -> None:
        """A fence is gone."""
        self.version += 1
        for rows, place in self._places(fence):
            rows[[_START, _END, _FENCE_END, _HOLDER], place] = 0
            rows[_EXPIRES, place], rows[_UNIT, place] = NEVER, -1

    def end(self, fence: Fence, end: int, fence_end: int) -> None:
        """A fence ends at another time."""
        self.version += 1
        for rows, place in self._places(fence):
            rows[_END, place], rows[_FENCE_END, place] = end, fence_end
        self._longest = max(self._longest, fence_end - fence[2])

    # -- questions

    def expired(self, now: datetime) -> bool:
        """Whether some hold may have expired and still be there."""
        at = to_micros(now)
        if self._expires > at:
            return False
        self._expires = min(int(part[_EXPIRES].min(initial=NEVER)) for part in self._parts())
        return self._expires <= at

    def busy(self, fenced: Window, now: datetime) -> Flags:
        """By number, which accelerators somebody holds at any time of `fenced`."""
        start, end, at = to_micros(fenced.start), to_micros(fenced.end), to_micros(now)
        found = np.zeros(len(self._units) + 1, dtype=np.bool_)
        first, last = np.searchsorted(self._sorted[_FENCE_START], (start - self._longest, end))
        for part in (self._sorted[:, first:last], self._tail[:, : self._used]):
            over = (part[_FENCE_END] > start) & (part[_EXPIRES] > at) & (part[_FENCE_START] < end)
            found[part[_UNIT][over]] = True
        return found

    def number(self, unit_id: str) -> int:
        """The number of an accelerator in `busy`."""
        return self._units.setdefault(unit_id, len(self._units))

    def alike(self, now: datetime) -> list[tuple[int, str, int, int, str | None]]:
        """What is sold or held from `now` on: accelerators, class, start and end, block."""
        counted: dict[tuple[int, int, int], int] = {}
        for part in self._parts():
            over = part[:, self._standing(part, to_micros(now))]
            for kind, start, end in zip(over[_KIND].tolist(), over[_START].tolist(), over[_END].tolist(), strict=True):
                counted[kind, start, end] = counted.get((kind, start, end), 0) + 1
        names = self._names
        return [(many, names[kind][0], start, end, names[kind][1]) for (kind, start, end), many in counted.items()]

    def any(self, now: datetime) -> bool:
        """Whether anything is sold or held from `now` on."""
        at = to_micros(now)
        return any(
            bool(self._standing(part[:, place : place + TAIL], at).any())
            for part in (self._tail[:, : self._used], self._sorted)
            for place in range(0, part.shape[1], TAIL)
        )

    def until(self, now: datetime, until: int) -> tuple[Integers, Integers, Integers]:
        """What is sold or held from `now` on and begins before `until`, an entry for each accelerator: when it starts and ends, and
        the number of its kind."""
        at = to_micros(now)
        first, last = np.searchsorted(self._sorted[_FENCE_START], (at - self._longest, until))
        found = []
        for part in (self._sorted[:, first:last], self._tail[:, : self._used]):
            over = self._standing(part, at) & (part[_START] < until)
            found.append(part[:, over])
        joined = np.concatenate(found, axis=1)
        return joined[_START], joined[_END], joined[_KIND]

    @property
    def kinds(self) -> Sequence[Kind]:
        """The kinds by their numbers."""
        return self._names

    # -- inside

    @staticmethod
    def _standing(part: Integers, at: int) -> Flags:
        found: Flags = (part[_END] > at) & (part[_FENCE_END] > at) & (part[_EXPIRES] > at)
        return found

    def _parts(self) -> Iterator[Integers]:
        yield self._sorted
        yield self._tail[:, : self._used]

    def _numbers(self, row: Row) -> tuple[int, ...]:
        kind = (row.class_name, row.block_id)
        number = self._kinds.get(kind)
        if number is None:
            number = self._kinds[kind] = len(self._names)
            self._names.append(kind)
        expires = NEVER if row.expires is None else row.expires
        unit = self.number(row.unit_id)
        return (row.start, row.end, row.fence_start, row.fence_end, expires, unit, number, hash(row.holder_id))

    def _places(self, fence: Fence) -> Iterator[tuple[Integers, int]]:
        """Where a fence is."""
        holder_id, unit_id, begin = fence
        unit, holder = self._units.get(unit_id, -1), hash(holder_id)
        first, last = np.searchsorted(self._sorted[_FENCE_START], (begin, begin + 1))
        for rows in (self._sorted[:, first:last], self._tail[:, : self._used]):
            its = (rows[_UNIT] == unit) & (rows[_HOLDER] == holder) & (rows[_FENCE_START] == begin)
            for place in np.flatnonzero(its):
                yield rows, int(place)

    def _merge(self) -> None:
        """Sort the latest fences in among the others, without those that were deleted."""
        tail = self._tail[:, : self._used]
        tail = tail[:, np.argsort(tail[_FENCE_START], kind="stable")]
        tail, kept = (part[:, part[_UNIT] >= 0] for part in (tail, self._sorted))
        places = np.searchsorted(kept[_FENCE_START], tail[_FENCE_START], side="right")
        self._sorted = np.insert(kept, places, tail, axis=1)
        self._used = 0


class Calendars:
    """The calendars of the pools that were asked for, as the one writer sees them."""

    def __init__(self) -> None:
        self._pools: dict[str, PoolCalendar] = {}

    def pool(self, pool_id: str, read: Callable[[], Sequence[Row]]) -> PoolCalendar:
        """The calendar of a pool; `read` finds its fences."""
        found = self._pools.get(pool_id)
        if found is None:
            if len(self._pools) >= POOLS_MAX:
                self._pools.clear()
            found = self._pools[pool_id] = PoolCalendar(read())
        return found

    def known(self, pool_id: str) -> PoolCalendar | None:
        """The calendar of a pool that was asked for before."""
        return self._pools.get(pool_id)
