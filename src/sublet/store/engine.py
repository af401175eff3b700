"""The store: one way to read and one way to write, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import hashlib
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from sublet.store.audit import acting, carried_out, watch
from sublet.store.changes import Changes
from sublet.store.failures import REPEATABLE, translate
from sublet.store.once import current
from sublet.store.writer import Writer
from sublet.values.clock import Clock, SystemClock
from sublet.values.errors import InvalidInputError, UnavailableError

T = TypeVar("T")

WRITE_ATTEMPTS_MAX = 8
BUSY_TIMEOUT_MS = 15_000
BUSY = "every connection to the database is in use; try again"
# serialization_failure, deadlock_detected: PostgreSQL asks for the transaction to be repeated.


class Store:
    """Sublet's database. `read()` sees one consistent snapshot; `write(fn)` runs `fn` in one write transaction."""

    def __init__(self, url: str, clock: Clock | None = None) -> None:
        """`url` as SQLAlchemy's: `sqlite:////path/to/file.db` or `postgresql+psycopg://user@host/name`."""
        self.url = _checked(url)
        self.clock: Clock = clock or SystemClock()
        self._inside = threading.local()
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        if self.is_sqlite:
            self._reader = _sqlite_engine(self.url, "BEGIN", query_only=True)
            self._writer_engine = _sqlite_engine(self.url, "BEGIN IMMEDIATE", query_only=False)
            self._changes: Changes | None = Changes(self._writer_engine)
            self._writer: Writer | None = Writer(self._writer_engine, self._changes)
        else:
            # Writers that wait for a lock leave readers their connections, among them the keys that every request checks.
            self._reader = create_engine(self.url, pool_size=4, max_overflow=6, pool_pre_ping=True)
            self._writer_engine = create_engine(self.url, pool_size=4, max_overflow=6, pool_pre_ping=True)
            self._changes = None
            self._writer = None
        watch(self._writer_engine)

    @property
    def engine(self) -> Engine:
        """The engine that writes, for migrations and for schema creation."""
        return self._writer_engine

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection in a read transaction. Raises UnavailableError where the database can't be reached, and RuntimeError
        inside another read or a write: a thread that waits for a second connection while it keeps the first stops everybody
        once the pool is used up, and what a write decides by must come from its own connection, which sees what it wrote."""
        self._refuse_inside("read")
        self._inside.what = "read"
        try:
            with self._reader.connect() as connection:
                if not self.is_sqlite:
                    connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY"))
                yield connection
        except DBAPIError as error:
            _raise(error)
        except PoolTimeoutError as error:
            raise UnavailableError(BUSY) from error
        finally:
            self._inside.what = None

    def write(self, fn: Callable[[Connection], T]) -> T:
        """Run `fn` in one write transaction and return its result once that is durable.

        `fn` must be repeatable, must not touch the network and must not start a read or another write (RuntimeError). Raises
        what `fn` raises (nothing is then written), StorageFullError where the disk is full, UnavailableError where the
        database can't be reached.
        """
        self._refuse_inside("write")
        # Asked here, for the write itself may run on the writer's thread.
        once, who = current.get(), acting.get()

        def audited(connection: Connection) -> T:
            if who is None:
                return fn(connection)
            return carried_out(connection, who, self.clock.now(), self.lock, fn)

        def marked(connection: Connection) -> T:
            self._inside.what = "write"
            try:
                return audited(connection) if once is None else once.run(connection, audited)
            finally:
                self._inside.what = None

        result = self._writer.run(marked) if self._writer is not None else self._write_repeatably(marked)
        if who is not None:
            who.told = True
        return result

    def _refuse_inside(self, wanted: str) -> None:
        """Raises RuntimeError where this thread is inside a read or a write of this store."""
        inside = getattr(self._inside, "what", None)
        if inside is not None:
            raise RuntimeError(f"a {inside} can't start a {wanted}; pass the connection on instead")

    def _write_repeatably(self, fn: Callable[[Connection], T]) -> T:
        for attempt in range(WRITE_ATTEMPTS_MAX):
            try:
                with self._writer_engine.begin() as connection:
                    return fn(connection)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) not in REPEATABLE or attempt + 1 == WRITE_ATTEMPTS_MAX:
                    _raise(error)
                time.sleep(random.uniform(0, 0.01 * 2**attempt))
            except PoolTimeoutError as error:
                raise UnavailableError(BUSY) from error
        raise AssertionError("unreachable")

    def lock(self, connection: Connection, name: str) -> None:
        """Hold `name` until the transaction ends. On SQLite the one writer holds everything already."""
        if not self.is_sqlite:
            key = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": key})

    def state(self, connection: Connection, apart: frozenset[str]) -> Hashable | None:
        """A value that stays the same, within a write, while no table but those of `apart` changes: what rests on the other
        tables need not be read again. None where that can't be told: outside writes, and on PostgreSQL."""
        return None if self._changes is None else self._changes.state(connection, apart)

    def close(self) -> None:
        """Finish the writes that wait, then close every connection."""
        if self._writer is not None:
            self._writer.close()
        self._reader.dispose()
        self._writer_engine.dispose()


def _raise(error: DBAPIError) -> NoReturn:
    typed = translate(error)
    if typed is error:
        raise error
    raise typed from error


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except Exception as error:
        raise InvalidInputError(
            "database.url is not a URL; use sqlite:////path/file.db or postgresql+psycopg://…"
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise InvalidInputError("database.url must contain a file path; use sqlite:////absolute/path/sublet.db")
        try:
            Path(parsed.database).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise UnavailableError(
                f"the database's folder {Path(parsed.database).parent} can't be created ({error.strerror}); "
                "set data_dir or database.url to a writable location"
            ) from error
    elif backend == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")
    else:
        raise InvalidInputError(f"database.url names {backend}; Sublet runs on sqlite and postgresql")
    return parsed


def _sqlite_engine(url: URL, begin: str, *, query_only: bool) -> Engine:
    engine = create_engine(
        url,
        pool_size=8 if query_only else 1,
        max_overflow=24 if query_only else 0,
        connect_args={"check_same_thread": False, "timeout": BUSY_TIMEOUT_MS / 1000},
    )

    @event.listens_for(engine, "connect")
    def _connect(connection: Any, record: Any) -> None:
        raw: sqlite3.Connection = connection
        raw.isolation_level = None
        cursor = raw.cursor()
        cursor.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        if not query_only:
            cursor.execute("PRAGMA journal_mode=WAL")
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA cache_size=-32768")
        if query_only:
            cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
