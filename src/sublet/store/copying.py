"""Every row of one database into another, whichever of the two kinds each is, and the proof that nothing is missing."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, func, insert, inspect, select, text

from sublet.store.engine import Store
from sublet.store.metadata import metadata
from sublet.store.schema import migrate
from sublet.values.errors import ConflictError

ROWS_AT_ONCE = 1_000
PROGRESS = "sublet_copy"
"""A table that stands in the target while a copy is under way: which tables are complete, and from where."""


class TargetNotEmptyError(ConflictError):
    """The target database has tables that this copy did not create; use an empty database."""

    code = "target_not_empty"


class CopyDiffersError(ConflictError):
    """The copy differs from its source, which changed in the meantime; stop Sublet, empty the target and copy again."""

    code = "copy_differs"


@dataclass(frozen=True, slots=True)
class Copied:
    """What a copy holds: rows by table, and one digest over all of them in the order of their keys."""

    rows: dict[str, int]
    digest: str


def copy_database(source: Store, target: Store) -> Copied:
    """Bring every row of `source` into `target`, table by table. Killed and called again, it goes on with the first table that
    is not complete. Raises TargetNotEmptyError, CopyDiffersError."""
    import sublet.store.tables  # noqa: F401  # registers every table

    whose = hashlib.sha256(source.url.render_as_string(hide_password=True).encode()).hexdigest()
    complete = _begin(target, whose)
    migrate(target)
    with source.read() as reading:
        for table in metadata.sorted_tables:
            if table.name not in complete:
                with target.engine.begin() as writing:
                    _copy_table(reading, writing, table)
                    writing.execute(
                        text(f"INSERT INTO {PROGRESS} (name, source) VALUES (:name, :source)"),
                        {"name": table.name, "source": whose},
                    )
        wanted = measured(reading)
    with target.read() as copied:
        found = measured(copied)
    if found != wanted:
        differing = [name for name in wanted.rows if wanted.rows[name] != found.rows[name]] or ["their contents"]
        raise CopyDiffersError(
            f"the copy differs from its source in {', '.join(differing)}; {CopyDiffersError.__doc__}"
        )
    with target.engine.begin() as writing:
        writing.execute(text(f"DROP TABLE {PROGRESS}"))
    return found


def measured(connection: Connection) -> Copied:
    """Rows by table and the digest, as this transaction sees them; the same on both kinds of database."""
    rows: dict[str, int] = {}
    digest = hashlib.sha256()
    for table in metadata.sorted_tables:
        count = 0
        for row in _rows(connection, table):
            digest.update(repr((table.name, tuple(row))).encode())
            count += 1
        rows[table.name] = count
    return Copied(rows, digest.hexdigest())


def _begin(target: Store, whose: str) -> frozenset[str]:
    """The tables that are complete. Raises TargetNotEmptyError."""
    with target.engine.begin() as connection:
        there = set(inspect(connection).get_table_names())
        if PROGRESS not in there:
            if there:
                raise TargetNotEmptyError()
            connection.execute(
                text(f"CREATE TABLE {PROGRESS} (name VARCHAR(80) PRIMARY KEY, source VARCHAR(64) NOT NULL)")
            )
            connection.execute(text(f"INSERT INTO {PROGRESS} VALUES ('', :source)"), {"source": whose})
            return frozenset()
        rows = connection.execute(text(f"SELECT name, source FROM {PROGRESS}")).all()
    if any(row.source != whose for row in rows):
        raise TargetNotEmptyError("the target contains a partial copy of another database; use an empty one")
    return frozenset(row.name for row in rows)


def _copy_table(reading: Connection, writing: Connection, table: Table) -> None:
    # What a migration puts into a new database comes from the source too.
    if writing.execute(select(func.count()).select_from(table)).scalar_one():
        writing.execute(table.delete())
    batch: list[dict[str, Any]] = []
    for row in _rows(reading, table):
        batch.append(dict(row._mapping))
        if len(batch) == ROWS_AT_ONCE:
            writing.execute(insert(table), batch)
            batch = []
    if batch:
        writing.execute(insert(table), batch)
    serial = table._autoincrement_column
    if serial is not None and writing.dialect.name == "postgresql":
        writing.execute(
            text(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', '{serial.name}'), "
                f"COALESCE(MAX({serial.name}), 0) + 1, false) FROM {table.name}"
            )
        )


def _rows(connection: Connection, table: Table) -> Any:
    query = select(table).order_by(*table.primary_key.columns)
    # Text is ordered by its bytes on both, whatever the database's own collation is.
    if connection.dialect.name == "postgresql":
        keys = [
            column.collate("C") if column.type.python_type is str else column for column in table.primary_key.columns
        ]
        query = select(table).order_by(*keys)
    return connection.execution_options(yield_per=ROWS_AT_ONCE).execute(query)
