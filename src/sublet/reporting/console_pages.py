"""The pages of the console, in the order of the navigation. A new page is one line here."""

from __future__ import annotations

from typing import Any

from sublet.accounts.auditing import AuditLog
from sublet.console.account import account_screen
from sublet.console.auditing import audit_screen
from sublet.console.budgets import budgets_page
from sublet.console.charging import Charging
from sublet.console.doors import Doors
from sublet.console.maintaining import Maintaining
from sublet.console.notifying import Notifying
from sublet.console.offered import offered_screen
from sublet.console.overview import overview_page
from sublet.console.owing import owing_screen
from sublet.console.page import Page, Screen, Visit
from sublet.console.passkeys import passkeys_screen
from sublet.console.playground import playground_screen
from sublet.console.record import record_page
from sublet.console.renting import Renting
from sublet.console.routing import Routing
from sublet.console.running import Running
from sublet.console.selling import Selling
from sublet.console.storing import Storing
from sublet.console.teaming import Teaming
from sublet.console.usage import UsagePages
from sublet.console.waiting import Waiting
from sublet.console.worth import Worth
from sublet.console.yielding import Yielding
from sublet.desk.whatif import Cases
from sublet.reporting.actuals import recent_actuals
from sublet.reporting.bookings import pool_calendar
from sublet.reporting.chatting import playing
from sublet.reporting.offered_models import Caller, offered_models
from sublet.reporting.offers import offers, pool_sizes, pools_for_sale, pools_of_owner, pools_to_ask_for
from sublet.reporting.overview import Overviews, pool_names
from sublet.wiring.system import Sublet


def doors_of(system: Sublet) -> Doors:
    """The ways into the console of that system."""
    return Doors(system.sessions, system.people, system.elsewhere, system.passkeys, system.settings.control.public_url)


def console_pages(system: Sublet, overviews: Overviews) -> tuple[Page | Screen, ...]:
    """`overviews` are for pages that show the whole system; others gather what they need from `system`."""
    renting = Renting(system.leases, lambda whose, length: offers(system, whose, length), lambda: pool_names(system))
    worth = Worth(
        lambda days: recent_actuals(system, days), Cases(system.settings.desk_case), lambda: system.clock.now().date()
    )
    return (
        overview_page(overviews.now),
        budgets_page(overviews.budgets),
        *Teaming(system.demand, system.leases, system.blocks, lambda: pools_of_owner(system)).screens(),
        record_page(overviews.record),
        *renting.screens(),
        offered_screen(lambda visit: _offered(system, visit)),
        playground_screen(playing(system)),
        *Waiting(system.leases, lambda: pool_names(system), lambda: pools_to_ask_for(system)).screens(),
        *Storing(
            system.leases.volumes,
            system.leases.images,
            lambda: pool_names(system),
            lambda: pools_to_ask_for(system, "volumes"),
        ).screens(),
        *Selling(
            system.blocks, lambda: pools_for_sale(system), lambda pool, until: pool_calendar(system, pool, until=until)
        ).screens(),
        *Maintaining(system.maintenance, system.capacity.stated_maintenance, lambda: pool_sizes(system)).screens(),
        *Routing(system.routes, lambda: sorted(system.models.catalog())).screens(),
        *worth.screens(),
        Yielding(system.allocation.latest, system.allocation.report.weeks).screen(),
        Charging(system.allocation.chargeback, system.clock.now).screen(),
        *UsagePages(system.ledger, system.accounts).screens(),
        owing_screen(system.ledger),
        *Running(system.accounts, system.people).screens(),
        *Notifying(system.notifications).screens(),
        audit_screen(AuditLog(system.store), system.people),
        account_screen(doors_of(system)),
        passkeys_screen(doors_of(system)),
    )


def _offered(system: Sublet, visit: Visit) -> list[dict[str, Any]]:
    actor = visit.actor
    caller = Caller(actor.organization_id, actor.project, actor.key_id)
    return [model.as_dict() for model in offered_models(system, caller)]
