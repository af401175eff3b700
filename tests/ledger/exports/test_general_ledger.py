"""The general ledger for accounting programs, and the checklist before it goes there."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest

from sublet.config.sections import Billing
from sublet.ledger.assembly import ledger_of
from sublet.ledger.exports import export_rows
from sublet.ledger.exports.charges import Seller
from sublet.ledger.proof.checklist import checklist
from sublet.ledger.service import Ledger
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError

CHART = {"receivable": "1400", "revenue.models": "4000"}


def rows_of(ledger: Ledger, name: str) -> list[dict[str, str]]:
    text = b"".join(export_rows(ledger.store, ledger.books, name, seller=Seller("us", CHART))).decode()
    return list(csv.DictReader(io.StringIO(text)))


def test_each_month_balances_in_whole_cents_and_is_within_one_of_the_journal(busy: Ledger) -> None:
    exact: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for row in rows_of(busy, "journal"):
        exact[row["period"], row["account"]] += Fraction(row["debit"] or 0) - Fraction(row["credit"] or 0)
    found: dict[tuple[str, str], Fraction] = {}
    for row in rows_of(busy, "gl"):
        found[row["period"], row["account"]] = Fraction(row["debit"] or 0) - Fraction(row["credit"] or 0)
        assert row["code"] == CHART.get(row["account"], row["account"])
        assert len((row["debit"] or row["credit"]).partition(".")[2]) == 2
    assert {period for period, _ in found} >= {"2026-01", "2026-02"}
    for period in {period for period, _ in exact}:
        assert sum(value for key, value in found.items() if key[0] == period) == 0
    for key, value in exact.items():
        assert abs(found.get(key, Fraction(0)) - value) < Fraction(1, 100), key


def test_xero_and_quickbooks_get_the_same_journals_in_their_columns(busy: Ledger) -> None:
    own = [row for row in rows_of(busy, "gl") if row["period"] == "2026-01"]
    amounts = [Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0) for row in own]
    xero = [row for row in rows_of(busy, "gl-xero") if row["*Narration"] == "Sublet 2026-01 USD"]
    assert [Decimal(row["*Amount"]) for row in xero] == amounts
    assert {row["*Date"] for row in xero} == {"31/01/2026"} and {row["*TaxRate"] for row in xero} == {"Tax Exempt"}
    assert "4000" in {row["*AccountCode"] for row in xero}
    quick = [row for row in rows_of(busy, "gl-quickbooks") if row["JournalNo"] == "2026-01 USD"]
    assert [Decimal(row["Debits"] or 0) - Decimal(row["Credits"] or 0) for row in quick] == amounts
    assert {row["JournalDate"] for row in quick} == {"01/31/2026"} and "4000" in {row["AccountName"] for row in quick}


def test_the_chart_comes_from_the_settings(busy: Ledger) -> None:
    made = ledger_of(busy.store, Billing(chart_of_accounts={"cash": "1200"}))
    assert made.seller.chart == {"cash": "1200"}
    with pytest.raises(InvalidInputError, match="'bank'; use receivable"):
        ledger_of(busy.store, Billing(chart_of_accounts={"bank": "1200"}))


def test_the_checklist_names_what_is_missing(busy: Ledger, clock: SimulatedClock) -> None:
    def steps(label: str) -> dict[str, str]:
        with busy.store.read() as connection:
            found = checklist(connection, label, clock.now())
        assert found["ready"] == all(step["done"] for step in found["steps"])
        assert all(step["done"] == (not step["missing"]) for step in found["steps"])
        return {step["name"]: step["missing"] for step in found["steps"]}

    busy.rate()
    before = steps("2026-02")
    assert "bolt" in before["months closed"] and "no clean proof" in before["proved since"]
    assert "acme" in steps("2026-03")["month over"]
    busy.close_all("2026-02")
    clock.set(datetime(2026, 3, 3, tzinfo=UTC))
    busy.prove_nightly()
    assert set(steps("2026-02").values()) == {""}
