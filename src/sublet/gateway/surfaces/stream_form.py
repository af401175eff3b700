"""What a client sees of a request, and how a stream is told to it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from sublet.values.errors import SubletError


class Identity(msgspec.Struct, frozen=True, gc=False):
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
