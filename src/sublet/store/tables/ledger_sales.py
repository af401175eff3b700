"""Plans, the subscriptions to them, and the payments of customers."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

plans = Table(
    "ledger_plans",
    metadata,
    Column("plan_id", String(80), primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("published_at", Instant, nullable=False),
    Column("content", Json, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("newest", Boolean, nullable=False),
)

plan_subscriptions = Table(
    "ledger_plan_subscriptions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("charged_from", Instant, nullable=False),
    Column("anchor", Instant, nullable=False),
    Column("ends_at", Instant, nullable=True),
    Column("created_at", Instant, nullable=False),
    Column("states", Json, nullable=False),
    Index(None, "organization_id", "created_at"),
)

receipts = Table(
    "ledger_receipts",
    metadata,
    Column("organization_id", String(40), primary_key=True),
    Column("source_id", String(200), primary_key=True),
    Column("nano", BigInteger, nullable=False),
    Column("received_at", Instant, nullable=False),
    Column("parts", Json, nullable=False),
    Index(None, "organization_id", "received_at"),
)
