"""What happened, in the words of the domain that saw it: written with the change itself, read by anyone who tells of it."""

from sqlalchemy import BigInteger, Column, Index, Integer, String, Table, text

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

_Sequence = BigInteger().with_variant(Integer, "sqlite")

# `position` is empty until the event is numbered, and never changes after that. An event without an organization is the operator's.
outbox_events = Table(
    "outbox_events",
    metadata,
    Column("seq", _Sequence, primary_key=True, autoincrement=True),
    Column("id", String(40), nullable=False, unique=True),
    Column("kind", String(60), nullable=False),
    Column("organization_id", String(40), nullable=True),
    Column("subject", String(80), nullable=False),
    Column("at", Instant, nullable=False),
    Column("schema_version", Integer, nullable=False),
    Column("payload", Json, nullable=False),
    Column("position", BigInteger, nullable=True, unique=True),
    Index("ix_outbox_events_organization_id_position", "organization_id", "position"),
    Index("ix_outbox_events_subject_position", "subject", "position"),
    Index("ix_outbox_events_at", "at"),
    Index(
        "ix_outbox_events_unnumbered",
        "seq",
        sqlite_where=text("position IS NULL"),
        postgresql_where=text("position IS NULL"),
    ),
)

# How far each reader is; the row of the numbering itself says which number was given last.
outbox_consumers = Table(
    "outbox_consumers",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("position", BigInteger, nullable=False),
)
