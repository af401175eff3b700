"""The HTTP client towards the engines: callbacks, no task per request, backpressure both ways."""

from __future__ import annotations

import asyncio
import os
import ssl
from typing import Any, Protocol, cast
from urllib.parse import urlsplit

import httptools

from sublet.gateway.model import ModelRoute

IDLE_CONNECTIONS_MAX = 64
# Servers close idle connections after five seconds at the earliest; reuse only what is younger than that.
IDLE_S_MAX = 3.0
HEADER_BYTES_MAX = 64 * 1024


class Sink(Protocol):
    """Who gets an engine's answer."""

    def engine_head(self, status: int, retry_after: bytes) -> None: ...

    def engine_data(self, data: bytes) -> None: ...

    def engine_end(self) -> None: ...

    def engine_failed(self, reason: str, *, answered: bool) -> None:
        """The connection broke; `answered` says whether any part of an answer had come."""
        ...


class EngineConnection(asyncio.Protocol):
    """One connection to an engine, for one request at a time."""

    __slots__ = (
        "_answered",
        "_body",
        "_done",
        "_has_length",
        "_header_bytes",
        "_keep",
        "_owner",
        "_parser",
        "_retry_after",
        "_sink",
        "idle_since",
        "reused",
        "transport",
    )

    def __init__(self, owner: EnginePool) -> None:
        self._owner = owner
        self._sink: Sink | None = None
        self._body: list[bytes] = []
        self._answered = self._done = self._keep = self._has_length = False
        self._header_bytes = 0
        self._retry_after = b""
        self.reused = False
        self.idle_since = 0.0
        self.transport: asyncio.Transport

    # The transport's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._parser = httptools.HttpResponseParser(self)

    def data_received(self, data: bytes) -> None:
        sink = self._sink
        if sink is None:
            self.transport.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._fail("its answer is not HTTP")
            return
        body = self._body
        if body and self._sink is not None:
            data = body[0] if len(body) == 1 else b"".join(body)
            body.clear()
            sink.engine_data(data)
        if self._done and self._sink is not None:
            self._finish(sink)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._sink is None:
            self._owner.forget(self)
            return
        # A body without length or chunks ends with the connection.
        if self._answered and not self._keep and exc is None and not self._has_length:
            self._finish(self._sink)
        else:
            self._fail("it closed the connection")

    def pause_writing(self) -> None:
        return None

    def resume_writing(self) -> None:
        return None

    # The request's side

    def send(self, sink: Sink, head: bytes, body: bytes) -> None:
        self._sink = sink
        self._answered = self._done = False
        self._header_bytes = 0
        self._retry_after = b""
        self._has_length = False
        self.transport.write(head % len(body) + body)

    def abort(self) -> None:
        """Nobody wants the answer any more: the engine sees the connection close and stops."""
        self._sink = None
        self.transport.abort()

    # httptools' callbacks

    def on_header(self, name: bytes, value: bytes) -> None:
        self._header_bytes += len(name) + len(value)
        if self._header_bytes > HEADER_BYTES_MAX:
            raise ValueError("headers too large")
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._has_length = True
        elif name == b"retry-after":
            self._retry_after = value

    def on_headers_complete(self) -> None:
        if self._sink is None:
            return
        status = self._parser.get_status_code()
        if status >= 200:
            self._answered = True
            self._keep = self._parser.should_keep_alive()
            self._sink.engine_head(status, self._retry_after)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        self._done = self._answered

    def _finish(self, sink: Sink) -> None:
        self._sink = None
        if self._keep and not self.transport.is_closing():
            self._owner.keep(self)
        else:
            self.transport.close()
        sink.engine_end()

    def _fail(self, reason: str) -> None:
        sink, self._sink = self._sink, None
        self.transport.abort()
        self._body.clear()
        if sink is not None:
            sink.engine_failed(reason, answered=self._answered)


class EnginePool:
    """Connections to one endpoint. llama.cpp gets a new one for each request; others reuse theirs, newest first."""

    def __init__(self, endpoint: str, route: ModelRoute, connect_s_max: float, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connect_s_max = connect_s_max
        self._reuse = route.reuse_connections
        self._idle: list[EngineConnection] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._tls: ssl.SSLContext | None = None
        self._unix: str | None = None
        self._host, self._port = "", 0
        prefix = ""
        if endpoint.startswith("unix://"):
            self._unix = endpoint.removeprefix("unix://")
            name = "engine"
        else:
            parts = urlsplit(endpoint)
            self._host = parts.hostname or ""
            self._port = parts.port or (443 if parts.scheme == "https" else 80)
            self._tls = ssl.create_default_context() if parts.scheme == "https" else None
            prefix = parts.path.rstrip("/")
            name = parts.netloc
        key = os.environ.get(route.key_variable, "") if route.key_variable else ""
        authorization = f"authorization: Bearer {key}\r\n" if key else ""
        self._prefix = prefix
        self._headers = (
            f" HTTP/1.1\r\nhost: {name}\r\n{authorization}content-type: application/json\r\naccept: */*\r\n"
            f"connection: {'keep-alive' if self._reuse else 'close'}\r\ncontent-length: %d\r\n\r\n"
        )
        self._heads: dict[bytes, bytes] = {}

    def request(self, sink: Sink, path: bytes, body: bytes, taken: Any) -> None:
        """Send a request; `taken(connection)` is called when it is on its way, before any callback of `sink`.

        `taken` returns False where nobody wants it any more.
        """
        head = self._heads.get(path)
        if head is None:
            head = self._heads[path] = f"POST {self._prefix}{path.decode()}{self._headers}".encode()
        now = self._loop.time()
        while self._idle:
            connection = self._idle.pop()
            if connection.transport.is_closing():
                continue
            if now - connection.idle_since > IDLE_S_MAX:
                connection.transport.abort()
                continue
            connection.reused = True
            if taken(connection):
                connection.send(sink, head, body)
            return
        task = self._loop.create_task(self._connect(sink, head, body, taken))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def keep(self, connection: EngineConnection) -> None:
        if not self._reuse or len(self._idle) >= IDLE_CONNECTIONS_MAX:
            connection.transport.close()
            return
        connection.idle_since = self._loop.time()
        self._idle.append(connection)

    def forget(self, connection: EngineConnection) -> None:
        if connection in self._idle:
            self._idle.remove(connection)

    def close(self) -> None:
        """Drop idle connections; those at work end with their requests."""
        for connection in self._idle:
            connection.transport.abort()
        self._idle.clear()

    async def _connect(self, sink: Sink, head: bytes, body: bytes, taken: Any) -> None:
        try:
            async with asyncio.timeout(self._connect_s_max):
                if self._unix is not None:
                    _, connection = await self._loop.create_unix_connection(lambda: EngineConnection(self), self._unix)
                else:
                    _, connection = await self._loop.create_connection(
                        lambda: EngineConnection(self), self._host, self._port, ssl=self._tls
                    )
        except (OSError, TimeoutError) as error:
            sink.engine_failed(f"no connection: {_reason(error, self._connect_s_max)}", answered=False)
            return
        if taken(connection):
            connection.send(sink, head, body)
        else:
            connection.transport.abort()


def _reason(error: Exception, connect_s_max: float) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, TimeoutError) and not isinstance(error, ConnectionError) and not error.args:
        return f"none within {connect_s_max:g} s"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)
