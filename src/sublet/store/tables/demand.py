"""What the owner needs: observed samples per pool, and announced claims."""

from sqlalchemy import BigInteger, Column, Float, Index, String, Table, Text

from sublet.store.metadata import metadata
from sublet.store.types import Instant

demand_samples = Table(
    "demand_samples",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("capacity", Float(53), nullable=False),
    Column("in_use", Float(53), nullable=False),
    Column("pending", Float(53), nullable=False),
)

demand_claims = Table(
    "demand_claims",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("pool_id", String(40), nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("start_at", Instant, nullable=False),
    Column("end_at", Instant, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("withdrawn_at", Instant, nullable=True),
    Index(None, "pool_id", "end_at"),
)
