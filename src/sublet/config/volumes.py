"""Disks that outlive leases, as an operator limits them."""

from __future__ import annotations

from pydantic import Field

from sublet.config.pools import Section


class Volumes(Section):
    """Volumes: disks of an organization that outlive its leases, billed at the price of `storage.mib_hours`, if there is one."""

    mib_per_organization: int = Field(
        default=10_240, ge=0, le=1 << 40, description="MiB that an organization's volumes may have in all; 0: none"
    )
    count_per_organization: int = Field(default=20, ge=0, le=1000, description="volumes that an organization may have")
    reclaim_snapshot_days: int = Field(
        default=7,
        ge=0,
        le=365,
        description="days for which a snapshot of each volume is kept, free of charge, when its lease is reclaimed; 0: no snapshot",
    )
