"""How programs talk to a running Sublet: `Client` and `AsyncClient`, one method for each operation of the API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sublet.client.asynchronous import AsyncClient
    from sublet.client.clients import Client

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    # Loaded when asked for: commands that need only the profiles start faster.
    if name == "Client":
        from sublet.client.clients import Client

        return Client
    if name == "AsyncClient":
        from sublet.client.asynchronous import AsyncClient

        return AsyncClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
