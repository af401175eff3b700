"""The operator's routes, on a listener of their own: figures for Prometheus, and what the gateway's health is made of."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as AppRoute
from uvicorn.server import ServerState

from sublet.gateway.front.answering import Front
from sublet.gateway.front.connections import Connections
from sublet.gateway.front.protocol import gateway_protocol
from sublet.gateway.front.routes import READ, Route, Routes
from sublet.gateway.model import GatewaySettings
from sublet.gateway.refusals import RouteNotFoundError
from sublet.gateway.service import Gateway
from sublet.gateway.surfaces.surface import Surface
from sublet.values.addresses import is_direct
from sublet.values.errors import ForbiddenError, SubletError

CONNECTIONS_MAX = 64
BACKLOG = 64

log = structlog.get_logger(__name__)


def operator_application(gateway: Gateway, surface: Surface, snapshot_age_s: Callable[[], float]) -> Starlette:
    """GET /metrics and /health, for this machine or with the operator's key."""

    def admit(request: Request) -> None:
        peer = request.client.host if request.client else ""
        if is_direct(peer, request.headers):
            return
        if not gateway.grant_of(surface.secret(request.headers.raw)).is_operator:
            raise ForbiddenError(
                "only the operator can do this: call it directly on this machine, or with an operator key"
            )

    async def metrics(request: Request) -> Response:
        admit(request)
        gateway.measure()
        gateway.metrics.gauges["snapshot_age_seconds"] = snapshot_age_s()
        return Response(gateway.metrics.exposition(), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def health(request: Request) -> Response:
        admit(request)
        gateway.measure()
        failure = gateway.journal.failure
        well = not gateway.stopping and failure is None
        details = {
            "status": "ok" if well else "failing",
            "stopping": gateway.stopping,
            "journal": str(failure)[:300] if failure is not None else "ok",
            "snapshot_age_s": round(snapshot_age_s(), 3),
            **{name: int(gateway.metrics.gauges[name]) for name in ("in_flight", "waiting", "connections")},
            "models": {name: len(route.replicas) for name, route in sorted(gateway.snapshot.models.items())},
        }
        return JSONResponse(details, 200 if well else 503)

    async def refused(request: Request, error: Exception) -> Response:
        found = error if isinstance(error, SubletError) else RouteNotFoundError()
        return Response(surface.refusal(found), found.status, media_type="application/json")

    async def broken(request: Request, error: Exception) -> Response:
        return await refused(request, SubletError())

    return Starlette(
        routes=[AppRoute("/metrics", metrics), AppRoute("/health", health)],
        exception_handlers={SubletError: refused, 404: refused, 405: refused, Exception: broken},
    )


class OperatorListener:
    """Serves the operator's routes beside the customers' port. The gateway serves customers even if this port is unavailable."""

    def __init__(
        self, gateway: Gateway, settings: GatewaySettings, surface: Surface, snapshot_age_s: Callable[[], float]
    ) -> None:
        self._settings = settings
        open_to_peers = {path: Route(surface, READ, needs_key=False) for path in (b"/metrics", b"/health")}
        connections = Connections(settings, gateway.metrics.evicted)
        connections.connections_max = CONNECTIONS_MAX
        gateway.swept.append(connections)
        front = Front(gateway, connections, Routes([surface], open_to_peers, hot=False))
        self._protocol = gateway_protocol(front)
        self._config = uvicorn.Config(
            operator_application(gateway, surface, snapshot_age_s),
            http=self._protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
        )
        self._state = ServerState()
        self._server: asyncio.Server | None = None

    async def start(self, customers: socket.socket) -> str:
        """Listen; the address, or an empty string where something else does. The default port is the one after that of
        `customers`, or any free one where the operator left that to chance too."""
        settings = self._settings
        port = settings.operator_port
        if port is None:
            port = customers.getsockname()[1] + 1 if settings.port else 0
        self._config.load()
        loop = asyncio.get_running_loop()
        try:
            self._server = await loop.create_server(
                lambda: self._protocol(self._config, self._state, {}),
                settings.operator_host,
                port,
                backlog=BACKLOG,
            )
        except OSError as error:
            log.error(
                "nobody can read the gateway's metrics: its operator's port is taken; set gateway.operator_port",
                address=f"{settings.operator_host}:{port}",
                error=str(error),
            )
            return ""
        host, bound = self._server.sockets[0].getsockname()[:2]
        return f"http://[{host}]:{bound}" if ":" in host else f"http://{host}:{bound}"

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for connection in list(self._state.connections):
                connection.shutdown()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 1.0)
