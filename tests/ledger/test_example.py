"""The month of a made-up company: it plays, its books are proved, and its package adds up."""

from __future__ import annotations

import csv
import json
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sublet.commands.ledger import app
from sublet.ledger.example.company import customers
from sublet.ledger.example.month import LABEL, play
from sublet.ledger.example.package import write_package
from sublet.store import Store
from sublet.values.errors import InvalidInputError


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


def test_a_month_is_closed_and_its_package_adds_up(store: Store, tmp_path: Path) -> None:
    month = play(store, 20, 1, every_days=6)
    out = tmp_path / "package"
    made = write_package(month.ledger, LABEL, list(month.owners.values()), out, pdfs=False)
    assert made.difference == "0.000000000" and made.ready, (out / "proof.json").read_text()[:2000]
    assert made.invoices >= 15 and made.notes >= 1
    kinds = {row["kind"] for row in rows(out / "journal.csv")}
    assert kinds >= set(
        "usage adjustment correction credit fee commitment invoice payment netting refund void".split()
    ), kinds
    assert {"credit note", "write-off"} <= kinds
    # The trial balance is the journal's sums, and balances in each currency.
    sums: dict[tuple[str, str], Decimal] = {}
    for row in rows(out / "journal.csv"):
        key = (row["currency"], row["account"])
        sums[key] = sums.get(key, Decimal(0)) + Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0)
    trial = {
        (row["currency"], row["account"]): Decimal(row["debit"] or 0) - Decimal(row["credit"] or 0)
        for row in rows(out / "trial-balance.csv")
    }
    assert trial == {key: amount for key, amount in sums.items() if amount}
    assert {currency for currency, _ in trial} == {"USD", "EUR", "JPY"}
    for currency in ("USD", "EUR", "JPY"):
        assert sum(amount for (named, _), amount in trial.items() if named == currency) == 0
        open_ = trial.get((currency, "receivable"), Decimal(0)) + trial.get((currency, "customer_balance"), Decimal(0))
        aged = [Decimal(row["total"]) for row in rows(out / "receivables.csv") if row["currency"] == currency]
        assert sum(aged) == open_
    totals = json.loads((out / "revenue.json").read_text())["totals"]
    assert {total["difference"] for total in totals.values()} == {"0.000000000"}
    assert (out / "index.html").read_text().count("<li>") == made.files - 1
    assert list((out / "invoices").glob("*.xml"))


def test_customers_are_forty_in_three_currencies_with_profiles_of_their_own() -> None:
    found = customers(40)
    assert len({one.name for one in found}) == 40 and {one.currency for one in found} == {"USD", "EUR", "JPY"}
    assert {one.role for one in found} == set(range(8)) and len({one.profile.reference for one in found}) == 40


@pytest.mark.real
def test_one_command_plays_all_of_it(tmp_path: Path) -> None:
    out = tmp_path / "package of 2026?mode=ro"
    found = CliRunner().invoke(app, ["example", str(out), "--json"])
    assert found.exit_code == 0, found.output
    made = json.loads(found.output)
    assert made["difference"] == "0.000000000" and made["ready"] and made["invoices"] >= 40
    assert sqlite3.connect(out / "books.db").execute("SELECT count(*) FROM organizations").fetchone() == (40,)
    assert len(list((out / "invoices").glob("*.pdf"))) == made["invoices"]
    again = CliRunner().invoke(app, ["example", str(out)])
    assert isinstance(again.exception, InvalidInputError) and "is not empty" in str(again.exception)
