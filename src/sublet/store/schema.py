"""Brings the database to the schema that this version of Sublet needs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.exc import DBAPIError

from sublet.store.engine import Store
from sublet.store.tables.processes import processes
from sublet.values.errors import ConflictError, UnavailableError

LOCK_NOT_AVAILABLE = "55P03"


class SchemaNewerError(ConflictError):
    """The database was written by a newer version of Sublet; install that version, or restore a backup from before the upgrade."""

    code = "schema_newer"


class SchemaInUseError(ConflictError):
    """A process of an older version is still using this database; stop all such processes, then migrate."""

    code = "schema_in_use"


SERVING_S = 20.0
"""A process whose last sign of life is older than this, in seconds, serves no more."""
LOCK_TIMEOUT_S = 1
"""Seconds for which a migration waits for a table on PostgreSQL: anyone who reads or writes it waits behind the migration."""


def config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, without a file."""
    made = Config()
    made.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    made.set_main_option("path_separator", "os")
    if connection is not None:
        made.attributes["connection"] = connection
    return made


def newest_revision() -> str:
    """The schema that this version was made for."""
    head = ScriptDirectory.from_config(config()).get_current_head()
    assert head is not None
    return head


def migrate(store: Store, seen: Callable[[str], None] = lambda revision: None) -> None:
    """Upgrade to the newest schema; nothing to do is nothing done. Several processes may try at once: each migration is done by one.

    A database that is in use takes one migration a transaction, so that a table is locked for no longer than its own change takes;
    what is interrupted goes on where it stopped. `seen` hears of each revision once it is committed.

    Raises SchemaNewerError where the database is ahead of this version, SchemaInUseError where a process of an older one still
    serves it, and UnavailableError where a table is in use for long: migrate again, and the rest is done.
    """
    known = [script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()][::-1]
    while (done := _migrate_once(store, known)) is not None:
        seen(done)


def _migrate_once(store: Store, known: list[str]) -> str | None:
    """The revision that the next transaction came to, None where none was left; `known` are all revisions, the oldest first."""
    with store.engine.begin() as connection:
        store.lock(connection, "schema")
        current = MigrationContext.configure(connection).get_current_revision()
        if current is None:
            command.upgrade(config(connection), "head")
            return known[-1]
        if current not in known:
            raise SchemaNewerError()
        if current == known[-1]:
            return None
        _refuse_while_served(store, connection)
        if not store.is_sqlite:
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT_S}s'"))
        following = known[known.index(current) + 1]
        try:
            command.upgrade(config(connection), following)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", "") == LOCK_NOT_AVAILABLE:
                raise UnavailableError(
                    f"a table was locked for more than {LOCK_TIMEOUT_S} s; stop what uses the database, then migrate again"
                ) from error
            raise
        return following


def _refuse_while_served(store: Store, connection: Connection) -> None:
    """A process that was made for another schema would read and write columns that are not there any more."""
    if not inspect(connection).has_table(processes.name):
        return
    since = store.clock.now() - timedelta(seconds=SERVING_S)
    wanted = select(processes).where(processes.c.seen_at >= since, processes.c.revision != newest_revision())
    for row in connection.execute(wanted.order_by(processes.c.id).limit(1)):
        raise SchemaInUseError(
            f"a {row.kind} process of version {row.version} (process {row.pid} on node {row.node_id}) is still using this database; "
            f"stop it, or wait {SERVING_S:.0f} s if it was killed, then migrate"
        )
