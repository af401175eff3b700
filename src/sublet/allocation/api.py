"""Routes of yield, for the operator and finance."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.responses import Response, StreamingResponse

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require
from sublet.allocation import wire
from sublet.allocation.chargeback.service import Chargeback, Wanted
from sublet.allocation.report.service import WEEKS_MAX
from sublet.allocation.service import Allocation
from sublet.values.wire import as_answer


def router(allocation: Allocation, require: Require) -> APIRouter:
    """`/v1/yield`, `/v1/yield-report` and `/v1/chargeback`."""
    routes = APIRouter(tags=["allocation"], route_class=AnswerRoute)
    reading = Depends(require("yield:read"))

    @routes.get("/v1/yield", dependencies=[reading])
    def plan() -> wire.YieldPlan:
        """Show the best mix of models and raw classes, with its reasons. Only pools whose mode is not off are looked at. Nothing is
        changed."""
        return as_answer(wire.YieldPlan, allocation.decide().as_dict())

    @routes.get("/v1/yield/{pool}", dependencies=[reading])
    def explain(pool: str) -> wire.YieldWorth:
        """Show what an hour of a pool is worth: each class and model, with its interval and its source."""
        return as_answer(wire.YieldWorth, allocation.explain(pool))

    @routes.get("/v1/yield-report", dependencies=[reading])
    def report(
        weeks: Annotated[int, Query(ge=1, le=WEEKS_MAX)] = 4, pool: Annotated[str, Query(max_length=60)] = ""
    ) -> wire.YieldReport:
        """Show what pools earned, and could have earned. It is by pool and week, and says where the difference went."""
        return as_answer(wire.YieldReport, allocation.report.weeks(weeks, pool))

    _add_chargeback(routes, allocation.chargeback, require)
    return routes


def _add_chargeback(routes: APIRouter, chargeback: Chargeback, require: Require) -> None:
    """`/v1/chargeback`: every statement for the owner, its own for an internal team."""
    reading = Depends(require("chargeback:read"))

    @routes.get("/v1/chargeback")
    def read_chargeback(
        month: Annotated[str, Query(max_length=10)] = "",
        basis: Annotated[str, Query(max_length=20)] = "",
        actor: Actor = reading,
    ) -> wire.Chargeback:
        """Show what internal teams used in a month (`2026-11`, in UTC; by default, the current one), and what they are charged at
        `cost`, `market` or `opportunity` price. A team sees its own line alone."""
        return as_answer(wire.Chargeback, chargeback.statements(Wanted(month, basis, _team(actor))))

    @routes.get("/v1/chargeback/export")
    def export_chargeback(
        month: Annotated[str, Query(max_length=10)] = "",
        basis: Annotated[str, Query(max_length=20)] = "",
        format: Annotated[str, Query(max_length=20)] = "csv",
        actor: Actor = reading,
    ) -> Response:
        """Export a month of charge-back as CSV: a row for each team (`csv`), or FOCUS rows whose sub-account is the team
        (`focus`)."""
        rows = chargeback.export(Wanted(month, basis, _team(actor)), format)
        named = {"content-disposition": 'attachment; filename="chargeback.csv"'}
        return StreamingResponse(rows, media_type="text/csv; charset=utf-8", headers=named)


def _team(actor: Actor) -> str:
    """The only team whose line the caller may see; empty for all."""
    return "" if actor.everywhere else actor.organization_id
