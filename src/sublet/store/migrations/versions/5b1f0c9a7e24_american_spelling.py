"""American spelling: organizations, canceled, license

Revision 5b1f0c9a7e24, after ede871560a26. Forward only: to go back, restore the backup from before.
"""

import hashlib
import json

import sqlalchemy as sa
from alembic import op

revision = "5b1f0c9a7e24"
down_revision = "ede871560a26"
branch_labels = None
depends_on = None

OLD, NEW = "organisation", "organization"
DOCUMENTS = (("ledger_invoices", "document"), ("models", "entry"))


def upgrade() -> None:
    """Names change in place: on PostgreSQL no row of a table is read or written but those that spell a state or a document."""
    connection = op.get_bind()
    postgresql = connection.dialect.name == "postgresql"
    for table in _with_column(connection, f"{OLD}_id", postgresql):
        op.execute(f"ALTER TABLE {table} RENAME COLUMN {OLD}_id TO {NEW}_id")
    op.execute("ALTER TABLE ledger_invoices RENAME COLUMN finalised_at TO finalized_at")
    op.rename_table(f"{OLD}s", f"{NEW}s")
    _indexes(connection, postgresql)
    _constraints(connection, postgresql)
    _states()
    _documents()
    _books(connection)


def _with_column(connection: sa.Connection, name: str, postgresql: bool) -> list[str]:
    """The tables that have such a column. PostgreSQL is asked once: the tables that are already renamed stay locked meanwhile."""
    if postgresql:
        wanted = "SELECT table_name FROM information_schema.columns WHERE table_schema = current_schema() AND column_name = :name"
        return list(connection.scalars(sa.text(wanted), {"name": name}))
    inspector = sa.inspect(connection)
    columns = {table: inspector.get_columns(table) for table in inspector.get_table_names()}
    return [table for table, found in columns.items() if any(column["name"] == name for column in found)]


def _indexes(connection: sa.Connection, postgresql: bool) -> None:
    if postgresql:
        wanted = (
            "SELECT indexname FROM pg_indexes WHERE schemaname = current_schema() AND indexname LIKE :old "
            "AND indexname NOT IN (SELECT conname FROM pg_constraint)"
        )
        for name in connection.scalars(sa.text(wanted), {"old": f"%{OLD}%"}).all():
            op.execute(f'ALTER INDEX "{name}" RENAME TO "{name.replace(OLD, NEW)}"')
        return
    inspector = sa.inspect(connection)
    for table in inspector.get_table_names():
        unique = {constraint["name"] for constraint in inspector.get_unique_constraints(table)}
        for index in inspector.get_indexes(table):
            name = index["name"]
            if name is None or OLD not in name or name in unique:
                continue
            op.drop_index(name, table)
            columns = [column for column in index["column_names"] if column is not None]
            op.create_index(name.replace(OLD, NEW), table, columns, unique=bool(index["unique"]))


def _constraints(connection: sa.Connection, postgresql: bool) -> None:
    if postgresql:
        rows = connection.execute(
            sa.text(
                "SELECT conrelid::regclass::text, conname FROM pg_constraint JOIN pg_namespace n ON n.oid = connamespace "
                "WHERE n.nspname = current_schema() AND conname LIKE :old"
            ),
            {"old": f"%{OLD}%"},
        ).all()
        for table, name in rows:
            op.execute(f'ALTER TABLE {table} RENAME CONSTRAINT "{name}" TO "{name.replace(OLD, NEW)}"')
        return
    # SQLite keeps a constraint's name in the text of the table alone, where nothing else refers to it.
    op.execute("PRAGMA writable_schema = ON")
    op.execute(
        sa.text(
            "UPDATE sqlite_master SET sql = replace(sql, :old, :new) WHERE type = 'table' AND sql LIKE :like"
        ).bindparams(old=OLD, new=NEW, like=f"%{OLD}%")
    )
    op.execute("PRAGMA writable_schema = RESET")


def _states() -> None:
    for table, column in (
        ("leases", "state"),
        ("leases", "end_reason"),
        ("lease_transitions", "from_state"),
        ("lease_transitions", "to_state"),
    ):
        op.execute(f"UPDATE {table} SET {column} = 'canceled' WHERE {column} = 'cancelled'")


def _documents() -> None:
    for table, column in DOCUMENTS:
        for old, new in ((f'"{OLD}', f'"{NEW}'), ('"licence"', '"license"')):
            op.execute(
                sa.text(
                    f"UPDATE {table} SET {column} = replace({column}, :old, :new) WHERE {column} LIKE :like"
                ).bindparams(old=old, new=new, like=f"%{old}%")
            )


def _books(connection: sa.Connection) -> None:
    """A price book names organizations, and its digest is over its content."""
    rows = connection.execute(sa.text("SELECT version, content FROM ledger_books")).all()
    for version, text in rows:
        renamed = text.replace(f'"{OLD}"', f'"{NEW}"')
        content = json.loads(renamed)
        connection.execute(
            sa.text("UPDATE ledger_books SET content = :content, sha256 = :digest WHERE version = :version"),
            {
                "content": json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False),
                "digest": hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest(),
                "version": version,
            },
        )
