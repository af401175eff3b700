"""What an e-invoice says: the semantic model of EN 16931 as far as invoices and credit notes here need it.

Sources: EN 16931-1:2017 (business terms BT and rules BR), UN/CEFACT recommendation 20 (units), UNTDID 5305 (tax categories).
`ubl` and `cii` write it in the two syntaxes of the standard. Amounts are in whole units of the currency, and lines sum to the net.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.invoices.readable import Readable, ReadableLine, cents_text, decimal_text, readable, to_cents
from sublet.ledger.periods import month_labeled
from sublet.values.clock import parse_time
from sublet.values.errors import ConflictError

GUIDELINE = "urn:cen.eu:en16931:2017"
INVOICE, NOTE = "380", "381"
STANDARD, ZERO, REVERSE, NONE = "S", "Z", "AE", "O"
DIGITS_MAX = 2
_UNITS = {"accelerator.seconds": "HUR", "audio.seconds": "HUR", "energy.wh": "KWH"}
_REASONS = {REVERSE: "Reverse charge", NONE: "Not subject to VAT"}
_CODES = {REVERSE: "VATEX-EU-AE", NONE: "VATEX-EU-O", "K": "VATEX-EU-IC", "G": "VATEX-EU-G"}


class EInvoiceError(ConflictError):
    """The invoice can't be an e-invoice as it is; the message names what is missing."""

    code = "no_e_invoice"


@dataclass(frozen=True, slots=True)
class Item:
    """A line (BG-25): `price` is that of `base` units, never below zero; amounts are decimal strings."""

    number: str
    name: str
    quantity: str
    unit: str
    price: str
    base: str
    amount: str
    first: date
    last: date
    own_period: bool


@dataclass(frozen=True, slots=True)
class Allowance:
    """What lowers (or, as a charge, raises) the net of the whole document (BG-20, BG-21)."""

    reason: str
    amount: str
    charge: bool


@dataclass(frozen=True, slots=True)
class EInvoice:
    """A document as EN 16931 has it."""

    type_code: str
    number: str
    issued: date
    due: date | None
    currency: str
    reference: str
    first: date
    last: date
    corrects: tuple[tuple[str, date], ...]
    notes: tuple[str, ...]
    seller: Mapping[str, str]
    buyer: Mapping[str, str]
    items: tuple[Item, ...]
    allowances: tuple[Allowance, ...]
    category: str
    percent: str
    exemption: str
    exemption_code: str
    lines_total: str
    allowance_total: str
    charge_total: str
    net: str
    tax: str
    total: str
    prepaid: str
    payable: str

    @property
    def is_note(self) -> bool:
        return self.type_code == NOTE

    @property
    def says_percent(self) -> bool:
        return self.category != NONE


def einvoice(document: Mapping[str, Any]) -> EInvoice:
    """The e-invoice of a final invoice or credit note. Raises EInvoiceError where something that the standard asks for is missing."""
    read = readable(document)
    note = document.get("kind") == CREDIT_NOTE
    category, percent, exemption = _tax(document)
    _ensure_complete(document, read, category)
    zone = ZoneInfo(document["period"]["timezone"])
    sums = [amount for _, amount in read.credits]
    prepaid = 0 if note else -sum(to_cents(used["amount"], read.digits) for used in document["prepaid"])
    total = to_cents(document["total"], read.digits)
    payable = total if note else to_cents(document["due"], read.digits)

    def shown(cents: int) -> str:
        return cents_text(cents, read.digits)

    first, last = _days_of(document["period"]["label"], str(zone))
    return EInvoice(
        NOTE if note else INVOICE,
        document["number"],
        _day(document["issued_at"], zone),
        _day(document["due_at"], zone) if document.get("due_at") else None,
        document["currency"],
        document["customer"]["reference"] or document["customer"]["organization_id"],
        first,
        last,
        tuple((entry["invoice"], _day(entry["issued_at"], zone)) for entry in document.get("corrects", ())),
        (document["reason"],) if document.get("reason") else (),
        document["issuer"],
        document["customer"],
        tuple(_item(place, line, read, str(zone)) for place, line in enumerate(read.lines, 1)),
        tuple(Allowance(name, shown(abs(cents)), cents > 0) for name, cents in read.credits if cents),
        category,
        percent,
        exemption,
        _CODES.get(category, ""),
        shown(sum(line.cents for line in read.lines)),
        shown(-sum(cents for cents in sums if cents < 0)),
        shown(sum(cents for cents in sums if cents > 0)),
        shown(to_cents(document["net"], read.digits)),
        shown(sum(to_cents(tax["amount"], read.digits) for tax in document["taxes"])),
        shown(total),
        # What deposits pay is exact; the document takes whole cents of it.
        shown(total - payable if prepaid else 0),
        shown(payable),
    )


