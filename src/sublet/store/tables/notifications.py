"""Who is told of events, and every message that tells of one."""

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, String, Table, Text

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

# A subscription without an organization is the operator's. `secret` and `previous_secret` are sealed (store.sealing).
subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), nullable=True),
    Column("name", Text, nullable=False),
    Column("channel", String(16), nullable=False),
    Column("address", Text, nullable=False),
    Column("format", String(16), nullable=False),
    Column("kinds", Json, nullable=False),
    Column("subject", String(80), nullable=True),
    Column("secret", Text, nullable=True),
    Column("previous_secret", Text, nullable=True),
    Column("previous_until", Instant, nullable=True),
    Column("enabled", Boolean, nullable=False),
    Column("disabled_reason", Text, nullable=True),
    Column("internal", Boolean, nullable=False),
    Column("from_position", BigInteger, nullable=False),
    Column("created_by", String(40), nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("paused_until", Instant, nullable=True),
    Column("failures", Integer, nullable=False),
    Column("failing_since", Instant, nullable=True),
    Column("confirmed_at", Instant, nullable=True),
    Index("ix_subscriptions_organization_id", "organization_id"),
)

# One message: an event for a subscription. `position` is the event's, so that messages are tried in order.
deliveries = Table(
    "deliveries",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("subscription_id", String(40), nullable=False),
    Column("event_id", String(40), nullable=False),
    Column("kind", String(60), nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("state", String(12), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Instant, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("delivered_at", Instant, nullable=True),
    Index("ix_deliveries_subscription_id_position", "subscription_id", "position"),
    Index("ix_deliveries_state_next_at", "state", "next_at"),
    Index("ix_deliveries_created_at", "created_at"),
)

delivery_attempts = Table(
    "delivery_attempts",
    metadata,
    Column("delivery_id", String(40), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("status", Integer, nullable=True),
    Column("took_ms", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("excerpt", Text, nullable=False),
)
