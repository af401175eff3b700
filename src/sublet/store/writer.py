"""SQLite's one writer: a thread that runs waiting writes together and commits them with one fsync."""

from __future__ import annotations

import contextlib
import queue
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from sublet.store.changes import Changes
from sublet.store.failures import translate
from sublet.values.errors import SubletError, UnavailableError

T = TypeVar("T")

BATCH_MAX = 128
WAITING_MAX = 10_000
_SAVEPOINT = "sublet_write"

_Write = tuple[Callable[[Connection], Any], "Future[Any]"]


class Writer:
    """Runs writes one after the other, each in its own savepoint; a batch shares one commit.

    A write that raises is rolled back alone. A commit that fails fails every write of its batch.
    """

    def __init__(self, engine: Engine, changes: Changes) -> None:
        self._engine = engine
        self._changes = changes
        self._waiting: queue.Queue[_Write | None] = queue.Queue(maxsize=WAITING_MAX)
        self._closed = False
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def run(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` on the writer thread; return when its batch is committed."""
        done: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise UnavailableError("the store is closed")
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop, name="store-writer", daemon=True)
                self._thread.start()
            # Under the lock, so that no write comes to stand behind the mark of the end and waits for ever.
            self._waiting.put((fn, done))
        return done.result()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._waiting.put(None)
            thread.join()

    def _loop(self) -> None:
        while True:
            first = self._waiting.get()
            if first is None:
                return
            batch, last = gather(self._waiting, first, BATCH_MAX)
            self._commit(batch)
            if last:
                return

    def _commit(self, batch: list[_Write]) -> None:
        outcomes: list[tuple[Future[Any], Any, BaseException | None]] = []
        try:
            with self._engine.begin() as connection:
                for fn, done in batch:
                    outcomes.append(_attempt(connection, self._changes, fn, done))
        except BaseException as error:
            failure = _typed(error)
            for _, done in batch:
                done.set_exception(failure)
            return
        for done, result, failed in outcomes:
            if failed is None:
                done.set_result(result)
            else:
                done.set_exception(failed)


def gather(waiting: queue.Queue[T | None], first: T, most: int) -> tuple[list[T], bool]:
    """`first` and what waits behind it, at most `most` together; True where None, the word to end, came among it."""
    batch = [first]
    while len(batch) < most:
        try:
            following = waiting.get_nowait()
        except queue.Empty:
            break
        if following is None:
            return batch, True
        batch.append(following)
    return batch, False


def _attempt(
    connection: Connection, changes: Changes, fn: Callable[[Connection], Any], done: Future[Any]
) -> tuple[Future[Any], Any, BaseException | None]:
    # By the driver: SQLAlchemy's savepoints cost more than the statements inside.
    raw: Any = connection.connection.driver_connection
    begun = changes.count
    raw.execute(f"SAVEPOINT {_SAVEPOINT}")
    try:
        result = fn(connection)
        raw.execute(f"RELEASE {_SAVEPOINT}")
    except BaseException as error:
        changes.roll_back(begun)
        with contextlib.suppress(sqlite3.Error):
            raw.execute(f"ROLLBACK TO {_SAVEPOINT}")
            raw.execute(f"RELEASE {_SAVEPOINT}")
        if not raw.in_transaction:
            # SQLite ended the whole transaction (a full disk does that): no write of this batch stands, whatever
            # the write made of the failure that it saw.
            raise _ended(error) from error
        return done, None, _typed(error)
    return done, result, None


def _ended(error: BaseException | None) -> Exception:
    while error is not None:
        if isinstance(error, DBAPIError) and isinstance(typed := _typed(error), SubletError):
            return typed
        error = error.__cause__ or error.__context__
    return UnavailableError("the database ended the transaction; nothing was written, try again")


def _typed(error: BaseException) -> BaseException:
    return translate(error) if isinstance(error, DBAPIError) else error
