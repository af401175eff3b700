"""Charge-back as rows of FOCUS Cost and Usage (https://focus.finops.org): one for each team, the team as the sub-account.

An internal charge is no invoice, so it bills nothing: BilledCost is 0, and EffectiveCost is what the team is charged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from sublet.allocation.chargeback.model import Month
from sublet.allocation.chargeback.statement import Basis, TeamLine
from sublet.values.clock import format_time
from sublet.values.money import decimal_from_nano

PROVIDER = "Sublet"
OWNER = "owner"
PRICED_AT = {Basis.COST: "cost", Basis.MARKET: "market price", Basis.OPPORTUNITY: "what its use displaced"}
_DIGITS = Decimal("0.000000000001")


def focus_rows(
    month: Month,
    basis: Basis,
    statements: Mapping[str, Sequence[TeamLine]],
    names: Mapping[str, str],
    columns: Sequence[str],
) -> Iterator[Mapping[str, Any]]:
    """A row for each team and currency, with `columns` alone."""
    start, end = format_time(month.start), format_time(month.end)
    for currency, lines in statements.items():
        for line in lines:
            seconds = line.used_s if basis is Basis.OPPORTUNITY else line.used_s + line.claimed_idle_s
            hours = (Decimal(seconds) / 3600).quantize(_DIGITS)
            cost = decimal_from_nano(line.charge.nano)
            price = (cost / hours).quantize(_DIGITS) if hours else None
            row: dict[str, Any] = {
                "BilledCost": 0,
                "EffectiveCost": cost,
                "ContractedCost": cost,
                "ListCost": cost,
                "BillingAccountId": OWNER,
                "BillingAccountName": "Owner of the fleet",
                "BillingCurrency": currency,
                "BillingPeriodStart": start,
                "BillingPeriodEnd": end,
                "ChargePeriodStart": start,
                "ChargePeriodEnd": end,
                "ChargeCategory": "Usage",
                "ChargeDescription": f"Accelerators used and claimed in {month.label}, at {PRICED_AT[basis]}",
                "ChargeFrequency": "Recurring",
                "ConsumedQuantity": hours,
                "ConsumedUnit": "Hours",
                "PricingQuantity": hours,
                "PricingUnit": "Hours",
                "PricingCategory": "Standard",
                "ContractedUnitPrice": price,
                "ListUnitPrice": price,
                "InvoiceIssuerName": PROVIDER,
                "ProviderName": PROVIDER,
                "PublisherName": PROVIDER,
                "ServiceProviderName": PROVIDER,
                "HostProviderName": PROVIDER,
                "ServiceCategory": "Compute",
                "ServiceSubcategory": "Virtual Machines",
                "ServiceName": "Internal capacity",
                "SkuId": f"internal-{basis.value}",
                "SkuPriceId": f"internal-{basis.value}",
                "SkuMeter": "Accelerator time",
                "SubAccountId": line.team,
                "SubAccountName": names.get(line.team, line.team),
                "SubAccountType": "Team",
                "Tags": json.dumps(
                    {
                        "sublet/claimed_idle_s": str(line.claimed_idle_s),
                        "sublet/patience_s": str(line.patience_s),
                        "sublet/used_s": str(line.used_s),
                    }
                ),
            }
            yield {name: row.get(name) for name in columns}
