"""Run by Alembic: migrates over the connection that `store.schema` gives it, and writes the next migration."""

from __future__ import annotations

from typing import Any

from alembic import context
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.operations.ops import CreateTableOp, MigrateOperation, MigrationScript
from sqlalchemy import DDL, Table
from sqlalchemy.types import TypeDecorator

import sublet.store.tables  # noqa: F401  registers every table
from sublet.store.metadata import metadata


def render_item(kind: str, item: Any, autogen_context: Any) -> Any:
    """Own column types stand in a migration as what they are in the database, so that history does not hang on code."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


class DialectStatements(MigrateOperation):
    """Statements for one database alone, as triggers are."""

    def __init__(self, dialect: str, statements: list[str]) -> None:
        self.dialect = dialect
        self.statements = statements


@renderers.dispatch_for(DialectStatements)
def _render(_: AutogenContext, operation: DialectStatements) -> list[str]:
    listed = "".join(f"        {statement!r},\n" for statement in operation.statements)
    return [
        f"if op.get_bind().dialect.name == {operation.dialect!r}:\n"
        f"    for statement in (\n{listed}    ):\n        op.execute(statement)"
    ]


def with_own_ddl(_: object, __: object, scripts: list[MigrationScript]) -> None:
    """Alembic compares tables and not what hangs on them: a new table's triggers go into the migration behind it."""
    for script in scripts:
        assert script.upgrade_ops is not None
        operations = script.upgrade_ops.ops
        made = [operation.table_name for operation in operations if isinstance(operation, CreateTableOp)]
        for dialect in ("sqlite", "postgresql"):
            statements = [statement for name in made for statement in _own_ddl(metadata.tables[name], dialect)]
            if statements:
                operations.append(DialectStatements(dialect, statements))


def _own_ddl(table: Table, dialect: str) -> list[str]:
    own = [listener for listener in table.dispatch.after_create if isinstance(listener, DDL)]
    return [ddl.statement for ddl in own if ddl._ddl_if is None or ddl._ddl_if.dialect in (None, dialect)]


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    render_item=render_item,
    compare_type=True,
    process_revision_directives=with_own_ddl,
)
with context.begin_transaction():
    context.run_migrations()
