"""Two simulated pools of one generation on one backend, each with a surplus and a need of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import Connection
from tests.leases.world import CUSTOMER, KEY, World, pool_spec

from sublet.fleet.model import Pool
from sublet.leases.model import Lease, OnReclaim
from sublet.leases.ports import LeasePorts
from sublet.leases.service import Leases
from sublet.values.windows import Window


@dataclass
class TwoPools(World):
    """`pool` is where leases are sold; `other` is where they may move. `stays` is what tenants may hold, by pool."""

    def __post_init__(self) -> None:
        self.stays: dict[str, int] = {}
        super().__post_init__()
        specs = [pool_spec("metal", self.accelerators), pool_spec("spare", self.accelerators)]
        self.other: Pool = next(pool for pool in self.fleet.sync(specs) if pool.name == "spare")

    def restart(self) -> Leases:
        made = super().restart()
        ports: LeasePorts = made._ports
        found = replace(ports, may_stay=self.may_stay)
        self.leases = Leases(self.store, {"simulated": self.backend}, found)
        return self.leases

    def may_stay(self, connection: Connection, pool_id: str, window: Window, calm_s: float) -> int:
        return self.stays.get(pool_id, self.accelerators)

    def sell_movable(self, count: int = 1, class_name: str = "notice", seconds: int = 3600, ahead_s: int = 0) -> Lease:
        request = replace(self.request(count, class_name, seconds, ahead_s), on_reclaim=OnReclaim.MOVE)
        quote = self.leases.quote(CUSTOMER, request)
        return self.leases.accept(CUSTOMER, quote.id, [KEY])

    def need(self, stays: int, pool: Pool | None = None) -> None:
        self.stays[(pool or self.pool).id] = stays
