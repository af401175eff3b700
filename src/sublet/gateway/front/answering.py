"""The half of a client's connection that answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from sublet.gateway.front.addresses import Proxies
from sublet.gateway.front.answers import CLOSE, json_answer, refusal_headers, status_line
from sublet.gateway.front.client import Answered
from sublet.gateway.front.connections import Connections
from sublet.gateway.front.cors import Cors
from sublet.gateway.front.routes import Route, Routes
from sublet.gateway.refusals import RateLimitError
from sublet.gateway.requests.exchange import Exchange
from sublet.gateway.service import Gateway
from sublet.gateway.surfaces.surface import Allowance, Surface
from sublet.values.errors import SubletError


@dataclass(frozen=True, slots=True)
class Front:
    """What the connections of one listener share."""

    gateway: Gateway
    connections: Connections
    routes: Routes
    cors: Cors = field(default_factory=Cors)
    proxies: Proxies = field(default_factory=Proxies)


class AnsweringProtocol(HttpToolsProtocol):
    """Writes the answers of exchanges (as gateway.client.Client), and those that the gateway gives by itself."""

    front: Front
    gateway: Gateway

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # As gateway.connections.Holder.
        self.organization = ""
        self.held_bytes = 0
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self._looked_at: dict[bytes, bytes] = {}
        self._route: Route | None = None
        self._exchange: Exchange | None = None
        self._keep = True
        self._chunked = True
        self._bodiless = False
        self._cors = b""
        # Since when a request is being received; 0 between requests.
        self._receiving_since = 0.0
        self._idle_since = 0.0

    # The exchange's side (gateway.client.Client)

    def answer_whole(self, exchange: Answered, body: bytes) -> None:
        self.transport.write(json_answer(200, exchange.headers() + self._own_headers(), body))
        self._over()

    def answer_head(self, exchange: Answered) -> None:
        if not self._chunked:
            self._keep = False
        self.transport.write(
            b"%bcontent-type: %b\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n%b%b%b\r\n"
            % (
                status_line(200),
                exchange.surface.stream_content_type,
                exchange.headers(),
                b"transfer-encoding: chunked\r\n" if self._chunked else b"",
                self._own_headers(),
            )
        )

    def answer_part(self, data: bytes) -> None:
        if data:
            # A chunk of nothing would be the end.
            self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def answer_end(self, *, complete: bool) -> None:
        if self._chunked:
            self.transport.write(b"0\r\n\r\n")
        if not complete:
            self._keep = False
        self._over()

    def refuse(self, error: SubletError, exchange: Answered) -> None:
        self._write_refusal(error, exchange.surface, exchange.headers())
        self._over()

    def cut(self) -> None:
        self._exchange = None
        self.transport.abort()

    # Own

    def _own_headers(self) -> bytes:
        return self._cors if self._keep else self._cors + CLOSE

    def _request_id(self, error: SubletError | None = None) -> bytes:
        """The headers of an answer that no exchange gives: a request's id, and the limit that refuses it."""
        standing = error.standing if isinstance(error, RateLimitError) else None
        allowance = None
        if standing is not None:
            allowance = Allowance(*standing, self.gateway.now_us() // 1_000_000 + standing[2])
        return self._surface().headers(self.gateway.next_request_id()[1], allowance)

    def _surface(self) -> Surface:
        """Whose form an error has; before it is known what is asked, the first surface's or that of the client's own mark."""
        return self._route.surface if self._route is not None else self.front.routes.marked(self.url, self.headers)

    def _answer_refusal(self, error: SubletError) -> None:
        self._write_refusal(error, self._surface(), self._request_id(error))
        self._over()

    def _write_refusal(self, error: SubletError, surface: Surface, headers: bytes) -> None:
        self.gateway.metrics.refused[error.code] += 1
        headers += refusal_headers(error) + surface.refusal_headers(error) + self._own_headers()
        status = surface.status(error)
        self.transport.write(json_answer(status, headers, surface.refusal(error), bodiless=self._bodiless))

    def _over(self) -> None:
        self._exchange = None
        if self.held_bytes:
            self.front.connections.release(self)
        self.server_state.total_requests += 1
        self._receiving_since = 0.0
        self._idle_since = self.gateway.monotonic()
        if not self._keep and not self.transport.is_closing():
            self.transport.close()

    def _answer_options(self, route: Route) -> None:
        seen = self._looked_at
        told = b"allow: %b\r\n" % route.allow
        if self._cors.startswith(b"access-control-allow-origin"):
            private = seen.get(b"access-control-request-private-network") == b"true"
            told += self.front.cors.preflight(
                route.allow, seen.get(b"access-control-request-headers", b""), private=private
            )
        self.transport.write(
            b"%b%b%b%bcontent-length: 0\r\n\r\n" % (status_line(200), self._request_id(), told, self._own_headers())
        )
        self._over()
