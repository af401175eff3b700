"""The organizations that hold capacity of a pool."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, select

from sublet.store.tables.leases import fences

TENANTS_MAX = 200
"""Of one round."""


def tenants_of(connection: Connection, pool_ids: Sequence[str], now: datetime) -> frozenset[str]:
    """Organizations whose quotes or leases hold accelerators of the pools now or later; at most TENANTS_MAX."""
    found = connection.execute(
        select(fences.c.organization_id)
        .where(fences.c.pool_id.in_(pool_ids), (fences.c.expires_at.is_(None)) | (fences.c.expires_at > now))
        .distinct()
        .limit(TENANTS_MAX)
    )
    return frozenset(str(row.organization_id) for row in found)
