"""Revenue by customer, product, pool and model: each way to divide it sums to what the journal has, to the nano-unit."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections import defaultdict
from datetime import UTC, datetime
from fractions import Fraction

import pytest

from sublet.ledger.exports import export_rows
from sublet.ledger.invoices.price_reductions import Wanted
from sublet.ledger.model import ACCOUNTS
from sublet.ledger.revenue.breakdown import GROUPS, groups_of, revenue_breakdown
from sublet.ledger.revenue.periods import revenue_by_month
from sublet.ledger.service import Ledger
from sublet.store.paging import PageRequest
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError

SINCE, UNTIL = "2026-01", "2026-03"


def exported(
    ledger: Ledger, name: str, since: str = "", until: str = "", organization_id: str = ""
) -> list[dict[str, str]]:
    text = b"".join(export_rows(ledger.store, ledger.books, name, organization_id, since, until)).decode()
    return list(csv.DictReader(io.StringIO(text)))


def journal(ledger: Ledger) -> dict[tuple[str, str], Fraction]:
    """Income less expenses by month and customer, from the journal's own export."""
    found: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for row in exported(ledger, "journal"):
        if ACCOUNTS[row["account"]].startswith(("income", "expense")):
            amount = Fraction(row["credit"] or 0) - Fraction(row["debit"] or 0)
            found[row["period"], row["organization_id"]] += amount
    return found


@pytest.fixture
def reduced(busy: Ledger, acme: str, clock: SimulatedClock) -> Ledger:
    """The busy months, and then a price reduction and bad debt."""
    clock.set(datetime(2026, 3, 20, tzinfo=UTC))
    paid = next(entry for entry in reversed(busy.invoices(acme)) if Fraction(entry["total"]) > 1)
    busy.settling.credit(paid["id"], Wanted(gross_nano=10_000_000), "outage")
    owing = next(entry for entry in busy.invoices(acme) if entry["status"] == "final" and Fraction(entry["due"]) > 0)
    busy.settling.write_off(owing["id"], "insolvent")
    return busy


def test_however_it_is_divided_it_sums_to_the_journal(reduced: Ledger) -> None:
    busy = reduced
    booked = journal(busy)
    with busy.store.read() as connection:
        months = revenue_by_month(connection, SINCE, UNTIL)
        for size in range(1, len(GROUPS) + 1):
            for by in itertools.combinations(GROUPS, size):
                found = revenue_breakdown(connection, SINCE, UNTIL, by)
                assert {total["difference"] for total in found.totals().values()} == {"0.000000000"}
                totals = {label: total["total"] for label, total in found.totals().items()}
                moved = [month for month in months if month["earned"] or month["given"]]
                assert totals == {f"{month['period']} {month['currency']}": month["net"] for month in moved}
                assert sum(Fraction(row["amount"]) for row in found.rows()) == sum(booked.values())
        products = {row["product"] for row in revenue_breakdown(connection, SINCE, UNTIL, ["product"]).rows()}
        assert {"leases", "models", "energy", "fees", "penalties", "bad_debt"} <= products
        customers = revenue_breakdown(connection, SINCE, UNTIL, ["customer"]).rows()
    assert {(row["period"], row["organization_id"]): Fraction(row["amount"]) for row in customers} == {
        key: amount for key, amount in booked.items() if amount
    }


def test_usage_has_its_pool_and_model_and_the_rest_its_account(busy: Ledger, acme: str) -> None:
    with busy.store.read() as connection:
        rows = revenue_breakdown(connection, SINCE, UNTIL, GROUPS, [acme]).rows()
    known = {(row["product"], row["pool"], row["model"]) for row in rows}
    assert {("leases", "h100-a", ""), ("models", "", "smollm2"), ("fees", "", ""), ("penalties", "", "")} <= known
    [penalty] = [row for row in rows if row["product"] == "penalties"]
    assert penalty["amount"] == "-0.415000001" and penalty["organization"] == "acme"


def test_a_line_that_was_changed_shows_as_a_difference(busy: Ledger) -> None:
    with busy.store.read() as connection:
        found = revenue_breakdown(connection, SINCE, SINCE, ["product"])
    group = next(iter(found.amounts))
    found.amounts[group] += 1
    assert found.totals()[f"{SINCE} USD"]["difference"] == "0.000000001"


def test_pages_and_groups(busy: Ledger) -> None:
    with busy.store.read() as connection:
        found = revenue_breakdown(connection, SINCE, UNTIL, ["customer", "product"])
    rows, after = [], None
    while True:
        page = found.page(PageRequest(2, after))
        rows += page.items
        after = page.next
        if after is None:
            break
    assert rows == found.rows() and len(rows) > 4
    assert groups_of("pool, product") == ("pool", "product")
    for wrong in ("", "pools", "pool,,x"):
        with pytest.raises(InvalidInputError, match="one or more of customer, product, pool, model"):
            groups_of(wrong)


def test_the_exports_have_the_reports_figures(busy: Ledger, acme: str) -> None:
    rows = exported(busy, "revenue", since=SINCE, until=UNTIL)
    assert sum(Fraction(row["amount"]) for row in rows) == sum(journal(busy).values())
    text = b"".join(export_rows(busy.store, busy.books, "revenue", since=SINCE, until=UNTIL, as_json=True))
    assert json.loads(text) == rows
    assert (
        json.loads(
            b"".join(export_rows(busy.store, busy.books, "usage", since="2020-01", until="2020-01", as_json=True))
        )
        == []
    )
    deferred = exported(busy, "deferred", since=SINCE, until=UNTIL)
    with busy.store.read() as connection:
        months = revenue_by_month(connection, SINCE, UNTIL)
    for month in months:
        of_month = [row for row in deferred if row["period"] == month["period"]]
        assert sum(Fraction(row["closing"]) for row in of_month) == Fraction(month["deferred"]["closing"])
        assert sum(Fraction(row["unbilled"]) for row in of_month) == Fraction(month["unbilled"])
        assert sum(Fraction(row["contract_assets"]) for row in of_month) == Fraction(month["contract_assets"])
    now = exported(busy, "receivables")
    assert {row["organization_id"]: row["total"] for row in now} == {
        row["organization_id"]: row["total"] for row in busy.receivables().items
    }
    assert exported(busy, "receivables", organization_id=acme, until="2026-01") == []
    [then] = exported(busy, "receivables", organization_id=acme, until="2026-02")
    assert then["as_of"] == "2026-03-01T00:00:00Z" and Fraction(then["current"]) > 0
