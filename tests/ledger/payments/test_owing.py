"""What is owed at a moment, in one answer: by product and project, after credits, what is open, and what the month may come to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from tests.ledger.payer import Account

from sublet.ledger.invoices.taxes import FlatTax
from sublet.ledger.model import UsageEvent
from sublet.ledger.payments.owing import owed
from sublet.ledger.service import Ledger

Open = Callable[..., Account]


def test_what_is_owed_now_and_what_the_month_may_come_to(account: Open) -> None:
    payer = account(19)
    payer.ledger = Ledger(payer.ledger.store, taxes=FlatTax("VAT", Fraction(19)), grace=timedelta(hours=48))
    payer.publish({"id": "fee", "kind": "flat", "organization": payer.owner, "amount": "31"})
    assert owed(payer.ledger, payer.owner)["forecast"] is None
    payer.give("welcome", 5, 31, paid=False)
    payer.on(11)
    at = datetime(2026, 1, 10, tzinfo=UTC)
    for project, quantity in (("chat", 1_000), ("", 500)):
        event = UsageEvent("t", project or "none", payer.owner, "requests", quantity, at, project=project)
        assert payer.ledger.take_now([event]).accepted == 1
    found = owed(payer.ledger, payer.owner)
    assert (found["used"], found["net"], found["total"]) == ("15.000000000", "10.000000000", "11.900000000")
    assert found["products"] == [{"product": "models", "amount": "15.000000000"}]
    assert found["projects"] == [
        {"project": "chat", "amount": "10.000000000"},
        {"project": "", "amount": "5.000000000"},
    ]
    # Ten of 31 days are over: 15 become 46.50, and the fee is for the whole month.
    assert found["forecast"] is not None and Decimal(found["forecast"]["net"]) == Decimal("77.5")
    assert found["next_invoice_at"] == "2026-02-03T00:00:00Z"
    draft = payer.ledger.draft(payer.owner)
    assert all(found[name] == draft[name] for name in ("net", "taxes", "total", "due", "credits"))


def test_what_is_open_overdue_and_owed_back_stands_beside_it(account: Open) -> None:
    payer = account()
    payer.on(11)
    made = payer.bill_more("100", "a")
    payer.pay(made, "40")
    assert owed(payer.ledger, payer.owner)["open"] == "60.000000000"
    payer.cancel("a")
    payer.note()
    found = owed(payer.ledger, payer.owner)
    assert (found["used"], found["open"], found["owed_back"]) == ("0.000000000", "0.000000000", "40.000000000")
    payer.bill_more("10", "b")
    payer.on(11, month=3)
    assert owed(payer.ledger, payer.owner)["overdue"] == "10.000000000"


def test_a_month_that_waits_for_late_usage_is_invoiced_first(account: Open) -> None:
    payer = account()
    payer.ledger.grace = timedelta(hours=48)
    payer.on(20)
    payer.use(20, "7", hour=0)
    payer.on(1, month=2, hour=5)
    assert owed(payer.ledger, payer.owner)["next_invoice_at"] == "2026-02-03T00:00:00Z"
