"""Previews: carry a change out in a transaction that is then undone, so that what is shown is what would be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from sublet.store import Store


class _RehearsedError(Exception):
    """Carries what would be done out of the transaction that is undone."""

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__()
        self.found = found


def rehearsed(
    store: Store,
    write: Callable[[Connection], dict[str, Any]],
    shape: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> dict[str, Any]:
    """What `write` would return, in the form that `shape` gives it; nothing of it is kept."""

    def undone(connection: Connection) -> None:
        raise _RehearsedError(shape(write(connection)))

    try:
        store.write(undone)
    except _RehearsedError as rehearsal:
        return rehearsal.found
    raise AssertionError("a rehearsal never commits")


def as_draft(document: dict[str, Any]) -> dict[str, Any]:
    """A document without its number and the rest that only a final one has."""
    return document | {"id": "", "number": "", "status": "draft", "transaction": 0}
