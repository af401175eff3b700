"""What the ledger tells of besides budgets: invoices from issue to payment, and proofs that fail."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from tests.store.events import kinds, payloads, recorded

from sublet.ledger.model import UsageEvent
from sublet.ledger.payments.overdue import OVERDUE_TOLD_DAYS
from sublet.ledger.service import Ledger
from sublet.values.clock import SimulatedClock, parse_time
from sublet.values.errors import InvalidInputError

Used = Callable[..., UsageEvent]
NANO = 10**9


@pytest.fixture
def number(priced: Ledger, bolt: str, used: Used, clock: SimulatedClock) -> str:
    clock.set(datetime(2026, 1, 10, tzinfo=UTC))
    priced.take_now([used(bolt, "a", 10_000_000)])
    made = priced.invoice(bolt)
    assert made is not None
    return str(made["number"])


def test_an_invoice_that_is_paid_by_parts(priced: Ledger, bolt: str, number: str, clock: SimulatedClock) -> None:
    priced.pay(number, NANO, "bank-1")
    assert kinds(priced.store) == ["invoice.issued"]
    priced.pay(number, NANO // 2, "bank-2")
    priced.pay(number, NANO // 2, "bank-2")
    assert kinds(priced.store) == ["invoice.issued", "invoice.paid"]
    found = recorded(priced.store)[-1]
    assert (found.organization_id, found.payload["number"], found.payload["paid"]) == (bolt, number, "1.500000000")
    clock.advance(60)
    priced.reverse_payment(number, "bank-2", "of another customer")
    priced.pay(number, NANO // 2, "bank-3")
    assert kinds(priced.store) == ["invoice.issued", "invoice.paid", "invoice.paid"]


def test_a_refused_payment_and_a_repeated_void_tell_nothing_more(priced: Ledger, number: str) -> None:
    with pytest.raises(InvalidInputError):
        priced.pay(number, 7 * NANO, "bank-1")
    priced.void(number, "wrong address")
    priced.void(number, "wrong address")
    assert kinds(priced.store) == ["invoice.issued", "invoice.voided"]


def test_an_overdue_invoice_is_told_once(priced: Ledger, number: str, clock: SimulatedClock) -> None:
    due_at = parse_time(priced.invoice_by(number)["due_at"])
    clock.set(due_at)
    assert priced.tell_overdue() == 0
    clock.set(due_at + timedelta(seconds=1))
    assert (priced.tell_overdue(), priced.tell_overdue()) == (1, 1)
    assert kinds(priced.store) == ["invoice.issued", "invoice.overdue"]
    clock.advance((OVERDUE_TOLD_DAYS + 1) * 86_400)
    assert priced.tell_overdue() == 0


def test_a_failed_proof_is_told_to_the_operator(priced: Ledger, number: str, monkeypatch: pytest.MonkeyPatch) -> None:
    priced.prove_nightly()
    assert "proof.failed" not in kinds(priced.store)
    proof = priced.prove()
    proof.differs("account receivable differs", 5)
    monkeypatch.setattr(priced, "prove", lambda: proof)
    priced.prove_nightly()
    [found] = recorded(priced.store, "proof.")
    assert (found.organization_id, found.payload["first"]) == (None, "account receivable differs")
    assert payloads(priced.store, "proof.")[0]["differences"] == 1
