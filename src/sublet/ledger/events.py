"""Events of the ledger in the outbox."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from sublet.ledger.budgets.model import Budget
from sublet.ledger.model import Party, amount_text
from sublet.ledger.proof.findings import Proof
from sublet.store.events import EventKind, declare
from sublet.values.clock import format_time


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """A budget in its current period. Amounts are decimal texts in `currency`."""

    budget: str
    scope: str
    scope_id: str
    period: str
    period_start: datetime
    hard: bool
    limit: str
    spent: str
    currency: str


@dataclass(frozen=True, slots=True)
class ThresholdReached(BudgetStanding):
    """A budget in its current period, and the threshold that it reached."""

    threshold_percent: int


THRESHOLD_REACHED = declare(
    "budget.threshold_reached", ThresholdReached, "Spending reached a threshold of a budget.", subject="budget"
)
HARD_LIMIT_REACHED = declare(
    "budget.hard_limit_reached",
    BudgetStanding,
    "A hard budget is used up. New work that it covers is refused until the period ends.",
    subject="budget",
)


def record_threshold(
    connection: Connection,
    budget: Budget,
    period_start: datetime,
    percent: int,
    spent_nano: int,
    party: Party,
    now: datetime,
) -> None:
    """Record that a threshold was reached, once per period."""
    standing = _standing(budget, period_start, spent_nano, party)
    payload = ThresholdReached(**standing, threshold_percent=percent)
    key = _threshold_key(budget.id, period_start, percent)
    THRESHOLD_REACHED.record(connection, payload, now, organization_id=party.id, key=key)


def threshold_event_id(budget_id: str, period_start: datetime, percent: int) -> str:
    """The id of the event of a threshold."""
    return THRESHOLD_REACHED.id_of(_threshold_key(budget_id, period_start, percent))


def _threshold_key(budget_id: str, period_start: datetime, percent: int) -> tuple[str, ...]:
    return budget_id, format_time(period_start), str(percent)


def record_hard_limit(
    connection: Connection, budget: Budget, period_start: datetime, spent_nano: int, party: Party, now: datetime
) -> None:
    """Record that a hard budget is spent, once per period."""
    payload = BudgetStanding(**_standing(budget, period_start, spent_nano, party))
    key = (budget.id, format_time(period_start))
    HARD_LIMIT_REACHED.record(connection, payload, now, organization_id=party.id, key=key)


def _standing(budget: Budget, period_start: datetime, spent_nano: int, party: Party) -> dict[str, Any]:
    return {
        "budget": budget.id,
        "scope": budget.scope,
        "scope_id": budget.scope_id,
        "period": budget.period,
        "period_start": period_start,
        "hard": budget.hard,
        "limit": amount_text(budget.limit_nano),
        "spent": amount_text(spent_nano),
        "currency": party.currency,
    }


@dataclass(frozen=True, slots=True)
class InvoiceChanged:
    """An invoice. Amounts are decimal texts in `currency`."""

    invoice: str
    number: str
    kind: str
    total: str
    due: str
    paid: str
    currency: str
    due_at: datetime


@dataclass(frozen=True, slots=True)
class CreditNoteIssued:
    """A credit note for `invoices` (their numbers), how much it reduced open ones, and how much is owed to the customer.
    Amounts are decimal texts in `currency`."""

    credit_note: str
    number: str
    invoices: str
    total: str
    receivable: str
    balance: str
    currency: str


@dataclass(frozen=True, slots=True)
class ProofFailed:
    """A proof that found differences: how many, and the first of them in words."""

    subject: str
    proved_at: datetime
    differences: int
    first: str


INVOICE_ISSUED = declare("invoice.issued", InvoiceChanged, "An invoice was issued.", subject="invoice")
INVOICE_VOIDED = declare("invoice.voided", InvoiceChanged, "An invoice was voided.", subject="invoice")
INVOICE_PAID = declare("invoice.paid", InvoiceChanged, "An invoice is paid in full.", subject="invoice")
INVOICE_OVERDUE = declare(
    "invoice.overdue", InvoiceChanged, "An invoice was not paid by its due date.", subject="invoice"
)
CREDIT_NOTE_ISSUED = declare("credit_note.issued", CreditNoteIssued, "A credit note was issued.", subject="credit_note")
PROOF_FAILED = declare(
    "proof.failed", ProofFailed, "A proof of the books found a difference.", subject="subject", audience="operator"
)


def record_invoice(connection: Connection, kind: EventKind, row: Row[Any], now: datetime, *key: str) -> None:
    """Tell of an invoice as `row` has it. What happens to it once is recorded under its id; a payment that is reversed and
    made again has a `key` besides."""
    payload = InvoiceChanged(
        row.id,
        row.number,
        row.kind,
        amount_text(row.total_nano),
        amount_text(row.due_nano),
        amount_text(row.paid_nano),
        row.currency,
        row.due_at,
    )
    kind.record(connection, payload, now, organization_id=row.organization_id, key=(row.id, *key))


def record_note(connection: Connection, organization_id: str, document: dict[str, Any], now: datetime) -> None:
    """Record that a credit note was created, once."""
    payload = CreditNoteIssued(
        document["id"],
        document["number"],
        ", ".join(corrected["invoice"] for corrected in document["corrects"]),
        document["total"],
        document["receivable"],
        document["balance"],
        document["currency"],
    )
    CREDIT_NOTE_ISSUED.record(connection, payload, now, organization_id=organization_id, key=(document["id"],))


def record_failed_proof(connection: Connection, proof: Proof, now: datetime) -> None:
    first = proof.findings[0] if proof.findings else f"a difference of {amount_text(proof.difference_nano)}"
    PROOF_FAILED.record(connection, ProofFailed(proof.subject, now, len(proof.findings), first), now)
