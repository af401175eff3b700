"""What PostgreSQL asks to be repeated is repeated, and no more often than the limit says."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Connection, text
from tests.store.notes import WAIT_S, note, numbers, spawn, with_notes

from sublet.store import Store
from sublet.store.engine import WRITE_ATTEMPTS_MAX
from sublet.values.errors import StorageFullError, UnavailableError

pytestmark = pytest.mark.real


def _raise(connection: Connection, sqlstate: str) -> None:
    connection.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'asked for' USING ERRCODE = '{sqlstate}'; END $$"))


@pytest.mark.parametrize("sqlstate", ["40001", "40P01"])
def test_a_write_is_repeated_whole_until_it_stands(postgres_store: Store, sqlstate: str) -> None:
    with_notes(postgres_store)
    attempts: list[int] = []

    def write(connection: Connection) -> None:
        attempts.append(1)
        note(len(attempts))(connection)
        if len(attempts) < 3:
            _raise(connection, sqlstate)

    postgres_store.write(write)
    assert numbers(postgres_store) == [3]


def test_repetition_has_an_end(postgres_store: Store) -> None:
    attempts: list[int] = []

    def write(connection: Connection) -> None:
        attempts.append(1)
        _raise(connection, "40001")

    with pytest.raises(UnavailableError, match="try again"):
        postgres_store.write(write)
    assert len(attempts) == WRITE_ATTEMPTS_MAX


def test_other_failures_are_not_repeated(postgres_store: Store) -> None:
    attempts: list[int] = []

    def write(connection: Connection) -> None:
        attempts.append(1)
        _raise(connection, "53100")

    with pytest.raises(StorageFullError):
        postgres_store.write(write)
    assert len(attempts) == 1


def test_a_real_deadlock_ends_with_both_writes_done_once(postgres_store: Store) -> None:
    with_notes(postgres_store)
    postgres_store.write(note(1, "0"))
    postgres_store.write(note(2, "0"))
    both_hold_one = threading.Barrier(2)
    attempts: list[str] = []

    def crossing(name: str, first: int, second: int) -> None:
        def write(connection: Connection) -> None:
            attempts.append(name)
            add = text("UPDATE notes SET word = CAST(CAST(word AS INTEGER) + 1 AS TEXT) WHERE id = :id")
            connection.execute(add, {"id": first})
            if attempts.count(name) == 1:
                both_hold_one.wait(WAIT_S)
            connection.execute(add, {"id": second})

        postgres_store.write(write)

    for done in [spawn(lambda: crossing("a", 1, 2)), spawn(lambda: crossing("b", 2, 1))]:
        done.result(WAIT_S)
    assert len(attempts) == 3, "one of the two was asked to repeat"
    with postgres_store.read() as connection:
        assert list(connection.execute(text("SELECT word FROM notes ORDER BY id")).scalars()) == ["2", "2"]


def test_a_lock_is_held_until_the_transaction_ends(postgres_store: Store) -> None:
    inside, go = threading.Event(), threading.Event()
    order: list[str] = []

    def holds(connection: Connection) -> None:
        postgres_store.lock(connection, "one")
        inside.set()
        assert go.wait(WAIT_S)
        order.append("holder")

    def wants(connection: Connection) -> None:
        postgres_store.lock(connection, "one")
        order.append("waiter")

    holder = spawn(lambda: postgres_store.write(holds))
    assert inside.wait(WAIT_S)
    postgres_store.write(lambda connection: postgres_store.lock(connection, "another"))
    waiter = spawn(lambda: postgres_store.write(wants))
    _until_somebody_waits_for_an_advisory_lock(postgres_store)
    go.set()
    holder.result(WAIT_S)
    waiter.result(WAIT_S)
    assert order == ["holder", "waiter"]


def _until_somebody_waits_for_an_advisory_lock(store: Store) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
    tick = threading.Event()
    for _ in range(int(WAIT_S / 0.01)):
        with store.read() as connection:
            if connection.execute(waiting).scalar_one():
                return
        tick.wait(0.01)
    raise AssertionError("nobody waits")
