"""Invoices as people read them: what each line is, whole cents that add up, every language whole, several pages."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypdf import PdfReader
from tests.ledger.payer import Account

from sublet.ledger.invoices.page import invoice_page, summary
from sublet.ledger.invoices.parties import Issuer, Profile
from sublet.ledger.invoices.pdf import invoice_pdf
from sublet.ledger.invoices.readable import cents_text, readable, shared
from sublet.ledger.invoices.taxes import FlatTax
from sublet.ledger.invoices.words import LANGUAGES, TEXTS, words_of
from sublet.ledger.model import UsageEvent
from sublet.ledger.service import Ledger
from sublet.values.errors import InvalidInputError

INVOICES = Path(__file__).parents[3] / "src" / "sublet" / "ledger" / "invoices"
ISSUER = Issuer(
    "Sublet GmbH",
    street="Kabelweg 1",
    postcode="10115",
    city="Berlin",
    country="DE",
    vat_id="DE123456788",
    tax_number="30/123/45678",
    iban="DE02120300000000202051",
    bic="BYLADEM1001",
)
CUSTOMER = Profile(
    "Acme AG", street="Hauptstr. 2", postcode="80331", city="Bonn", country="DE", vat_id="DE987654328", reference="PO-7"
)


@pytest.fixture
def billed(account: Callable[..., Account]) -> Iterator[Account]:
    """December of a customer with a lease, tokens of two projects, energy, and a fee."""
    payer = account(19, timezone="Europe/Berlin")
    payer.ledger = Ledger(
        payer.ledger.store,
        taxes=FlatTax("VAT", Fraction(19)),
        issuer=ISSUER,
        accelerators_of=lambda connection, resources: dict.fromkeys(resources, 4),
    )
    payer.ledger.set_profile(payer.owner, CUSTOMER)
    payer.publish(
        {"id": "in", "meter": "tokens.input", "kind": "per_unit", "amount": "2.10", "per": 1_000_000},
        {"id": "wh", "meter": "energy.wh", "kind": "per_unit", "amount": "80", "per": 1_000_000},
        {"id": "fee", "kind": "flat", "organization": payer.owner, "amount": "100", "description": "Support", "from":
         "2026-01-01T00:00:00+01:00", "until":
         "2026-02-01T00:00:00+01:00"},
    )  # fmt: skip
    payer.ledger.store.write(lambda connection: payer.ledger.agree(connection, payer.owner, "lse_1", 1_100_000_000))
    payer.on(28)
    where = {"pool": "h100-a", "generation": "h100", "class": "notice", "site": "east"}
    events = [
        used(payer, f"lease {day}", "accelerator.seconds", 4 * 86400, day, where, project="search", resource="lse_1")
        for day in (3, 4, 5)
    ]
    events += [
        used(payer, name, "tokens.input", 1_234_567, 7, {"model": "smollm2"}, project=name) for name in ("chat", "")
    ]
    events.append(used(payer, "energy", "energy.wh", "1234567.8", 9, {"pool": "h100-a"}))
    assert payer.ledger.take_now(events).accepted == len(events)
    payer.ledger.rate()
    yield payer


def used(
    payer: Account, name: str, meter: str, quantity: Any, day: int, dimensions: dict[str, str], **more: Any
) -> Any:
    at = datetime(2026, 1, day, 12, tzinfo=UTC)
    return UsageEvent("t", name or "none", payer.owner, meter, quantity, at, dimensions=dimensions, **more)


def test_lines_say_what_was_used_when_and_at_which_price(billed: Account) -> None:
    document = billed.close()
    read = readable(billed.ledger.invoice_by(document["number"]))
    assert [(line.title, line.quantity, line.price, read.amount(line.cents)) for line in read.lines] == [
        ("h100-a, energy, 9 Jan", "1,234.5678 kWh", "0.08 EUR per kWh", "98.77"),
        ("H100 east, notice, 4 accelerators, lse_1, 3–5 Jan", "288.00 accelerator-hours", "1.10 EUR per accelerator-hour",
         "316.80"),
        ("smollm2, input tokens, 7 Jan", "2,469,134 tokens", "2.10 EUR per million tokens", "5.18"),
        ("Support, 2026-01", "", "", "100.00"),
    ]  # fmt: skip
    assert dict(read.projects) == {"chat": 259, "search": 31_680, "": 20_136}
    assert summary(read)[-1] == ("To pay", "619.69 EUR", True)
    billed.sound()


@pytest.mark.parametrize(
    ("language", "title", "net"),
    [
        ("de", "H100 east, notice, 4 Beschleuniger, lse_1, 3.–5. Jan.", "1.234,50"),
        ("fr", "H100 east, notice, 4 accélérateurs, lse_1, 3–5 janv.", "1\N{NO-BREAK SPACE}234,50"),
        ("es", "H100 east, notice, 4 aceleradores, lse_1, 3–5 ene", "1.234,50"),
        ("ja", "H100 east, notice, アクセラレータ4基, lse_1, 1月3日–5日", "1,234.50"),
        ("zh-Hans", "H100 east, notice, 4个加速器, lse_1, 1月3日–5日", "1,234.50"),
        ("zh-Hant", "H100 east, notice, 4個加速器, lse_1, 1月3日–5日", "1,234.50"),
    ],
)
def test_a_document_is_in_its_customers_language(billed: Account, language: str, title: str, net: str) -> None:
    draft = billed.ledger.draft(billed.owner)
    draft["customer"]["language"] = language
    read = readable(draft)
    assert title in [line.title for line in read.lines]
    assert read.words.number("1234.50") == net
    assert f"<html lang={language}>" in invoice_page(draft)
    assert invoice_pdf(draft).startswith(b"%PDF")


def test_every_catalog_is_whole() -> None:
    for text, found in TEXTS.items():
        assert len(found) == len(LANGUAGES) - 1 and all(found), text
        for translated in found:
            assert set(re.findall(r"{\w+}", translated)) == set(re.findall(r"{\w+}", text)), text
    source = "".join(path.read_text() for path in INVOICES.glob("*.py") if path.name != "words.py")
    asked = set(re.findall(r'words\(\s*"([^"]+)"', source)) | set(
        re.findall(r'words\("[^"]+" if \w+ else "([^"]+)"', source)
    )
    assert asked and asked <= TEXTS.keys()
    for language in LANGUAGES:
        words = words_of(language)
        assert (
            words.day(date(2026, 12, 31)) and words.month("2026-02") and words.days(date(2026, 1, 30), date(2026, 2, 2))
        )
        assert all(words(text, **dict.fromkeys(re.findall(r"{(\w+)}", text), "x")) for text in TEXTS)
    assert words_of("tlh").language == "en"


def test_pages_name_the_parties_field_by_field_and_the_account_to_pay_to(billed: Account) -> None:
    document = billed.ledger.invoice_by(billed.close()["number"])
    page = invoice_page(document)
    paper = "".join(part.extract_text() for part in PdfReader(io.BytesIO(invoice_pdf(document))).pages)
    for text in (
        "Kabelweg 1", "10115 Berlin", "VAT ID: DE123456788", "Tax number: 30/123/45678", "80331 Bonn", "VAT ID: DE987654328",
        "PO-7", "IBAN DE02 1203 0000 0000 2020 51", "BIC BYLADEM1001", "INV-000001", "0.08 EUR per kWh", "search",
    ):  # fmt: skip
        assert text in page and text in paper, text
    assert 'href="?format=json"' in page and "sublet ledger show INV-000001 --json" in paper


def test_a_long_invoice_carries_its_total_from_page_to_page(billed: Account) -> None:
    document = billed.ledger.draft(billed.owner)
    line = document["lines"][0]
    lines = [line | {"id": f"pst_{place}", "amount": "1.000000000"} for place in range(120)]
    long = document | {"lines": lines, "details": [], "net": "120.000000000"}
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(invoice_pdf(long))).pages]
    assert len(pages) > 2
    for before, after in pairwise(pages):
        carried = re.findall(r"Carried forward\s+([\d.]+)", before)
        assert carried == re.findall(r"Brought forward\s+([\d.]+)", after) != []
        if "Subtotal" in after:
            break
    assert "Page 2 of" in pages[1]


def test_a_page_is_inert_and_names_in_any_script_stand_by_themselves(billed: Account) -> None:
    evil = "<script>alert(1)</script>"
    document = billed.ledger.draft(billed.owner)
    said = {"name": evil, "address": f"معهد\n{evil}", "vat_id": evil, "iban": evil, "email": evil, "city": evil}
    document["issuer"] |= said
    document["customer"] |= said | {"reference": evil}
    document["lines"] = [line | {"description": evil, "unit_price": evil} for line in document["lines"]]
    document["details"][0]["names"] = {"model": [evil]}
    document["details"][0]["projects"][0]["project"] = evil
    document |= {
        "number": evil,
        "status": evil,
        "taxes": [{"name": evil, "percent": "1/3", "amount": "0", "reason": evil}],
    }
    document["credits"] = [{"kind": "goodwill", "reason": evil, "amount": "-1"}]
    page = invoice_page(document)
    assert "<script" not in page and "<bdi>معهد</bdi>" in page


@given(st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=30), st.sampled_from([10**9, 10**7, 10**6]))
def test_cents_add_up_to_what_the_lines_round_to(exact: list[int], step: int) -> None:
    total = round(Fraction(sum(exact), step))
    found = shared(exact, total, step)
    assert sum(found) == total
    assert all(abs(cents * step - nano) < 2 * step for cents, nano in zip(found, exact, strict=True))


@pytest.mark.parametrize(("cents", "digits", "shown"), [(-5, 2, "-0.05"), (1999, 0, "1999"), (1250, 3, "1.250")])
def test_cents_stand_in_the_digits_of_the_currency(cents: int, digits: int, shown: str) -> None:
    assert cents_text(cents, digits) == shown


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("iban", "DE02120300000000202052"),
        ("iban", "DE02 1203 0000 0000 2020 51"),
        ("bic", "SHORT"),
        ("vat_id", "123456789"),
        ("country", "Germany"),
        ("language", "tlh"),
    ],
)
def test_numbers_and_codes_are_checked(field: str, value: str) -> None:
    with pytest.raises(InvalidInputError):
        replace(Profile(), **{field: value})  # type: ignore[arg-type]
