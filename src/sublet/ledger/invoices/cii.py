"""E-invoices in UN/CEFACT CII (D16B) as Factur-X 1.0 and ZUGFeRD 2 embed them, profile EN 16931."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any
from xml.etree.ElementTree import Element, SubElement, register_namespace, tostring

from sublet.ledger.invoices.einvoice import GUIDELINE, NONE, EInvoice, Item, einvoice

_UN = "urn:un:unece:uncefact:data:standard"
_SPACES = {
    "rsm": f"{_UN}:CrossIndustryInvoice:100",
    "ram": f"{_UN}:ReusableAggregateBusinessInformationEntity:100",
    "udt": f"{_UN}:UnqualifiedDataType:100",
}


def cii_xml(document: Mapping[str, Any]) -> bytes:
    """A final invoice or credit note as CII. Raises EInvoiceError."""
    found = einvoice(document)
    for prefix, space in _SPACES.items():
        register_namespace(prefix, space)
    root = Element(f"{{{_SPACES['rsm']}}}CrossIndustryInvoice")
    context = _add(_add(root, "rsm:ExchangedDocumentContext"), "GuidelineSpecifiedDocumentContextParameter")
    _add(context, "ID", GUIDELINE)
    head = _add(root, "rsm:ExchangedDocument")
    _add(head, "ID", found.number)
    _add(head, "TypeCode", found.type_code)
    _date(head, "IssueDateTime", found.issued)
    for note in found.notes:
        _add(_add(head, "IncludedNote"), "Content", note)
    trade = _add(root, "rsm:SupplyChainTradeTransaction")
    for item in found.items:
        _item(trade, item, found)
    agreement = _add(trade, "ApplicableHeaderTradeAgreement")
    _add(agreement, "BuyerReference", found.reference)
    _party(_add(agreement, "SellerTradeParty"), found.seller, found)
    _party(_add(agreement, "BuyerTradeParty"), found.buyer, found)
    delivered = _add(_add(trade, "ApplicableHeaderTradeDelivery"), "ActualDeliverySupplyChainEvent")
    _date(delivered, "OccurrenceDateTime", found.last)
    _settlement(_add(trade, "ApplicableHeaderTradeSettlement"), found)
    text: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def _item(trade: Element, item: Item, found: EInvoice) -> None:
    line = _add(trade, "IncludedSupplyChainTradeLineItem")
    _add(_add(line, "AssociatedDocumentLineDocument"), "LineID", item.number)
    _add(_add(line, "SpecifiedTradeProduct"), "Name", item.name)
    price = _add(_add(line, "SpecifiedLineTradeAgreement"), "NetPriceProductTradePrice")
    _add(price, "ChargeAmount", item.price)
    _add(price, "BasisQuantity", item.base, unitCode=item.unit)
    _add(_add(line, "SpecifiedLineTradeDelivery"), "BilledQuantity", item.quantity, unitCode=item.unit)
    settled = _add(line, "SpecifiedLineTradeSettlement")
    _category(_add(settled, "ApplicableTradeTax"), found)
    if item.own_period:
        _period(settled, item.first, item.last)
    sums = _add(settled, "SpecifiedTradeSettlementLineMonetarySummation")
    _add(sums, "LineTotalAmount", item.amount)


def _party(party: Element, said: Mapping[str, str], found: EInvoice) -> None:
    seller = said is found.seller
    _add(party, "Name", said["name"])
    if found.category == NONE and seller:
        _add(_add(party, "SpecifiedLegalOrganization"), "ID", said["tax_number"])
    address = _add(party, "PostalTradeAddress")
    lines = said["address"].splitlines()
    street = said["street"] or (lines.pop(0) if lines else "")
    for name, value in (
        ("PostcodeCode", said["postcode"]),
        ("LineOne", street),
        ("LineTwo", ", ".join(lines)),
        ("CityName", said["city"]),
        ("CountryID", said["country"]),
    ):
        if value:
            _add(address, name, value)
    if said["email"]:
        _add(_add(party, "URIUniversalCommunication"), "URIID", said["email"], schemeID="EM")
    if found.category != NONE:
        for scheme, value in (("VA", said["vat_id"]), ("FC", said["tax_number"] if seller else "")):
            if value:
                _add(_add(party, "SpecifiedTaxRegistration"), "ID", value, schemeID=scheme)


def _settlement(into: Element, found: EInvoice) -> None:
    _add(into, "PaymentReference", found.number)
    _add(into, "InvoiceCurrencyCode", found.currency)
    if not found.is_note and found.seller["iban"]:
        means = _add(into, "SpecifiedTradeSettlementPaymentMeans")
        _add(means, "TypeCode", "58" if found.currency == "EUR" else "30")
        _add(_add(means, "PayeePartyCreditorFinancialAccount"), "IBANID", found.seller["iban"])
        if found.seller["bic"]:
            _add(_add(means, "PayeeSpecifiedCreditorFinancialInstitution"), "BICID", found.seller["bic"])
    tax = _add(into, "ApplicableTradeTax")
    _add(tax, "CalculatedAmount", found.tax)
    _add(tax, "TypeCode", "VAT")
    if found.exemption:
        _add(tax, "ExemptionReason", found.exemption)
    _add(tax, "BasisAmount", found.net)
    _add(tax, "CategoryCode", found.category)
    if found.exemption_code:
        _add(tax, "ExemptionReasonCode", found.exemption_code)
    if found.says_percent:
        _add(tax, "RateApplicablePercent", found.percent)
    _period(into, found.first, found.last)
    for allowance in found.allowances:
        entry = _add(into, "SpecifiedTradeAllowanceCharge")
        _add(_add(entry, "ChargeIndicator"), "udt:Indicator", "true" if allowance.charge else "false")
        _add(entry, "ActualAmount", allowance.amount)
        _add(entry, "Reason", allowance.reason)
        _category(_add(entry, "CategoryTradeTax"), found)
    if found.due is not None:
        _date(_add(into, "SpecifiedTradePaymentTerms"), "DueDateDateTime", found.due)
    _totals(_add(into, "SpecifiedTradeSettlementHeaderMonetarySummation"), found)
    for number, _ in found.corrects:
        _add(_add(into, "InvoiceReferencedDocument"), "IssuerAssignedID", number)


def _totals(sums: Element, found: EInvoice) -> None:
    _add(sums, "LineTotalAmount", found.lines_total)
    _add(sums, "ChargeTotalAmount", found.charge_total)
    _add(sums, "AllowanceTotalAmount", found.allowance_total)
    _add(sums, "TaxBasisTotalAmount", found.net)
    _add(sums, "TaxTotalAmount", found.tax, currencyID=found.currency)
    _add(sums, "GrandTotalAmount", found.total)
    _add(sums, "TotalPrepaidAmount", found.prepaid)
    _add(sums, "DuePayableAmount", found.payable)


def _category(into: Element, found: EInvoice) -> None:
    _add(into, "TypeCode", "VAT")
    _add(into, "CategoryCode", found.category)
    if found.says_percent:
        _add(into, "RateApplicablePercent", found.percent)


def _period(into: Element, first: date, last: date) -> None:
    period = _add(into, "BillingSpecifiedPeriod")
    _date(period, "StartDateTime", first)
    _date(period, "EndDateTime", last)


def _date(into: Element, name: str, day: date) -> None:
    _add(_add(into, name), "udt:DateTimeString", day.strftime("%Y%m%d"), format="102")


def _add(into: Element, name: str, text: str | None = None, **attributes: str) -> Element:
    prefix, _, local = name.rpartition(":")
    made = SubElement(into, f"{{{_SPACES[prefix or 'ram']}}}{local}", attributes)
    made.text = text
    return made
