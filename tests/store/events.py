"""What was recorded in the outbox of a store, for tests of the domains that record it."""

from __future__ import annotations

from typing import Any

from sublet.store import Store, outbox


def recorded(store: Store, *prefixes: str) -> list[outbox.Event]:
    """Every event whose kind begins with one of `prefixes`, in order; all of them without any."""
    while outbox.number(store):
        pass
    with store.read() as connection:
        found = outbox.read_after(connection, 0)
    return [event for event in found if not prefixes or event.kind.startswith(prefixes)]


def kinds(store: Store, *prefixes: str) -> list[str]:
    return [event.kind for event in recorded(store, *prefixes)]


def payloads(store: Store, *prefixes: str) -> list[dict[str, Any]]:
    return [event.payload for event in recorded(store, *prefixes)]
