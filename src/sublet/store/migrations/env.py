"""Run by Alembic: migrates over the connection that `store.schema` gives it."""

from alembic import context

import sublet.store.tables  # noqa: F401  registers every table
from sublet.store.metadata import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=connection.dialect.name == "sqlite",
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
