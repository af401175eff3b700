"""What is sold or held of a pool, as the rule of the surplus asks for it, from the calendar in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, overload

import numpy as np

from sublet.demand.model import Floats, Integers
from sublet.leases.quotes.memory import PoolCalendar
from sublet.surplus.model import IN_BLOCK, Sold
from sublet.surplus.rule.holding import Booked
from sublet.values.clock import from_micros, to_micros
from sublet.values.windows import Window

SOLD_KEPT_MAX = 65_536


class BookedCalendar(Booked):
    """The entries of a pool's calendar from `now` on, and `beside` them what rents from Sublet itself.

    It is for one transaction that sells nothing: the calendar goes on, and at most loses holds that have expired. Two are equal if
    nothing has changed between them.
    """

    def __init__(self, calendar: PoolCalendar, now: datetime, beside: Sequence[Sold] = ()) -> None:
        self._calendar = calendar
        self._now = now
        self._beside = tuple(beside)
        self._version = calendar.version
        self._any: bool | None = None
        self._list: list[Sold] | None = None

    def and_beside(self, beside: Sequence[Sold]) -> BookedCalendar:
        """The same with more beside it."""
        return BookedCalendar(self._calendar, self._now, (*self._beside, *beside))

    def standing(self, at: datetime) -> Sequence[Sold]:
        if at <= self._now:
            return self
        return [item for item in self if item.window.end > at]

    def before(self, until_us: int) -> tuple[Integers, Integers, Floats, Integers, Sequence[str]]:
        starts, ends, kinds = self._calendar.until(self._now, until_us)
        names = [IN_BLOCK if block_id else name for name, block_id in self._calendar.kinds]
        counts = np.ones(starts.size)
        if not self._beside:
            return starts, ends, counts, kinds, names
        more = [(to_micros(item.window.start), to_micros(item.window.end)) for item in self._beside]
        numbers = np.arange(len(names), len(names) + len(more))
        return (
            np.concatenate([starts, np.array([start for start, _ in more], dtype=np.int64)]),
            np.concatenate([ends, np.array([end for _, end in more], dtype=np.int64)]),
            np.concatenate([counts, np.array([item.count for item in self._beside], dtype=np.float64)]),
            np.concatenate([kinds, numbers]),
            [*names, *(item.class_name for item in self._beside)],
        )

    def _all(self) -> list[Sold]:
        if self._list is None:
            self._list = [*(sold(*row) for row in self._calendar.alike(self._now)), *self._beside]
        return self._list

    def __bool__(self) -> bool:
        if self._any is None:
            self._any = bool(self._beside) or self._calendar.any(self._now)
        return self._any

    def __len__(self) -> int:
        return len(self._all())

    def __iter__(self) -> Iterator[Sold]:
        return iter(self._all())

    @overload
    def __getitem__(self, place: int) -> Sold: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Sold]: ...
    def __getitem__(self, place: Any) -> Any:
        return self._all()[place]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BookedCalendar):
            return NotImplemented
        same = self._calendar is other._calendar and self._version == other._version
        return same and self._now == other._now and self._beside == other._beside

    __hash__ = None  # type: ignore[assignment]


@lru_cache(maxsize=SOLD_KEPT_MAX)
def sold(count: int, class_name: str, start_us: int, end_us: int, block_id: str | None) -> Sold:
    """The same entry again and again: between two sales, hardly any of a book changes."""
    window = Window(from_micros(start_us), from_micros(end_us))
    return Sold(count, IN_BLOCK if block_id else class_name, window, block_id)
