"""Volume: all units cost what the tier says that the whole quantity reaches."""

from __future__ import annotations

from itertools import pairwise

from sublet.ledger.prices.fields import Fields
from sublet.ledger.prices.forms.form import SharedBy, TariffNumbers, Terms
from sublet.ledger.usage.meters import Meter


class Volume:
    """See forms.form.Form."""

    name = "volume"
    fields = frozenset({"tiers"})
    shared_by = SharedBy.QUANTITY

    def read(self, fields: Fields, meter: Meter) -> Terms:
        per = fields.whole("per", 1, 1)
        return Terms(per, fields.tiers(meter.steps_per_unit, per))

    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        chosen = 0
        for index, start in enumerate(tariff.starts):
            if used > start:
                chosen = index
        return used * tariff.units[chosen] + tariff.fees[chosen]

    def unit(self, tariff: TariffNumbers) -> int | None:
        return None

    def once(self, tariff: TariffNumbers) -> int:
        """A volume price that gets dearer may reprice what came before, which at each tier's start is at most as much."""
        repriced = zip(pairwise(tariff.units), tariff.starts[1:], strict=True)
        return max(tariff.fees) + sum(max(0, dearer - cheaper) * start for (cheaper, dearer), start in repriced)
