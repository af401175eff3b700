"""What an organization owes: this month so far, its balance, and its invoices."""

from __future__ import annotations

from typing import Any

from sublet.console.page import Drawn, Screen, Visit
from sublet.ledger.payments.owing import owed
from sublet.ledger.service import Ledger
from sublet.shown import cost_text
from sublet.store.paging import PageRequest

INVOICES_SHOWN_MAX = 50
PLANS_SHOWN = PageRequest(limit=20)
PATH = "/billing"


def owing_screen(ledger: Ledger) -> Screen:
    """`/billing`: figures as the API has them; nothing is computed here."""

    def show(visit: Visit) -> Drawn:
        whose = visit.actor.organization_id
        draft: dict[str, Any] = ledger.draft(whose)
        return Drawn(
            "billing.html",
            {
                "draft": draft,
                "owed": owed(ledger, whose),
                "plans": _plans(ledger, whose),
                "invoices": list(reversed(ledger.invoices(whose)))[:INVOICES_SHOWN_MAX],
                "currency": visit.session.organization.currency,
            },
        )

    return Screen(PATH, "Billing", "invoices:read", show, tenants=True)


def _plans(ledger: Ledger, whose: str) -> list[dict[str, Any]]:
    """The subscriptions that are not over, with amounts for people."""
    found = ledger.plans.subscriptions(whose, PLANS_SHOWN).items
    months = ("this_month", "next_month")
    return [
        one | {name: cost_text(one[name], one["currency"]) for name in months}
        for one in found
        if one["status"] != "ended"
    ]
