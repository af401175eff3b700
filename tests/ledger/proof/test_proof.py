"""The proof finds every kind of tampering and names the first place; the journal refuses to be rewritten."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import Connection, text, update
from sqlalchemy.exc import DBAPIError

from sublet.ledger import service
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Entry, Posting, UnbalancedEntryError, postings_of
from sublet.ledger.service import Ledger, new_budget
from sublet.store import Store
from sublet.store.tables.ledger import invoices, proofs
from sublet.values.errors import InvalidInputError, NotFoundError
from sublet.values.money import POSTING_NANO_MAX

APPEND_ONLY = ("ledger_events", "ledger_lines", "ledger_transactions", "ledger_postings")


@pytest.mark.parametrize("table", APPEND_ONLY)
@pytest.mark.parametrize("verb", ["UPDATE {0} SET organization_id = organization_id", "DELETE FROM {0}"])
def test_the_database_itself_refuses_to_rewrite_history(busy: Ledger, table: str, verb: str) -> None:
    statement = verb.format(table).replace(
        "organization_id", "account" if table.endswith("postings") else "organization_id"
    )
    with pytest.raises((DBAPIError, Exception), match="append-only"):
        busy.store.write(lambda connection: connection.execute(text(statement)))


@pytest.mark.real
@pytest.mark.parametrize("table", APPEND_ONLY)
def test_postgresql_refuses_to_empty_a_table_of_history(postgres_store: Store, table: str) -> None:
    """TRUNCATE passes the triggers of rows by."""
    for words in (f"TRUNCATE {table}", f"TRUNCATE {table} CASCADE", "TRUNCATE " + ", ".join(APPEND_ONLY)):
        with pytest.raises(DBAPIError, match="append-only"):
            postgres_store.write(lambda connection, words=words: connection.execute(text(words)))  # type: ignore[misc]


def unguarded(ledger: Ledger, statement: str) -> None:
    """Do what somebody with the database's password could: take the guards away and rewrite."""

    def write(connection: Connection) -> None:
        for table in APPEND_ONLY:
            if ledger.store.is_sqlite:
                for verb in ("update", "delete"):
                    connection.execute(text(f"DROP TRIGGER {table}_no_{verb}"))
            else:
                connection.execute(text(f"DROP TRIGGER {table}_append_only ON {table}"))
        connection.execute(text(statement))

    ledger.store.write(write)


def test_an_untouched_ledger_differs_by_nothing(busy: Ledger, acme: str, bolt: str) -> None:
    everything = busy.prove()
    assert everything.as_dict()["difference"] == "0.000000000" and everything.ok
    assert everything.invoices == 3 and everything.lines > 400
    number = busy.invoices(acme)[0]["number"]
    assert busy.prove(invoice_id=number).ok and busy.prove(bolt).ok
    with pytest.raises(NotFoundError):
        busy.prove(invoice_id="INV-999999")


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("UPDATE ledger_events SET quantity = quantity + 1 WHERE event_id = 'lse_one/19'", "lse_one/19"),
        ("DELETE FROM ledger_events WHERE seq = 20", "event 20 was removed"),
        ("UPDATE ledger_events SET at = at + 2700000000000 WHERE event_id = 'lse_one/19'", "another month"),
        ("UPDATE ledger_lines SET nano = nano + 1 WHERE line_no = 20", "stands as"),
        ("DELETE FROM ledger_lines WHERE line_no = 20", "never rated"),
        ("UPDATE ledger_postings SET nano = nano + 1 WHERE transaction_no = 1 AND position = 0", "transaction 1"),
        ("UPDATE ledger_transactions SET memo = 'a gift' WHERE transaction_no = 2", "was changed after it was posted"),
        ("DELETE FROM ledger_transactions WHERE transaction_no = 2", "transaction 2 is missing"),
        (
            "DELETE FROM ledger_transactions WHERE transaction_no = (SELECT max(transaction_no) FROM ledger_transactions)",
            "the last ones were removed",
        ),
        ("UPDATE ledger_counters SET nano = '1' WHERE rate_id = 'images package'", "counter of images package"),
        ("UPDATE ledger_balances SET nano = '1' WHERE account = 'receivable'", "balance of receivable"),
        (
            'UPDATE ledger_invoices SET document = replace(document, \'"amount":"\', \'"amount":"1\')',
            "derives otherwise",
        ),
        ("UPDATE ledger_fixed_charges SET nano = '7'", "stands as 7"),
    ],
)
def test_tampering_is_found_and_named(busy: Ledger, statement: str, named: str) -> None:
    unguarded(busy, statement)
    proof = busy.prove()
    assert not proof.ok
    assert any(named in finding for finding in proof.findings), proof.findings


