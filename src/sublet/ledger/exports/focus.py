"""FOCUS Cost and Usage: one row for each hour, rate, resource, project and key, and rows for what invoices add.

BilledCost and EffectiveCost are what was posted: the rows of an invoice sum to its total, to the nano-unit.
ContractedCost and ListCost are the product of their unit price and PricingQuantity, as the specification wants.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Any

from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.exports.charges import Charged, Charges, hour_of
from sublet.ledger.exports.columns import COST_DECIMALS, PRICE_DECIMALS, QUANTITY_DECIMALS
from sublet.ledger.invoices.lines import FIXED, line_id
from sublet.ledger.invoices.notes import NOTE_PREFIX
from sublet.ledger.invoices.prepayments import PREPAYMENT
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import Period, month_labeled
from sublet.ledger.prices.book import Rate
from sublet.ledger.prices.terms import Price
from sublet.ledger.rating.batches import period_of
from sublet.ledger.usage.meters import METERS, Meter
from sublet.values.clock import from_micros
from sublet.values.money import NANO, decimal_from_nano, nano_from_decimal

SERVICES = {
    "leases": ("Compute", "Virtual Machines", "Raw capacity", "Lease"),
    "models": ("AI and Machine Learning", "Generative AI", "Model API", "Model"),
    "energy": ("Other", "Other (Other)", "Energy", "Pool"),
    "": ("Other", "Other (Other)", "Account", ""),
}
PROVIDER = "Sublet"
KINDS_CACHED_MAX = 10_000
_COST_STEP = Decimal(1).scaleb(-COST_DECIMALS)
_HOUR = timedelta(hours=1)
_SERVICE = ("ServiceCategory", "ServiceSubcategory", "ServiceName")
_WIDE = Context(prec=60, rounding=ROUND_HALF_EVEN)
_NAMED_UNITS = {("Seconds", 3600): "Hours", ("Seconds", 60): "Minutes"}
_DECADES = {
    "Watt-Hours": ((10**9, "Gigawatt-Hours"), (10**6, "Megawatt-Hours"), (10**3, "Kilowatt-Hours"), (1, "Watt-Hours"))
}
"""Compound units may not follow a number: each has names for its decades instead."""


@dataclass(slots=True)
class _Sum:
    """Lines that make one row."""

    first: Charged
    quantity: int = 0
    nano: int = 0
    list_nano: int = 0
    lines: int = 0


def focus_rows(charges: Charges, version: str, *, by_line: bool = False) -> Iterator[Mapping[str, Any]]:
    """Rows of the Cost and Usage dataset of FOCUS `version` (1.2 or 1.4)."""
    writer = _Writer(charges, version)
    for page in charges.pages():
        sums: dict[Any, _Sum] = {}
        for line in page:
            found = sums.setdefault(line.line_no if by_line else _group(line), _Sum(line))
            found.quantity += line.quantity
            found.nano += line.nano
            found.list_nano += line.list_nano
            found.lines += 1
        numbers = charges.invoice_numbers({line.transaction_no for line in page})
        for found in sums.values():
            row = writer.usage(found, numbers.get(found.first.transaction_no))
            if row is not None:
                yield row
    for party, document in charges.documents():
        yield from writer.invoice(party, document)


def _group(line: Charged) -> tuple[Any, ...]:
    """Requests of the model API are no resources: their usage is added up by model."""
    resource = line.resource if METERS[line.meter].product != "models" else ""
    return line.transaction_no, line.rate_id, hour_of(line.at), resource, line.project, line.key_id, line.dimensions


@dataclass(frozen=True, slots=True)
class _Kind:
    """The columns that rows of one rate and one resource share, and how their quantities are priced."""

    meter: Meter
    columns: dict[str, Any]
    unit: str
    steps: int
    """Steps of the meter in one pricing unit."""
    contracted: Decimal | None
    listed: Decimal | None

    @classmethod
    def of(cls, line: Charged, rate: Rate) -> _Kind:
        meter = METERS[line.meter]
        category, subcategory, service, resource_type = SERVICES[meter.product]
        dimensions = json.loads(line.dimensions)
        resource = dimensions.get("model", "") if meter.product == "models" else line.resource
        unit, per = pricing_unit(rate.price, meter)
        steps = per * meter.steps_per_unit
        columns = {
            "ChargeCategory": "Usage",
            "ChargeDescription": rate.price.description,
            "ChargeFrequency": "Usage-Based",
            "ServiceCategory": category,
            "ServiceSubcategory": subcategory,
            "ServiceName": service,
            "ResourceId": resource or None,
            "ResourceType": resource_type if resource else None,
            "RegionId": dimensions.get("site"),
            "RegionName": dimensions.get("site"),
            "SkuId": sku_id(rate.list_price),
            "SkuMeter": meter.name,
            "SkuPriceId": rate.list_price.id,
            "SkuPriceDetails": _json({f"x_{name.capitalize()}": value for name, value in sorted(dimensions.items())}),
        }
        if meter.product == "leases" and line.resource:
            columns |= {"CapacityReservationId": line.resource, "CapacityReservationStatus": "Used"}
        own, listed = rate.tariff.unit_price(), rate.list_price.tariff.unit_price()
        return cls(
            meter,
            columns,
            unit,
            steps,
            None if own is None else _unit_decimal(own * steps),
            None if listed is None else _unit_decimal(listed * steps),
        )


def _price(row: dict[str, Any], found: _Sum, kind: _Kind) -> None:
    """Quantities, unit prices and the costs that are their products."""
    contracted = kind.contracted or _blended(found.nano, found.quantity, kind.steps)
    listed = kind.listed or _blended(found.list_nano, found.quantity, kind.steps)
    if contracted is None or listed is None:
        # A volume price can get cheaper with more usage, or a package cost nothing more: no unit price says that.
        row |= {"ChargeCategory": "Adjustment", "ListCost": decimal_from_nano(found.list_nano)}
        return
    quantity = _quantity(found.quantity, kind.steps)
    row["ConsumedQuantity"] = kind.meter.units(found.quantity)
    row["ConsumedUnit"] = kind.meter.unit
    row["PricingCategory"] = "Standard"
    row["PricingQuantity"] = quantity
    row["PricingUnit"] = kind.unit
    row["ContractedUnitPrice"] = contracted
    row["ListUnitPrice"] = listed
    row["ContractedCost"] = _product(contracted, quantity)
    row["ListCost"] = _product(listed, quantity)


class _Writer:
    """Fills the columns."""

    def __init__(self, charges: Charges, version: str) -> None:
        self._charges = charges
        self._version = version
        with charges.store.read() as connection:
            self._book = charges.books.current(connection)
        self._kinds: dict[tuple[Any, ...], _Kind] = {}

    def usage(self, found: _Sum, number: str | None) -> dict[str, Any] | None:
        """A row of metered usage; None outside of the months that are asked for."""
        line = found.first
        party = self._charges.party(line.organization_id)
        booked = period_of(line.booked, party.timezone)
        if not self._charges.span.has(booked.label):
            return None
        kind = self._kind(line, party)
        start = from_micros(hour_of(line.at))
        row = self._row(party, booked, start, start + _HOUR, found.nano, number) | kind.columns
        row["x_TransactionNumber"] = line.transaction_no
        row["x_LineFirst"] = line.line_no
        row["x_LineCount"] = found.lines
        if line.project:
            row |= {"SubAccountId": line.project, "SubAccountName": line.project, "SubAccountType": "Project"}
        if line.key_id:
            row["Tags"] = _json({"sublet/key": line.key_id})
        used = period_of(line.used, party.timezone).label if line.used != line.booked else booked.label
        if number is not None and number.startswith(NOTE_PREFIX):
            row["ChargeClass"] = "Correction"
        if line.transaction_kind == "adjustment":
            row["ChargeClass"] = "Correction"
            row["ChargeDescription"] += f", late usage of {used}"
        if number is not None:
            row["InvoiceDetailId"] = _detail(
                "adjustment" if line.transaction_kind == "adjustment" else "usage", line.rate_id, used
            )
        _price(row, found, kind)
        self._apply_commitment(row, party, kind.meter.product, start, found.nano)
        return row

    def _kind(self, line: Charged, party: Party) -> _Kind:
        """What rows of one rate, its list price, resource and set of dimensions share."""
        resource = line.resource if METERS[line.meter].product != "models" else ""
        key = (line.book_version, line.rate_id, line.list_rate_id, line.dimensions, line.meter, resource)
        known = self._kinds.get(key)
        if known is None:
            if len(self._kinds) > KINDS_CACHED_MAX:
                self._kinds.clear()
            known = self._kinds[key] = _Kind.of(line, self._rate(line, party))
        return known

    def _rate(self, line: Charged, party: Party) -> Rate:
        books = self._charges.books
        with self._charges.store.read() as connection:
            book = books.version(connection, line.book_version)
            if line.rate_id.startswith("agreed:"):
                books.load_agreed(connection, [line.resource], {party.id: party})
        found = books.rate(book, party, line.meter, line.dimensions, line.at, line.resource)
        assert found is not None
        return found

    def _row(
        self, party: Party, booked: Period, start: datetime, end: datetime, nano: int, number: str | None
    ) -> dict[str, Any]:
        billed = decimal_from_nano(nano)
        # The provider is the legal entity that bills: where another one issued the invoice, FOCUS wants a BilledCost of 0.
        issuer = self._charges.issuer(number) or PROVIDER
        row: dict[str, Any] = {
            "BilledCost": billed,
            "EffectiveCost": billed,
            "ContractedCost": billed,
            "ListCost": billed,
            "BillingAccountId": party.id,
            "BillingAccountName": party.name,
            "BillingCurrency": party.currency,
            "BillingPeriodStart": booked.start,
            "BillingPeriodEnd": booked.end,
            "ChargePeriodStart": start,
            "ChargePeriodEnd": end,
            "InvoiceIssuerName": issuer,
            "InvoiceId": number,
        }
        if self._version == "1.2":
            return row | {"ProviderName": issuer, "PublisherName": issuer}
        return row | {"ServiceProviderName": issuer, "HostProviderName": issuer}

    def invoice(self, party: Party, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """What an invoice or credit note adds to metered usage: fees, commitments, credits, rounding and taxes."""
        if document.get("kind") == CREDIT_NOTE:
            yield from self._note(party, document)
            return
        booked = month_labeled(document["period"]["label"], party.timezone)
        for line in document["lines"]:
            if line["kind"] == PREPAYMENT:
                row = self._other(party, booked, document, "Purchase", line["description"], line["amount"])
                yield row | {"EffectiveCost": Decimal(0), "InvoiceDetailId": line["id"]}
            elif line["kind"] == "fee":
                yield self._fee(party, booked, document, line)
            elif line["kind"] == "commitment":
                row = self._other(party, booked, document, "Adjustment", line["description"], line["amount"])
                row["InvoiceDetailId"] = line["id"]
                self._apply(row, line["rate"].rsplit(" ", 2)[0], Decimal(line["amount"]))
                yield row
        for used in document["credits"]:
            yield self._credit(party, booked, document, used)
        for name, text in (("rounding", "Rounding of the invoice"), ("carried", "Carried over as credit")):
            if document[name].strip("-0."):
                yield self._other(party, booked, document, "Adjustment", text, document[name])
        for used in document["prepaid"] if document["subtotal"].startswith("-") else ():
            yield self._other(party, booked, document, "Adjustment", "Given back to prepaid credit", used["amount"])
        for tax in document["taxes"]:
            yield self._other(party, booked, document, "Tax", f"{tax['name']} {tax['percent']} %", tax["amount"])

    def _note(self, party: Party, document: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Corrections, below zero: what the note takes off that is no rated usage, credits that it gives back, and taxes."""
        booked = month_labeled(document["period"]["label"], party.timezone)
        rows = [
            (_category(line), line["description"], line["amount"], line)
            for line in document["lines"]
            if document["reason"] or line["kind"] in FIXED
        ]
        rows += [("Credit", used["reason"] or used["kind"], used["amount"], None) for used in document["credits"]]
        if document["rounding"].strip("-0."):
            rows.append(("Adjustment", "Rounding of the credit note", document["rounding"], None))
        rows += [
            ("Tax", f"{tax['name']} {tax['percent']} %", tax["amount"], None)
            for tax in document["taxes"]
            if tax["amount"].strip("-0.")
        ]
        for category, text, amount, line in rows:
            row = self._other(party, booked, document, category, text, amount_text(-nano_from_decimal(amount)))
            row["ChargeClass"] = "Correction"
            if line is not None:
                row["InvoiceDetailId"] = line["id"]
            if line is not None and line["kind"] == PREPAYMENT:
                row["EffectiveCost"] = Decimal(0)
            elif line is not None:
                sku = line["rate"].rsplit(" ", 2)[0] if line["kind"] in FIXED else line["rate"].partition("~")[0]
                service = SERVICES.get(line["product"], SERVICES[""])
                row |= dict(zip(_SERVICE, service[:3], strict=True))
                row |= {"SkuId": sku, "SkuPriceId": sku} if sku else {}
            yield row

    def _credit(self, party: Party, booked: Period, document: dict[str, Any], used: dict[str, str]) -> dict[str, Any]:
        """A credit; or money that another invoice billed, whose usage costs something and is billed no more."""
        text, paid = used["reason"] or used["kind"], used["kind"] == "prepaid"
        row = self._other(party, booked, document, "Adjustment" if paid else "Credit", text, used["amount"])
        return row | {"EffectiveCost": Decimal(0)} if paid else row

    def _other(
        self, party: Party, booked: Period, document: dict[str, Any], category: str, text: str, amount: str
    ) -> dict[str, Any]:
        nano = int(Decimal(amount) * NANO)
        row = self._row(party, booked, booked.start, booked.end, nano, document["number"])
        service_category, subcategory, service, _ = SERVICES[""]
        return row | {
            "ChargeCategory": category,
            "ChargeDescription": text,
            "ChargeFrequency": "One-Time",
            "ServiceCategory": service_category,
            "ServiceSubcategory": subcategory,
            "ServiceName": service,
            "x_TransactionNumber": document["transaction"],
        }

    def _fee(self, party: Party, booked: Period, document: dict[str, Any], line: dict[str, Any]) -> dict[str, Any]:
        amount = Decimal(line["amount"])
        row = self._other(party, booked, document, "Usage", line["description"], line["amount"])
        sku = line["rate"].rsplit(" ", 2)[0]
        return row | {
            "ChargeFrequency": "Recurring",
            "InvoiceDetailId": line["id"],
            "ConsumedQuantity": Decimal(1),
            "ConsumedUnit": "Months",
            "PricingCategory": "Standard",
            "PricingQuantity": Decimal(1),
            "PricingUnit": "Months",
            "ContractedUnitPrice": amount,
            "ListUnitPrice": amount,
            "SkuId": sku,
            "SkuMeter": "fee",
            "SkuPriceId": sku,
        }

    def _apply_commitment(self, row: dict[str, Any], party: Party, product: str, at: datetime, nano: int) -> None:
        if self._version == "1.2":
            return
        for entry in self._book.commitments_of(party.id):
            mine = entry.product in ("", product)
            if mine and entry.valid_from <= at and (entry.valid_until is None or at < entry.valid_until):
                self._apply(row, entry.id, decimal_from_nano(nano))
                return

    def _apply(self, row: dict[str, Any], commitment_id: str, amount: Decimal) -> None:
        if self._version != "1.2":
            applied = (
                f'{{"ContractApplied":[{{"ContractCommitmentID":{json.dumps(commitment_id)},'
                f'"ContractCommitmentAppliedCost":{amount:f},'
                '"ContractCommitmentAppliedQuantity":null,"ContractCommitmentAppliedUnit":null}]}'
            )
            row["ContractApplied"] = applied


