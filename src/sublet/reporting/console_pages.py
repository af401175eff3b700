"""The pages of the console, in the order of the navigation. A new page is one line here."""

from __future__ import annotations

from sublet.console.account import account_screen
from sublet.console.budgets import budgets_page
from sublet.console.overview import overview_page
from sublet.console.page import Page, Screen
from sublet.console.record import record_page
from sublet.reporting.overview import Overviews
from sublet.wiring.system import Sublet


def console_pages(system: Sublet, overviews: Overviews) -> tuple[Page | Screen, ...]:
    """`overviews` are for pages that show the whole system; others gather what they need from `system`."""
    return (
        overview_page(overviews.now),
        budgets_page(overviews.budgets),
        record_page(overviews.record),
        account_screen(system.sessions, system.people),
    )
