"""The book of one pool: every accelerator in exactly one state in every second."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from sublet.allocation.errors import UnusableStateError


class Use(StrEnum):
    """What an accelerator is in. The order decides where more is stated than there is: the earlier state keeps it."""

    UNAVAILABLE = "unavailable"
    """Failed, under repair, or in maintenance."""
    INTERNAL = "internal"
    """Used by the owner's own work."""
    EXTERNAL = "external"
    """Rented raw, or answering tokens."""
    DRAINING = "draining"
    STARTING = "starting"
    WITHHELD = "withheld"
    """Kept off sale by the rule, a claim, or a reserve."""
    UNSOLD = "unsold"
    """On sale, and nobody took it."""


@dataclass(frozen=True, slots=True)
class Span:
    """`accelerators` in one state over `[start_s, end_s)`, in seconds since the epoch. `team` names who used or claimed them;
    `product` is the class or model that was sold."""

    use: Use
    start_s: int
    end_s: int
    accelerators: int
    team: str = ""
    product: str = ""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How many accelerators there are over `[start_s, end_s)`; capacity may change over time."""

    start_s: int
    end_s: int
    accelerators: int


@dataclass(slots=True)
class Book:
    """Accelerator-seconds by state, team and product. `capacity_s` is what there was in all; `excess_s` is what was stated beyond it,
    such as a queue: demand above capacity is no use."""

    capacity_s: int = 0
    seconds: dict[tuple[Use, str, str], int] = field(default_factory=dict)
    excess_s: int = 0

    def of(self, use: Use) -> int:
        return sum(count for (state, _, _), count in self.seconds.items() if state is use)

    def team(self, use: Use, team: str, product: str | None = None) -> int:
        """Accelerator-seconds of a team, of one product only where it is given."""
        return sum(
            count
            for (state, name, found), count in self.seconds.items()
            if (state, name) == (use, team) and product in (None, found)
        )

    @property
    def teams(self) -> list[str]:
        return sorted({name for state, name, _ in self.seconds if name and state in (Use.INTERNAL, Use.WITHHELD)})

    def check(self) -> None:
        """Raises AssertionError if the states do not add up to all accelerator-seconds."""
        assert sum(self.seconds.values()) == self.capacity_s, "the states of a pool do not add up to its capacity"

    def add(self, other: Book) -> None:
        self.capacity_s += other.capacity_s
        self.excess_s += other.excess_s
        for key, count in other.seconds.items():
            self.seconds[key] = self.seconds.get(key, 0) + count


def book(capacity: Sequence[Capacity], spans: Sequence[Span], on_sale: Sequence[Capacity] | None = None) -> Book:
    """Account for every second of `capacity`. Where spans state more accelerators than there are, the first states of `Use` keep
    theirs, and within a state spans that began earlier. What no span states is unsold as far as it was `on_sale` (None: all of it)
    and withheld beyond that. Raises UnusableStateError for capacity that overlaps or a span that ends before it begins."""
    _check([*capacity], spans)
    _check([*(on_sale or ())], ())
    found = Book()
    rank = {use: number for number, use in enumerate(Use)}
    everything: list[Capacity | Span] = [*capacity, *spans, *(on_sale or ())]
    moments = sorted({moment for item in everything for moment in (item.start_s, item.end_s)})
    ordered = sorted(spans, key=lambda item: (rank[item.use], item.start_s, item.team, item.product))
    held: list[list[Span]] = [[] for _ in moments]
    for span in ordered:
        for place in range(bisect_left(moments, span.start_s), bisect_left(moments, span.end_s)):
            held[place].append(span)
    for (start, end), spans_here in zip(pairwise(moments), held, strict=False):
        there = left = _at(capacity, start, end)
        for span in spans_here:
            taken = min(span.accelerators, left)
            left -= taken
            found.excess_s += (span.accelerators - taken) * (end - start)
            _count(found, (span.use, span.team, span.product), taken * (end - start))
        offered = left if on_sale is None else min(left, _at(on_sale, start, end))
        _count(found, (Use.UNSOLD, "", ""), offered * (end - start))
        _count(found, (Use.WITHHELD, "", ""), (left - offered) * (end - start))
        found.capacity_s += there * (end - start)
    found.check()
    return found


def _at(steps: Sequence[Capacity], start: int, end: int) -> int:
    return sum(item.accelerators for item in steps if item.start_s <= start and item.end_s >= end)


def _count(found: Book, key: tuple[Use, str, str], seconds: int) -> None:
    if seconds:
        found.seconds[key] = found.seconds.get(key, 0) + seconds


def _check(capacity: Sequence[Capacity], spans: Sequence[Span]) -> None:
    ordered = sorted(capacity, key=lambda item: item.start_s)
    for before, after in pairwise(ordered):
        if after.start_s < before.end_s:
            raise UnusableStateError("two statements of a pool's capacity overlap; state it once for each time")
    everything: list[Capacity | Span] = [*capacity, *spans]
    for item in everything:
        if item.end_s < item.start_s or item.accelerators < 0:
            raise UnusableStateError("a span has no negative length and no negative number of accelerators")


def shares(total: int, weights: Mapping[str, int]) -> dict[str, int]:
    """`total` divided by weight into whole parts that add up to it: by largest remainder, ties by name. Nothing is divided where
    there is no weight."""
    whole = sum(weights.values())
    if whole <= 0:
        return dict.fromkeys(weights, 0)
    sign, size = (1, total) if total >= 0 else (-1, -total)
    found = {name: size * weight // whole for name, weight in weights.items()}
    rests = sorted(weights, key=lambda name: (-(size * weights[name] % whole), name))
    for name in rests[: size - sum(found.values())]:
        found[name] += 1
    return {name: sign * count for name, count in found.items()}
