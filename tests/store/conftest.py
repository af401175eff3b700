"""Stores with the table `notes (id, word)`."""

from __future__ import annotations

import pytest
from tests.store.notes import with_notes

from sublet.store import Store


@pytest.fixture
def notes(any_store: Store) -> Store:
    """A store with the table `notes (id, word)`."""
    return with_notes(any_store)


@pytest.fixture
def sqlite_notes(store: Store) -> Store:
    """The same on SQLite alone."""
    return with_notes(store)
