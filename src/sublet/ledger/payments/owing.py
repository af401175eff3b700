"""What an organization owes now: usage so far, credits, open invoices, a forecast for the month, and the date of the next
invoice. The API, the commands and the console all show this answer."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, select

from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.invoices.open_items import FINAL, open_nano
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import Period, following, month_labeled, month_of
from sublet.ledger.rating.fixed import fixed_due, used_by_product
from sublet.ledger.service import Ledger
from sublet.store.tables.ledger import invoices
from sublet.values.clock import format_time
from sublet.values.money import nano_from_decimal

SHARE_MIN = Fraction(1, 31)
"""Of a month that must be over before it is projected: less is no base."""


def owed(ledger: Ledger, organization_id: str) -> dict[str, Any]:
    """What the organization owes now. Rates usage that has arrived first; writes nothing else."""
    now = ledger.store.clock.now()
    draft = ledger.draft(organization_id)
    balances = ledger.balances(organization_id)
    live = [
        credit for credit in ledger.credits(organization_id) if credit.expires_at is None or credit.expires_at > now
    ]
    period = ledger.period(organization_id)
    with ledger.store.read() as connection:
        party = ledger.party(connection, organization_id)
        open_now, overdue = _open(connection, party, now)
        forecast = _forecast(connection, ledger, party, period, now)
    return {
        "organization_id": organization_id,
        "currency": party.currency,
        "as_of": format_time(now),
        "period": period.label,
        "used": draft["subtotal"],
        "products": _by_product(draft),
        "projects": _by_project(draft),
        "credits": draft["credits"],
        "net": draft["net"],
        "taxes": draft["taxes"],
        "total": draft["total"],
        "prepaid": draft["prepaid"],
        "due": draft["due"],
        "open": amount_text(open_now),
        "overdue": amount_text(overdue),
        "owed_back": amount_text(-balances.get("customer_balance", 0)),
        "credit_left": amount_text(sum(credit.remaining_nano for credit in live)),
        "forecast": forecast,
        "next_invoice_at": format_time(_next_invoice(ledger, party, draft, period, now)),
    }


def _open(connection: Connection, party: Party, now: datetime) -> tuple[int, int]:
    """The amount open on invoices, and how much of it is overdue."""
    columns = invoices.c
    statement = select(invoices).where(
        columns.organization_id == party.id, columns.kind != CREDIT_NOTE, columns.status == FINAL
    )
    found = [(open_nano(row), row.due_at is not None and row.due_at < now) for row in connection.execute(statement)]
    return sum(nano for nano, _ in found), sum(nano for nano, late in found if late)


def _by_product(draft: dict[str, Any]) -> list[dict[str, str]]:
    sums: dict[str, int] = defaultdict(int)
    for line in draft["lines"]:
        sums[line["product"]] += nano_from_decimal(line["amount"])
    return [{"product": name, "amount": amount_text(sums[name])} for name in sorted(sums)]


def _by_project(draft: dict[str, Any]) -> list[dict[str, str]]:
    """The cost by project, usage without a project last. Fees and commitments belong to no project."""
    sums: dict[str, int] = defaultdict(int)
    for detail in draft["details"]:
        for share in detail["projects"]:
            sums[share["project"]] += nano_from_decimal(share["amount"])
    rest = nano_from_decimal(draft["subtotal"]) - sum(sums.values())
    if rest:
        sums[""] += rest
    return [
        {"project": name, "amount": amount_text(sums[name])} for name in sorted(sums, key=lambda name: (not name, name))
    ]


def _forecast(
    connection: Connection, ledger: Ledger, party: Party, period: Period, now: datetime
) -> dict[str, str] | None:
    """The forecast for the current month if usage continues at its pace, with fees and commitments, before credits and tax.
    None while less than a day's share of the month is over."""
    elapsed = Fraction(
        (now - period.start) // timedelta(microseconds=1), (period.end - period.start) // timedelta(microseconds=1)
    )
    if elapsed < SHARE_MIN:
        return None
    so_far = used_by_product(connection, party, period)
    projected = {product: int(nano / elapsed) for product, nano in so_far.items()}
    fixed = fixed_due(connection, ledger.books.current(connection), party, period, projected)
    return {
        "usage": amount_text(sum(projected.values())),
        "fees": amount_text(sum(due.nano for due in fixed)),
        "net": amount_text(sum(projected.values()) + sum(due.nano for due in fixed)),
        "method": "usage so far at its pace over the whole month; volume and free amounts as they stand",
    }


def _next_invoice(ledger: Ledger, party: Party, draft: dict[str, Any], period: Period, now: datetime) -> datetime:
    """When the first month that is not invoiced yet is over, including its grace period for late usage."""
    booked = min((line["booked"] for line in draft["lines"]), default=period.label)
    first = month_labeled(booked, party.timezone)
    while first.start < period.start and first.end + ledger.grace < now:
        first = following(first, party.timezone)
    return max(
        first.end + ledger.grace, month_of(now, party.timezone).start if first.start < period.start else first.end
    )
