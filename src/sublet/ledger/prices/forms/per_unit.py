"""Per unit: every unit costs the same."""

from __future__ import annotations

from sublet.ledger.prices.fields import Fields
from sublet.ledger.prices.forms.form import SharedBy, TariffNumbers, Terms
from sublet.ledger.prices.tiers import Tier
from sublet.ledger.usage.meters import Meter


class PerUnit:
    """See forms.form.Form."""

    name = "per_unit"
    fields: frozenset[str] = frozenset()
    shared_by = SharedBy.ORDER

    def read(self, fields: Fields, meter: Meter) -> Terms:
        per = fields.whole("per", 1, 1)
        return Terms(per, (Tier(0, fields.nano("amount") / (per * meter.steps_per_unit)),))

    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        return used * tariff.units[0]

    def unit(self, tariff: TariffNumbers) -> int | None:
        return tariff.units[0]

    def once(self, tariff: TariffNumbers) -> int:
        return 0
