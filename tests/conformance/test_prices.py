"""Every shipped form of price passes its suite, and the suite catches forms that break a promise each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from sublet.conformance import Check, NonconformingError
from sublet.conformance.prices import CHECKS, PriceStage
from sublet.ledger.prices.fields import Fields
from sublet.ledger.prices.forms import FORMS
from sublet.ledger.prices.forms.flat import Flat
from sublet.ledger.prices.forms.form import Form, SharedBy, TariffNumbers, Terms
from sublet.ledger.prices.forms.graduated import Graduated
from sublet.ledger.prices.forms.package import Package
from sublet.ledger.prices.forms.per_unit import PerUnit
from sublet.ledger.prices.forms.volume import Volume
from sublet.ledger.usage.meters import Meter

TIERS = {
    "per": 1000,
    "tiers": [{"up_to": 100, "amount": "3"}, {"up_to": 500, "amount": "2", "flat": "1"}, {"amount": "1"}],
}
DEARER = {"tiers": [{"up_to": 100, "amount": "0.01"}, {"amount": "0.02", "flat": "3"}]}
ENTRIES: dict[str, Sequence[Mapping[str, Any]]] = {
    "flat": [{"amount": "20"}],
    "per_unit": [{"amount": "0.01875", "per": 1_000_000}, {"amount": "0.07"}],
    "graduated": [TIERS, DEARER],
    "volume": [TIERS, DEARER],
    "package": [{"amount": "5", "size": 1000}, {"amount": "0.1", "size": 3}],
}


@pytest.mark.parametrize("check", CHECKS, ids=str)
@pytest.mark.parametrize("name", FORMS)
def test_every_shipped_form_conforms(name: str, check: Check[PriceStage]) -> None:
    check(PriceStage(FORMS[name], ENTRIES[name]))


def test_the_registry_is_as_it_was() -> None:
    assert list(FORMS) == ["flat", "per_unit", "graduated", "volume", "package"]
    assert all(check.promise.endswith(".") for check in CHECKS)


class Guesses(PerUnit):
    def read(self, fields: Fields, meter: Meter) -> Terms:
        return super().read(
            fields if fields.has("amount") else Fields({"amount": "0.000001"}, "x", frozenset({"amount"})), meter
        )


class Floats(PerUnit):
    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        return used * float(tariff.units[0])  # type: ignore[return-value]


class Refunds(PerUnit):
    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        return super().scaled(tariff, used) - 10**15


class Counts(PerUnit):
    """Keeps something of its own between two calls."""

    calls = 0

    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        self.calls += 1
        return super().scaled(tariff, used) + self.calls * tariff.scale


class Squares(PerUnit):
    """Dearer the more is used, and says that every unit costs the same."""

    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        return used * used * tariff.units[0]


class FixedPart(PerUnit):
    """A discount does not reach all of it."""

    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        return super().scaled(tariff, used) + 7 * tariff.scale


class Cheap(Package):
    """Promises a budget that no package will be begun."""

    def once(self, tariff: TariffNumbers) -> int:
        return 0


class Forgetful(Volume):
    """Promises a budget that nothing is repriced."""

    def once(self, tariff: TariffNumbers) -> int:
        return max(tariff.fees)


class LowTiers(Graduated):
    def once(self, tariff: TariffNumbers) -> int:
        return 0


class Metered(Flat):
    """Is owed for its time, and counts."""

    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        return tariff.fees[0] * used


class Undeclared(Package):
    fields = frozenset({"size", "color"})


class Untimely(PerUnit):
    shared_by: Any = "sometimes"


BROKEN: list[tuple[Form, str, str]] = [
    (Guesses(), "per_unit", "an_entry_is_read_and_nothing_is_guessed"),
    (Floats(), "per_unit", "money_is_exact_and_never_negative"),
    (Refunds(), "per_unit", "money_is_exact_and_never_negative"),
    (Counts(), "per_unit", "events_add_up_to_the_whole"),
    (Squares(), "per_unit", "a_unit_price_is_true"),
    (Squares(), "per_unit", "the_ceiling_holds"),
    (FixedPart(), "per_unit", "a_discount_takes_its_share"),
    (FixedPart(), "per_unit", "a_unit_price_is_true"),
    (Cheap(), "package", "the_ceiling_holds"),
    (Forgetful(), "volume", "the_ceiling_holds"),
    (LowTiers(), "graduated", "the_ceiling_holds"),
    (Metered(), "flat", "what_is_owed_for_its_time_asks_for_no_quantity"),
    (Undeclared(), "package", "the_form_describes_itself"),
    (Untimely(), "per_unit", "the_form_describes_itself"),
]


@pytest.mark.parametrize(("form", "like", "promise"), BROKEN, ids=[type(item[0]).__name__ for item in BROKEN])
def test_a_form_that_breaks_a_promise_is_caught(form: Form, like: str, promise: str) -> None:
    [check] = [check for check in CHECKS if check.name == promise]
    with pytest.raises(NonconformingError):
        check(PriceStage(form, ENTRIES[like]))
    assert type(FORMS[like]) is not type(form) and SharedBy.TIME in SharedBy