def _category(line: Mapping[str, Any]) -> str:
    if line["kind"] == PREPAYMENT:
        return "Purchase"
    return "Usage" if line["product"] else "Adjustment"


def pricing_unit(price: Price, meter: Meter) -> tuple[str, int]:
    """The unit that a price is for, in FOCUS' form, and how many units of the meter it is: of a compound unit the greatest
    named one that the price is not below, so that price and quantity are rescaled together."""
    per = price.per
    for size, name in _DECADES.get(meter.unit, ()):
        if size <= per:
            return name, size
    if (meter.unit, per) in _NAMED_UNITS:
        return _NAMED_UNITS[meter.unit, per], per
    return (meter.unit if per == 1 else f"{per} {meter.unit}"), per


def sku_id(price: Price) -> str:
    """One SKU for each meter and each thing that the price list tells apart."""
    return "/".join([price.meter, *(value for _, value in price.match)])


def _blended(nano: int, steps: int, unit_steps: int) -> Decimal | None:
    """What a row came to for each pricing unit, where its tariff has no one price; None where that is no price."""
    if not steps or nano * steps < 0:
        return None
    return _unit_decimal(Fraction(nano * unit_steps, steps))


def _quantity(steps: int, unit_steps: int) -> Decimal:
    """Steps in pricing units, rounded half to even where that has no end."""
    scaled, rest = divmod(steps * 10**QUANTITY_DECIMALS, unit_steps)
    if rest * 2 > unit_steps or (rest * 2 == unit_steps and scaled % 2):
        scaled += 1
    return Decimal(scaled).scaleb(-QUANTITY_DECIMALS, _WIDE)


@lru_cache(maxsize=10_000)
def _detail(kind: str, rate_id: str, used: str) -> str:
    return line_id(kind, rate_id, used)


@lru_cache(maxsize=10_000)
def _unit_decimal(nano: Fraction) -> Decimal:
    return Decimal(round(nano / NANO * 10**PRICE_DECIMALS)).scaleb(-PRICE_DECIMALS, _WIDE)


def _product(price: Decimal, quantity: Decimal) -> Decimal:
    return _WIDE.quantize(_WIDE.multiply(price, quantity), _COST_STEP)


def _json(value: Mapping[str, str]) -> str | None:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False) if value else None
