"""Responses that are made in the background: the same requests and events, and what is told before and instead of an answer."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import CHAT
from sublet.gateway.surfaces.reading import read
from sublet.gateway.surfaces.responses import ResponsesSurface, event, response_of, stopped
from sublet.gateway.surfaces.responses_request import Asked
from sublet.gateway.surfaces.stream_form import Identity
from sublet.values.errors import SubletError

_asked = msgspec.json.Decoder(Asked)
_encode = msgspec.json.Encoder().encode


class Kept(NamedTuple):
    """What of a request is stored with its response."""

    model: str
    previous_id: str
    items: Any


class BackgroundSurface(ResponsesSurface):
    """Reads requests with `background: true`, and streams all of them: their events are for those who follow."""

    background = True

    def parse(self, kind: str, body: bytes) -> Call:
        call = super().parse(kind, body)
        # It is stored with its bill.
        call.kept = None
        call.more = {**call.more, "background": True, "store": True}
        return call

    def streamed(self, body: bytes) -> bool:
        """Whether its client wants events."""
        return bool(read(_asked, body).stream)

    def kept(self, body: bytes) -> Kept:
        """See Kept."""
        asked = read(_asked, body)
        return Kept(asked.model, asked.previous_response_id or "", asked.input)

    def failed(self, name: Identity, body: bytes, error: SubletError, sequence: int) -> tuple[bytes, bytes]:
        """A response that has nothing to show, and its last events, numbered from `sequence`."""
        call = self.parse(CHAT, body)
        response = stopped(response_of(name, call, [], "stop") | {"usage": None}, error)
        told = event("error", sequence, code=error.code, message=error.message, param=error.details.get("param"))
        return _encode(response), told + event("response.failed", sequence + 1, response=response)


def unfinished(name: Identity, call: Call, status: str) -> bytes:
    """A response that is not over."""
    return _encode(response_of(name, call, [], None) | {"status": status})