def _tax(document: Mapping[str, Any]) -> tuple[str, str, str]:
    taxes = document["taxes"]
    if len(taxes) > 1:
        raise EInvoiceError(
            f"{document['number']} has {len(taxes)} taxes on one amount, and an e-invoice has one; send the PDF instead"
        )
    if not taxes:
        return NONE, "", _REASONS[NONE]
    percent = decimal_text(Fraction(taxes[0]["percent"]))
    category = taxes[0].get("category") or (STANDARD if Fraction(taxes[0]["percent"]) else ZERO)
    reason = "" if category in (STANDARD, ZERO) else taxes[0].get("reason") or _REASONS.get(category, taxes[0]["name"])
    return category, percent, reason


def _ensure_complete(document: Mapping[str, Any], read: Readable, category: str) -> None:
    seller, buyer = document["issuer"], document["customer"]
    number = document["number"]
    if not number:
        raise EInvoiceError("a draft is no e-invoice; make the invoice final first")
    if read.digits > DIGITS_MAX:
        raise EInvoiceError(
            f"amounts of an e-invoice have two decimals, and {document['currency']} has {read.digits}; send the PDF"
        )
    if not read.lines:
        raise EInvoiceError(f"{number} has no line, and an e-invoice needs one; send the PDF instead")
    missing = [f"billing.issuer_{name}" for name in ("country",) if not seller.get(name)]
    missing += [f"the customer's {name}" for name in ("country",) if not buyer.get(name)]
    if category == NONE:
        missing += [] if seller.get("tax_number") else ["billing.issuer_tax_number"]
    elif not seller.get("vat_id") and (category != STANDARD or not seller.get("tax_number")):
        missing.append("billing.issuer_vat_id")
    if category in (REVERSE, "K") and not buyer.get("vat_id"):
        missing.append("the customer's vat_id")
    if missing:
        raise EInvoiceError(
            f"{number} lacks {', '.join(missing)}; set it, and later invoices say it (an issued one keeps what it says)"
        )


def _item(place: int, line: ReadableLine, read: Readable, timezone: str) -> Item:
    first, last = _days_of(line.line["used"], timezone)
    counted, price, base = line.counted, line.unit_price, line.base
    if not counted or (line.cents < 0) != (counted < 0):
        # Without a quantity, or one that has another sign: one of what it comes to.
        counted, price, base = Fraction(1 if line.cents >= 0 else -1), None, 1
    if price is None:
        price = abs(Fraction(line.cents, 10**read.digits) / counted) * base
    return Item(
        str(place),
        line.title,
        decimal_text(counted),
        _UNITS.get(line.line["meter"], "C62"),
        decimal_text(price),
        str(base),
        cents_text(line.cents, read.digits),
        first,
        last,
        line.line["used"] != read.document["period"]["label"],
    )


def _days_of(label: str, timezone: str) -> tuple[date, date]:
    period = month_labeled(label, timezone)
    zone = ZoneInfo(timezone)
    return period.start.astimezone(zone).date(), period.end.astimezone(zone).date() - timedelta(days=1)


def _day(moment: str, zone: ZoneInfo) -> date:
    return parse_time(moment).astimezone(zone).date()
