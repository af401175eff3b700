"""Routes of images. Customers upload images; the operator shares images with everybody and sees all of them."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval
from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require, acting_for
from sublet.leases.images import wire
from sublet.leases.images.model import Image
from sublet.leases.images.service import Images, NewImage
from sublet.leases.images.wire import NewImage as NewImageBody
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.wire import as_answer

_PART = {
    "requestBody": {
        "required": True,
        "description": "At most 8 MiB of the file, from `offset` on.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


def router(images: Images, require: Require) -> APIRouter:
    """`/v1/images`."""
    routes = APIRouter(tags=["images"], route_class=AnswerRoute)
    reader, writer = require("leases:read"), require("leases:write")

    @routes.post("/v1/images", status_code=201)
    def create(body: NewImageBody, actor: Actor = Depends(require("leases:write", effect=Effect(Image)))) -> wire.Image:
        """Create an image and start its upload in parts. The same name and file again resumes the earlier upload. All
        organizations can use the operator's images."""
        wanted = NewImage(body.name, body.size_bytes, body.sha256, acting_for(actor))
        made = images.create(actor.organization_id, wanted, shared=actor.everywhere)
        return as_answer(wire.Image, made.as_dict())

    @routes.put("/v1/images/{image}/content", openapi_extra=_PART)
    async def upload(
        image: str,
        request: Request,
        offset: Annotated[int, Interval(ge=0, le=1 << 50), Query()],
        actor: Actor = Depends(writer),
    ) -> wire.Image:
        """Upload the part that begins at `offset`, which is the image's `received_bytes`. The last part starts the import.
        Sending a part again changes nothing."""
        content, project = await request.body(), acting_for(actor)
        found = await run_in_threadpool(images.append, image, _owner(actor, image), offset, content, project)
        return as_answer(wire.Image, found.as_dict())

    @routes.get("/v1/images")
    def list_images(actor: Actor = Depends(reader), page: PageRequest = Depends(page_request)) -> wire.ImagePage:
        """List your organization's images and the operator's, newest first. The operator sees those of every organization."""
        found = images.page(_whose(actor), page)
        return as_answer(wire.ImagePage, found.map(lambda item: item.as_dict()).as_dict("images"))

    @routes.get("/v1/images/{image}")
    def show(image: str, actor: Actor = Depends(reader)) -> wire.Image:
        """Show an image by its id or name."""
        return as_answer(wire.Image, images.image(image, _owner(actor, image)).as_dict())

    @routes.delete("/v1/images/{image}")
    def remove(image: str, actor: Actor = Depends(writer)) -> wire.Image:
        """Remove an image. Refused while a lease runs on it."""
        return as_answer(wire.Image, images.remove(image, _owner(actor, image), acting_for(actor)).as_dict())

    return routes


def _whose(actor: Actor) -> str | None:
    return None if actor.everywhere else actor.organization_id


def _owner(actor: Actor, image: str) -> str | None:
    """The organization whose image is meant. The operator can address any image by its id; a name refers to the caller's own
    organization."""
    return _whose(actor) if image.startswith("img_") else actor.organization_id
