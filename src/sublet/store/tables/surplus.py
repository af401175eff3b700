"""The record of the surplus: the shadow that lives through the recorded demand, and what became of its windows by day."""

from sqlalchemy import BigInteger, Column, Float, Integer, String, Table

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
