"""The half of a client's connection that hands a request to the ASGI app: whatever is not worth being served by callbacks."""

from __future__ import annotations

from typing import Any, cast

from sublet.gateway.front.answers import CONTINUE
from sublet.gateway.front.connections import SMALL_BODY_BYTES
from sublet.gateway.front.receiving import ReceivingProtocol
from sublet.gateway.front.routes import Route
from sublet.gateway.refusals import InvalidRequestError, UnsupportedEncodingError, too_large
from sublet.gateway.service import Ticket

GRANT = "sublet.grant"
"""What the app's scope calls the grant of the request's key."""
APP_RECEIVE_S_MAX = 900.0
"""A file that is uploaded may take so long to arrive."""


class AppProtocol(ReceivingProtocol):
    """Requests of the app, with their bodies where it takes any."""

    def _hand_over(self, route: Route, method: bytes, seen: dict[bytes, bytes]) -> None:
        """Let the ASGI app have it; a body only where the route takes one, and then of a length that is known."""
        reads = bool(route.takes) and method == b"POST"
        if reads and b"transfer-encoding" in seen:
            raise InvalidRequestError("The body must have a Content-Length; send it in one piece, not in chunks")
        if reads and b"content-encoding" in seen:
            raise UnsupportedEncodingError("The body must not be compressed here; send it without Content-Encoding")
        most = max(SMALL_BODY_BYTES, route.takes if reads else 0)
        if self._announced(seen) > most:
            raise too_large(most)
        if method == b"OPTIONS":
            return
        self._app_reads = reads
        self._to_app()
        if reads and seen.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(CONTINUE)

    def _hand_body(self, ticket: Ticket, body: bytes) -> None:
        """Let the app have a request whose body is there already. It counts against its key's rate, and is under way no longer."""
        self.gateway.admission.leave(ticket.key_state)
        self._grant = ticket.grant
        self._to_app()
        super().on_body(body)
        super().on_message_complete()

    def _to_app(self) -> None:
        """Hand the request to the ASGI app, as uvicorn does it."""
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        assert self.client is not None
        cast(dict[str, Any], self.scope)[GRANT] = self._grant
        self.scope["client"] = (self.front.proxies.client(self.source, headers), self.client[1])
        super().on_headers_complete()
        lines = (self._request_id() + self._cors).split(b"\r\n")
        own = [(name, value) for name, _, value in (line.partition(b": ") for line in lines if line)]
        self.cycle.default_headers = [*self.cycle.default_headers, *own]
