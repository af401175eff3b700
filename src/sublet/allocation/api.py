"""Routes of yield, for the operator and finance."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Require
from sublet.allocation import wire
from sublet.allocation.service import Allocation
from sublet.values.wire import as_answer


def router(allocation: Allocation, require: Require) -> APIRouter:
    """`/v1/yield`."""
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

    return routes
