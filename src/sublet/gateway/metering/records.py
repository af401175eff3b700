"""The two lines that a request has in the journal: one before an engine is asked, one when it is over."""

from __future__ import annotations

from typing import Protocol

from sublet.gateway.metering.journal import RESERVE, SETTLE, Record
from sublet.gateway.model import KeyGrant, ModelRoute, ReplicaRoute, Times
from sublet.gateway.requests.reply import Reply
from sublet.gateway.surfaces.surface import Identity
from sublet.values.errors import SubletError

CLIENT_GONE = 499


class Recorded(Protocol):
    """A request, as far as its records tell of it. `started_at` and `first_at` are on the gateway's monotonic clock."""

    @property
    def gateway(self) -> Times: ...

    grant: KeyGrant
    identity: Identity
    model: ModelRoute
    reply: Reply
    sequence: int
    started_us: int
    started_at: float
    first_at: float
    queue_s: float
    held: bool


def opening(exchange: Recorded, replica: ReplicaRoute, slot: int) -> Record:
    """A replica is about to be asked; `slot` is the request's place on the progress board."""
    grant = exchange.grant
    return Record(
        kind=RESERVE,
        request=exchange.identity.request_id,
        slot=slot,
        sequence=exchange.sequence,
        organization=grant.organization_id,
        key=grant.id,
        project=grant.project,
        model=exchange.model.name,
        pool=replica.pool_id,
        replica=replica.id,
        started_us=exchange.started_us,
        held=exchange.held,
    )


def closing(exchange: Recorded, replica: ReplicaRoute | None, status: int, error: SubletError | None) -> Record:
    """The request is over: what it used, how it ended and how long it took."""
    grant, meter = exchange.grant, exchange.reply.meter
    started_at, first_at = exchange.started_at, exchange.first_at
    return Record(
        kind=SETTLE,
        request=exchange.identity.request_id,
        organization=grant.organization_id,
        key=grant.id,
        project=grant.project,
        model=exchange.model.name,
        pool=replica.pool_id if replica else "",
        replica=replica.id if replica else "",
        started_us=exchange.started_us,
        ended_us=exchange.gateway.now_us(),
        status=status,
        input=meter.input,
        input_cached=meter.input_cached,
        output=meter.output,
        incomplete=status != 200,
        reason=error.code if error is not None else "client_gone" if status == CLIENT_GONE else "",
        queue_us=int(exchange.queue_s * 1e6),
        first_us=int((first_at - started_at) * 1e6) if first_at else 0,
        total_us=int((exchange.gateway.monotonic() - started_at) * 1e6),
        held=exchange.held,
        counted="" if meter.final or not (meter.input or meter.output) else meter.counted,
    )
