"""What every form of price must do. The stage has the form and entries of a price book that use it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from sublet.conformance.check import Checks, expect, refuses
from sublet.ledger.prices.forms import FORMS
from sublet.ledger.prices.forms.form import Form, SharedBy
from sublet.ledger.prices.tariffs import Tariff
from sublet.ledger.prices.terms import Price, read_price
from sublet.values.errors import InvalidInputError

METER = "tokens.output"
SEED = 7
ROUNDS = 200


@dataclass(frozen=True, slots=True)
class PriceStage:
    """`entries` are the fields that only the form has, with `amount` and `per` where it uses them: `{"amount": "2.50"}`. Each is
    tried; give several that differ."""

    form: Form
    entries: Sequence[Mapping[str, Any]]

    @contextmanager
    def installed(self) -> Iterator[None]:
        """The form as a line of the registry."""
        before = FORMS.get(self.form.name)
        FORMS[self.form.name] = self.form
        try:
            yield
        finally:
            if before is None:
                del FORMS[self.form.name]
            else:
                FORMS[self.form.name] = before

    def price(self, entry: Mapping[str, Any], **more: Any) -> Price:
        """The price of an entry, as a price book would hold it."""
        whole = {"id": "p", "meter": METER, "kind": self.form.name, "currency": "USD", "from": "2026-01-01T00:00:00Z"}
        found = read_price({**whole, **entry, **more}, "the entry")
        assert isinstance(found, Price)
        return found

    def tariffs(self) -> list[Tariff]:
        """What the entries cost."""
        return [self.price(entry).tariff for entry in self.entries]


_check: Checks[PriceStage] = Checks()


def _quantities(tariff: Tariff) -> list[int]:
    """Quantities in which forms differ: at and beside each edge, and any others."""
    chance = random.Random(SEED)
    edges = [*tariff.starts, tariff.package, 2 * tariff.package]
    near = [edge + step for edge in edges for step in (-1, 0, 1, 2)]
    return sorted({0, 1, *(each for each in near if each > 0), *(chance.randrange(1, 10**9) for _ in range(40))})


@_check
def an_entry_is_read_and_nothing_is_guessed(stage: PriceStage) -> None:
    """Every entry is read; without any one of its own fields, or with one that nobody knows, it is refused."""
    with stage.installed():
        for entry in stage.entries:
            stage.price(entry)
            refuses(InvalidInputError, lambda: stage.price({**entry, "wings": 2}), "an unknown field was taken")  # noqa: B023
            for field in entry:
                if field != "per":
                    left = {name: value for name, value in entry.items() if name != field}
                    refuses(InvalidInputError, lambda: stage.price(left), f"it is read without {field}")  # noqa: B023
            if "amount" in entry:
                for wrong in ("-1", "much", 1.5):
                    bad = {**entry, "amount": wrong}
                    refuses(InvalidInputError, lambda: stage.price(bad), f"amount {wrong!r} was taken")  # noqa: B023


@_check
def the_form_describes_itself(stage: PriceStage) -> None:
    """Its name is a word, its fields are those that its entries have, and it says how a month is shared."""
    expect(stage.form.name.replace("_", "").isalpha(), f"the name is {stage.form.name!r}")
    used = {field for entry in stage.entries for field in entry} - {"amount", "per", "free"}
    expect(used == set(stage.form.fields), f"fields are {sorted(stage.form.fields)}, the entries have {sorted(used)}")
    expect(isinstance(stage.form.shared_by, SharedBy), f"shared_by is {stage.form.shared_by!r}")


@_check
def money_is_exact_and_never_negative(stage: PriceStage) -> None:
    """Costs are whole numbers over the tariff's scale, and never below zero. Nothing used costs nothing."""
    with stage.installed():
        for tariff in stage.tariffs():
            for steps in _quantities(tariff):
                scaled = tariff.scaled(steps)
                expect(type(scaled) is int, f"{steps} steps cost {scaled!r}, which is no whole number")
                expect(scaled >= 0, f"{steps} steps cost {scaled}, less than nothing")
            expect(tariff.scaled(0) == 0, "nothing used costs something")


@_check
def events_add_up_to_the_whole(stage: PriceStage) -> None:
    """What is posted event by event adds up to what the whole quantity costs, whatever the order."""
    chance = random.Random(SEED)
    with stage.installed():
        for tariff in stage.tariffs():
            for _ in range(ROUNDS // 10):
                parts = [chance.randrange(1, 10**6) for _ in range(8)]
                totals = set()
                for _ in range(3):
                    chance.shuffle(parts)
                    used = posted = 0
                    for steps in parts:
                        posted += tariff.nano(used + steps) - tariff.nano(used)
                        used += steps
                    totals.add(posted)
                expect(totals == {tariff.nano(sum(parts))}, f"{parts} post {totals}, not {tariff.nano(sum(parts))}")


@_check
def free_units_are_free(stage: PriceStage) -> None:
    """With free units, using no more than them costs nothing, and what goes beyond costs as if they were not there."""
    with stage.installed():
        for entry in stage.entries:
            plain, free = stage.price(entry).tariff, stage.price(entry, free=5).tariff
            steps = free.free
            expect(steps > 0 and free.scaled(steps) == 0, "the free units cost something")
            for more in (1, 7, 1000):
                expect(
                    free.exact(steps + more) == plain.exact(more), f"{more} beyond the free units cost something else"
                )


@_check
def a_discount_takes_its_share(stage: PriceStage) -> None:
    """A tariff with 12.5 % off costs exactly seven eighths, at every quantity."""
    with stage.installed():
        for tariff in stage.tariffs():
            less = tariff.discounted(Fraction(25, 2))
            for steps in _quantities(tariff):
                expect(
                    less.exact(steps) == tariff.exact(steps) * 7 / 8,
                    f"{steps} steps with 12.5 % off cost something else",
                )


@_check
def a_unit_price_is_true(stage: PriceStage) -> None:
    """A tariff that names a price of every unit costs just that many times it; leases are quoted by it."""
    with stage.installed():
        for tariff in stage.tariffs():
            unit = tariff.unit_price()
            for steps in _quantities(tariff) if unit is not None else ():
                expect(
                    tariff.exact(steps) == steps * (unit or 0),
                    f"{steps} steps do not cost {steps} times the unit price",
                )


@_check
def the_ceiling_holds(stage: PriceStage) -> None:
    """Whatever was used before, s further steps cost at most `once` plus s times `unit`: hard budgets hold that much."""
    chance = random.Random(SEED)
    with stage.installed():
        for tariff in stage.tariffs():
            once, unit = tariff.ceiling()
            marks = _quantities(tariff)
            pairs = [(before, steps) for before in marks for steps in (1, 2, 50)]
            pairs += [(chance.choice(marks), chance.randrange(1, 10**7)) for _ in range(ROUNDS)]
            for before, steps in pairs:
                cost = tariff.exact(before + steps) - tariff.exact(before)
                expect(cost <= once + unit * steps, f"{steps} steps after {before} cost {cost}, the ceiling said less")


@_check
def what_is_owed_for_its_time_asks_for_no_quantity(stage: PriceStage) -> None:
    """A form that is shared by time costs the same for any quantity."""
    with stage.installed():
        for tariff in stage.tariffs() if stage.form.shared_by is SharedBy.TIME else ():
            costs = {tariff.scaled(steps) for steps in _quantities(tariff) if steps}
            expect(len(costs) == 1, f"it is shared by time, and costs {len(costs)} different amounts")


CHECKS = tuple(_check.all)
"""Every promise of `ledger.prices.forms.form.Form`."""
