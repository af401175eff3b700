"""The general ledger for accounting programs, and the checklist before it goes there."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

import pytest
from tests.ledger.payer import Account

from sublet.config.sections import Billing
from sublet.ledger.assembly import ledger_of
from sublet.ledger.exports import export_rows
from sublet.ledger.exports.charges import Seller
from sublet.ledger.model import ACCOUNTS
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


def test_datev_gets_each_account_against_a_clearing_account_that_is_even(account: Callable[..., Account]) -> None:
    payer = account(19)
    payer.on(11)
    payer.use(10, "100.01")
    payer.pay(payer.close(), "119.01")
    numbers = {name: f"{1000 + place}" for place, name in enumerate(ACCOUNTS)}

    def batch(chart: dict[str, str], datev: tuple[int, int, str], **months: str) -> list[list[str]]:
        seller = Seller("us", chart, datev)
        found = b"".join(export_rows(payer.ledger.store, payer.ledger.books, "gl-datev", seller=seller, **months))  # type: ignore[arg-type]
        assert found.endswith(b"\r\n") and found.count(b"\n") == found.count(b"\r\n")
        return list(csv.reader(io.StringIO(found.decode("cp1252")), delimiter=";"))

    client = (29098, 55003, "1590")
    head, names, *rows = batch(numbers, client, since="2026-02", until="2026-02")
    assert head[:5] == ["EXTF", "700", "21", "Buchungsstapel", "13"] and len(head) == 31
    assert head[10:16] == ["29098", "55003", "20260101", "4", "20260201", "20260228"]
    assert len(names) == 14 and {len(row) for row in rows} == {14}
    moved = {row[6]: Decimal(row[0].replace(",", ".")) * (1 if row[1] == "S" else -1) for row in rows}
    assert moved[numbers["cash"]] == Decimal("119.01") and moved[numbers["taxes_payable"]] == Decimal("-19.00")
    assert sum(moved.values()) == 0 and {row[7] for row in rows} == {"1590"} and {row[9] for row in rows} == {"2802"}
    # By default, it is the present month, February.
    assert batch(numbers, client)[2:] == rows
    with pytest.raises(
        InvalidInputError, match="account unbilled has the code 'unbilled'; DATEV needs a number of 4 digits"
    ):
        batch({}, client)
    with pytest.raises(InvalidInputError, match=r"set billing\.datev_consultant"):
        batch(numbers, (0, 0, ""))
    with pytest.raises(InvalidInputError, match="one month"):
        batch(numbers, client, since="2026-01", until="2026-02")


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
