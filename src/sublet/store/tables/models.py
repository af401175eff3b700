"""Managed models: the catalog's own entries, deployments, and their replicas."""

from sqlalchemy import Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

models = Table(
    "models",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("entry", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
)

deployments = Table(
    "deployments",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("model", String(80), nullable=False, unique=True),
    Column("pool_id", String(40), nullable=False),
    # In order of preference, `pool_id` first. None where an older version wrote the row.
    Column("pool_ids", Json, nullable=True),
    Column("floor", Integer, nullable=False),
    Column("replicas_max", Integer, nullable=False),
    Column("scale", Integer, nullable=True),
    Column("state", String(16), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

replicas = Table(
    "replicas",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("deployment_id", String(40), ForeignKey("deployments.id"), nullable=False),
    Column("model", String(80), nullable=False),
    Column("pool_id", String(40), nullable=False),
    Column("accelerators", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("endpoint", Text, nullable=True),
    Column("slots", Integer, nullable=False),
    Column("host", Text, nullable=True),
    Column("pid", Integer, nullable=True),
    Column("restarts", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("ready_at", Instant, nullable=True),
    Column("healthy_at", Instant, nullable=True),
    Column("drain_deadline", Instant, nullable=True),
    Column("reclaim_at", Instant, nullable=True),
    Column("stopped_at", Instant, nullable=True),
    Column("entry", Json, nullable=True),
    Index(None, "deployment_id"),
    Index(None, "state"),
)

replica_troubles = Table(
    "replica_troubles",
    metadata,
    Column("replica_id", String(40), primary_key=True),
    Column("run", String(40), primary_key=True),
    Column("failures", Integer, nullable=False),
    Column("kind", String(20), nullable=False),
    Column("status", Integer, nullable=False),
    Column("said", Text, nullable=False),
    Column("since", Instant, nullable=False),
    Column("at", Instant, nullable=False),
    Index(None, "at"),
)

model_routes = Table(
    "model_routes",
    metadata,
    Column("name", String(80), primary_key=True),
    Column("upstreams", Json, nullable=False),
    Column("spill", Boolean, nullable=False),
    Column("affinity", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("updated_at", Instant, nullable=False),
)
