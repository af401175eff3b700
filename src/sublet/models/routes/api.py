"""The operator's routes of the API for routes of models."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.conditions import Tagged, changed, if_match, shown
from sublet.accounts.model import Require
from sublet.models import wire
from sublet.models.routes.model import Route, RoutePlan, Upstream
from sublet.models.routes.service import Routes
from sublet.models.wire import NewRoute, RouteValues
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_of, page_request
from sublet.values.etags import Condition
from sublet.values.wire import as_answer


def router(named: Routes, require: Require) -> APIRouter:
    """`/v1/model-routes`, for the operator."""
    routes = APIRouter(tags=["models"], route_class=AnswerRoute)
    operate = Depends(require("deployments:write"))

    @routes.get("/v1/model-routes", dependencies=[Depends(require("deployments:read"))])
    def list_routes(page: PageRequest = Depends(page_request)) -> wire.RouteList:
        """List the public names that several models serve, those in the settings among them."""
        found = page_of("model-routes", named.all(), lambda plan: plan.route.name, page)
        return as_answer(wire.RouteList, found.map(lambda plan: plan.as_dict()).as_dict("routes"))

    @routes.post(
        "/v1/model-routes",
        status_code=201,
        dependencies=[Depends(require("deployments:write", effect=Effect(RoutePlan)))],
    )
    def add_route(body: NewRoute) -> wire.RouteState:
        """Serve a public name by several models, on all gateways within a second."""
        wanted = _wanted(body.name, body)
        return as_answer(wire.RouteState, (named.preview(wanted) if body.preview else named.add(wanted)).as_dict())

    @routes.get("/v1/model-routes/{route:path}", dependencies=[Depends(require("deployments:read"))])
    def show_route(request: Request, route: str) -> Tagged[wire.RouteState]:
        """Show a route, and what its name can do."""
        found = named.route(route)
        return shown(request, wire.RouteState, found.as_dict(), found.route.as_dict())

    @routes.put("/v1/model-routes/{route:path}", dependencies=[operate])
    def change_route(route: str, body: RouteValues, seen: Condition = Depends(if_match)) -> Tagged[wire.RouteState]:
        """Replace the models that serve a route, on all gateways within a second. A route in the settings is replaced until this
        one is removed."""
        wanted = _wanted(route, body)
        made = named.preview(wanted) if body.preview else named.change(wanted, seen)
        return changed(wire.RouteState, made.as_dict(), made.route.as_dict())

    @routes.delete("/v1/model-routes/{route:path}", status_code=204, dependencies=[operate])
    def remove_route(route: str, seen: Condition = Depends(if_match)) -> None:
        """Remove a route. If the settings have one of the same name, it is used again."""
        named.remove(route, seen)

    return routes


def _wanted(name: str, body: NewRoute | RouteValues) -> Route:
    upstreams = tuple(Upstream(item.model, item.weight, item.priority) for item in body.upstreams)
    return Route(name, upstreams, body.spill, body.affinity)
