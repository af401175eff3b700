"""The model of the fleet: pools of interchangeable accelerators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from sublet.values.clock import format_time
from sublet.values.money import text_from_nano

UNITS_PER_POOL_MAX = 1_000_000
REASON_MAX = 500


@dataclass(frozen=True, slots=True)
class Unit:
    """One accelerator. `device` identifies it on its node: `cpu:K` (core K) or `nvidia:K` (device file K)."""

    id: str
    pool_id: str
    position: int
    device: str
    in_service: bool = True
    out_reason: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"id": self.id, "device": self.device, "in_service": self.in_service, "out_reason": self.out_reason}


@dataclass(frozen=True, slots=True)
class Pool:
    """Interchangeable accelerators at one site. `watts` is per accelerator at IT level, and `watts_source` is its source."""

    id: str
    name: str
    site: str
    generation: str
    backend: str
    watts: Decimal
    watts_source: str
    price_nano: int
    currency: str
    tenure: str
    online_at: datetime
    offline_at: datetime | None
    accelerators: int
    """How many there are, in service or not."""
    in_service: int
    stated: Mapping[str, Any] = field(default_factory=dict)
    """What else the settings of its control planes say: `reserve`, `failure_reserve`, `maintenance`, `exclusive`."""
    node_ids: frozenset[str] = frozenset()
    """The nodes whose settings state it; none where it was made without a node."""

    @property
    def on_one_node(self) -> bool:
        """Whether only the pool's own machine can act on it. Any control plane can act on other pools."""
        return self.backend == "local"

    def capacity(self, at: datetime) -> int:
        """Accelerators that exist and work at that moment."""
        online = self.online_at <= at and (self.offline_at is None or at < self.offline_at)
        return self.in_service if online else 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "site": self.site,
            "generation": self.generation,
            "backend": self.backend,
            "accelerators": self.accelerators,
            "in_service": self.in_service,
            "watts_per_accelerator": str(self.watts),
            "watts_source": self.watts_source,
            "price_per_accelerator_hour": text_from_nano(self.price_nano),
            "currency": self.currency,
            "tenure": self.tenure,
            "nodes": sorted(self.node_ids),
            "online_at": format_time(self.online_at),
            "offline_at": format_time(self.offline_at) if self.offline_at else None,
        }


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """A pool as discovered or as defined in the settings, before it has an id."""

    name: str
    site: str
    generation: str
    backend: str
    devices: tuple[str, ...]
    watts: Decimal
    watts_source: str
    price_nano: int
    currency: str = "USD"
    tenure: str = "owned"
    stated: Mapping[str, Any] = field(default_factory=dict)
