"""What a surface is: one vendor's way to ask and to be answered. Each surface is one file in `surfaces/`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sublet.gateway.requests.call import Call
from sublet.values.errors import SubletError

Headers = Sequence[tuple[bytes, bytes]]

KEY_HEADERS = (b"x-api-key", b"api-key")
"""Where clients put a key besides `Authorization: Bearer`, whatever the surface: Anthropic's and Azure's do."""


def secret_of(headers: Headers) -> bytes:
    """The API key that the headers carry: the bearer token, else the first of KEY_HEADERS that is there; empty where none is."""
    found = b""
    for name, value in headers:
        if name == b"authorization":
            if value[:7].lower() == b"bearer ":
                return value[7:].strip()
        elif not found and name in KEY_HEADERS:
            found = value.strip()
    return found


@dataclass(frozen=True, slots=True)
class Identity:
    """What the client sees instead of the engine's own names: the request's id, the model's public name, the time."""

    request_id: str
    model: str
    created_s: int


class StreamForm(Protocol):
    """Turns an engine's stream, event by event, into what the client expects."""

    def event(self, payload: bytes) -> bytes:
        """The bytes for the client that stand for one event of the engine; empty where there are none."""
        ...

    def end(self) -> bytes:
        """The bytes that end a complete answer."""
        ...

    def failure(self, error: SubletError) -> bytes:
        """The bytes that tell, in mid-stream, that the answer ends here and why."""
        ...

    def keep_alive(self) -> bytes:
        """Bytes that a client ignores, sent in a long silence so that nothing between cuts the connection."""
        ...


class Surface(Protocol):
    """One vendor's API."""

    routes: dict[bytes, str]
    """Raw path to the kind of call, for those that the gateway serves by callbacks."""

    stream_content_type: bytes

    def secret(self, headers: Headers) -> bytes:
        """The API key that the headers carry, empty where there is none; `secret_of` where the vendor has no place of its own."""
        ...

    def parse(self, kind: str, body: bytes) -> Call:
        """The request in the internal form. Raises InvalidRequestError naming the field."""
        ...

    def stream(self, call: Call, identity: Identity) -> StreamForm:
        """The form of a streamed answer."""
        ...

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        """A whole answer of the engine as the client expects it. Raises EngineFailedError where it can't be read."""
        ...

    def refusal(self, error: SubletError) -> bytes:
        """The body of an error; status and headers are the gateway's."""
        ...
