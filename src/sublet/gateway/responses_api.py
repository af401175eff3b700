"""The routes of stored responses: reading one, what it was asked with, and deleting it."""

from __future__ import annotations

from collections.abc import Callable

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as AppRoute

from sublet.gateway.front.apps import GRANT
from sublet.gateway.refusals import InvalidRequestError, ResponseNotFoundError
from sublet.gateway.service import Gateway
from sublet.gateway.stored import Responses, item_page
from sublet.gateway.surfaces.surface import Surface


def response_routes(gateway: Gateway, surface_of: Callable[[Request], Surface]) -> list[AppRoute]:
    """The routes below /v1/responses/. What is not the asking key's organization's is not there."""

    def stored(request: Request) -> tuple[Responses, str, str]:
        grant = request.scope.get(GRANT) or gateway.authenticate(surface_of(request).secret(request.headers.raw))
        if gateway.responses is None:
            raise ResponseNotFoundError
        return gateway.responses, grant.organization_id, request.path_params["name"]

    async def one_response(request: Request) -> Response:
        responses, whose, name = stored(request)
        if request.query_params.get("stream", "false") != "false":
            raise InvalidRequestError("stream must be false: a stored response is complete", param="stream")
        return Response(await run_in_threadpool(responses.body, whose, name), media_type="application/json")

    async def drop_response(request: Request) -> Response:
        responses, whose, name = stored(request)
        await run_in_threadpool(responses.drop, whose, name)
        return JSONResponse({"id": name, "object": "response", "deleted": True})

    async def response_items(request: Request) -> Response:
        responses, whose, name = stored(request)
        page = item_page(await run_in_threadpool(responses.items, whose, name), request.query_params)
        return JSONResponse(page)

    return [
        AppRoute("/v1/responses/{name}", one_response, methods=["GET"]),
        AppRoute("/v1/responses/{name}", drop_response, methods=["DELETE"]),
        AppRoute("/v1/responses/{name}/input_items", response_items, methods=["GET"]),
    ]
