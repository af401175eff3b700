"""Graduated: each unit costs what its tier says; entering a tier may cost a fee."""

from __future__ import annotations

from sublet.ledger.prices.fields import Fields
from sublet.ledger.prices.forms.form import SharedBy, TariffNumbers, Terms
from sublet.ledger.usage.meters import Meter


class Graduated:
    """See forms.form.Form."""

    name = "graduated"
    fields = frozenset({"tiers"})
    shared_by = SharedBy.ORDER

    def read(self, fields: Fields, meter: Meter) -> Terms:
        per = fields.whole("per", 1, 1)
        return Terms(per, fields.tiers(meter.steps_per_unit, per))

    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        total = 0
        for index, start in enumerate(tariff.starts):
            if used <= start:
                break
            end = tariff.starts[index + 1] if index + 1 < len(tariff.starts) else used
            total += (min(used, end) - start) * tariff.units[index] + tariff.fees[index]
        return total

    def unit(self, tariff: TariffNumbers) -> int | None:
        return None

    def once(self, tariff: TariffNumbers) -> int:
        return sum(tariff.fees)
