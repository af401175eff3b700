"""The route of a pool's calendar, for all who may read its blocks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Require
from sublet.fleet import wire
from sublet.reporting.bookings import pool_calendar
from sublet.values.moments import Moment
from sublet.values.wire import as_answer
from sublet.wiring.system import Sublet

Since = Annotated[Moment | None, Query(description="When the calendar starts. Without it, and if it is past, now.")]
Until = Annotated[
    Moment | None, Query(description="When it ends, at most three years later. By default, 30 days later.")
]


def router(system: Sublet, require: Require) -> APIRouter:
    """`/v1/calendar`."""
    routes = APIRouter(tags=["fleet"], route_class=AnswerRoute)

    @routes.get("/v1/calendar", dependencies=[Depends(require("blocks:read"))])
    def calendar(
        pool: Annotated[str, Query(max_length=60)], since: Since = None, until: Until = None
    ) -> wire.PoolCalendar:
        """Show what is booked of a pool over future time, in at most 200 steps. If more changes, neighboring steps are merged,
        and show the figures of the fullest moment."""
        return as_answer(wire.PoolCalendar, pool_calendar(system, pool, since, until).as_dict())

    return routes
