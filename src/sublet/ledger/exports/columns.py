"""Columns of the FOCUS datasets (https://focus.finops.org), in the alphabetical order of the specification."""

from __future__ import annotations

from typing import Any

_SHARED = """
BilledCost BillingAccountId BillingAccountName BillingCurrency BillingPeriodEnd BillingPeriodStart CapacityReservationId
CapacityReservationStatus ChargeCategory ChargeClass ChargeDescription ChargeFrequency ChargePeriodEnd ChargePeriodStart
CommitmentDiscountStatus ConsumedQuantity ConsumedUnit ContractedCost ContractedUnitPrice EffectiveCost InvoiceDetailId
InvoiceId InvoiceIssuerName ListCost ListUnitPrice PricingCategory PricingQuantity PricingUnit RegionId RegionName
ResourceId ResourceName ResourceType ServiceCategory ServiceName ServiceSubcategory SkuId SkuMeter SkuPriceDetails
SkuPriceId SubAccountId SubAccountName SubAccountType Tags
""".split()
_COMMITMENT_DISCOUNT = """
CommitmentDiscountCategory CommitmentDiscountId CommitmentDiscountName CommitmentDiscountQuantity CommitmentDiscountType
CommitmentDiscountUnit
""".split()
_OWN = ["x_LineCount", "x_LineFirst", "x_TransactionNumber"]

COLUMNS_1_2 = [*sorted([*_SHARED, *_COMMITMENT_DISCOUNT, "ProviderName", "PublisherName"]), *_OWN]
COLUMNS_1_4 = [
    *sorted([*_SHARED, *_COMMITMENT_DISCOUNT, "ServiceProviderName", "HostProviderName", "ContractApplied"]),
    *_OWN,
]
COMMITMENT_COLUMNS = """
BillingCurrency ContractCommitmentCategory ContractCommitmentCost ContractCommitmentDescription ContractCommitmentId
ContractCommitmentPeriodEnd ContractCommitmentPeriodStart ContractCommitmentQuantity ContractCommitmentType
ContractCommitmentUnit ContractId ContractPeriodEnd ContractPeriodStart
""".split()

COST_DECIMALS = 12
PRICE_DECIMALS = 15
QUANTITY_DECIMALS = 12
_DECIMALS = {
    "BilledCost": COST_DECIMALS,
    "ContractedCost": COST_DECIMALS,
    "EffectiveCost": COST_DECIMALS,
    "ListCost": COST_DECIMALS,
    "ContractCommitmentCost": COST_DECIMALS,
    "ContractedUnitPrice": PRICE_DECIMALS,
    "ListUnitPrice": PRICE_DECIMALS,
    "ConsumedQuantity": QUANTITY_DECIMALS,
    "PricingQuantity": QUANTITY_DECIMALS,
    "CommitmentDiscountQuantity": QUANTITY_DECIMALS,
    "ContractCommitmentQuantity": QUANTITY_DECIMALS,
}
_TIMES = ("PeriodStart", "PeriodEnd")
_OWN_DECIMALS = {"quantity": 3, "amount": 9, "list_amount": 9, "debit": 9, "credit": 9}
_OWN_DECIMALS |= {"*Amount": 3, "Debits": 3, "Credits": 3}
_OWN_DECIMALS |= dict.fromkeys(
    "opening received used expired returned closing unbilled contract_assets contract_liabilities".split(), 9
)
_OWN_DECIMALS |= dict.fromkeys("current days_1_30 days_31_60 days_61_90 days_over_90 unapplied total".split(), 9)
_OWN_WHOLE = ("transaction", "reverses", "line")
_OWN_TIMES = ("time", "booked_at")


def arrow_schema(name: str, columns: tuple[str, ...]) -> Any:
    """The Parquet schema of an export: decimals stay decimals, times are UTC timestamps, the rest is text."""
    import pyarrow as pa

    focus = name.startswith("focus")
    decimals = _DECIMALS if focus else _OWN_DECIMALS
    fields = []
    for column in columns:
        if column in decimals:
            kind = pa.decimal128(38, decimals[column])
        elif column.endswith(_TIMES) if focus else column in _OWN_TIMES:
            kind = pa.timestamp("us", tz="UTC")
        elif column.startswith("x_") if focus else column in _OWN_WHOLE:
            kind = pa.int64()
        else:
            kind = pa.string()
        fields.append(pa.field(column, kind))
    return pa.schema(fields)
