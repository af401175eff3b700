"""Payments that were recorded by mistake: reversed once, by a linked transaction, and the invoice is open again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, update

from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import UsageEvent
from sublet.ledger.periods import month_of
from sublet.ledger.service import Ledger
from sublet.store.tables.ledger import invoices, transactions
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

Used = Callable[..., UsageEvent]
NANO = 10**9


@pytest.fixture
def number(priced: Ledger, bolt: str, used: Used, clock: SimulatedClock) -> str:
    """An invoice of 1.50 of January."""
    clock.set(datetime(2026, 1, 10, tzinfo=UTC))
    priced.take_now([used(bolt, "a", 10_000_000)])
    made = priced.invoice(bolt)
    assert made is not None and made["due"] == "1.500000000"
    return str(made["number"])


def test_a_reversed_payment_leaves_the_invoice_open_again(
    priced: Ledger, bolt: str, number: str, clock: SimulatedClock
) -> None:
    priced.pay(number, NANO // 2, "bank-1")
    assert priced.pay(number, NANO, "bank-2")["status"] == "paid"
    assert priced.receivables().items == []
    clock.set(datetime(2026, 2, 3, tzinfo=UTC))
    priced.close(bolt, "2026-01")
    january = priced.statement(bolt, "2026-01")
    found = priced.reverse_payment(number, "bank-2", "of another customer")
    assert (found["status"], found["paid"]) == ("final", "0.500000000")
    # January is closed: what it says stays, and the reversal stands in February, with the payment that it names.
    assert priced.statement(bolt, "2026-01") == january
    assert [move["kind"] for move in january["movements"]] == ["invoice", "payment", "payment"]
    [move] = priced.statement(bolt, "2026-02")["movements"]
    assert (move["kind"], move["amount"], move["balance"]) == ("payment reversal", "1.000000000", "1.000000000")
    assert move["text"] == f"payment bank-2 of {number} reversed: of another customer"
    with priced.store.read() as connection:
        entry = journal.transaction(connection, move["transaction"]).entry
        assert entry.reverses is not None and entry.period_start == month_of(clock.now(), "UTC").start
        assert journal.transaction(connection, entry.reverses).entry.source_id == "bank-2"
    assert [row["total"] for row in priced.receivables().items] == ["1.000000000"]
    assert priced.balances(bolt)["receivable"] == NANO and priced.balances(bolt)["cash"] == NANO // 2
    assert priced.prove().findings == []
    assert priced.pay(number, NANO, "bank-3")["status"] == "paid"
    assert priced.prove().ok


def test_an_open_invoice_is_as_old_as_its_due_date(priced: Ledger, number: str, clock: SimulatedClock) -> None:
    priced.pay(number, 3 * NANO // 2, "bank-1")
    due = datetime.fromisoformat(priced.invoice_by(number)["due_at"])
    clock.set(due + timedelta(days=40))
    priced.reverse_payment(number, "bank-1", "bounced")
    assert [row["31-60"] for row in priced.receivables().items] == ["1.500000000"]


def test_a_payment_is_reversed_once_and_only_with_a_reason(priced: Ledger, number: str) -> None:
    priced.pay(number, NANO, "bank-1")
    with pytest.raises(NotFoundError, match=r"no payment 'bank-9'; it has 'bank-1'"):
        priced.reverse_payment(number, "bank-9", "typo")
    with pytest.raises(NotFoundError, match="no invoice"):
        priced.reverse_payment("INV-999999", "bank-1", "typo")
    for reason in ("", "x" * 501, "a\nb"):
        with pytest.raises(InvalidInputError, match="the reason why"):
            priced.reverse_payment(number, "bank-1", reason)
    assert priced.invoice_by(number)["paid"] == "1.000000000"
    priced.reverse_payment(number, "bank-1", "typo")
    with priced.store.read() as connection:
        posted = connection.execute(select(transactions.c.transaction_no)).all()
    with pytest.raises(ConflictError, match="already reversed"):
        priced.reverse_payment(number, "bank-1", "typo")
    with pytest.raises(ConflictError, match="recorded and reversed"):
        priced.pay(number, NANO, "bank-1")
    priced.void(number, "made for nobody")
    with pytest.raises(ConflictError, match="is void"):
        priced.reverse_payment(number, "bank-1", "typo")
    with priced.store.read() as connection:
        assert len(connection.execute(select(transactions.c.transaction_no)).all()) == len(posted) + 1
    assert priced.prove().ok


def test_the_proof_names_an_invoice_that_says_more_is_paid_than_was_posted(priced: Ledger, number: str) -> None:
    priced.pay(number, NANO, "bank-1")
    assert priced.prove().ok
    change = update(invoices).where(invoices.c.number == number).values(paid_nano=NANO + 5)
    priced.store.write(lambda connection: connection.execute(change) and None)
    proof = priced.prove(invoice_id=number)
    assert proof.difference_nano == 5
    assert proof.findings == [f"{number}: 1.000000005 stand as paid and 1.000000000 were posted"]
