"""The most that usage can cost: what has to be held before it, and what is held of it until it is rated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from sublet.ledger.model import Party
from sublet.ledger.prices.book import PriceBook, Rate
from sublet.ledger.prices.booking import Books


@dataclass(frozen=True, slots=True)
class Most:
    """At most `steps` of the smallest steps of any of `meters`, however they are spread over them.

    `dimensions` is canonical JSON, as on the usage event.
    """

    meters: tuple[str, ...]
    steps: int
    dimensions: str = "{}"


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that usage costs: `fixed_nano`, and for each step of its parts so much, rounded up."""

    fixed_nano: int
    step_nanos: tuple[int, ...]

    def nano(self, steps: Sequence[int]) -> int:
        """The most that so many steps of each part cost."""
        return self.fixed_nano + sum(nano * count for nano, count in zip(self.step_nanos, steps, strict=True))


def ceiling(books: Books, book: PriceBook, party: Party, usage: Sequence[Most], moments: Sequence[int]) -> Ceiling:
    """The most that usage of the meters of `usage`, however much it is, can cost at the dearest prices of any of `moments`."""
    fixed, steps = 0, [Fraction(0)] * len(usage)
    for at in moments:
        found = [_dearest(books, book, party, item, at) for item in usage]
        fixed = max(fixed, sum(once for once, _ in found))
        steps = [max(known, unit) for known, (_, unit) in zip(steps, found, strict=True)]
    return Ceiling(fixed, tuple(-(-unit.numerator // unit.denominator) for unit in steps))


def most_nano(books: Books, book: PriceBook, party: Party, usage: Sequence[Most], at: int) -> int:
    """The most that `usage` at the moment `at` (microseconds) can cost under `book`, in nano-units, whatever was used before it.

    Holds for one usage event per meter, or for several whose quantities fall into one month. Less usage never costs
    more. A meter without a price costs nothing yet; free units are not counted on.
    """
    fixed, variable = 0, Fraction(0)
    for item in usage:
        if item.steps > 0:
            once, dearest = _dearest(books, book, party, item, at)
            fixed += once
            variable += dearest * item.steps
    return fixed + -(-variable.numerator // variable.denominator)


def _dearest(books: Books, book: PriceBook, party: Party, item: Most, at: int) -> tuple[int, Fraction]:
    """What any usage of a part costs at most, besides the price of a step of its dearest meter."""
    fixed, dearest = 0, Fraction(0)
    for meter in item.meters:
        rate = books.rate(book, party, meter, item.dimensions, at, "")
        if rate is None:
            continue
        once, unit = _ceiling(rate, books.rates_of_month(book, party, meter, item.dimensions, at))
        # Plus one, because the posted amount is the difference of two sums that are each rounded down.
        fixed += once + 1
        dearest = max(dearest, unit)
    return fixed, dearest


def _ceiling(rate: Rate, month: Sequence[Rate]) -> tuple[int, Fraction]:
    """The ceiling of a rate in a month in which others of its chain hold too: usage moves the others' share of tiers, packages
    and free units on by as much as it adds, and takes its own share of a price that the whole month has."""
    others = [other for other in month if other.chain == rate.chain and other.id != rate.id]
    once, unit = rate.tariff.ceiling()
    if not others or all(each.tariff.unit_price() is not None for each in (rate, *others)):
        return once, unit
    ceilings = [(once, unit), *(other.tariff.ceiling() for other in others)]
    return once + sum(each[0] for each in ceilings), unit + sum((each[1] for each in ceilings), Fraction(0))
