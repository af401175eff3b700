"""Package: units are sold by packages of `size`; one that is begun is paid."""

from __future__ import annotations

from sublet.ledger.prices.fields import Fields
from sublet.ledger.prices.forms.form import SharedBy, TariffNumbers, Terms
from sublet.ledger.prices.tiers import Tier
from sublet.ledger.usage.meters import Meter


class Package:
    """See forms.form.Form."""

    name = "package"
    fields = frozenset({"size"})
    shared_by = SharedBy.QUANTITY

    def read(self, fields: Fields, meter: Meter) -> Terms:
        size = fields.whole("size", None, 1)
        return Terms(size, (Tier(0, fields.nano("amount")),), package=size * meter.steps_per_unit)

    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        return -(-used // tariff.package) * tariff.units[0]

    def unit(self, tariff: TariffNumbers) -> int | None:
        return None

    def once(self, tariff: TariffNumbers) -> int:
        return tariff.units[0]
