"""What a request needs of the gateway that carries it. The gateway imports requests; this is how they name it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from sublet.gateway.limits.sharing import Limits
from sublet.gateway.metering.journal import Journal
from sublet.gateway.metering.metrics import Metrics
from sublet.gateway.model import GatewaySettings, KeyGrant, ModelRoute, ReplicaRoute, Snapshot, Times
from sublet.gateway.requests.admission import Admission
from sublet.gateway.upstream.engine_watch import EngineWatch
from sublet.gateway.upstream.pool import EnginePool
from sublet.values.clock import Clock


class UnderWay(Protocol):
    """A request that has begun, as the gateway sweeps and ends it."""

    grant: KeyGrant

    def revoke(self) -> None:
        """Its key is no longer valid."""
        ...

    def tick(self, now: float) -> None: ...

    def stop(self) -> None: ...


class Host(Times, Protocol):
    """The parts that every request shares. For the event loop's thread."""

    clock: Clock
    admission: Admission
    limits: Limits
    journal: Journal
    metrics: Metrics
    snapshot: Snapshot
    watch: EngineWatch
    live: set[UnderWay]

    def next_request_id(self) -> tuple[int, str]: ...

    def limits_of(self, model: str) -> GatewaySettings: ...

    def context(self, grant: KeyGrant, model: ModelRoute, replica: ReplicaRoute, tier: str = "") -> bytes: ...

    def keep(self, exchange: Any, body: bytes, told: Callable[[bool], None]) -> None: ...

    def engines(self, endpoint: str, model: ModelRoute) -> EnginePool: ...
