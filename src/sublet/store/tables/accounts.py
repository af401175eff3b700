"""Who buys and who operates: organizations and their API keys."""

from sqlalchemy import Column, ForeignKey, Index, String, Table, Text

from sublet.store.metadata import metadata
from sublet.store.types import Instant, Json

organizations = Table(
    "organizations",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("currency", String(3), nullable=False),
    Column("timezone", String(64), nullable=False),
    Column("status", String(16), nullable=False),
    Column("created_at", Instant, nullable=False),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(40), primary_key=True),
    Column("organization_id", String(40), ForeignKey("organizations.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("sha256", String(64), nullable=False, unique=True),
    Column("hint", String(8), nullable=False),
    Column("role", String(32), nullable=False, server_default=""),
    Column("scopes", Json, nullable=False),
    Column("project", String(80), nullable=False, server_default=""),
    Column("created_at", Instant, nullable=False),
    Column("expires_at", Instant, nullable=True),
    Column("revoked_at", Instant, nullable=True),
    Index(None, "organization_id"),
)
