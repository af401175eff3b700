"""Accepts connections for a server that speaks TLS. Handshakes are bounded here, in number and in time: the server's protocols,
with the limits that they have, hear of a connection only once its handshake is over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

import structlog

from sublet.tls.files import Secured

log = structlog.get_logger(__name__)

HANDSHAKE_S_MAX = 10.0
HANDSHAKES_MAX = 512
"""Connections that may be shaking hands at once; one more ends the one that has been at it longest."""
PAUSE_S = 0.2
"""Between two attempts to accept while this process has no file left for a connection."""


class TlsListener:
    """Accepts until it is closed; an `asyncio.Server` as far as uvicorn needs one. For the event loop's thread."""

    def __init__(self, listener: socket.socket, protocol: Callable[[], asyncio.Protocol], secured: Secured) -> None:
        """Takes connections of `listener`, which stays the caller's. To be made while the loop runs."""
        self._listener = listener
        self._protocol = protocol
        self._secured = secured
        self._handshakes: dict[asyncio.Task[None], None] = {}
        listener.setblocking(False)
        self._accepting = asyncio.get_running_loop().create_task(self._accept())

    def close(self) -> None:
        """Accept nothing more; connections go on."""
        self._accepting.cancel()
        for handshake in list(self._handshakes):
            handshake.cancel()

    async def wait_closed(self) -> None:
        """Until nothing is accepted any more."""
        await asyncio.wait([self._accepting, *self._handshakes])

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(self._listener)
            except ConnectionError:
                continue  # the client left while it waited
            except OSError as error:
                log.error("no connection can be accepted", reason=str(error))
                await asyncio.sleep(PAUSE_S)
                continue
            if len(self._handshakes) >= HANDSHAKES_MAX:
                next(iter(self._handshakes)).cancel()
            handshake = loop.create_task(self._shake_hands(accepted))
            self._handshakes[handshake] = None
            handshake.add_done_callback(self._handshakes.pop)
            # It has begun, and owns its socket, before it can be canceled; and others have their turn.
            await asyncio.sleep(0)

    async def _shake_hands(self, accepted: socket.socket) -> None:
        # Clients that speak no TLS, do not trust the certificate, take too long, or have left.
        with contextlib.suppress(OSError):
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, accepted, ssl=self._secured.context(), ssl_handshake_timeout=HANDSHAKE_S_MAX
            )
