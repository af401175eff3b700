"""What the owner needs: observed samples per pool, and announced claims."""

from sqlalchemy import BigInteger, Column, Float, Index, Integer, String, Table, Text

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

# How much of a sample each internal team used, where the source of the sample knows it.
demand_team_use = Table(
    "demand_team_use",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("team", String(40), primary_key=True),
    Column("in_use", Float(53), nullable=False),
)

# What the jobs of a pool will need, as it was told last in each hour: `steps` is a list of [hours from then, accelerators].
demand_known = Table(
    "demand_known",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("hour", BigInteger, primary_key=True),
    Column("at", Instant, nullable=False),
    Column("steps", Text, nullable=False),
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
    Column("patience_s", Integer, nullable=False, server_default="0"),
    Column("team", String(40), nullable=False, server_default=""),
    Index(None, "pool_id", "end_at"),
)

# History that came in as a file, so that a wrong one can be taken out again.
demand_imports = Table(
    "demand_imports",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("pool_id", String(40), nullable=False),
    Column("source", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("first_at", Instant, nullable=False),
    Column("last_at", Instant, nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("undone_at", Instant, nullable=True),
    Index(None, "pool_id", "created_at"),
)

# What an import wrote over: the sample that stood there before, nulls where none did, and the one that stands there since.
demand_import_samples = Table(
    "demand_import_samples",
    metadata,
    Column("import_id", String(40), primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("capacity_before", Float(53), nullable=True),
    Column("in_use_before", Float(53), nullable=True),
    Column("pending_before", Float(53), nullable=True),
    Column("capacity", Float(53), nullable=False),
    Column("in_use", Float(53), nullable=False),
    Column("pending", Float(53), nullable=False),
)
