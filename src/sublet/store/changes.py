"""Whether anything has changed since an earlier write, so that a write need not read again what an earlier one has read.

SQLite has one writer: what other processes commit shows in `PRAGMA data_version`, and what this process writes passes its one
connection. On PostgreSQL nobody can tell without asking, and every write reads for itself.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable
from typing import Any

from sqlalchemy import Connection, Engine, event

_HARMLESS = ("SELECT", "PRAGMA", "BEGIN", "SAVEPOINT", "RELEASE", "COMMIT", "EXPLAIN")
_CHANGE = re.compile(r"\s*(?:INSERT(?: OR \w+)? INTO|UPDATE|DELETE FROM) \"?(\w+)", re.IGNORECASE)


class Changes:
    """Counts what the connections of SQLite's writing engine change, by table."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._by_table: Counter[str] = Counter()
        self._all = 0
        event.listen(engine, "after_cursor_execute", self._count)
        event.listen(engine, "rollback", self._forget)
        event.listen(engine, "rollback_savepoint", self._forget)

    def state(self, connection: Connection, apart: frozenset[str]) -> Hashable | None:
        """A value that is the same as long as no table but those of `apart` has changed; None where that can't be told."""
        if connection.engine is not self._engine:
            return None
        raw: Any = connection.connection.driver_connection
        elsewhere = raw.execute("PRAGMA data_version").fetchone()[0]
        return (elsewhere, self._all - sum(self._by_table[name] for name in apart))

    def _count(
        self, connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> None:
        if statement.startswith("SELECT"):
            return
        if found := _CHANGE.match(statement):
            self._by_table[found[1]] += 1
            self._all += 1
        elif not statement.lstrip().upper().startswith(_HARMLESS):
            self._all += 1

    def _forget(self, *args: Any) -> None:
        """What was read since the beginning of what is rolled back may never have been so."""
        self._all += 1
