"""Routes of maintenance, for the operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require
from sublet.leases.maintenance import wire
from sublet.leases.maintenance.service import MaintenancePlanned, MaintenanceRequest, MaintenanceWindows
from sublet.leases.maintenance.wire import NewMaintenance
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.wire import as_answer

Stated = Callable[[str | None], list[dict[str, Any]]]
"""What the settings state, of the pool of that id or name or of all."""


def router(windows: MaintenanceWindows, stated: Stated, require: Require) -> APIRouter:
    """`/v1/maintenance`."""
    routes = APIRouter(tags=["maintenance"], route_class=AnswerRoute)

    @routes.post("/v1/maintenance", status_code=201)
    def add(
        body: NewMaintenance, actor: Actor = Depends(require("fleet:write", effect=Effect(MaintenancePlanned)))
    ) -> wire.MaintenancePlan:
        """Schedule maintenance. Affected leases get notice, and nothing is sold that can't be reclaimed before it begins."""
        return as_answer(wire.MaintenancePlan, windows.add(_request(body, actor), _who(actor)).as_dict())

    @routes.post("/v1/maintenance/preview")
    def preview(body: NewMaintenance, actor: Actor = Depends(require("fleet:write"))) -> wire.MaintenancePlan:
        """Preview which leases a maintenance window would end, when, and the credits due. Nothing is changed."""
        return as_answer(wire.MaintenancePlan, windows.preview(_request(body, actor), _who(actor)).as_dict())

    @routes.get("/v1/maintenance", dependencies=[Depends(require("fleet:read"))])
    def list_maintenance(
        pool: Annotated[str | None, Query(max_length=60)] = None,
        live: bool = False,
        page: PageRequest = Depends(page_request),
    ) -> wire.MaintenancePage:
        """List maintenance windows, newest first. With `live`, windows that are canceled or over are left out. Windows from
        the settings are listed separately."""
        now = windows.now()
        found = windows.page(pool, page, live=live).map(lambda item: item.as_dict(now)).as_dict("maintenance")
        return as_answer(wire.MaintenancePage, {**found, "stated": {"windows": stated(pool)}})

    @routes.post("/v1/maintenance/{maintenance_id}/cancel")
    def cancel(maintenance_id: str, actor: Actor = Depends(require("fleet:write"))) -> wire.Maintenance:
        """Cancel a maintenance window, or end it early. Notices that are not yet due are withdrawn."""
        return as_answer(wire.Maintenance, windows.cancel(maintenance_id, _who(actor)).as_dict(windows.now()))

    return routes


def _request(body: NewMaintenance, actor: Actor) -> MaintenanceRequest:
    if body.force:
        actor.require("firm:write")
    return MaintenanceRequest(body.pool, body.end, body.accelerators or 0, body.start, body.reason, body.force)


def _who(actor: Actor) -> str:
    return f"operator {actor.key_id}"
