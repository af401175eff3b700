"""A write may rely on what an earlier one has read only while nothing has changed that it rests on."""

from __future__ import annotations

from collections.abc import Hashable

import pytest
from sqlalchemy import Connection, text
from tests.store.notes import note, with_notes

from sublet.store import Store
from sublet.store.changes import kept
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


def words(store: Store, asked: list[str]) -> tuple[str, ...]:
    """What stands in `notes`, kept from write to write; `asked` gets an entry each time that it is read."""

    def write(connection: Connection) -> tuple[str, ...]:
        def read() -> tuple[str, ...]:
            asked.append("read")
            return tuple(connection.execute(text("SELECT word FROM notes ORDER BY id")).scalars())

        return kept(connection, ("notes",), "words", read)

    return store.write(write)


def test_an_answer_is_kept_until_its_table_changes(notes: Store, clock: SimulatedClock) -> None:
    asked: list[str] = []
    notes.write(note(1))
    assert words(notes, asked) == words(notes, asked) != ()
    assert asked == ["read"]
    notes.write(lambda connection: connection.execute(text("UPDATE notes SET word = 'y'")) and None)
    assert words(notes, asked) == ("y",)
    other = Store(notes.url.render_as_string(hide_password=False), clock)
    other.write(lambda connection: connection.execute(text("UPDATE notes SET word = 'z'")) and None)
    other.close()
    assert words(notes, asked) == ("z",)
    notes.write(lambda connection: connection.execute(text("CREATE TABLE sheets (id INTEGER)")) and None)
    assert words(notes, asked) == ("z",)
    assert len(asked) == 4


def test_what_was_read_in_a_write_that_fails_is_not_kept(notes: Store) -> None:
    asked: list[str] = []

    def half(connection: Connection) -> None:
        note(1)(connection)
        count = text("SELECT count(*) FROM notes")
        assert kept(connection, ("notes",), "count", lambda: connection.execute(count).scalar()) == 1
        raise ConflictError("changed its mind")

    def counted(connection: Connection) -> int | None:
        count = text("SELECT count(*) FROM notes")
        return kept(connection, ("notes",), "count", lambda: connection.execute(count).scalar())

    assert words(notes, asked) == ()
    with pytest.raises(ConflictError):
        notes.write(half)
    assert notes.write(counted) == 0

    def refused(connection: Connection) -> None:
        raise ConflictError("changed nothing")

    assert words(notes, asked) == ()
    read = len(asked)
    with pytest.raises(ConflictError):
        notes.write(refused)
    assert words(notes, asked) == ()
    assert len(asked) == read


def test_readers_and_postgresql_read_for_themselves(notes: Store, postgres_store: Store) -> None:
    asked: list[str] = []
    with notes.read() as connection:
        for _ in range(2):
            kept(connection, ("notes",), "asked", lambda: asked.append("read"))
    for _ in range(2):
        postgres_store.write(lambda connection: kept(connection, ("notes",), "asked", lambda: asked.append("read")))
    assert len(asked) == 4
