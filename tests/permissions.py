"""Who may call a route in tests that are not about that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sublet.accounts.model import Actor
from sublet.store.once import Effect


def everybody(permission: str, *, effect: Effect | None = None) -> Callable[..., Any]:
    """Lets every request in, as nobody."""
    return lambda: Actor("", "", "", frozenset())
