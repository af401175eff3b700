"""Routes of pools."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Depends

from sublet.accounts.model import Require
from sublet.fleet.nodes import Nodes
from sublet.fleet.service import Fleet


def node_router(nodes: Nodes, clock_now: Callable[[], datetime], require: Require) -> APIRouter:
    """`/v1/nodes`: the machines that serve this database, for the operator."""
    routes = APIRouter(tags=["fleet"])

    @routes.get("/v1/nodes", dependencies=[Depends(require("fleet:read"))])
    def list_nodes() -> dict[str, Any]:
        """The machines that serve this database, and when each was last heard from."""
        now = clock_now()
        return {"nodes": [node.as_dict(now) for node in nodes.nodes()]}

    return routes


def router(fleet: Fleet, require: Require) -> APIRouter:
    """`/v1/pools`: what there is, for anybody with a key; one pool with its accelerators, for the operator."""
    routes = APIRouter(tags=["fleet"])

    @routes.get("/v1/pools", dependencies=[Depends(require("pools:read"))])
    def list_pools() -> dict[str, Any]:
        """Every pool, with its prices and what is in service."""
        return {"pools": [pool.as_dict() for pool in fleet.pools()]}

    @routes.get("/v1/pools/{pool}", dependencies=[Depends(require("fleet:read"))])
    def show_pool(pool: str) -> dict[str, Any]:
        """A pool by its id or name, with each of its accelerators."""
        found = fleet.pool(pool)
        return {**found.as_dict(), "units": [unit.as_dict() for unit in fleet.units(found.id)]}

    return routes
