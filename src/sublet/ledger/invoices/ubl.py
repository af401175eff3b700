"""E-invoices in UBL 2.1 (OASIS), with the rules of EN 16931 (CEN/TS 16931-3-2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from sublet.ledger.invoices.einvoice import GUIDELINE, NONE, EInvoice, Item, einvoice

_UBL = "urn:oasis:names:specification:ubl:schema:xsd"
_CAC, _CBC = f"{_UBL}:CommonAggregateComponents-2", f"{_UBL}:CommonBasicComponents-2"


def ubl_xml(document: Mapping[str, Any]) -> bytes:
    """A final invoice or credit note as UBL. Raises EInvoiceError."""
    found = einvoice(document)
    kind = "CreditNote" if found.is_note else "Invoice"
    register_namespace("cac", _CAC)
    register_namespace("cbc", _CBC)
    register_namespace("", f"{_UBL}:{kind}-2")
    root = Element(f"{{{_UBL}:{kind}-2}}{kind}")
    _head(root, found, kind)
    _party(_aggregate(root, "AccountingSupplierParty"), found.seller, found)
    _party(_aggregate(root, "AccountingCustomerParty"), found.buyer, found)
    _payment(root, found)
    for allowance in found.allowances:
        entry = _aggregate(root, "AllowanceCharge")
        _basic(entry, "ChargeIndicator", "true" if allowance.charge else "false")
        _basic(entry, "AllowanceChargeReason", allowance.reason)
        _amount(entry, "Amount", allowance.amount, found)
        _category(entry, "TaxCategory", found)
    _sums(root, found)
    for item in found.items:
        _item(root, item, found, kind)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _head(root: Element, found: EInvoice, kind: str) -> None:
    _basic(root, "CustomizationID", GUIDELINE)
    _basic(root, "ID", found.number)
    _basic(root, "IssueDate", found.issued.isoformat())
    if found.due is not None and not found.is_note:
        _basic(root, "DueDate", found.due.isoformat())
    _basic(root, f"{kind}TypeCode", found.type_code)
    for note in found.notes:
        _basic(root, "Note", note)
    _basic(root, "DocumentCurrencyCode", found.currency)
    _basic(root, "BuyerReference", found.reference)
    _period(root, found.first.isoformat(), found.last.isoformat())
    for number, issued in found.corrects:
        reference = _aggregate(_aggregate(root, "BillingReference"), "InvoiceDocumentReference")
        _basic(reference, "ID", number)
        _basic(reference, "IssueDate", issued.isoformat())


def _party(into: Element, said: Mapping[str, str], found: EInvoice) -> None:
    party = _aggregate(into, "Party")
    if said["email"]:
        _basic(party, "EndpointID", said["email"], schemeID="EM")
    address = _aggregate(party, "PostalAddress")
    lines = said["address"].splitlines()
    street = said["street"] or (lines.pop(0) if lines else "")
    for name, value in (("StreetName", street), ("CityName", said["city"]), ("PostalZone", said["postcode"])):
        if value:
            _basic(address, name, value)
    if lines:
        _basic(_aggregate(address, "AddressLine"), "Line", ", ".join(lines))
    _basic(_aggregate(address, "Country"), "IdentificationCode", said["country"])
    if found.category != NONE:
        for scheme, value in (("VAT", said["vat_id"]), ("FC", said["tax_number"] if said is found.seller else "")):
            if value:
                registered = _aggregate(party, "PartyTaxScheme")
                _basic(registered, "CompanyID", value)
                _basic(_aggregate(registered, "TaxScheme"), "ID", scheme)
    legal = _aggregate(party, "PartyLegalEntity")
    _basic(legal, "RegistrationName", said["name"])
    if found.category == NONE and said is found.seller:
        _basic(legal, "CompanyID", said["tax_number"])
    if said["email"]:
        _basic(_aggregate(party, "Contact"), "ElectronicMail", said["email"])


def _payment(root: Element, found: EInvoice) -> None:
    if found.is_note or not found.seller["iban"]:
        return
    means = _aggregate(root, "PaymentMeans")
    _basic(means, "PaymentMeansCode", "58" if found.currency == "EUR" else "30")
    _basic(means, "PaymentID", found.number)
    account = _aggregate(means, "PayeeFinancialAccount")
    _basic(account, "ID", found.seller["iban"])
    _basic(account, "Name", found.seller["name"])
    if found.seller["bic"]:
        _basic(_aggregate(account, "FinancialInstitutionBranch"), "ID", found.seller["bic"])


def _sums(root: Element, found: EInvoice) -> None:
    total = _aggregate(root, "TaxTotal")
    _amount(total, "TaxAmount", found.tax, found)
    part = _aggregate(total, "TaxSubtotal")
    _amount(part, "TaxableAmount", found.net, found)
    _amount(part, "TaxAmount", found.tax, found)
    _category(part, "TaxCategory", found, reason=True)
    sums = _aggregate(root, "LegalMonetaryTotal")
    _amount(sums, "LineExtensionAmount", found.lines_total, found)
    _amount(sums, "TaxExclusiveAmount", found.net, found)
    _amount(sums, "TaxInclusiveAmount", found.total, found)
    for name, value, charge in (
        ("AllowanceTotalAmount", found.allowance_total, False),
        ("ChargeTotalAmount", found.charge_total, True),
    ):
        if any(allowance.charge is charge for allowance in found.allowances):
            _amount(sums, name, value, found)
    _amount(sums, "PrepaidAmount", found.prepaid, found)
    _amount(sums, "PayableAmount", found.payable, found)


def _item(root: Element, item: Item, found: EInvoice, kind: str) -> None:
    line = _aggregate(root, f"{kind}Line")
    _basic(line, "ID", item.number)
    quantity = "CreditedQuantity" if found.is_note else "InvoicedQuantity"
    _basic(line, quantity, item.quantity, unitCode=item.unit)
    _amount(line, "LineExtensionAmount", item.amount, found)
    if item.own_period:
        _period(line, item.first.isoformat(), item.last.isoformat())
    goods = _aggregate(line, "Item")
    _basic(goods, "Name", item.name)
    _category(goods, "ClassifiedTaxCategory", found)
    price = _aggregate(line, "Price")
    _amount(price, "PriceAmount", item.price, found)
    _basic(price, "BaseQuantity", item.base, unitCode=item.unit)


def _period(into: Element, first: str, last: str) -> None:
    period = _aggregate(into, "InvoicePeriod")
    _basic(period, "StartDate", first)
    _basic(period, "EndDate", last)


def _category(into: Element, name: str, found: EInvoice, *, reason: bool = False) -> None:
    category = _aggregate(into, name)
    _basic(category, "ID", found.category)
    if found.says_percent:
        _basic(category, "Percent", found.percent)
    if reason and found.exemption_code:
        _basic(category, "TaxExemptionReasonCode", found.exemption_code)
    if reason and found.exemption:
        _basic(category, "TaxExemptionReason", found.exemption)
    _basic(_aggregate(category, "TaxScheme"), "ID", "VAT")


def _aggregate(into: Element, name: str) -> Element:
    return SubElement(into, f"{{{_CAC}}}{name}")


def _basic(into: Element, name: str, text: str, **attributes: str) -> None:
    SubElement(into, f"{{{_CBC}}}{name}", attributes).text = text


def _amount(into: Element, name: str, text: str, found: EInvoice) -> None:
    _basic(into, name, text, currencyID=found.currency)
