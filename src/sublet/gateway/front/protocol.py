"""The client's side: uvicorn's HTTP protocol, with the hot routes served in its callbacks instead of an ASGI task.

Once a request's headers are there it is known whether it may be: its route, its key and the key's limits. Nothing of the
body of a request that may not be is kept, and `100 Continue` is only said to one that may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import cast

import httptools
from msgspec import Raw

from sublet.gateway.front.answering import Front
from sublet.gateway.front.answers import CONTINUE
from sublet.gateway.front.apps import APP_RECEIVE_S_MAX, AppProtocol
from sublet.gateway.front.connections import SMALL_BODY_BYTES
from sublet.gateway.front.inflate import inflater
from sublet.gateway.front.recalling import recalling
from sublet.gateway.front.repeated import RepeatedHead
from sublet.gateway.front.routes import Route
from sublet.gateway.front.signed import SignedRequest
from sublet.gateway.model import KeyGrant
from sublet.gateway.refusals import (
    HeadersTooLargeError,
    InvalidRequestError,
    MethodNotAllowedError,
    ReceiveTimeoutError,
    ServerFullError,
    too_large,
)
from sublet.gateway.requests.form import CHAT
from sublet.gateway.service import Recalled, Ticket
from sublet.gateway.surfaces.surface import Surface, key_of_query
from sublet.values.errors import SubletError

HEADER_BYTES_MAX = 32 * 1024
HEADERS_MAX = 100
# How many bytes a body in chunks may come in, against those that it may have.
FRAMING_RATIO_MAX = 2
# After a refusal in mid-body the rest is read and dropped for so long, so that the client gets to read the refusal.
LINGER_S = 2.0
LINGER_BYTES_MAX = 64 * 1024 * 1024
UNAUTHENTICATED_LINGER_BYTES_MAX = 1024 * 1024

After = Callable[[list[Raw]], Surface]

# The headers that the gateway itself looks at, but for the key's.
_LOOKED_AT = frozenset(
    (
        b"content-length",
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
        b"origin",
        b"access-control-request-headers",
        b"access-control-request-private-network",
    )
)


def gateway_protocol(front: Front) -> type[GatewayProtocol]:
    """The protocol class for uvicorn, bound to `front`."""
    bound = {"front": front, "gateway": front.gateway}
    return cast(type[GatewayProtocol], type("BoundGatewayProtocol", (GatewayProtocol,), bound))


class GatewayProtocol(AppProtocol):
    """One client connection. Hot requests go to an Exchange, all others to the ASGI app as uvicorn does it."""

    # The transport

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        gateway = self.gateway
        self.connected_at = self._idle_since = self._receiving_since = gateway.monotonic()
        self.source = self.client[0] if self.client else ""
        try:
            self.front.connections.enter(self, self.connected_at, proxied=self.front.proxies.trusts(self.source))
        except ServerFullError as error:
            self._ignores_input = True
            self._refuse_and_close(error)

    def data_received(self, data: bytes) -> None:
        if self._ignores_input:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > (LINGER_BYTES_MAX if self.organization else UNAUTHENTICATED_LINGER_BYTES_MAX):
                self.transport.abort()
            return
        if not self._receiving_since and self._exchange is None:
            repeated = self._heads.last
            if repeated is not None and data.startswith(repeated.prefix) and self._begin_again(repeated, data):
                return
            self._receiving_since = self.gateway.monotonic()
        if self._idle_since and not self._raw_bytes:
            self._piece = data
        self._unset_keepalive_if_required()
        self._raw_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # Refused with its headers.
            return
        except httptools.HttpParserError:
            self.send_400_response("")
            return
        finally:
            self._piece = b""
        if self._in_head:
            # One header may come in any number of pieces, and is shown to nobody before its end.
            if self._raw_bytes > self._head_bytes_max:
                self._refuse_and_linger(HeadersTooLargeError())
        elif self._receiving_since and not self._app_reads:
            # Only what has not come whole in one piece is worth counting.
            self._count_bytes()

    def _begin_again(self, repeated: RepeatedHead, data: bytes) -> bool:
        """Begin a request that has the head of an earlier one, past the parser; False where it is to be read as any other."""
        gateway = self.gateway
        body = repeated.body(data, gateway.received_bytes_max)
        grant = gateway.snapshot.keys.get(repeated.digest)
        if (
            body is None
            or grant is None
            or not grant.may_call
            or grant.organization_id != self.organization
            or (grant.expires_at is not None and gateway.clock.now() >= grant.expires_at)
            or not self._asgi_idle()
            # The app is shown the whole head.
            or (b"background" in body and recalling(repeated.route.surface) is not None)
        ):
            return False
        self._heads.hit()
        self._unset_keepalive_if_required()
        self._idle_since = 0.0
        self._route = route = repeated.route
        self._cors = repeated.cors
        self._keep = not gateway.stopping
        self._chunked = True
        self._bodiless = False
        try:
            ticket = gateway.admit(grant, repeated.secret)
        except SubletError as error:
            self._answer_refusal(error)
            return True
        self._start(route, ticket, body)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self._drop_request()
        self.front.connections.leave(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_gone()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        self._stalled_since = self.gateway.monotonic()
        if self._exchange is not None:
            self._exchange.client_stalled()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._stalled_since = 0.0
        if self._exchange is not None:
            self._exchange.client_flows()
        super().resume_writing()

    def shutdown(self) -> None:
        if self._exchange is not None:
            self._keep = False
        else:
            super().shutdown()

    # Its limits (gateway.connections.Connection)

    @property
    def idle_since(self) -> float:
        return self._idle_since if self._exchange is None and self._asgi_idle() else 0.0

    def give_way(self) -> None:
        self._ignores_input = True
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def shed(self, error: SubletError) -> bool:
        if self._exchange is None:
            self._refuse_and_linger(error)
            return True
        if self._exchange.waiting:
            self._exchange.fail(error)
            return True
        return False

    def tick(self, now: float) -> None:
        """Called about twice a second: slow senders, slow readers and idle connections."""
        settings = self.gateway.settings
        if self._lingering_since:
            if now - self._lingering_since > LINGER_S:
                self.transport.abort()
        elif self._exchange is not None:
            return
        elif self._stalled_since and now - self._stalled_since > settings.stalled_client_s_max:
            # It does not read what is there for it, so that not even a close would end.
            self.transport.abort()
        elif self.transport.is_closing():
            self._closing_since = self._closing_since or now
            if now - self._closing_since > settings.stalled_client_s_max:
                self.transport.abort()
        elif self._receiving_since:
            patience_s = APP_RECEIVE_S_MAX if self._app_reads else settings.receive_s_max
            if self._in_head and not self.organization:
                patience_s = min(patience_s, settings.unauthenticated_s_max)
            if now - self._receiving_since > patience_s:
                if self._idle_since:
                    # Not a byte since it connected.
                    self.transport.close()
                else:
                    self._refuse_and_linger(ReceiveTimeoutError())
        elif self.idle_since:
            patience_s = settings.idle_connection_s_max if self.organization else settings.unauthenticated_s_max
            if now - self._idle_since > patience_s:
                self.transport.close()

    def _count_bytes(self) -> None:
        if self._raw_bytes > FRAMING_RATIO_MAX * self.gateway.received_bytes_max:
            # The extensions of chunks and the trailers behind them are not part of the body, but still use memory.
            self._refuse_and_linger(too_large(self.gateway.received_bytes_max))
        elif self._ticket is not None or self._signed is not None:
            self.front.connections.hold(self, max(self._body_bytes, self._raw_bytes))

    # httptools' callbacks

    def on_message_begin(self) -> None:
        if self._exchange is not None or self._recalling or not self._asgi_idle():
            # A pipelined request: none of the clients sends them, so the connection ends after the present answer.
            self._ignores_input = True
            self._keep = False
            if self.cycle is not None:
                self.cycle.keep_alive = False
            return
        self.url = b""
        self.headers = []
        self._route = None
        self._in_head = True
        self._app_reads = False
        self._idle_since = 0.0
        if not self._receiving_since:
            self._receiving_since = self.gateway.monotonic()

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._ignores_input:
            return
        if len(self.headers) >= HEADERS_MAX:
            self._refuse_and_linger(HeadersTooLargeError())
            return
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self._ignores_input:
            return
        self._in_head = False
        if self._raw_bytes > self._head_bytes_max and self._head_size() > self._head_bytes_max:
            self._refuse_and_linger(HeadersTooLargeError())
            return
        self._looked_at = seen = {name: value for name, value in self.headers if name in _LOOKED_AT}
        front = self.front
        origin = seen.get(b"origin")
        self._cors = front.cors.headers(origin) if origin is not None else b""
        method = self.parser.get_method()
        self._bodiless = method == b"HEAD"
        self._keep = self.parser.should_keep_alive() and not self.gateway.stopping
        self._chunked = self.parser.get_http_version() != "1.0"
        self._target = self.url
        route = front.routes.exact.get(self.url)
        if route is None:
            route, self.url = front.routes.find(self.url)
            # Where a vendor's clients put the key into the query, it is a header from here on.
            self.headers += key_of_query(self.url)
        if route is not None and route.shared:
            route = replace(route, surface=front.routes.marked(self.url, self.headers))
        self._route = route
        try:
            self._admit(route, method, seen)
        except SubletError as error:
            self._refuse_early(error, seen)

    def _admit(self, route: Route | None, method: bytes, seen: dict[bytes, bytes]) -> None:
        """Let the request on to its body, or raise the SubletError that refuses it."""
        if route is None:
            raise self.front.routes.missing(self.url)
        if method not in route.methods and method != b"OPTIONS":
            raise MethodNotAllowedError(
                f"{self._path()} does not take {method.decode('latin-1')}; it takes {route.allow.decode()}",
                allow=route.allow.decode(),
            )
        if self.parser.should_upgrade():
            raise InvalidRequestError(
                "This server does not upgrade connections from HTTP/1.1; send the request without the Upgrade header"
            )
        gateway = self.gateway
        if route.needs_key and method != b"OPTIONS":
            self._authenticate(route, method)
        if not route.kind or method == b"OPTIONS":
            self._hand_over(route, method, seen)
            return
        length = seen.get(b"content-length")
        if length is not None and int(length) > gateway.received_bytes_max:
            raise too_large(gateway.received_bytes_max)
        encoding = seen.get(b"content-encoding")
        self._inflater = inflater(encoding, gateway.received_bytes_max) if encoding is not None else None
        if seen.get(b"expect", b"").lower() == b"100-continue":
            self.transport.write(CONTINUE)

    def _authenticate(self, route: Route, method: bytes) -> None:
        """Find out whose the request is; of one whose signature covers its body that is known once the body is there."""
        gateway = self.gateway
        secret = route.surface.secret(self.headers)
        signature = route.surface.signature(self.headers)
        if signature is None:
            grant = gateway.authenticate(secret)
        else:
            signed = gateway.signers.begin(signature, method, self._target, self.headers)
            if route.kind:
                self._signed = signed
                if not signed.states_body:
                    return
            grant = signed.prove()
        self._proved(grant)
        if route.kind:
            self._ticket = gateway.admit(grant, secret)
        else:
            self._grant = grant

    def _proved(self, grant: KeyGrant) -> None:
        if grant.organization_id != self.organization:
            self.front.connections.authenticated(self, grant.organization_id)
            self._head_bytes_max = HEADER_BYTES_MAX

    def on_body(self, body: bytes) -> None:
        if self._ignores_input:
            return
        if self._app_reads:
            super().on_body(body)
            return
        self._body_bytes += len(body)
        if self._refusal is not None or self._route is None or (self._ticket is None and self._signed is None):
            # Nobody reads it: it was announced as small, or is of an unknown length.
            if self._body_bytes > SMALL_BODY_BYTES:
                self._refuse_and_linger(too_large(SMALL_BODY_BYTES))
            return
        if self._signed is not None:
            self._signed.feed(body)
        if self._inflater is not None:
            try:
                self._body_bytes -= len(body)
                body = self._inflater.feed(body)
                self._body_bytes += len(body)
            except SubletError as error:
                self._refuse_and_linger(error)
                return
        self._body.append(body)
        if self._body_bytes > self.gateway.received_bytes_max:
            self._refuse_and_linger(too_large(self.gateway.received_bytes_max))

    def on_message_complete(self) -> None:
        if self._ignores_input:
            return
        self._receiving_since = 0.0
        self._raw_bytes = 0
        if self._signed is not None and self._refusal is None:
            self._check_signed(self._signed)
        route, refusal, ticket = self._route, self._refusal, self._ticket
        if refusal is not None:
            self._drop_request()
            self._answer_refusal(refusal)
        elif ticket is None or route is None:
            self._drop_request()
            if self.parser.get_method() == b"OPTIONS" and route is not None:
                self._answer_options(route)
            else:
                super().on_message_complete()
        else:
            self._begin(route, ticket)

    def _check_signed(self, signed: SignedRequest) -> None:
        """The body is there: find out whether the request is its key's, unless that is known, and admit it then."""
        try:
            signed.check_body()
            if self._ticket is None:
                grant = signed.prove()
                # Its bytes are its organization's from here on.
                self.front.connections.release(self)
                self._proved(grant)
                self._ticket = self.gateway.admit(grant, b"")
        except SubletError as error:
            self._refusal = error
            self._keep = self._keep and self.organization != ""

    def _begin(self, route: Route, ticket: Ticket) -> None:
        parts, self._body = self._body, []
        body = parts[0] if len(parts) == 1 else b"".join(parts)
        self._signed = None
        if self._piece and self._keep and self._chunked and ticket.secret:
            self._heads.learn(self._piece, body, self._looked_at, route, ticket.secret, self._cors)
        inflating, self._inflater = self._inflater, None
        # From here on the ticket is the gateway's.
        self._ticket = None
        self._body_bytes = 0
        connections = self.front.connections
        if len(body) <= SMALL_BODY_BYTES:
            connections.release(self)
        try:
            if inflating is not None:
                inflating.end()
        except SubletError as error:
            self.gateway.withdraw(ticket)
            self._answer_refusal(error)
            return
        self._start(route, ticket, body)

    def _start(self, route: Route, ticket: Ticket, body: bytes) -> None:
        """Hand a request to the gateway; one that goes on from a stored answer once that is read."""
        surface = recalling(route.surface)
        if surface is not None and self.gateway.backgrounds and route.kind == CHAT and surface.backgrounded(body):
            self._hand_body(ticket, body)
            return
        if surface is not None and (previous := surface.continues(body)):
            # Until then it is this connection's, which may end.
            self._ticket, self._recalling = ticket, True
            after = surface.after
            self.gateway.recall(ticket.grant, previous, lambda found: self._recalled(route, ticket, body, after, found))
            return
        try:
            exchange = self.gateway.begin(self, route.surface, route.kind, ticket, body)
        except SubletError as error:
            self._answer_refusal(error)
            return
        # An exchange that failed at once has answered already.
        if not exchange.over:
            self._exchange = exchange
            if len(body) > SMALL_BODY_BYTES:
                self.front.connections.hold(self, len(body))

    def _recalled(self, route: Route, ticket: Ticket, body: bytes, after: After, found: Recalled) -> None:
        if self._ticket is not ticket:
            # The client left, or was shed.
            return
        self._ticket, self._recalling = None, False
        if isinstance(found, SubletError):
            self.gateway.withdraw(ticket)
            self._answer_refusal(found)
        else:
            self._start(replace(route, surface=after(found)), ticket, body)

    # Own

    def send_400_response(self, msg: str) -> None:
        if not self._ignores_input:
            self._ignores_input = True
            self._refuse_and_close(InvalidRequestError("The request is not HTTP/1.1; check the client"))

    def on_response_complete(self) -> None:
        self._idle_since = self.gateway.monotonic()
        super().on_response_complete()
