"""Answers that were given under an idempotency key: kept for a while, never changed."""

from sqlalchemy import Column, Index, Integer, String, Table, Text

from sublet.store.metadata import metadata
from sublet.store.types import Instant

idempotent_answers = Table(
    "idempotent_answers",
    metadata,
    Column("organization_id", String(40), primary_key=True),
    Column("key_sha256", String(64), primary_key=True),
    Column("request_sha256", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("answer", Text, nullable=False),
    Column("sealed", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Index("ix_idempotent_answers_created_at", "created_at"),
)
