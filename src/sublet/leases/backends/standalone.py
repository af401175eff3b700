"""What most of the backend interface is where no scheduler of its own stands behind it."""

from __future__ import annotations

from sublet.leases.backends.base import BackendFailedError, Observation
from sublet.leases.backends.engine import PLAIN, Demand, Inventory, NodeHealth, ReserveOrder, Traits


class Standalone:
    """The part of `base.Backend` that a backend has nothing to do for whose machines nobody else schedules: the calendar is the
    only fence, the units are those of the order, and the operator states the rest."""

    name: str

    @property
    def traits(self) -> Traits:
        return PLAIN

    def introduce(self, tenants: frozenset[str]) -> None:
        return None

    def reserve(self, order: ReserveOrder) -> Observation:
        raise BackendFailedError(f"backend {self.name} can't reserve accelerators before a lease starts")

    def release(self, lease_id: str) -> None:
        return None

    def inventory(self) -> Inventory | None:
        return None

    def health(self) -> tuple[NodeHealth, ...]:
        return ()

    def demand(self) -> Demand | None:
        return None
