"""Where leases could go on instead of ending, as those who plan a reclaim ask for it."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Protocol

from sublet.leases.model import Lease, PlannedMove


class Elsewhere(Protocol):
    """Room in other pools; see `reclaim.moving.Targets`."""

    def find(self, lease: Lease, at: datetime, /) -> PlannedMove | None:
        """Where the lease goes on from `at` on; None where nowhere. The same for the same lease."""
        ...

    def keep(self, lease_ids: Collection[str], /) -> None:
        """Only these are going to move: what was found for others is there again."""
        ...