def test_a_lost_digit_of_a_budget_is_found(busy: Ledger, bolt: str) -> None:
    busy.create_budget(new_budget(bolt, 10**12, period="ever"))
    assert busy.prove().ok
    unguarded(busy, "UPDATE ledger_budget_states SET spent_nano = spent_nano + 1")
    assert any("budget" in finding for finding in busy.prove().findings)


def test_postings_sum_to_zero_or_nothing_is_written(ledger: Ledger, bolt: str) -> None:
    period = ledger.period(bolt).start
    with pytest.raises(UnbalancedEntryError):
        Entry(bolt, "USD", "test", "s", period, "", (Posting("cash", 5), Posting("receivable", -4)))
    with pytest.raises(InvalidInputError, match="chart of accounts"):
        Entry(bolt, "USD", "test", "s", period, "", (Posting("piggy bank", 0),))


def test_totals_pass_what_sixty_four_bits_hold(ledger: Ledger, bolt: str) -> None:
    """A hundred times nine billion dollars: the balance and its proof go on beyond 2**63 nano-units."""
    period, now = ledger.period(bolt).start, ledger.store.clock.now()
    amount = POSTING_NANO_MAX

    def post(connection: Connection) -> None:
        entries = [
            Entry(bolt, "USD", "payment", str(number), period, "", postings_of({"cash": amount, "unbilled": -amount}))
            for number in range(100)
        ]
        journal.post(connection, entries, now)
        big = postings_of({"cash": 3 * amount + 1, "unbilled": -3 * amount - 1})
        assert len(big) == 8
        journal.post(connection, [Entry(bolt, "USD", "payment", "big", period, "", big)], now)

    ledger.store.write(post)
    assert ledger.balances(bolt)["cash"] == 103 * amount + 1
    assert ledger.prove().ok


def test_a_nightly_proof_is_kept_and_shown(busy: Ledger, bolt: str, used: Callable[..., object]) -> None:
    assert busy.prove_nightly().ok
    health = busy.health()
    assert health["ok"] and health["last_proof"]["difference"] == "0.000000000"
    unguarded(busy, "UPDATE ledger_balances SET nano = '1' WHERE account = 'receivable'")
    busy.store.clock.advance(60)  # type: ignore[attr-defined]
    busy.prove_nightly()
    assert not busy.health()["ok"]


def test_of_nightly_proofs_the_newest_are_kept(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "PROOFS_KEPT", 2)
    for _ in range(4):
        ledger.store.clock.advance(86_400)  # type: ignore[attr-defined]
        ledger.prove_nightly()
    with ledger.store.read() as connection:
        kept = [row.proved_at for row in connection.execute(proofs.select().order_by(proofs.c.proved_at))]
    assert kept == [ledger.store.clock.now() - timedelta(days=1), ledger.store.clock.now()]


def test_a_tax_that_is_not_its_percentage_is_found(busy: Ledger, acme: str) -> None:
    document = busy.invoices(acme)[0]
    number = document["number"]
    document["taxes"] = [{"name": "VAT", "percent": "19", "amount": "0.010000000"}]
    change = update(invoices).where(invoices.c.number == number).values(document=document)
    busy.store.write(lambda connection: connection.execute(change))
    proof = busy.prove(invoice_id=number)
    assert not proof.ok and "tax 'VAT' of 19 %" in str(proof.findings[0])
