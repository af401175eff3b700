"""What is owned: pools, the accelerators in them, and the nodes, processes and leaders that may act on them."""

from sqlalchemy import BigInteger, Column, ForeignKey, Index, Integer, String, Table, Text, UniqueConstraint, text

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

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
    # What the settings of its control planes say beyond that: reserves, maintenance, whether tenants may share it.
    Column("stated", Json, nullable=True),
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

# When an accelerator was out of service and came back; one that is out now is in `units`.
unit_outages = Table(
    "unit_outages",
    metadata,
    Column("unit_id", String(40), primary_key=True),
    Column("out_at", Instant, primary_key=True),
    Column("pool_id", String(40), nullable=False),
    Column("back_at", Instant, nullable=False),
    Index("ix_unit_outages_pool_id", "pool_id", "back_at"),
)

# A machine with a data directory. `seen_at` is the last heartbeat of its control plane, empty before the first.
nodes = Table(
    "nodes",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", Text, nullable=False),
    Column("version", String(40), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("seen_at", Instant, nullable=True),
)

# Which nodes state a pool in their settings. A local pool has one; a shared one may have several.
pool_nodes = Table(
    "pool_nodes",
    metadata,
    Column("pool_id", String(40), ForeignKey("pools.id"), primary_key=True),
    Column("node_id", String(40), ForeignKey("nodes.id"), primary_key=True),
    Index("ix_pool_nodes_node_id", "node_id"),
)

# Who leads what: `token` grows with every change of the leader, `beat` with every sign of life.
leaders = Table(
    "leaders",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("holder", String(40), nullable=False),
    Column("node_id", String(40), nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("beat", BigInteger, nullable=False),
    Column("since", Instant, nullable=False),
)
