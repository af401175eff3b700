"""The half of a client's connection that receives: what of a request is there, and how it is refused before it is whole."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.config import Config
from uvicorn.server import ServerState

from sublet.gateway.front.answering import AnsweringProtocol
from sublet.gateway.front.connections import SMALL_BODY_BYTES
from sublet.gateway.front.inflate import Inflater
from sublet.gateway.front.repeated import Heads
from sublet.gateway.front.signed import SignedRequest
from sublet.gateway.model import KeyGrant
from sublet.gateway.service import Ticket
from sublet.values.errors import SubletError

UNAUTHENTICATED_HEADER_BYTES_MAX = 16 * 1024


class ReceivingProtocol(AnsweringProtocol):
    """The request that is being received, and its refusals."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        # As gateway.connections.Connection.
        self.source = ""
        self.connected_at = 0.0
        # The request that is being received.
        self._ticket: Ticket | None = None
        # Its signature, and whose it is where that is known; its target as it came.
        self._signed: SignedRequest | None = None
        self._grant: KeyGrant | None = None
        # Whether it waits for the stored answer that it goes on from.
        self._recalling = False
        self._target = b""
        self._refusal: SubletError | None = None
        self._inflater: Inflater | None = None
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._in_head = True
        # Whether the ASGI app reads the body itself.
        self._app_reads = False
        # Bytes that came for the present request, however they are framed, and all of them where it came in one piece.
        self._raw_bytes = 0
        self._piece = b""
        self._heads = Heads()
        self._head_bytes_max = UNAUTHENTICATED_HEADER_BYTES_MAX
        # Set once no further request of this connection is read: after a refusal in mid-body, or on pipelining.
        self._ignores_input = False
        self._dropped_bytes = 0
        self._lingering_since = 0.0
        self._stalled_since = 0.0
        self._closing_since = 0.0

    def _asgi_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _head_size(self) -> int:
        return len(self.url) + sum(len(name) + len(value) for name, value in self.headers)

    def _path(self) -> str:
        return self.url.partition(b"?")[0][:200].decode("latin-1")

    def _announced(self, seen: dict[bytes, bytes]) -> int:
        """Bytes of body that the headers announce; what comes in chunks announces nothing and may be anything."""
        if b"transfer-encoding" in seen:
            return self.gateway.received_bytes_max
        return int(seen.get(b"content-length", 0))

    def _refuse_early(self, error: SubletError, seen: dict[bytes, bytes]) -> None:
        """Refuse before the body. A customer's small body is waited for, so that the connection can serve on."""
        announced = self._announced(seen)
        if self.organization and error.status != 401 and announced <= SMALL_BODY_BYTES and b"expect" not in seen:
            self._refusal = error
        elif announced:
            self._refuse_and_linger(error)
        else:
            self._ignores_input = True
            self._refuse_and_close(error)

    def _refuse_and_close(self, error: SubletError) -> None:
        self._keep = False
        self._write_refusal(error, self._surface(), self._request_id(error))
        self._drop_request()
        self.transport.close()

    def _refuse_and_linger(self, error: SubletError) -> None:
        if self._ignores_input:
            return
        self._ignores_input = True
        self._keep = False
        self._receiving_since = 0.0
        self._write_refusal(error, self._surface(), self._request_id(error))
        self._drop_request()
        self._lingering_since = self.gateway.monotonic()

    def _drop_request(self) -> None:
        """Forget the request that is being received, and what it holds."""
        self.front.connections.release(self)
        self._body = []
        self._body_bytes = 0
        self._inflater = None
        self._refusal = None
        self._signed = self._grant = None
        self._recalling = False
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            self.gateway.withdraw(ticket)
