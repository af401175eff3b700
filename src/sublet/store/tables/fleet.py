"""What is owned: pools and the accelerators in them."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint, text

from sublet.store.metadata import metadata
from sublet.store.types import Instant

pools = Table(
    "pools",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("site", Text, nullable=False),
    Column("generation", String(40), nullable=False),
    Column("backend", String(16), nullable=False),
    Column("watts_mw", BigInteger, nullable=False),
    Column("watts_source", Text, nullable=False),
    Column("price_nano", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("tenure", String(16), nullable=False),
    Column("online_at", Instant, nullable=False),
    Column("offline_at", Instant, nullable=True),
    Column("updated_at", Instant, nullable=False),
)

units = Table(
    "units",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("pool_id", String(40), ForeignKey("pools.id"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("device", String(40), nullable=False),
    Column("in_service", Integer, nullable=False),
    Column("out_reason", Text, nullable=True),
    Column("out_at", Instant, nullable=True),
    UniqueConstraint("pool_id", "position"),
    Index(
        "ix_units_out",
        "pool_id",
        sqlite_where=text("in_service = 0"),
        postgresql_where=text("in_service = 0"),
    ),
)
