"""Requests that go on from an answer that was stored: it is read before they begin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, cast

from msgspec import Raw

from sublet.gateway.surfaces.surface import Surface


class RecallingSurface(Surface, Protocol):
    """A surface whose requests may go on from a stored answer. One that has `continues`
    is taken for such a surface."""

    def continues(self, body: bytes) -> str:
        """The id of the answer that a request goes on from; empty where there is none, or where that has been read."""
        ...

    def backgrounded(self, body: bytes) -> bool:
        """Whether the client does not wait for the answer of a request."""
        ...

    def after(self, earlier: Sequence[Raw]) -> Surface:
        """The surface for the request, once the items of that answer, and of those before it, have been read."""
        ...


def recalling(surface: Surface) -> RecallingSurface | None:
    """The surface as one whose requests may go on from stored answers; None where it is not."""
    return cast(RecallingSurface, surface) if hasattr(surface, "continues") else None
