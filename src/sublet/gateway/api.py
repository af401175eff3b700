"""The cold routes of the gateway's port: what there is to call, and whether it is well."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as AppRoute

from sublet.gateway.files.api import FRAME_BYTES, GrantOf
from sublet.gateway.front.answers import refusal_headers
from sublet.gateway.front.apps import GRANT
from sublet.gateway.front.connections import SMALL_BODY_BYTES
from sublet.gateway.front.routes import READ, Route
from sublet.gateway.model import KeyGrant, ModelRoute
from sublet.gateway.refusals import ModelNotFoundError, RouteNotFoundError
from sublet.gateway.responses_api import response_routes
from sublet.gateway.service import Gateway
from sublet.gateway.surfaces.bedrock import BedrockSurface, model_named, selected
from sublet.gateway.surfaces.surface import Surface, marked
from sublet.values.errors import SubletError

MoreRoutes = Callable[[GrantOf], list[AppRoute]]
"""Routes that need to know whose a request is."""


def application(gateway: Gateway, surfaces: Sequence[Surface], more: MoreRoutes = lambda grant_of: []) -> Starlette:
    """Models, stored responses, /health, and `more`, in the form of the vendor whose path or mark it is."""

    def surface_of(request: Request) -> Surface:
        return marked(surfaces, request.url.path.encode(), request.headers.raw)

    def granted(request: Request) -> tuple[Surface, dict[str, ModelRoute]]:
        surface = surface_of(request)
        grant = grant_of(request)
        allowed = grant.models
        models = gateway.snapshot.models
        return surface, {name: models[name] for name in sorted(models) if allowed is None or name in allowed}

    def grant_of(request: Request) -> KeyGrant:
        # Who asks has been found out already; a request that was signed could not be asked a second time.
        return request.scope.get(GRANT) or gateway.authenticate(surface_of(request).secret(request.headers.raw))

    async def list_models(request: Request) -> Response:
        surface, models = granted(request)
        found = list(models.values())
        if isinstance(surface, BedrockSurface):
            found = selected(found, request.query_params)
        return JSONResponse(surface.models(found))

    async def one_model(request: Request) -> Response:
        surface, models = granted(request)
        name = request.path_params["name"]
        if isinstance(surface, BedrockSurface):
            name = model_named(name)
        route = models.get(name)
        if route is None:
            raise ModelNotFoundError(
                f"The model {name[:80]!r} does not exist here; GET /v1/models lists those that do", param="model"
            )
        return JSONResponse(surface.model(route))

    async def health(request: Request) -> Response:
        journal_fails = gateway.journal.failure is not None
        well = not gateway.stopping and not journal_fails
        return JSONResponse({"status": "ok" if well else "failing"}, 200 if well else 503)

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, SubletError)
        surface = surface_of(request)
        lines = (refusal_headers(error) + surface.refusal_headers(error)).decode("latin-1").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines if line)
        return Response(surface.refusal(error), surface.status(error), headers, media_type="application/json")

    async def unknown(request: Request, error: Exception) -> Response:
        return await refused(request, RouteNotFoundError())

    async def broken(request: Request, error: Exception) -> Response:
        return await refused(request, SubletError())

    return Starlette(
        routes=[
            AppRoute("/v1/models", list_models),
            AppRoute("/v1/models/{name:path}", one_model),
            AppRoute("/v1beta/models", list_models),
            AppRoute("/v1beta/models/{name:path}", one_model),
            *more(grant_of),
            *response_routes(gateway, surface_of),
            AppRoute("/foundation-models", list_models),
            AppRoute("/foundation-models/{name:path}", one_model),
            AppRoute("/health", health),
        ],
        exception_handlers={SubletError: refused, 404: unknown, 405: unknown, Exception: broken},
    )


def cold_routes(surface: Surface, file_bytes_max: int = 0) -> dict[bytes, Route]:
    """What `application` serves, as the protocol lets it through; files and batches where a file may have any bytes."""
    kept = {
        b"/v1/files": Route(surface, (*READ, b"POST"), takes=file_bytes_max + FRAME_BYTES),
        b"/v1/files/": Route(surface, (*READ, b"DELETE")),
        b"/v1/batches": Route(surface, (*READ, b"POST"), takes=SMALL_BODY_BYTES),
        b"/v1/batches/": Route(surface, (*READ, b"POST"), takes=SMALL_BODY_BYTES),
    }
    return (kept if file_bytes_max else {}) | {
        b"/v1/models": Route(surface, READ, shared=True),
        b"/v1/models/": Route(surface, READ, shared=True),
        b"/v1beta/models": Route(surface, READ, shared=True),
        b"/v1beta/models/": Route(surface, READ, shared=True),
        b"/v1/responses/": Route(surface, (*READ, b"DELETE", b"POST"), takes=SMALL_BODY_BYTES),
        b"/foundation-models": Route(surface, READ, shared=True),
        b"/foundation-models/": Route(surface, READ, shared=True),
        b"/health": Route(surface, READ, needs_key=False),
    }
