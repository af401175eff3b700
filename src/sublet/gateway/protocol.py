"""The client's side: uvicorn's HTTP protocol, with the hot routes served in its callbacks instead of an ASGI task."""

from __future__ import annotations

import asyncio
import math
from http import HTTPStatus
from typing import Any, cast

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from sublet.gateway.exchange import Exchange
from sublet.gateway.refusals import (
    HeadersTooLargeError,
    InvalidRequestError,
    ReceiveTimeoutError,
    ServerFullError,
    too_large,
)
from sublet.gateway.service import Gateway
from sublet.gateway.surface import Surface
from sublet.values.errors import SubletError

HEADER_BYTES_MAX = 32 * 1024
HEADERS_MAX = 100
# After a refusal in mid-body the rest is read and dropped for so long, so that the client gets to read the refusal.
LINGER_S = 2.0
LINGER_BYTES_MAX = 64 * 1024 * 1024

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}


def status_line(status: int) -> bytes:
    """The status line of an answer."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Error\r\n" % status


def gateway_protocol(gateway: Gateway, surfaces: list[Surface]) -> type[GatewayProtocol]:
    """The protocol class for uvicorn, bound to `gateway`."""
    routes = {path: (surface, kind) for surface in surfaces for path, kind in surface.routes.items()}
    return cast(
        type[GatewayProtocol],
        type("BoundGatewayProtocol", (GatewayProtocol,), {"gateway": gateway, "hot_routes": routes}),
    )


class GatewayProtocol(HttpToolsProtocol):
    """One client connection. Hot requests go to an Exchange, all others to the ASGI app as uvicorn does it."""

    gateway: Gateway
    hot_routes: dict[bytes, tuple[Surface, str]]

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._hot: tuple[Surface, str] | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._header_bytes = 0
        self._exchange: Exchange | None = None
        self._keep = True
        self._chunked = True
        # Set once no further request of this connection is read: after a refusal in mid-body, or on pipelining.
        self._ignores_input = False
        self._lingering_since = 0.0
        self._lingered_bytes = 0
        # Since when a request is being received; 0 between requests.
        self._receiving_since = 0.0
        self._idle_since = 0.0

    # The transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        gateway = self.gateway
        self._idle_since = self._receiving_since = gateway.monotonic()
        if len(gateway.connections) >= gateway.settings.connections_max:
            self.refuse_raw(
                ServerFullError("the gateway has as many connections as it may; try again in 1 s", retry_after_s=1.0)
            )
            transport.close()
            return
        gateway.connections.add(self)

    def data_received(self, data: bytes) -> None:
        if self._lingering_since:
            self._lingered_bytes += len(data)
            if self._lingered_bytes > LINGER_BYTES_MAX:
                self.transport.abort()
            return
        if not self._receiving_since and self._exchange is None:
            self._receiving_since = self.gateway.monotonic()
        super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        gateway = self.gateway
        gateway.connections.discard(self)
        gateway.receiving_bytes -= self._body_bytes
        self._body_bytes = 0
        self._body = []
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.client_stalled()
        super().pause_writing()

    def resume_writing(self) -> None:
        if self._exchange is not None:
            self._exchange.client_flows()
        super().resume_writing()

    def shutdown(self) -> None:
        if self._exchange is not None:
            self._keep = False
        else:
            super().shutdown()

    def tick(self, now: float) -> None:
        """Called about twice a second: slow senders and idle connections."""
        settings = self.gateway.settings
        if self._lingering_since:
            if now - self._lingering_since > LINGER_S:
                self.transport.abort()
        elif self._exchange is not None:
            return
        elif self._receiving_since and now - self._receiving_since > settings.receive_s_max:
            if self._idle_since:
                # Not a byte since it connected.
                self.transport.close()
            else:
                self._refuse_and_linger(ReceiveTimeoutError())
        elif self._asgi_idle() and self._idle_since and now - self._idle_since > settings.idle_connection_s_max:
            self.transport.close()

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if self._exchange is not None or not self._asgi_idle():
            # A pipelined request: none of the clients sends them, so the connection ends after the present answer.
            self._ignores_input = True
            self._keep = False
            if self.cycle is not None:
                self.cycle.keep_alive = False
            return
        self.url = b""
        self.expect_100_continue = False
        self.headers = []
        self._hot = None
        self._header_bytes = 0
        self._idle_since = 0.0
        if not self._receiving_since:
            self._receiving_since = self.gateway.monotonic()

    def on_url(self, url: bytes) -> None:
        if not self._ignores_input:
            self._header_bytes += len(url)
            if self._header_bytes > HEADER_BYTES_MAX:
                self._refuse_and_linger(HeadersTooLargeError())
            self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._ignores_input:
            return
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES_MAX or len(self.headers) >= HEADERS_MAX:
            self._refuse_and_linger(HeadersTooLargeError())
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._ignores_input:
            return
        path = self.url if b"?" not in self.url else self.url[: self.url.index(b"?")]
        hot = self.hot_routes.get(path)
        if hot is None or self.parser.get_method() != b"POST":
            url, headers, expects = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()
            self.url, self.expect_100_continue = url, expects
            self.headers.extend(headers)
            super().on_headers_complete()
            return
        self._hot = hot
        for name, value in self.headers:
            if name == b"content-length" and (not value.isdigit() or int(value) > self.gateway.received_bytes_max):
                self._refuse_and_linger(too_large(self.gateway.received_bytes_max))
                return
        if self.expect_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._ignores_input:
            return
        gateway = self.gateway
        if self._hot is None:
            self._body_bytes += len(body)
            gateway.receiving_bytes += len(body)
            if self._body_bytes > gateway.received_bytes_max:
                self._ignores_input = True
                self.transport.abort()
                return
            super().on_body(body)
            return
        self._body.append(body)
        self._body_bytes += len(body)
        gateway.receiving_bytes += len(body)
        if self._body_bytes > gateway.received_bytes_max:
            self._refuse_and_linger(too_large(self.gateway.received_bytes_max))
        elif gateway.receiving_bytes > gateway.settings.receiving_bytes_max:
            self._refuse_and_linger(
                ServerFullError("the gateway is receiving as much as it may; try again in 1 s", retry_after_s=1.0)
            )

    def on_message_complete(self) -> None:
        if self._ignores_input:
            return
        self._receiving_since = 0.0
        gateway = self.gateway
        gateway.receiving_bytes -= self._body_bytes
        self._body_bytes = 0
        if self._hot is None:
            self._idle_since = gateway.monotonic()
            super().on_message_complete()
            return
        surface, kind = self._hot
        self._keep = self.parser.should_keep_alive() and not gateway.stopping
        self._chunked = self.parser.get_http_version() != "1.0"
        parts, self._body = self._body, []
        try:
            exchange = gateway.begin(
                self, surface, kind, self.headers, parts[0] if len(parts) == 1 else b"".join(parts)
            )
        except SubletError as error:
            self._refuse(error, surface)
            return
        # An exchange that failed at once has answered already.
        if not exchange.over:
            self._exchange = exchange

    # The exchange's side (gateway.client.Client)

    def answer_whole(self, exchange: Exchange, body: bytes) -> None:
        self.transport.write(
            b"%bcontent-type: application/json\r\n%bcontent-length: %d\r\n%b\r\n%b"
            % (status_line(200), self._own_headers(exchange), len(body), self._connection_header(), body)
        )
        self._over()

    def answer_head(self, exchange: Exchange) -> None:
        if not self._chunked:
            self._keep = False
        self.transport.write(
            b"%bcontent-type: %b\r\n%bcache-control: no-cache\r\nx-accel-buffering: no\r\n%b%b\r\n"
            % (
                status_line(200),
                exchange.surface.stream_content_type,
                self._own_headers(exchange),
                b"transfer-encoding: chunked\r\n" if self._chunked else b"",
                self._connection_header(),
            )
        )

    def answer_part(self, data: bytes) -> None:
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def answer_end(self, *, complete: bool) -> None:
        if self._chunked:
            self.transport.write(b"0\r\n\r\n")
        if not complete:
            self._keep = False
        self._over()

    def refuse(self, error: SubletError, exchange: Exchange) -> None:
        self._refuse(error, exchange.surface, self._own_headers(exchange))

    def cut(self) -> None:
        self._exchange = None
        self.transport.abort()

    # Own

    def refuse_raw(self, error: SubletError) -> None:
        """Refuse before it is known what was asked, in the first surface's form."""
        surface = next(iter(self.hot_routes.values()))[0]
        self._keep = False
        self._write_refusal(error, surface.refusal(error), b"")

    def send_400_response(self, msg: str) -> None:
        if not self._ignores_input:
            self.refuse_raw(InvalidRequestError("The request is not HTTP/1.1; check the client"))
        self.transport.close()

    def on_response_complete(self) -> None:
        self._idle_since = self.gateway.monotonic()
        super().on_response_complete()

    def _asgi_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _own_headers(self, exchange: Exchange) -> bytes:
        return exchange.headers()

    def _connection_header(self) -> bytes:
        return b"" if self._keep else b"connection: close\r\n"

    def _refuse(self, error: SubletError, surface: Surface, headers: bytes = b"") -> None:
        self.gateway.metrics.refused[error.code] += 1
        self._write_refusal(error, surface.refusal(error), headers)
        self._over()

    def _write_refusal(self, error: SubletError, body: bytes, headers: bytes) -> None:
        retry_after_s = error.details.get("retry_after_s")
        retry = b"retry-after: %d\r\n" % max(1, math.ceil(retry_after_s)) if retry_after_s is not None else b""
        self.transport.write(
            b"%bcontent-type: application/json\r\n%b%bcontent-length: %d\r\n%b\r\n%b"
            % (status_line(error.status), headers, retry, len(body), self._connection_header(), body)
        )

    def _refuse_and_linger(self, error: SubletError) -> None:
        if self._ignores_input:
            return
        self._ignores_input = True
        self._keep = False
        gateway = self.gateway
        gateway.receiving_bytes -= self._body_bytes
        self._body_bytes = 0
        self._body = []
        self._receiving_since = 0.0
        gateway.metrics.refused[error.code] += 1
        surface = self._hot[0] if self._hot else next(iter(self.hot_routes.values()))[0]
        self._write_refusal(error, surface.refusal(error), b"")
        self._lingering_since = gateway.monotonic()

    def _over(self) -> None:
        self._exchange = None
        self.server_state.total_requests += 1
        self._receiving_since = 0.0
        self._idle_since = self.gateway.monotonic()
        if not self._keep and not self.transport.is_closing():
            self.transport.close()
