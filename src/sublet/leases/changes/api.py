"""Routes of changes of a lease, each with a preview that shows its price first."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.conditions import Tagged, changed, if_match, shown
from sublet.accounts.model import Actor, Require, acting_for, checked_project
from sublet.leases.changes import wire
from sublet.leases.changes.model import ChangeRequest, LeaseChange
from sublet.leases.changes.service import named
from sublet.leases.changes.wire import NewLeaseChange, NewLeaseName
from sublet.leases.service import Leases
from sublet.store.once import Effect
from sublet.values.errors import ForbiddenError
from sublet.values.etags import Condition
from sublet.values.money import nano_from_decimal
from sublet.values.wire import as_answer


def router(leases: Leases, require: Require) -> APIRouter:
    """`/v1/leases/{lease_id}/changes`, `/end/preview` and `/name`."""
    routes = APIRouter(tags=["leases"], route_class=AnswerRoute)
    reader, writer = require("leases:read"), require("leases:write")

    @routes.post("/v1/leases/{lease_id}/changes/preview")
    def preview_change(lease_id: str, body: NewLeaseChange, actor: Actor = Depends(writer)) -> wire.LeaseChange:
        """Preview what a change would cost or save, and by which rule. Nothing is changed."""
        leases.permit(lease_id, _whose(actor), acting_for(actor))
        return as_answer(
            wire.LeaseChange, leases.changes.preview(lease_id, _request(body, actor), _whose(actor)).as_dict()
        )

    @routes.post("/v1/leases/{lease_id}/changes", status_code=201)
    def change(
        lease_id: str,
        body: NewLeaseChange,
        actor: Actor = Depends(require("leases:write", effect=Effect(LeaseChange))),
    ) -> wire.LeaseChange:
        """Extend, shorten or shrink a lease, or move it to another project. Either all of it takes effect or none."""
        leases.permit(lease_id, _whose(actor), acting_for(actor))
        return as_answer(
            wire.LeaseChange, leases.change(lease_id, _request(body, actor), _whose(actor), actor.key_id).as_dict()
        )

    @routes.post("/v1/leases/{lease_id}/end/preview")
    def preview_end(lease_id: str, actor: Actor = Depends(writer)) -> wire.LeaseChange:
        """Preview what ending the lease now would cost and save. Nothing is changed."""
        leases.permit(lease_id, _whose(actor), acting_for(actor))
        return as_answer(wire.LeaseChange, leases.changes.preview_end(lease_id, _whose(actor)).as_dict())

    @routes.get("/v1/leases/{lease_id}/name")
    def show_name(request: Request, lease_id: str, actor: Actor = Depends(reader)) -> Tagged[wire.LeaseName]:
        """Show the name and labels of a lease."""
        return shown(request, wire.LeaseName, named(leases.lease(lease_id, _whose(actor))))

    @routes.put("/v1/leases/{lease_id}/name")
    def set_name(
        lease_id: str, body: NewLeaseName, actor: Actor = Depends(writer), seen: Condition = Depends(if_match)
    ) -> Tagged[wire.LeaseName]:
        """Set the name or the labels of a lease."""
        leases.permit(lease_id, _whose(actor), acting_for(actor))
        labels = None if body.labels is None else [(item.key, item.value) for item in body.labels]
        return changed(wire.LeaseName, named(leases.changes.name(lease_id, body.name, labels, _whose(actor), seen)))

    return routes


def _whose(actor: Actor) -> str | None:
    """Whose leases a request may concern: its organization's, or everybody's."""
    return None if actor.everywhere else actor.organization_id


def _request(body: NewLeaseChange, actor: Actor) -> ChangeRequest:
    """Raises ForbiddenError where a key that counts toward a project would have another one pay."""
    if actor.project and body.project is not None and checked_project(body.project) != actor.project:
        raise ForbiddenError(
            f"this key counts toward project {actor.project!r} and can move leases to no other; use a key without a project"
        )
    return ChangeRequest(
        end=body.end,
        accelerators=body.accelerators,
        at=body.at,
        devices=tuple(body.devices or ()),
        project=body.project,
        most_nano=None
        if body.max_price_per_accelerator_hour is None
        else nano_from_decimal(body.max_price_per_accelerator_hour),
    )
