"""Figures of documents: nothing rounded, amounts that stand under one another."""

from __future__ import annotations

import pytest

from sublet.ledger.invoices.page import invoice_page
from sublet.ledger.invoices.typeset import amount, money, short


@pytest.mark.parametrize(
    ("text", "currency", "shown"),
    [
        ("25.200000000", "USD", "25.20"),
        ("0.000000000", "USD", "0.00"),
        ("-1234567.500000000", "EUR", "-1,234,567.50"),
        ("0.000000200", "USD", "0.0000002"),
        ("1999.000000000", "JPY", "1,999"),
        ("1.250000000", "KWD", "1.250"),
    ],
)
def test_an_amount_has_its_currencys_digits_and_all_its_own(text: str, currency: str, shown: str) -> None:
    assert (amount(text, currency), money(text, currency)) == (shown, f"{shown} {currency}")
    assert short("43200.000000000") == "43,200"


def test_a_page_is_inert_and_names_in_any_script_stand_by_themselves() -> None:
    evil = "<script>alert(1)</script>"
    party = {"name": evil, "address": f"معهد\n{evil}", "tax_number": evil}
    line = {"description": evil, "used": evil, "quantity": "3", "unit": evil, "unit_price": evil, "amount": "25.2"}
    amounts = dict.fromkeys(("subtotal", "rounding", "net", "total", "carried", "due"), "25.200000000")
    page = invoice_page(
        {
            "number": evil, "status": evil, "currency": "USD", "issuer": party, "customer": party, "lines": [line],
            "period": {"label": evil, "timezone": "Asia/Tokyo"}, "issued_at": "2026-01-31T15:00:00Z",
            "due_at": "2026-03-02T15:00:00Z", "rounding_rule": evil, "digest": evil,
            "credits": [{"kind": "goodwill", "reason": evil, "amount": "-1"}],
            "taxes": [{"name": evil, "percent": evil, "amount": "0"}],
            "prepaid": [], **amounts,
        }
    )  # fmt: skip
    assert "<script" not in page
    assert "<bdi>معهد</bdi>" in page
    assert "<td class=n>25.20" in page and "25.20 USD" in page and "25.2 " not in page
