"""A write may rely on what an earlier one has read only while nothing has changed that it rests on."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from sqlalchemy import Connection, text
from tests.store.notes import note, with_notes

from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError


@pytest.fixture
def notes(store: Store) -> Store:
    return with_notes(store)


NOTHING: frozenset[str] = frozenset()


def state(store: Store, apart: frozenset[str] = NOTHING) -> Hashable | None:
    return store.write(lambda connection: store.state(connection, apart))


def test_it_stays_the_same_while_nothing_is_written(notes: Store) -> None:
    assert state(notes) is not None
    assert state(notes) == state(notes)


def test_a_change_shows_unless_its_table_is_apart(notes: Store) -> None:
    before, apart = state(notes), state(notes, frozenset({"notes"}))
    notes.write(note(1))
    assert state(notes) != before
    assert state(notes, frozenset({"notes"})) == apart


@pytest.mark.parametrize(
    "statement", ["UPDATE notes SET word = 'y'", "DELETE FROM notes", "INSERT OR IGNORE INTO notes VALUES (3, 'z')"]
)
def test_plain_statements_show_too(notes: Store, statement: str) -> None:
    notes.write(note(1))
    before, apart = state(notes), state(notes, frozenset({"notes"}))
    notes.write(lambda connection: connection.execute(text(statement)) and None)
    assert state(notes) != before
    assert state(notes, frozenset({"notes"})) == apart


def test_a_statement_that_is_not_known_changes_everything(notes: Store) -> None:
    before = state(notes, frozenset({"notes"}))
    notes.write(lambda connection: connection.execute(text("REPLACE INTO notes VALUES (5, 'z')")) and None)
    assert state(notes, frozenset({"notes"})) != before


def test_what_another_process_writes_shows_whatever_is_apart(notes: Store, clock: SimulatedClock) -> None:
    before = state(notes, frozenset({"notes"}))
    other = Store(notes.url.render_as_string(hide_password=False), clock)
    other.write(note(1))
    other.close()
    assert state(notes, frozenset({"notes"})) != before


def test_nothing_read_before_a_rollback_is_relied_on_after_it(notes: Store) -> None:
    seen: list[Hashable | None] = []

    def half(connection: Connection) -> None:
        note(1)(connection)
        seen.append(notes.state(connection, frozenset({"notes"})))
        raise ConflictError("changed its mind")

    with pytest.raises(ConflictError):
        notes.write(half)
    assert state(notes, frozenset({"notes"})) != seen[0]


def test_a_reader_can_not_tell(notes: Store) -> None:
    with notes.read() as connection:
        assert notes.state(connection, NOTHING) is None


def test_on_postgresql_nobody_can_tell(postgres_store: Store) -> None:
    assert state(postgres_store) is None
