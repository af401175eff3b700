"""What an organization owes: this month so far, its balance, and its invoices."""

from __future__ import annotations

from typing import Any

from sublet.console.page import Drawn, Screen, Visit
from sublet.ledger.payments.owing import owed
from sublet.ledger.service import Ledger

INVOICES_SHOWN_MAX = 50
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
                "invoices": list(reversed(ledger.invoices(whose)))[:INVOICES_SHOWN_MAX],
                "currency": visit.session.organization.currency,
            },
        )

    return Screen(PATH, "Billing", "invoices:read", show, tenants=True)
