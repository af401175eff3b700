"""The records of a request: the line that opens it where the board alone does not, and the one that closes it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from sublet.gateway.metering.journal import RESERVE, SETTLE, Record
from sublet.gateway.model import KeyGrant, ModelRoute, ReplicaRoute, Times
from sublet.gateway.requests.reply import Reply
from sublet.gateway.surfaces.surface import Identity
from sublet.values.errors import SubletError

CLIENT_GONE = 499

_encode = msgspec.json.Encoder().encode


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
    hold: str

    @property
    def tier(self) -> str: ...


def context_of(grant: KeyGrant, model: ModelRoute, replica: ReplicaRoute, tier: str = "") -> bytes:
    """What the records of all requests of a key and tier to a replica say alike: fields of a Record, as JSON without its braces."""
    fields = {
        "organization": grant.organization_id,
        "key": grant.id,
        "model": model.name,
        "pool": replica.pool_id,
        "replica": replica.id,
        "project": grant.project,
        "tier": tier,
    }
    return _encode({name: value for name, value in fields.items() if value})[1:-1]


def opening(exchange: Recorded, replica: ReplicaRoute | None, slot: int) -> Record:
    """A replica is about to be asked, or (None) a hold to be placed; `slot` is the request's place on the progress board."""
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
        pool=replica.pool_id if replica else "",
        replica=replica.id if replica else "",
        started_us=exchange.started_us,
        held=exchange.held,
        hold=exchange.hold,
        tier=exchange.tier,
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
        reason=_reason(status, error),
        queue_us=int(exchange.queue_s * 1e6),
        first_us=int((first_at - started_at) * 1e6) if first_at else 0,
        total_us=int((exchange.gateway.monotonic() - started_at) * 1e6),
        held=exchange.held,
        hold=exchange.hold,
        counted=_counted(exchange),
        tier=exchange.tier,
    )


def settled_line(exchange: Recorded, context: bytes, status: int, error: SubletError | None) -> bytes:
    """The JSON of `closing` for a request without a hold whose `context` is written already, at a fraction of its price."""
    meter = exchange.reply.meter
    started_at, first_at = exchange.started_at, exchange.first_at
    more = b"" if meter.final else _counted_field(exchange)
    if status != 200:
        more += b',"incomplete":true,"reason":%b' % _encode(_reason(status, error))
    return (
        b'{"kind":"settle","request":"%b",%b,"started_us":%d,"ended_us":%d,"status":%d,"input":%d,"input_cached":%d,'
        b'"output":%d,"queue_us":%d,"first_us":%d,"total_us":%d%b}'
        % (
            exchange.identity.request_id.encode(),
            context,
            exchange.started_us,
            exchange.gateway.now_us(),
            status,
            meter.input,
            meter.input_cached,
            meter.output,
            exchange.queue_s * 1e6,
            (first_at - started_at) * 1e6 if first_at else 0,
            (exchange.gateway.monotonic() - started_at) * 1e6,
            more,
        )
    )


def _reason(status: int, error: SubletError | None) -> str:
    return error.code if error is not None else "client_gone" if status == CLIENT_GONE else ""


def _counted(exchange: Recorded) -> str:
    meter = exchange.reply.meter
    return "" if meter.final or not (meter.input or meter.output) else meter.counted


def _counted_field(exchange: Recorded) -> bytes:
    counted = _counted(exchange)
    return b',"counted":"%b"' % counted.encode() if counted else b""
