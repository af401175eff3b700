"""Flat: one amount for the month, once there is any usage."""

from __future__ import annotations

from fractions import Fraction

from sublet.ledger.prices.fields import Fields
from sublet.ledger.prices.forms.form import SharedBy, TariffNumbers, Terms
from sublet.ledger.prices.tiers import Tier
from sublet.ledger.usage.meters import Meter


class Flat:
    """See forms.form.Form."""

    name = "flat"
    fields: frozenset[str] = frozenset()
    shared_by = SharedBy.TIME

    def read(self, fields: Fields, meter: Meter) -> Terms:
        return Terms(1, (Tier(0, Fraction(0), fields.nano("amount")),))

    def scaled(self, tariff: TariffNumbers, used: int) -> int:
        return tariff.fees[0]

    def unit(self, tariff: TariffNumbers) -> int | None:
        return None

    def once(self, tariff: TariffNumbers) -> int:
        return tariff.fees[0]
