"""The routes of batches: creating, listing, reading and canceling them, as OpenAI's clients do."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as AppRoute

from sublet.gateway.batches.model import new_batch
from sublet.gateway.batches.store import Batches
from sublet.gateway.files.api import GrantOf
from sublet.gateway.files.model import Owner


def batch_routes(batches: Batches, grant_of: GrantOf) -> list[AppRoute]:
    """The routes below /v1/batches. What the asking key may not see is not there."""

    async def create(request: Request) -> Response:
        grant = grant_of(request)
        asked = new_batch(await request.body())
        made = await run_in_threadpool(batches.create, Owner.of(grant), grant.id, asked)
        return JSONResponse(made.as_dict())

    async def list_batches(request: Request) -> Response:
        owner = Owner.of(grant_of(request))
        return JSONResponse(await run_in_threadpool(batches.page, owner, request.query_params))

    async def one_batch(request: Request) -> Response:
        owner = Owner.of(grant_of(request))
        found = await run_in_threadpool(batches.get, owner, request.path_params["name"])
        return JSONResponse(found.as_dict())

    async def cancel(request: Request) -> Response:
        owner = Owner.of(grant_of(request))
        found = await run_in_threadpool(batches.cancel, owner, request.path_params["name"])
        return JSONResponse(found.as_dict())

    return [
        AppRoute("/v1/batches", list_batches, methods=["GET"]),
        AppRoute("/v1/batches", create, methods=["POST"]),
        AppRoute("/v1/batches/{name}", one_batch, methods=["GET"]),
        AppRoute("/v1/batches/{name}/cancel", cancel, methods=["POST"]),
    ]
