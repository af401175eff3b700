"""Whether anything has changed since an earlier write, so that a write need not read again what an earlier one has read.

SQLite has one writer: what other processes commit shows in `PRAGMA data_version`, and what this process writes passes its one
connection. On PostgreSQL nobody can tell without asking, and every write reads for itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, event

T = TypeVar("T")

KEPT_MAX = 20_000
"""Answers that are kept; beyond, all of them are read again."""

_MARK = "sublet_changes"
_HARMLESS = ("SELECT", "PRAGMA", "BEGIN", "SAVEPOINT", "RELEASE", "COMMIT", "EXPLAIN")
_CHANGE = re.compile(r"\s*(?:INSERT(?: OR \w+)? INTO|UPDATE|DELETE FROM) \"?(\w+)", re.IGNORECASE)


class Changes:
    """Counts what the connections of SQLite's writing engine change, by table, and keeps what was read until it changes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by_table: Counter[str] = Counter()
        self._all = 0
        self._kept: dict[Hashable, tuple[Hashable, Any]] = {}
        event.listen(engine, "connect", self._mark)
        event.listen(engine, "after_cursor_execute", self._count)
        event.listen(engine, "rollback", self._forget)
        event.listen(engine, "rollback_savepoint", self._forget)

    @property
    def count(self) -> int:
        """How many changes there were."""
        return self._all

    def state(self, connection: Connection, apart: frozenset[str]) -> Hashable | None:
        """A value that is the same as long as no table but those of `apart` has changed; None where that can't be told."""
        if connection.engine is not self._engine:
            return None
        return (_elsewhere(connection), self._all - sum(self._by_table[name] for name in apart))

    def keep(self, connection: Connection, tables: tuple[str, ...], key: Hashable, read: Callable[[], T]) -> T:
        """See `kept`."""
        state = self._of(connection, tables)
        known = self._kept.get(key)
        if known is not None and known[0] == state:
            found: T = known[1]
            return found
        found = read()
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[key] = (state, found)
        return found

    def renew(self, connection: Connection, tables: tuple[str, ...], key: Hashable) -> None:
        """See `renew`."""
        if key in self._kept:
            self._kept[key] = (self._of(connection, tables), self._kept[key][1])

    def replace(self, key: Hashable, found: Any) -> None:
        """See `replace_kept`."""
        if key in self._kept:
            self._kept[key] = (self._kept[key][0], found)

    def _of(self, connection: Connection, tables: tuple[str, ...]) -> Hashable:
        counts = self._by_table
        return (_elsewhere(connection), counts[""], *(counts[name] for name in tables))

    def roll_back(self, since: int) -> None:
        """What was changed after `count` was `since` is undone by a savepoint that the engine is not told of."""
        if self._all != since:
            self._forget()

    def _mark(self, raw: Any, record: Any) -> None:
        record.info[_MARK] = self

    def _count(
        self, connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if statement.startswith("SELECT"):
            return
        if found := _CHANGE.match(statement):
            self._by_table[found[1]] += 1
            self._all += 1
        elif not statement.lstrip().upper().startswith(_HARMLESS):
            self._forget()

    def _forget(self, *args: Any) -> None:
        """What was read since the beginning of what is rolled back may never have been so; it is counted for every table."""
        self._by_table[""] += 1
        self._all += 1


def kept(connection: Connection, tables: tuple[str, ...], key: Hashable, read: Callable[[], T]) -> T:
    """What `read` returns, or returned in an earlier write for the same `key` if none of `tables` has changed since.

    It may read nothing but those tables, and nothing of the present time; nobody may change what it returns. `key` names the
    question as well as what it is about. Where changes can't be told apart (`Changes`), it is read.
    """
    changes: Changes | None = connection.info.get(_MARK)
    return read() if changes is None else changes.keep(connection, tables, key, read)


def can_keep(connection: Connection) -> bool:
    """Whether changes can be told here, so that `kept` keeps anything."""
    return _MARK in connection.info


def renew(connection: Connection, tables: tuple[str, ...], key: Hashable) -> None:
    """What is kept under `key` has been changed as its tables were: it stands."""
    changes: Changes | None = connection.info.get(_MARK)
    if changes is not None:
        changes.renew(connection, tables, key)


def replace_kept(connection: Connection, key: Hashable, found: T) -> T:
    """Keep `found` in the place of an answer that stands; returns it."""
    changes: Changes | None = connection.info.get(_MARK)
    if changes is not None:
        changes.replace(key, found)
    return found


def _elsewhere(connection: Connection) -> int:
    """Changes with what other connections commit; the same within a transaction."""
    raw: Any = connection.connection.driver_connection
    found: int = raw.execute("PRAGMA data_version").fetchone()[0]
    return found
