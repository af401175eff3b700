"""The processes that serve the database. The store's own: a migration asks whether an older one still does."""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table

from sublet.store.metadata import metadata
from sublet.store.types import Instant

# Every process that serves this database now, with the schema that it was made for.
processes = Table(
    "processes",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("node_id", String(40), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("version", String(40), nullable=False),
    Column("revision", String(40), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=False),
)
