"""Who did what: entries that are only appended, each with the hash of the one before."""

from sqlalchemy import BigInteger, Column, Index, String, Table, Text

from sublet.store.metadata import metadata
from sublet.store.types import Instant

# `body` is canonical JSON as text: the hash is over its bytes. The columns before it are copies of what is in it, to search by.
audit_entries = Table(
    "audit_entries",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("organization_id", String(40), nullable=True),
    Column("actor_id", String(40), nullable=False),
    Column("operation", String(80), nullable=False),
    Column("subject", String(80), nullable=False),
    Column("body", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("sha256", String(64), nullable=False),
    Index("ix_audit_entries_organization_id", "organization_id", "seq"),
    Index("ix_audit_entries_actor_id", "actor_id", "seq"),
    Index("ix_audit_entries_subject", "subject", "seq"),
    Index("ix_audit_entries_at", "at"),
)
