"""Routes of pools."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from fastapi import APIRouter, Depends, Request

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.conditions import Tagged, if_match, shown
from sublet.accounts.model import Require
from sublet.fleet import wire
from sublet.fleet.nodes import Nodes
from sublet.fleet.service import Fleet
from sublet.fleet.wire import UnitService
from sublet.store.paging import PageRequest, page_request
from sublet.values.errors import InvalidInputError
from sublet.values.etags import Condition
from sublet.values.wire import as_answer


def node_router(nodes: Nodes, clock_now: Callable[[], datetime], require: Require) -> APIRouter:
    """`/v1/nodes`: the machines that serve this database, for the operator."""
    routes = APIRouter(tags=["fleet"], route_class=AnswerRoute)

    @routes.get("/v1/nodes", dependencies=[Depends(require("fleet:read"))])
    def list_nodes(page: PageRequest = Depends(page_request)) -> wire.NodeList:
        """List the nodes that serve this database, oldest first, with the time of their last heartbeat."""
        now = clock_now()
        return as_answer(wire.NodeList, nodes.page(page).map(lambda node: node.as_dict(now)).as_dict("nodes"))

    @routes.delete("/v1/nodes/{node}", status_code=204, dependencies=[Depends(require("fleet:write"))])
    def forget_node(node: str) -> None:
        """Remove a node that is gone for good. A node that still sends heartbeats is refused."""
        nodes.forget(node)

    return routes


def router(fleet: Fleet, require: Require) -> APIRouter:
    """`/v1/pools`: what there is, for anybody with a key; a pool and its accelerators, for the operator."""
    routes = APIRouter(tags=["fleet"], route_class=AnswerRoute)

    @routes.get("/v1/pools", dependencies=[Depends(require("pools:read"))])
    def list_pools(page: PageRequest = Depends(page_request)) -> wire.PoolList:
        """List every pool by name, with its prices and the accelerators in service."""
        return as_answer(wire.PoolList, fleet.pool_page(page).map(lambda pool: pool.as_dict()).as_dict("pools"))

    @routes.get("/v1/pools/{pool}", dependencies=[Depends(require("fleet:read"))])
    def show_pool(request: Request, pool: str) -> Tagged[wire.Pool]:
        """Show a pool by its id or name."""
        return shown(request, wire.Pool, fleet.pool(pool).as_dict())

    @routes.get("/v1/pools/{pool}/units", dependencies=[Depends(require("fleet:read"))])
    def list_units(pool: str, page: PageRequest = Depends(page_request)) -> wire.UnitList:
        """List the accelerators of a pool, in their order."""
        return as_answer(
            wire.UnitList, fleet.unit_page(fleet.pool(pool).id, page).map(lambda unit: unit.as_dict()).as_dict("units")
        )

    @routes.get("/v1/units/{unit_id}", dependencies=[Depends(require("fleet:read"))])
    def show_unit(request: Request, unit_id: str) -> Tagged[wire.Unit]:
        """Show an accelerator and, if it is out of service, the reason."""
        return shown(request, wire.Unit, fleet.unit(unit_id).as_dict())

    @routes.put("/v1/units/{unit_id}/service", status_code=204, dependencies=[Depends(require("fleet:write"))])
    def set_service(unit_id: str, body: UnitService, seen: Condition = Depends(if_match)) -> None:
        """Take an accelerator out of service, with a reason, or return it to service."""
        if not body.in_service and not body.reason:
            raise InvalidInputError("reason: say why the accelerator is being taken out of service", field="reason")
        fleet.set_service(unit_id, body.in_service, None if body.in_service else body.reason, seen)

    return routes
