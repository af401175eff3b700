"""Run by Alembic: migrates over the connection that `store.schema` gives it."""

from typing import Any

from alembic import context
from sqlalchemy.types import TypeDecorator

import sublet.store.tables  # noqa: F401  registers every table
from sublet.store.metadata import metadata


def render_item(kind: str, item: Any, autogen_context: Any) -> Any:
    """Own column types stand in a migration as what they are in the database, so that history does not hang on code."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl!r}"
    return False


connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
    render_item=render_item,
)
with context.begin_transaction():
    context.run_migrations()
