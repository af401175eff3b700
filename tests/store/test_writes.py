"""A write stands whole and durable, or not at all, whatever happens beside it."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from tests.store.notes import WAIT_S, held, note, numbers, spawn

from sublet.store import Store
from sublet.store.writer import BATCH_MAX
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, StorageFullError, UnavailableError


def test_a_write_returns_its_result_and_others_see_it(notes: Store, clock: SimulatedClock) -> None:
    assert notes.write(note(7)) == 7
    other = Store(notes.url.render_as_string(hide_password=False), clock)
    assert numbers(other) == [7]
    other.close()


def test_a_write_that_raises_leaves_nothing(notes: Store) -> None:
    def half(connection: Connection) -> None:
        note(1)(connection)
        raise ConflictError("changed its mind")

    with pytest.raises(ConflictError, match="changed its mind"):
        notes.write(half)
    assert numbers(notes) == []


def test_a_broken_constraint_is_raised_as_it_is_and_the_next_write_works(notes: Store) -> None:
    notes.write(note(1))
    with pytest.raises(IntegrityError):
        notes.write(note(1))
    notes.write(note(2))
    assert numbers(notes) == [1, 2]


def test_a_write_inside_a_write_is_refused_and_the_outer_one_rolled_back(notes: Store) -> None:
    def outer(connection: Connection) -> None:
        note(1)(connection)
        notes.write(note(2))

    with pytest.raises(RuntimeError, match="pass the connection on"):
        notes.write(outer)
    assert numbers(notes) == []
    notes.write(note(3))
    assert numbers(notes) == [3]


def test_a_read_sees_one_snapshot(notes: Store) -> None:
    count = text("SELECT count(*) FROM notes")
    notes.write(note(1))
    with notes.read() as connection:
        assert connection.execute(count).scalar_one() == 1
        spawn(lambda: notes.write(note(2))).result(WAIT_S)
        assert connection.execute(count).scalar_one() == 1
    assert numbers(notes) == [1, 2]


def test_a_read_cannot_write(notes: Store) -> None:
    with pytest.raises((UnavailableError, DBAPIError)), notes.read() as connection:
        note(1)(connection)
    assert numbers(notes) == []


def test_what_is_read_and_written_under_a_lock_is_never_lost(notes: Store) -> None:
    notes.write(note(0, "0"))

    def add_one(connection: Connection) -> None:
        notes.lock(connection, "counter")
        now = connection.execute(text("SELECT word FROM notes WHERE id = 0")).scalar_one()
        connection.execute(text("UPDATE notes SET word = :word WHERE id = 0"), {"word": str(int(now) + 1)})

    for done in [spawn(lambda: [notes.write(add_one) for _ in range(10)]) for _ in range(6)]:
        done.result(WAIT_S)
    with notes.read() as connection:
        assert connection.execute(text("SELECT word FROM notes WHERE id = 0")).scalar_one() == "60"


def test_waiting_writes_share_one_commit(sqlite_notes: Store) -> None:
    commits: list[int] = []
    with held(sqlite_notes, 40) as queued:
        event.listen(sqlite_notes.engine, "commit", lambda connection: commits.append(1))
        queued += [spawn(lambda number=number: sqlite_notes.write(note(number))) for number in range(40)]
    assert sorted(done.result(WAIT_S) for done in queued) == list(range(40))
    assert len(commits) == 2, "the held write and one batch"


def test_a_batch_has_a_limit(sqlite_notes: Store) -> None:
    commits: list[int] = []
    with held(sqlite_notes, BATCH_MAX + 1) as queued:
        event.listen(sqlite_notes.engine, "commit", lambda connection: commits.append(1))
        queued += [spawn(lambda number=number: sqlite_notes.write(note(number))) for number in range(BATCH_MAX + 1)]
    for done in queued:
        done.result(WAIT_S)
    assert len(commits) == 3


def test_one_failing_write_does_not_hurt_its_batch(sqlite_notes: Store) -> None:
    sqlite_notes.write(note(13))
    with held(sqlite_notes, 20) as queued:
        queued += [spawn(lambda number=number: sqlite_notes.write(note(number))) for number in range(20)]
    failed = [done for done in queued if done.exception(WAIT_S) is not None]
    assert [type(done.exception()) for done in failed] == [IntegrityError]
    assert numbers(sqlite_notes) == list(range(20))


def test_a_commit_that_fails_fails_every_write_of_its_batch(sqlite_notes: Store) -> None:
    def orphan(connection: Connection) -> None:
        connection.execute(text("PRAGMA defer_foreign_keys=ON"))
        connection.execute(
            text(
                "INSERT INTO api_keys (id, organization_id, name, sha256, hint, scopes, created_at) "
                "VALUES ('key_1', 'org_nobody', 'n', 's', 'h', '[]', 0)"
            )
        )

    with held(sqlite_notes, 6) as queued:
        queued += [spawn(lambda number=number: sqlite_notes.write(note(number))) for number in range(5)]
        queued.append(spawn(lambda: sqlite_notes.write(orphan)))
    for done in queued:
        assert isinstance(done.exception(WAIT_S), IntegrityError)
    assert numbers(sqlite_notes) == []
    assert sqlite_notes.write(note(6)) == 6


def test_no_write_of_a_batch_is_called_done_when_the_database_ended_its_transaction(sqlite_notes: Store) -> None:
    """As SQLite does on a full disk; a write that turns the failure into an error of its own must not hide it."""

    def ends(connection: Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")
        raise ConflictError("hides the cause")

    with held(sqlite_notes, 6) as queued:
        queued += [spawn(lambda number=number: sqlite_notes.write(note(number))) for number in range(3)]
        queued.append(spawn(lambda: sqlite_notes.write(ends)))
        queued += [spawn(lambda number=number: sqlite_notes.write(note(number))) for number in range(3, 5)]
    for done in queued:
        assert isinstance(done.exception(WAIT_S), UnavailableError)
    assert numbers(sqlite_notes) == []
    assert sqlite_notes.write(note(9)) == 9


def test_a_full_disk_is_one_clear_error_and_nothing_is_half_written(sqlite_notes: Store) -> None:
    sqlite_notes.write(note(1))

    def limit(pages: int) -> None:
        sqlite_notes.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count={pages}").fetchall())

    def much(connection: Connection) -> None:
        for number in range(100, 200):
            note(number, "y" * 20_000)(connection)

    limit(1)  # SQLite takes this as: no page beyond those there are.
    with pytest.raises(StorageFullError, match=r"free some space\. Nothing was half-written"):
        sqlite_notes.write(much)
    assert numbers(sqlite_notes) == [1]
    limit(1_000_000)
    sqlite_notes.write(much)
    assert len(numbers(sqlite_notes)) == 101


def test_close_finishes_what_waits_and_then_refuses(sqlite_notes: Store) -> None:
    with held(sqlite_notes, 20) as queued:
        queued += [spawn(lambda number=number: sqlite_notes.write(note(number))) for number in range(20)]
    closing = spawn(sqlite_notes.close)
    assert sorted(done.result(WAIT_S) for done in queued) == list(range(20))
    closing.result(WAIT_S)
    with pytest.raises(UnavailableError, match="closed"):
        sqlite_notes.write(note(99))
    sqlite_notes.close()


def test_a_write_that_races_with_close_is_done_or_refused_and_never_hangs(sqlite_notes: Store) -> None:
    started = threading.Barrier(9)

    def hammer(first: int) -> list[int]:
        done: list[int] = []
        started.wait(WAIT_S)
        try:
            for number in range(first, first + 1000):
                done.append(sqlite_notes.write(note(number)))
        except UnavailableError:
            return done
        return done

    hammering = [spawn(lambda first=first: hammer(first)) for first in range(0, 8000, 1000)]
    started.wait(WAIT_S)
    sqlite_notes.close()
    acknowledged = sorted(number for done in hammering for number in done.result(WAIT_S))
    assert numbers(sqlite_notes) == acknowledged
    sqlite_notes.close()
