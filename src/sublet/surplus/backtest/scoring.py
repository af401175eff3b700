"""The rules of the benchmark: one series, one policy, and what became of the windows that it started.

Fluid accelerators, unlimited buyers, one-accelerator windows of a whole number of slots. Internal work comes first:
where demand leaves less than was sold, windows break. Only windows that run to their end count.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sublet.demand.model import Floats, Slots


@dataclass(frozen=True)
class Trace:
    """A complete hourly series with its warm-up. Nothing before slot `warmup` is scored, nor is anything sold there.

    `known`, where jobs are known, has a row for each slot: what those that ran or waited when it began need from it on, by slot.
    """

    name: str
    first_hour: int
    capacity: Floats
    in_use: Floats
    warmup: int
    bridged: int = 0
    known: Floats | None = None

    def __len__(self) -> int:
        return int(self.capacity.size)

    @property
    def idle(self) -> Floats:
        """Whole accelerators that the owner leaves idle in each slot."""
        return np.floor(np.maximum(self.capacity - self.in_use, 0))

    def until(self, end: int) -> Trace:
        """The first `end` slots alone."""
        known = None if self.known is None else self.known[:end]
        return Trace(
            self.name, self.first_hour, self.capacity[:end], self.in_use[:end], self.warmup, self.bridged, known
        )

    def need(self, t: int) -> Floats:
        """What the jobs known when slot `t` began need from it on; empty where none are known."""
        return np.empty(0) if self.known is None else self.known[t]


def trace_of(slots: Slots, warmup: int) -> Trace:
    """A trace from slots; an unseen slot repeats the last that was seen, and their number is kept in `bridged`."""
    whole, bridged = slots.carried()
    return Trace(slots.pool, slots.start_s // slots.slot_s, whole.capacity, whole.in_use, warmup, bridged)


@dataclass
class Tally:
    """What became of one window length: windows that ended, windows that broke, hours of service that the latter lost."""

    window: int
    finished: int = 0
    broken: int = 0
    lost_hours: int = 0
    broken_after: dict[int, int] = field(default_factory=dict)

    def survival(self) -> dict[int, float]:
        """Share of the windows that were still served after 1, 2, … hours."""
        sold, left = self.finished + self.broken, self.finished + self.broken
        found = {}
        for hours in range(1, self.window + 1):
            left -= self.broken_after.get(hours - 1, 0)
            found[hours] = left / sold if sold else 1.0
        return found

    @property
    def honored_hours(self) -> int:
        return self.finished * self.window

    @property
    def broken_per_1000(self) -> float:
        sold = self.finished + self.broken
        return 1000 * self.broken / sold if sold else 0.0


@dataclass
class Outcome:
    """One run: a tally per window length, hours displaced and sold where every promise was kept, and the run by slot."""

    tallies: dict[int, Tally]
    displaced_hours: float = 0.0
    kept_hours: float = 0.0
    sold: list[int] = field(default_factory=list)
    sold_by_window: dict[int, list[int]] = field(default_factory=dict)
    broken: list[int] = field(default_factory=list)


class Policy(Protocol):
    """Says how many windows to start. It sees the trace before slot `t` alone, its own book, and what became of it."""

    windows: tuple[int, ...]

    def starts(self, t: int, book: Book) -> dict[int, int]:
        """New windows by length at slot `t`, before demand in it is known."""
        ...

    def saw(self, t: int, finished: int, broken: int) -> None:
        """Windows that ended at the start of slot `t` and windows that broke in it."""
        ...


class Book:
    """Running windows: `cells[window][j]` of them end after j more slots beyond the present one."""

    def __init__(self, windows: tuple[int, ...]) -> None:
        self.cells = {window: [0] * window for window in windows}

    @property
    def total(self) -> int:
        return sum(sum(cells) for cells in self.cells.values())

    def of(self, window: int) -> int:
        """Running windows of one length."""
        return sum(self.cells[window])

    def running(self, slots: int) -> Floats:
        """Windows still running in each of the next `slots` slots, the present one first."""
        ahead = np.zeros(slots)
        for cells in self.cells.values():
            counts = np.cumsum(np.array(cells[::-1], dtype=np.float64))[::-1][:slots]
            ahead[: counts.size] += counts
        return ahead

    def start(self, window: int, count: int) -> None:
        self.cells[window][-1] += count

    def end_slot(self) -> dict[int, int]:
        """Time passes by one slot; the windows that reached their end, by length."""
        ended = {}
        for window, cells in self.cells.items():
            ended[window] = cells.pop(0)
            cells.append(0)
        return ended


Ranking = Callable[[Book, int, int], tuple[float, ...]]
"""Sorts cells of a book (window length, slots left beyond the present one): the smallest breaks first."""


def youngest_first(book: Book, window: int, place: int) -> tuple[float, ...]:
    """The plain order: who began last goes first; of equals the one with the longest left."""
    return (window - 1 - place, -place)


def least_value_first(book: Book, window: int, place: int) -> tuple[float, ...]:
    """The least value destroyed: hours already served that become worthless, weighted by how dear the promise was.

    A longer window was promised more firmly, so each of its broken promises weighs as much as its whole length.
    """
    served = window - 1 - place
    return (served + window, served, -place)


def bound(trace: Trace, window: int, end: int | None = None) -> int:
    """Hours that perfect knowledge could honor with windows of one length, greedy and equal to the linear program."""
    idle = trace.idle[trace.warmup : end]
    used = np.zeros(idle.size)
    hours = 0
    for t in range(idle.size - window + 1):
        start = max(0.0, float((idle[t : t + window] - used[t : t + window]).min()))
        if start:
            used[t : t + window] += start
            hours += int(start) * window
    return hours


def run(trace: Trace, policy: Policy, order: Ranking = youngest_first, *, keep: bool = False) -> Outcome:
    """Score `policy` on `trace`. With `keep` no promise is broken, and the internal work that waits is counted."""
    outcome = Outcome({window: Tally(window) for window in policy.windows})
    book = Book(policy.windows)
    idle = trace.idle
    ended_before = 0
    for t in range(trace.warmup, len(trace)):
        for window, count in policy.starts(t, book).items():
            if count > 0 and t + window <= len(trace):
                book.start(window, count)
        total = book.total
        outcome.kept_hours += total
        over = max(0, total - int(idle[t]))
        broken = 0
        if over and keep:
            outcome.displaced_hours += over
        elif over:
            broken = over
            _break(book, over, order, outcome)
        outcome.sold.append(total - broken)
        for window, cells in book.cells.items():
            outcome.sold_by_window.setdefault(window, []).append(sum(cells))
        outcome.broken.append(broken)
        policy.saw(t, ended_before, broken)
        ended_before = 0
        for window, count in book.end_slot().items():
            outcome.tallies[window].finished += count
            ended_before += count
    return outcome


def score(trace: Trace, make_policy: Callable[[Trace], Policy], order: Ranking = youngest_first) -> Outcome:
    """Both runs of the benchmark: what broke, and what internal work would have waited had nothing been broken."""
    outcome = run(trace, make_policy(trace), order)
    kept = run(trace, make_policy(trace), order, keep=True)
    outcome.displaced_hours, outcome.kept_hours = kept.displaced_hours, kept.kept_hours
    return outcome


def _break(book: Book, over: int, order: Ranking, outcome: Outcome) -> None:
    places = [(window, place) for window, cells in book.cells.items() for place in range(window) if cells[place]]
    for window, place in sorted(places, key=lambda item: order(book, *item)):
        cut = min(over, book.cells[window][place])
        book.cells[window][place] -= cut
        tally = outcome.tallies[window]
        tally.broken += cut
        served = window - 1 - place
        tally.lost_hours += cut * served
        tally.broken_after[served] = tally.broken_after.get(served, 0) + cut
        over -= cut
        if over == 0:
            return


def whole(number: float) -> int:
    """A stated quantity as a count: floored, at least 0."""
    return max(0, math.floor(number)) if math.isfinite(number) else 0
