"""uvicorn's server with or without TLS."""

from __future__ import annotations

import asyncio
import socket

import uvicorn

from sublet.tls.files import Secured
from sublet.tls.listening import TlsListener


class Server(uvicorn.Server):
    """Serves the sockets that it is given, by TLS where `secured` is."""

    def __init__(self, config: uvicorn.Config, secured: Secured | None) -> None:
        super().__init__(config)
        self._secured = secured

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._secured is None or not sockets:
            await super().startup(sockets)
            return
        await super().startup([])
        for listener in sockets:
            self.servers.append(TlsListener(listener, self._protocol, self._secured))  # type: ignore[arg-type]

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made
