"""Up to where usage events can be rated."""

from __future__ import annotations

from sqlalchemy import Connection, text

from sublet.ledger import store as sql
from sublet.store import Store


def arrived(store: Store) -> int:
    """The number up to which every event is committed. Later ones may still be in open transactions."""
    if store.is_sqlite:
        with store.read() as connection:
            return sql.last_event_seq(connection)

    def fence(connection: Connection) -> int:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": sql.INTAKE_LOCK})
        return sql.last_event_seq(connection)

    return store.write(fence)
