"""The routes of background responses: asking for one, following its events, and canceling it."""

from __future__ import annotations

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route as AppRoute

from sublet.gateway.background.store import OVER, Background
from sublet.gateway.background.worker import BackgroundWorker
from sublet.gateway.files.api import GrantOf
from sublet.gateway.refusals import InvalidRequestError, ResponseOverError
from sublet.gateway.stored import Responses

_EVENTS = "text/event-stream; charset=utf-8"


def background_routes(worker: BackgroundWorker, responses: Responses, grant_of: GrantOf) -> list[AppRoute]:
    """The routes beside those of stored responses, and before them."""

    def followed(item: Background, after: int) -> Response:
        return StreamingResponse(
            worker.follow(item, after),
            media_type=_EVENTS,
            headers={"cache-control": "no-cache", "x-accel-buffering": "no"},
        )

    async def create(request: Request) -> Response:
        item = await worker.accept(grant_of(request), await request.body())
        return followed(item, -1) if item.stream else Response(item.body, media_type="application/json")

    async def one_response(request: Request) -> Response:
        whose, name = grant_of(request).organization_id, request.path_params["name"]
        item = await worker.find(whose, name)
        if request.query_params.get("stream", "false") != "false":
            if item is None or not item.stream:
                raise InvalidRequestError(
                    "stream must be false: only a background response that was created with stream: true can be followed, until an "
                    "hour after its end",
                    param="stream",
                )
            return followed(item, _after(request.query_params.get("starting_after")))
        if item is not None and item.status != OVER:
            return Response(item.body, media_type="application/json")
        return Response(await run_in_threadpool(responses.body, whose, name), media_type="application/json")

    async def cancel(request: Request) -> Response:
        whose, name = grant_of(request).organization_id, request.path_params["name"]
        if not await worker.cancel(whose, name):
            raise ResponseOverError
        item = await worker.ended(whose, name)
        if item is not None and item.status != OVER:
            return Response(item.body, media_type="application/json")
        return Response(await run_in_threadpool(responses.body, whose, name), media_type="application/json")

    return [
        AppRoute("/v1/responses", create, methods=["POST"]),
        AppRoute("/v1/responses/{name}", one_response, methods=["GET"]),
        AppRoute("/v1/responses/{name}/cancel", cancel, methods=["POST"]),
    ]


def _after(text: str | None) -> int:
    if text is None:
        return -1
    if not text.isdecimal() or len(text) > 9:
        raise InvalidRequestError("starting_after must be the sequence_number of an event", param="starting_after")
    return int(text)
