"""Routes of volumes: customers have them, the operator sees all."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Interval, MaxLen
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import Response, StreamingResponse
from starlette.concurrency import run_in_threadpool

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require, acting_for
from sublet.leases.volumes import wire
from sublet.leases.volumes.copies import NewCopy, Part
from sublet.leases.volumes.files import Snapshot, VolumeCopy
from sublet.leases.volumes.model import Volume
from sublet.leases.volumes.service import NewVolume, Volumes
from sublet.leases.volumes.wire import NewSnapshot as NewSnapshotBody
from sublet.leases.volumes.wire import NewVolume as NewVolumeBody
from sublet.leases.volumes.wire import NewVolumeCopy as NewVolumeCopyBody
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.wire import as_answer

_PART: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_TAR: dict[int | str, dict[str, Any]] = {
    200: {"description": "A tar", "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}}}
}


def router(volumes: Volumes, require: Require) -> APIRouter:
    """`/v1/volumes`."""
    routes = APIRouter(tags=["volumes"], route_class=AnswerRoute)
    reader, writer = require("leases:read"), require("leases:write")

    @routes.post("/v1/volumes", status_code=201)
    def create(
        body: NewVolumeBody, actor: Actor = Depends(require("leases:write", effect=_effect(volumes)))
    ) -> wire.Volume:
        """Create a volume that outlives leases. It is ready within seconds. Creating one with the same name and size again
        returns the existing volume."""
        wanted = NewVolume(body.name, body.size_mib, body.pool, acting_for(actor))
        return as_answer(wire.Volume, volumes.create(actor.organization_id, wanted).as_dict(volumes.now()))

    @routes.get("/v1/volumes")
    def list_volumes(actor: Actor = Depends(reader), page: PageRequest = Depends(page_request)) -> wire.VolumePage:
        """List volumes, newest first. The operator sees those of every organization."""
        now = volumes.now()
        return as_answer(
            wire.VolumePage,
            volumes.page(_whose(actor), page).map(lambda item: item.as_dict(now)).as_dict("volumes"),
        )

    @routes.get("/v1/volumes/{volume}")
    def show(volume: str, actor: Actor = Depends(reader)) -> wire.Volume:
        """Show a volume by its id or name."""
        return as_answer(wire.Volume, volumes.volume(volume, _owner(actor, volume)).as_dict(volumes.now()))

    @routes.delete("/v1/volumes/{volume}")
    def remove(volume: str, actor: Actor = Depends(writer)) -> wire.Volume:
        """Delete a volume and wipe its data. Refused while a lease uses it."""
        return as_answer(
            wire.Volume, volumes.remove(volume, _owner(actor, volume), acting_for(actor)).as_dict(volumes.now())
        )

    _copies(routes, volumes, require)
    _snapshots(routes, volumes, require)
    return routes


def _copies(routes: APIRouter, volumes: Volumes, require: Require) -> None:
    reader, writer = require("leases:read"), require("leases:write")

    @routes.post("/v1/volumes/{volume}/copies", status_code=201)
    def copy_in(
        volume: str, body: NewVolumeCopyBody, actor: Actor = Depends(require("leases:write", effect=Effect(VolumeCopy)))
    ) -> wire.VolumeCopy:
        """Announce a copy into a volume that no lease uses, and start its upload in parts. The same copy again continues one
        that was interrupted."""
        wanted = NewCopy(body.path, body.size_bytes, body.sha256, body.replace)
        made = volumes.copies.create(volume, _owner(actor, volume), wanted, acting_for(actor))
        return as_answer(wire.VolumeCopy, made.as_dict())

    @routes.put("/v1/volumes/{volume}/copies/{copy_id}/content", openapi_extra=_PART)
    async def upload(
        volume: str,
        copy_id: str,
        request: Request,
        offset: Annotated[int, Interval(ge=0, le=1 << 50), Query()],
        actor: Actor = Depends(writer),
    ) -> wire.VolumeCopy:
        """Upload the part of a copy that begins at `offset`, which is its `received_bytes`. After the last part, the files are
        put into the volume, all of them or none. Sending a part again changes nothing."""
        part, owner = Part(offset, await request.body()), _owner(actor, volume)
        found = await run_in_threadpool(volumes.copies.append, volume, copy_id, owner, part, acting_for(actor))
        return as_answer(wire.VolumeCopy, found.as_dict())

    @routes.get("/v1/volumes/{volume}/copies/{copy_id}")
    def show_copy(volume: str, copy_id: str, actor: Actor = Depends(reader)) -> wire.VolumeCopy:
        """Show a copy into a volume, and whether it is done."""
        return as_answer(wire.VolumeCopy, volumes.copies.copy(volume, copy_id, _owner(actor, volume)).as_dict())

    @routes.get("/v1/volumes/{volume}/content", response_class=StreamingResponse, responses=_TAR)
    def copy_out(
        volume: str, actor: Actor = Depends(writer), path: Annotated[str, MaxLen(1000), Query()] = ""
    ) -> Response:
        """Download a file or directory of a volume that no lease uses, as a tar; without `path`, all of it. A response that
        ends early is incomplete. Links are included as links; pipes and devices are left out. A key that can only read sees that
        a volume exists, not what is in it."""
        parts = volumes.copies.content(volume, _owner(actor, volume), path)
        return StreamingResponse(parts, media_type="application/x-tar")


def _snapshots(routes: APIRouter, volumes: Volumes, require: Require) -> None:
    reader, writer = require("leases:read"), require("leases:write")

    @routes.post("/v1/volumes/{volume}/snapshots", status_code=201)
    def snapshot(
        volume: str, body: NewSnapshotBody, actor: Actor = Depends(require("leases:write", effect=Effect(Snapshot)))
    ) -> wire.Snapshot:
        """Make a snapshot of a volume that no lease uses. It is billed like a volume of its size."""
        made = volumes.snapshots.create(volume, _owner(actor, volume), body.name, acting_for(actor))
        return as_answer(wire.Snapshot, made.as_dict())

    @routes.get("/v1/volumes/{volume}/snapshots")
    def list_snapshots(
        volume: str, actor: Actor = Depends(reader), page: PageRequest = Depends(page_request)
    ) -> wire.SnapshotPage:
        """List a volume's snapshots, newest first, including those that were made when the owner took a lease back."""
        found = volumes.snapshots.page(volume, _owner(actor, volume), page)
        return as_answer(wire.SnapshotPage, found.map(lambda item: item.as_dict()).as_dict("snapshots"))

    @routes.delete("/v1/volumes/{volume}/snapshots/{snapshot_id}")
    def remove_snapshot(volume: str, snapshot_id: str, actor: Actor = Depends(writer)) -> wire.Snapshot:
        """Delete a snapshot, by its id or name."""
        removed = volumes.snapshots.remove(volume, _owner(actor, volume), snapshot_id, acting_for(actor))
        return as_answer(wire.Snapshot, removed.as_dict())

    @routes.post("/v1/volumes/{volume}/snapshots/{snapshot_id}/restore")
    def restore(
        volume: str, snapshot_id: str, actor: Actor = Depends(require("leases:write", effect=_effect(volumes)))
    ) -> wire.Volume:
        """Restore a snapshot, by its id or name: the volume becomes what it was then, and what it holds now is lost. No lease
        can use it until then."""
        restored = volumes.snapshots.restore(volume, _owner(actor, volume), snapshot_id, acting_for(actor))
        return as_answer(wire.Volume, restored.as_dict(volumes.now()))


def _effect(volumes: Volumes) -> Effect:
    return Effect(Volume, lambda made: made.as_dict(volumes.now()))


def _whose(actor: Actor) -> str | None:
    return None if actor.everywhere else actor.organization_id


def _owner(actor: Actor, volume: str) -> str | None:
    """Whose volume is meant: the operator may name anyone's by its id; a name means one of the asker's own organization."""
    return _whose(actor) if volume.startswith("vol_") else actor.organization_id
