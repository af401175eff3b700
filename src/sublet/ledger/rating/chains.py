"""One counter for each chain of prices and month: what a chain's usage comes to when its price or discount changes on the way.

Usage is kept as quantities by rate and by the moment from which that rate holds, so what a month costs does not depend on
the order in which its usage arrives. Nothing restarts where a discount or the next price begins:

- per-unit and graduated prices and free units are marginal in time order: F(q1) + (G(q1 + q2) - G(q1));
- volume and package prices take the whole month's quantity once, shared by quantity;
- flat prices, and included amounts that differ, go by local days.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import floor

from sublet.ledger.prices.book import Rate
from sublet.ledger.prices.forms.form import SharedBy
from sublet.ledger.prices.tariffs import Tariff

Key = tuple[str, str, int]
"""A counter: organization, chain, and start of the month in microseconds."""
CHAINS = "chains"
"""The head that holds the last line from when each rate had a counter of its own."""
SLICES_MAX = 2_000
"""Parts of one month of one chain: more changes of price than that are refused."""


@dataclass(slots=True)
class Slice:
    """`steps` used from `start` (microseconds) on, by one rate; the last of it at `last_at`."""

    start: int
    rate: Rate
    version: int
    steps: int
    last_at: int

    @property
    def order(self) -> tuple[int, str]:
        return self.start, self.rate.id


@dataclass(frozen=True, slots=True)
class Span:
    """A rate and the share of the month in which it holds."""

    rate: Rate
    share: Fraction


@dataclass(slots=True)
class Chain:
    """A counter in one month: what was used, and what of it was posted, by its own prices and by the list."""

    slices: list[Slice] = field(default_factory=list)
    nano: int = 0
    list_nano: int = 0

    @property
    def steps(self) -> int:
        return sum(part.steps for part in self.slices)

    def copy(self) -> Chain:
        """A counter of its own that stands where this one does."""
        return Chain([replace(part) for part in self.slices], self.nano, self.list_nano)

    def stored(self) -> tuple[str, str, str, str]:
        """Quantity, postings, postings by the list, and slices, as they are stored."""
        return str(self.steps), str(self.nano), str(self.list_nano), self.as_json()

    def add(self, start: int, rate: Rate, version: int, steps: int, at: int) -> None:
        """Count `steps` more, or less where negative, used at `at`."""
        for part in self.slices:
            if part.start == start and part.rate.id == rate.id:
                part.steps += steps
                part.last_at = max(part.last_at, at)
                return
        same = [part for part in self.slices if part.rate.id == rate.id and part.steps + steps >= 0]
        if steps < 0 and same:
            # Usage from before there were slices may lie in another one of its rate.
            same[0].steps += steps
            return
        self.slices.append(Slice(start, rate, version, steps, at))
        self.slices.sort(key=lambda part: part.order)

    def value(self, spans: Sequence[Span]) -> int:
        """What the month's usage comes to, rounded down to the nano-unit once for each rate.

        `spans` are the rates of the whole month; empty where one rate holds all through.
        """
        return _total(
            [(part.rate.id, part.rate.tariff, part.steps) for part in self.slices],
            [(span.rate.tariff, span.share) for span in spans],
        )

    def list_value(self, spans: Sequence[Span], list_chain: str) -> int:
        """The same by the list prices that count on `list_chain`: empty for those that count on this chain itself."""
        return _total(
            [
                (part.rate.list_price.id, part.rate.list_price.tariff, part.steps)
                for part in self.slices
                if part.rate.list_chain == list_chain
            ],
            [(span.rate.list_price.tariff, span.share) for span in spans if span.rate.list_chain == list_chain],
        )

    def parts(self, spans: Sequence[Span]) -> list[tuple[int, int]]:
        """What each slice costs in whole nano-units, as (start, nano), in time order; together `value`."""
        used = [(part.rate.id, part.rate.tariff, part.steps) for part in self.slices]
        values = _values(used, [(span.rate.tariff, span.share) for span in spans])
        found: list[tuple[int, int]] = []
        exact: dict[str, Fraction] = defaultdict(Fraction)
        for part, value in zip(self.slices, values, strict=True):
            before = floor(exact[part.rate.id])
            exact[part.rate.id] += value
            found.append((part.start, floor(exact[part.rate.id]) - before))
        return found

    def as_json(self) -> str:
        """The slices in the form in which they are stored."""
        rows = [
            [part.start, part.rate.id, part.rate.list_price.id, part.version, part.steps, part.last_at]
            for part in self.slices
        ]
        return json.dumps(rows, separators=(",", ":"))

    @classmethod
    def of(cls, nano: int, list_nano: int, stored: str, resolve: Callable[[str, str, int], Rate]) -> Chain:
        """A counter as it was stored; `resolve` gives the rate of an id, the id of its list price and a book version."""
        slices = [
            Slice(start, resolve(rate_id, list_id, version), version, steps, last_at)
            for start, rate_id, list_id, version, steps, last_at in json.loads(stored)
        ]
        return cls(slices, nano, list_nano)


_Used = Sequence[tuple[str, Tariff, int]]
"""Quantities by the name of their price and its tariff, in time order."""
_Held = Sequence[tuple[Tariff, Fraction]]
"""Tariffs and the share of the month in which each holds."""


def _total(used: _Used, held: _Held) -> int:
    """The sum of `_values`, rounded down for each name; without fractions where one tariff holds all through."""
    if not used:
        return 0
    name, first, _ = used[0]
    same = all(entry[0] == name for entry in used) and all(tariff == first for tariff, _ in held)
    if same and (first.shared_by is not SharedBy.TIME or not held or sum(share for _, share in held) == 1):
        return first.nano(sum(steps for _, _, steps in used))
    exact: dict[str, Fraction] = defaultdict(Fraction)
    for entry, value in zip(used, _values(used, held), strict=True):
        exact[entry[0]] += value
    return sum(floor(value) for value in exact.values())


def _values(used: _Used, held: _Held) -> list[Fraction]:
    """The exact value of each quantity."""
    whole = sum(steps for _, _, steps in used)
    included = _included(held)
    found: list[Fraction] = []
    before = 0
    for _, tariff, steps in used:
        if included is not None:
            tariff = tariff.with_free(included)
        after = before + steps
        if not whole or tariff.shared_by is SharedBy.TIME:
            found.append(Fraction(0))
        elif tariff.shared_by is SharedBy.QUANTITY:
            found.append(tariff.exact(whole) * steps / whole)
        else:
            found.append(tariff.exact(after) - tariff.exact(before))
        before = after
    if used:
        # A flat price is owed for its time once there is any usage: it counts with the first.
        found[0] += _flat(used, held, whole)
    return found


def _flat(used: _Used, held: _Held, whole: int) -> Fraction:
    flat = [(tariff, share) for tariff, share in held if tariff.shared_by is SharedBy.TIME]
    if not held and used[0][1].shared_by is SharedBy.TIME:
        flat = [(used[0][1], Fraction(1))]
    return sum((tariff.exact(whole) * share for tariff, share in flat), Fraction(0))


def _included(held: _Held) -> int | None:
    """The free quantity of a month in which it changes, by time; None where it does not."""
    if len({tariff.free for tariff, _ in held}) < 2:
        return None
    time = sum((share for _, share in held), Fraction(0))
    exact = sum((tariff.free * share for tariff, share in held), Fraction(0)) / time
    return exact.numerator // exact.denominator
