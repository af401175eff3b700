"""The record of the surplus: the shadow that lives through the recorded demand, and what became of its windows by day; and what
the owner sells by its own decision: blocks."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

# Where a pool's shadow stands: everything before `next_at` is lived through; `state` is its books at that moment.
shadows = Table(
    "shadows",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("since_at", Instant, nullable=False),
    Column("next_at", Instant, nullable=False),
    Column("hours", BigInteger, nullable=False),
    Column("unseen", BigInteger, nullable=False),
    Column("state", Json, nullable=False),
)

# Windows of the shadow by class, length and the day (since the epoch) on which they were over.
shadow_days = Table(
    "shadow_days",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("class_name", String(16), primary_key=True),
    Column("window_s", Integer, primary_key=True),
    Column("started", BigInteger, nullable=False),
    Column("kept", BigInteger, nullable=False),
    Column("broken", BigInteger, nullable=False),
    Column("accepted", Float(53), nullable=False),
    Column("bound_hours", BigInteger, nullable=False),
    Column("broken_after", Json, nullable=False),
)

# What each kind of promise has earned on a pool, after the whole hour `hour` since the epoch; a row is of one rule, risk and
# patience, named by `rule`. `within` is 0 for windows that can't be taken back, else the hours until an order's deadline.
promise_standings = Table(
    "promise_standings",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("class_name", String(16), primary_key=True),
    Column("hours", Integer, primary_key=True),
    Column("within", Integer, primary_key=True),
    Column("rule", String(60), nullable=False),
    Column("hour", BigInteger, nullable=False),
    Column("state", Json, nullable=False),
)

# A part of a pool that the owner sells, whatever its own demand does.
blocks = Table(
    "blocks",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("pool_id", String(40), nullable=False),
    Column("accelerators", Integer, nullable=False),
    Column("start_at", Instant, nullable=False),
    Column("end_at", Instant, nullable=False),
    Column("min_price_nano", BigInteger, nullable=True),
    Column("currency", String(3), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("withdrawn_at", Instant, nullable=True),
    Index("ix_blocks_pool_id", "pool_id", "end_at"),
    Index("ix_blocks_created_at", "created_at"),
)

# What each block became, when, by whom and why. Rows are added and never changed.
block_changes = Table(
    "block_changes",
    metadata,
    Column("block_id", String(40), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("at", Instant, nullable=False),
    Column("actor", String(80), nullable=False),
    Column("reason", Text, nullable=False),
    Column("accelerators", Integer, nullable=False),
    Column("start_at", Instant, nullable=False),
    Column("end_at", Instant, nullable=False),
    Column("min_price_nano", BigInteger, nullable=True),
)
