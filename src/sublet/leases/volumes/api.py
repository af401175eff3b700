"""Routes of volumes: customers have them, the operator sees all."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require, acting_for
from sublet.leases.volumes import wire
from sublet.leases.volumes.model import Volume
from sublet.leases.volumes.service import NewVolume, Volumes
from sublet.leases.volumes.wire import NewVolume as NewVolumeBody
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.wire import as_answer


def router(volumes: Volumes, require: Require) -> APIRouter:
    """`/v1/volumes`."""
    routes = APIRouter(tags=["volumes"], route_class=AnswerRoute)
    reader, writer = require("leases:read"), require("leases:write")

    @routes.post("/v1/volumes", status_code=201)
    def create(
        body: NewVolumeBody, actor: Actor = Depends(require("leases:write", effect=Effect(Volume)))
    ) -> wire.Volume:
        """Create a volume that outlives leases. It is ready within seconds. Creating one with the same name and size again
        returns the existing volume."""
        wanted = NewVolume(body.name, body.size_mib, body.pool, acting_for(actor))
        return as_answer(wire.Volume, volumes.create(actor.organization_id, wanted).as_dict())

    @routes.get("/v1/volumes")
    def list_volumes(actor: Actor = Depends(reader), page: PageRequest = Depends(page_request)) -> wire.VolumePage:
        """List volumes, newest first. The operator sees those of every organization."""
        return as_answer(
            wire.VolumePage, volumes.page(_whose(actor), page).map(lambda item: item.as_dict()).as_dict("volumes")
        )

    @routes.get("/v1/volumes/{volume}")
    def show(volume: str, actor: Actor = Depends(reader)) -> wire.Volume:
        """Show a volume by its id or name."""
        return as_answer(wire.Volume, volumes.volume(volume, _owner(actor, volume)).as_dict())

    @routes.delete("/v1/volumes/{volume}")
    def remove(volume: str, actor: Actor = Depends(writer)) -> wire.Volume:
        """Delete a volume and wipe its data. Refused while a lease uses it."""
        return as_answer(wire.Volume, volumes.remove(volume, _owner(actor, volume), acting_for(actor)).as_dict())

    return routes


def _whose(actor: Actor) -> str | None:
    return None if actor.everywhere else actor.organization_id


def _owner(actor: Actor, volume: str) -> str | None:
    """Whose volume is meant: the operator may name anyone's by its id; a name means one of the asker's own organization."""
    return _whose(actor) if volume.startswith("vol_") else actor.organization_id
