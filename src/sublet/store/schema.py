"""Brings the database to the schema that this version of Sublet needs."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from sublet.store.engine import Store
from sublet.values.errors import ConflictError


class SchemaNewerError(ConflictError):
    """The database was written by a newer Sublet; install that version, or restore a backup from before the upgrade."""

    code = "schema_newer"


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


def migrate(store: Store) -> None:
    """Upgrade to the newest schema; nothing to do is nothing done. Several processes may try at once: one does it.

    Raises SchemaNewerError where the database is ahead of this version.
    """
    known = {script.revision for script in ScriptDirectory.from_config(config()).walk_revisions()}
    with store.engine.begin() as connection:
        store.lock(connection, "schema")
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise SchemaNewerError()
        command.upgrade(config(connection), "head")
