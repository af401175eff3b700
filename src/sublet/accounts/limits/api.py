"""Routes of limits."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.requests import Request

from sublet.accounts import wire
from sublet.accounts.answers import AnswerRoute
from sublet.accounts.conditions import Tagged, changed, if_match, shown
from sublet.accounts.limits.model import Allowed, Limit
from sublet.accounts.limits.service import Limits
from sublet.accounts.model import Actor, Require
from sublet.accounts.wire import LimitValues, NewRateLimit
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.etags import Condition
from sublet.values.wire import as_answer

Seen = Annotated[Condition, Depends(if_match)]


def router(limits: Limits, require: Require) -> APIRouter:
    """`/v1/limits`: the operator's for everybody, an organization's own for its projects and keys."""
    routes = APIRouter(tags=["accounts"], route_class=AnswerRoute)
    reader, writer = require("limits:read"), require("limits:write")

    @routes.get("/v1/limits")
    def list_limits(
        actor: Actor = Depends(reader), page: PageRequest = Depends(page_request), organization_id: str = ""
    ) -> wire.RateLimitList:
        """List the limits of an organization, oldest first. The operator also sees those of all organizations and of models."""
        whose = None if actor.everywhere and not organization_id else actor.whose(organization_id)
        return as_answer(
            wire.RateLimitList, limits.page(whose, page).map(lambda limit: limit.as_dict()).as_dict("limits")
        )

    @routes.post("/v1/limits", status_code=201)
    def create_limit(
        body: NewRateLimit, actor: Actor = Depends(require("limits:write", effect=Effect(Limit)))
    ) -> wire.RateLimit:
        """Limit what an organization, a project, a key, or all callers of a model may use, from the next request on."""
        whose = actor.whose(body.organization_id) if body.scope != "model" else ""
        place = (whose, body.scope, body.scope_id, body.model)
        return as_answer(wire.RateLimit, limits.create(actor, place, allowed_of(body)).as_dict())

    @routes.get("/v1/limits/{limit_id}")
    def show_limit(request: Request, limit_id: str, actor: Actor = Depends(reader)) -> Tagged[wire.RateLimit]:
        """Show a limit."""
        return shown(request, wire.RateLimit, limits.limit(actor, limit_id).as_dict())

    @routes.put("/v1/limits/{limit_id}")
    def change_limit(
        limit_id: str, body: LimitValues, seen: Seen, actor: Actor = Depends(writer)
    ) -> Tagged[wire.RateLimit]:
        """Replace the values of a limit, from the next request on. Values that are left out are no longer limited."""
        return changed(wire.RateLimit, limits.change(actor, limit_id, allowed_of(body), seen).as_dict())

    @routes.delete("/v1/limits/{limit_id}", status_code=204)
    def remove_limit(limit_id: str, seen: Seen, actor: Actor = Depends(writer)) -> None:
        """Remove a limit."""
        limits.remove(actor, limit_id, seen)

    return routes


def allowed_of(body: LimitValues | NewRateLimit) -> Allowed:
    """What a body allows."""
    values = {item.name: getattr(body, item.name) for item in fields(Allowed)}
    if values["models"] is not None:
        values["models"] = tuple(dict.fromkeys(values["models"]))
    return Allowed(**values)
