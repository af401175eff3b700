"""Routes of the revenue reports: for the operator."""

from fractions import Fraction
from typing import Annotated

from fastapi import APIRouter, Depends

from sublet.accounts.model import Require
from sublet.ledger.proof.checklist import checklist
from sublet.ledger.proof.wire import Checklist
from sublet.ledger.revenue import wire
from sublet.ledger.revenue.breakdown import groups_of, revenue_breakdown
from sublet.ledger.revenue.periods import revenue_by_month
from sublet.ledger.service import Ledger
from sublet.store.paging import PageRequest, page_request
from sublet.values.wire import as_answer


def revenue_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    """What was earned, deferred, and not billed yet."""

    @routes.get("/v1/periods/{label}/checklist", dependencies=[Depends(require("books:read"))])
    def read_checklist(label: str) -> Checklist:
        """Show what is left to do before a month can be handed to accounting."""
        with ledger.store.read() as connection:
            return as_answer(Checklist, checklist(connection, label, ledger.store.clock.now()))

    @routes.get("/v1/revenue", dependencies=[Depends(require("books:read"))])
    def read_revenue(since: str = "", until: str = "", organization_id: str = "") -> wire.Revenue:
        """Show revenue, deferred revenue and contract balances by month and currency, of one organization or of all. The months
        are `since` through `until`. Without `until`, the report covers one month; without both, the current one in UTC."""
        since = since or until or f"{ledger.store.clock.now():%Y-%m}"
        with ledger.store.read() as connection:
            owners = [ledger.party(connection, organization_id).id] if organization_id else None
            percent = Fraction(ledger.expected_breakage_percent)
            months = revenue_by_month(connection, since, until or since, owners, percent)
        return as_answer(wire.Revenue, {"months": months})

    @routes.get("/v1/revenue/breakdown", dependencies=[Depends(require("books:read"))])
    def read_revenue_breakdown(
        page: Annotated[PageRequest, Depends(page_request)],
        by: str = "product",
        since: str = "",
        until: str = "",
        organization_id: str = "",
    ) -> wire.RevenueBreakdown:
        """Show revenue by month and currency, and by `by`: `customer`, `product`, `pool`, `model`, or several of them separated by
        commas. The totals are compared with the journal. The months are chosen as for `GET /v1/revenue`."""
        groups = groups_of(by)
        since = since or until or f"{ledger.store.clock.now():%Y-%m}"
        with ledger.store.read() as connection:
            owners = [ledger.party(connection, organization_id).id] if organization_id else None
            found = revenue_breakdown(connection, since, until or since, groups, owners)
        return as_answer(wire.RevenueBreakdown, found.page(page).as_dict("revenue") | {"totals": found.totals()})
