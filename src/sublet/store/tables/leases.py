"""Raw capacity sold: quotes, leases, the calendar of who holds which accelerator when, and every change of state."""

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

quotes = Table(
    "quotes",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("pool_id", String(40), ForeignKey("pools.id"), nullable=False),
    Column("class_name", String(16), nullable=False),
    Column("notice_s", Integer, nullable=True),
    Column("credit_ratio", String(24), nullable=False, server_default="0"),
    Column("free_s", Integer, nullable=False, server_default="0"),
    Column("accelerators", Integer, nullable=False),
    Column("start_at", Instant, nullable=False),
    Column("end_at", Instant, nullable=False),
    Column("price_nano", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("held_until", Instant, nullable=True),
    Column("on_failure", String(8), nullable=False, server_default="shrink"),
    Column("on_reclaim", String(8), nullable=False, server_default="end"),
    Column("block_id", String(40), nullable=True),
    Column("network", Json, nullable=True),
    Column("service_s", Integer, nullable=True),
    Column("likely", Float(53), nullable=True),
    Column("volumes", Json, nullable=True),
    # The image that it runs on: id, name and digest.
    Column("image", Json, nullable=True),
    Column("give_back", Json, nullable=True),
    # How a notice longer than the class's is priced.
    Column("notice_rule", Text, nullable=True),
    # 1 for an offer that a refusal named: it holds nothing, and counts for no limit.
    Column("is_offer", Integer, nullable=False, server_default="0"),
    Column("idempotency_key", String(128), nullable=True),
    Column("request", Json, nullable=False),
    UniqueConstraint("organization_id", "idempotency_key"),
    Index("ix_quotes_expires_at", "expires_at"),
    Index("ix_quotes_organization_id", "organization_id", "expires_at"),
    # Few are sold by a deadline, and every sale asks for those of its pool.
    Index(
        "ix_quotes_service",
        "pool_id",
        "expires_at",
        sqlite_where=text("service_s IS NOT NULL"),
        postgresql_where=text("service_s IS NOT NULL"),
    ),
)

leases = Table(
    "leases",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("pool_id", String(40), ForeignKey("pools.id"), nullable=False),
    Column("quote_id", String(40), nullable=False, unique=True),
    Column("class_name", String(16), nullable=False),
    Column("notice_s", Integer, nullable=True),
    Column("credit_ratio", String(24), nullable=False, server_default="0"),
    Column("free_s", Integer, nullable=False, server_default="0"),
    Column("accelerators", Integer, nullable=False),
    Column("unit_ids", Json, nullable=False),
    Column("devices", Json, nullable=False),
    Column("start_at", Instant, nullable=False),
    Column("end_at", Instant, nullable=False),
    Column("price_nano", BigInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("state", String(16), nullable=False),
    Column("ssh_public_keys", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("active_at", Instant, nullable=True),
    Column("ended_at", Instant, nullable=True),
    Column("end_reason", String(40), nullable=True),
    Column("reclaim_at", Instant, nullable=True),
    Column("reclaim_reason", Text, nullable=True),
    Column("credit_nano", BigInteger, nullable=False),
    Column("metered_until", Instant, nullable=True),
    Column("metered_s", BigInteger, nullable=False),
    Column("endpoint", Json, nullable=True),
    Column("guarantees", Json, nullable=True),
    Column("last_error", Text, nullable=True),
    Column("on_failure", String(8), nullable=False, server_default="shrink"),
    # Whether it may move to another pool instead of ending, where it is going to, and where it was.
    Column("on_reclaim", String(8), nullable=False, server_default="end"),
    Column("move", Json, nullable=True),
    Column("moves", Json, nullable=True),
    Column("shrunk_by", Integer, nullable=False, server_default="0"),
    Column("outages", Json, nullable=True),
    Column("block_id", String(40), nullable=True),
    Column("reclaim_origin", String(16), nullable=True),
    Column("engine", Json, nullable=True),
    Column("network", Json, nullable=True),
    Column("volumes", Json, nullable=True),
    # The image that it runs on: id, name and digest.
    Column("image", Json, nullable=True),
    Column("image_id", String(40), nullable=True),
    Column("traffic", Json, nullable=True),
    # Of a lease with a deadline: what was promised of each accelerator, how often it was paused, and since when it runs or waits.
    Column("service_s", Integer, nullable=True),
    Column("pauses", Integer, nullable=False, server_default="0"),
    Column("turned_at", Instant, nullable=True),
    Column("at_risk_at", Instant, nullable=True),
    # What its tenant may change: the prices of extensions, what is given back when and at what fee, and what it is called.
    Column("give_back", Json, nullable=True),
    Column("price_steps", Json, nullable=True),
    Column("handing_back", Json, nullable=True),
    Column("handed_back", Integer, nullable=False, server_default="0"),
    Column("fee_nano", BigInteger, nullable=False, server_default="0"),
    Column("hold_number", Integer, nullable=False, server_default="0"),
    Column("hold_from_s", BigInteger, nullable=False, server_default="0"),
    Column("name", String(80), nullable=True),
    Column("labels", Json, nullable=True),
    Column("idempotency_key", String(128), nullable=True),
    UniqueConstraint("organization_id", "idempotency_key"),
    Index("ix_leases_state", "state"),
    Index("ix_leases_organization_id", "organization_id", "created_at"),
    Index("ix_leases_pool_id", "pool_id", "ended_at"),
    Index("ix_leases_block_id", "block_id"),
    Index("ix_leases_image_id", "image_id"),
    Index(
        "ix_leases_service",
        "pool_id",
        "state",
        sqlite_where=text("service_s IS NOT NULL"),
        postgresql_where=text("service_s IS NOT NULL"),
    ),
)

# One row per accelerator and holder: [fence_start, fence_end) is the sold window with the gaps to prepare and to clean.
# `expires_at` is set while a quote holds the row; a row whose hold has expired counts for nothing.
fences = Table(
    "fences",
    metadata,
    Column("holder_id", String(40), primary_key=True),
    Column("unit_id", String(40), primary_key=True),
    Column("pool_id", String(40), nullable=False),
    Column("class_name", String(16), nullable=False),
    Column("organization_id", String(40), nullable=False),
    Column("start_at", Instant, nullable=False),
    Column("end_at", Instant, nullable=False),
    Column("fence_start", Instant, nullable=False),
    Column("fence_end", Instant, nullable=False),
    Column("expires_at", Instant, nullable=True),
    Column("block_id", String(40), nullable=True),
    Index("ix_fences_pool_id", "pool_id", "fence_end", "fence_start"),
    Index("ix_fences_expires_at", "expires_at"),
)

# Accelerators that are not simply free. A row with state `quarantined` takes the accelerator out of sale.
unit_states = Table(
    "unit_states",
    metadata,
    Column("unit_id", String(40), primary_key=True),
    Column("pool_id", String(40), nullable=False),
    Column("state", String(16), nullable=False),
    Column("lease_id", String(40), nullable=True),
    Column("reason", Text, nullable=True),
    Column("changed_at", Instant, nullable=False),
    Index("ix_unit_states_pool_id", "pool_id", "state"),
)

lease_transitions = Table(
    "lease_transitions",
    metadata,
    Column("subject_id", String(40), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("from_state", String(16), nullable=True),
    Column("to_state", String(16), nullable=False),
    Column("at", Instant, nullable=False),
    Column("actor", String(80), nullable=False),
    Column("reason", Text, nullable=False),
)

# What the owner asked back. Until its window ends, the accelerators it freed are kept for the asker.
reclaims = Table(
    "reclaims",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("pool_id", String(40), nullable=False),
    Column("accelerators", Integer, nullable=False),
    Column("held", Integer, nullable=False),
    Column("start_at", Instant, nullable=False),
    Column("end_at", Instant, nullable=False),
    Column("actor", String(80), nullable=False),
    Column("reason", Text, nullable=False),
    Column("forced", Integer, nullable=False),
    Column("plan", Json, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("withdrawn_at", Instant, nullable=True),
    Column("idempotency_key", String(128), nullable=True),
    UniqueConstraint("actor", "idempotency_key"),
    Index("ix_reclaims_pool_id", "pool_id", "end_at"),
)

# Accelerators that the operator takes away for a time. `reclaim_id` is the order that takes back what was in the way.
maintenance_windows = Table(
    "maintenance_windows",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("pool_id", String(40), ForeignKey("pools.id"), nullable=False),
    Column("accelerators", Integer, nullable=False),
    Column("start_at", Instant, nullable=False),
    Column("end_at", Instant, nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(80), nullable=False),
    Column("reclaim_id", String(40), nullable=True),
    Column("created_at", Instant, nullable=False),
    Column("canceled_at", Instant, nullable=True),
    Index("ix_maintenance_windows_pool_id", "pool_id", "end_at"),
    Index("ix_maintenance_windows_created_at", "created_at", "id"),
)

# How often the owner's demand took capacity of a pool back by itself and returned it: what backs off. One row a pool.
back_offs = Table(
    "back_offs",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("level", Float(53), nullable=False),
    Column("rounds", Integer, nullable=False),
    Column("taken_at", Instant, nullable=False),
    Column("returned", Integer, nullable=False),
)

# The owner's own work that waits for what tenants hold: a pool's demand (no claim) or a claim. One row each while it lasts.
owner_waits = Table(
    "owner_waits",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("claim_id", String(40), primary_key=True),
    Column("team", String(40), nullable=False),
    Column("since", Instant, nullable=False),
    Column("counted_until", Instant, nullable=False),
    Column("until", Instant, nullable=False),
    Column("accelerators", Integer, nullable=False),
)

# What was waited for by day (of UTC, since the epoch) and team; no team is the pool's own demand. Read by charge-back.
owner_wait_days = Table(
    "owner_wait_days",
    metadata,
    Column("pool_id", String(40), primary_key=True),
    Column("day", Integer, primary_key=True),
    Column("team", String(40), primary_key=True),
    Column("waits", Integer, nullable=False),
    Column("waited_us", BigInteger, nullable=False),
    Column("accelerator_us", BigInteger, nullable=False),
)

# A command that a lease runs. The lease has its own row; here is what to run, and how it has exited.
jobs = Table(
    "jobs",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("lease_id", String(40), ForeignKey("leases.id"), nullable=False, unique=True),
    Column("array_id", String(40), nullable=True),
    Column("array_index", Integer, nullable=True),
    Column("name", String(80), nullable=False),
    Column("command", Json, nullable=False),
    Column("environment", Json, nullable=True),
    Column("retries", Integer, nullable=False),
    Column("grace_s", Integer, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("exits", Json, nullable=True),
    Column("done_at", Instant, nullable=True),
    Column("canceled_at", Instant, nullable=True),
    Index("ix_jobs_organization_id", "organization_id", "created_at"),
    Index("ix_jobs_array_id", "array_id"),
)

# One row for ever: a volume that was removed stays as the record of what was billed.
volumes = Table(
    "volumes",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("pool_id", String(40), ForeignKey("pools.id"), nullable=False),
    Column("name", String(40), nullable=False),
    Column("size_mib", Integer, nullable=False),
    # Of the key that made it; empty for none, or where an older version wrote the row.
    Column("project", String(80), nullable=False, server_default=""),
    Column("state", String(16), nullable=False),
    Column("lease_id", String(40), nullable=True),
    Column("last_error", Text, nullable=True),
    Column("created_at", Instant, nullable=False),
    Column("billed_until", Instant, nullable=False),
    Column("removed_at", Instant, nullable=True),
    # What the files are needed for until then: a copy or a snapshot. No lease gets the volume meanwhile.
    Column("busy_with", String(40), nullable=True),
    Column("busy_until", Instant, nullable=True),
    # The snapshot that is to be brought back.
    Column("restoring", String(40), nullable=True),
    Index("ix_volumes_organization_id", "organization_id", "created_at"),
    Index("ix_volumes_state", "state", "billed_until"),
    Index("ix_volumes_lease_id", "lease_id"),
)

# What is sent into a volume. The row goes a day after it ended.
volume_copies = Table(
    "volume_copies",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("volume_id", String(40), ForeignKey("volumes.id"), nullable=False),
    Column("path", Text, nullable=False),
    Column("replace", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("last_error", Text, nullable=True),
    Column("created_at", Instant, nullable=False),
    Column("changed_at", Instant, nullable=False),
    Index("ix_volume_copies_volume_id", "volume_id"),
    Index("ix_volume_copies_state", "state", "changed_at"),
)

# One row for ever: a snapshot that was removed stays as the record of what was billed.
volume_snapshots = Table(
    "volume_snapshots",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("volume_id", String(40), ForeignKey("volumes.id"), nullable=False),
    Column("organization_id", String(40), nullable=False),
    Column("name", String(80), nullable=False),
    # `asked` by the customer, or made at a `reclaim`.
    Column("origin", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("last_error", Text, nullable=True),
    Column("created_at", Instant, nullable=False),
    Column("billed_until", Instant, nullable=False),
    # When one that was made at a reclaim goes by itself.
    Column("expires_at", Instant, nullable=True),
    Column("removed_at", Instant, nullable=True),
    Index("ix_volume_snapshots_volume_id", "volume_id", "created_at"),
    Index("ix_volume_snapshots_organization_id", "organization_id"),
    Index("ix_volume_snapshots_state", "state", "billed_until"),
)

# One row for ever: an image that was removed stays as the record of what leases ran on.
images = Table(
    "images",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("name", String(60), nullable=False),
    Column("state", String(16), nullable=False),
    # Of the key that imported it; empty for none, or where an older version wrote the row.
    Column("project", String(80), nullable=False, server_default=""),
    # When a lease first or last began on it; `used_at` also counts its import.
    Column("leased_at", Instant, nullable=True),
    # 1 for the operator's, which everybody may use.
    Column("shared", Integer, nullable=False, server_default="0"),
    Column("node_id", String(40), nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("upload_bytes", BigInteger, nullable=False),
    Column("received_bytes", BigInteger, nullable=False, server_default="0"),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Column("files", Integer, nullable=False, server_default="0"),
    Column("progress", Integer, nullable=False, server_default="0"),
    Column("manifest", String(80), nullable=True),
    Column("shell", String(80), nullable=True),
    Column("environment", Json, nullable=True),
    Column("last_error", Text, nullable=True),
    Column("created_at", Instant, nullable=False),
    Column("used_at", Instant, nullable=False),
    Index("ix_images_organization_id", "organization_id", "created_at"),
    Index("ix_images_state", "state", "node_id"),
)

# Requests that could not be met and wait for capacity. An entry that is over is kept for a month.
waitlist_entries = Table(
    "waitlist_entries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), nullable=False),
    Column("state", String(16), nullable=False),
    # As in `quotes.request`.
    Column("request", Json, nullable=False),
    Column("price_max_nano", BigInteger, nullable=True),
    Column("currency", String(3), nullable=True),
    # Of an entry that is to become a lease by itself: who may log in, and the key whose budgets pay.
    Column("ssh_public_keys", Json, nullable=True),
    Column("key_id", String(40), nullable=False, server_default=""),
    Column("created_at", Instant, nullable=False),
    Column("since", Instant, nullable=False),
    Column("expires_at", Instant, nullable=False),
    Column("quote_id", String(40), nullable=True),
    Column("lease_id", String(40), nullable=True),
    Column("offers", Integer, nullable=False, server_default="0"),
    Column("reason", Text, nullable=False, server_default=""),
    Index("ix_waitlist_entries_organization_id", "organization_id", "created_at"),
    Index("ix_waitlist_entries_state", "state", "since"),
)
