"""Events of leases, quotes, reclaims and blocks in the outbox."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sublet.leases import model
from sublet.leases.model import OWNER_NEEDS, Lease, LeaseState, Quote
from sublet.leases.redaction import told_to_tenant
from sublet.store.events import EventKind, declare
from sublet.values.clock import format_time
from sublet.values.money import text_from_nano


@dataclass(frozen=True, slots=True)
class LeaseChanged:
    """A lease, and what happened to it in one sentence. `accelerators` is how many it has now."""

    lease: str
    pool: str
    class_of_service: str
    accelerators: int
    start: datetime
    end: datetime
    reason: str


@dataclass(frozen=True, slots=True)
class NoticeGiven(LeaseChanged):
    """The same, and when access closes. `credit` is a decimal text in `currency`."""

    deadline: datetime
    credit: str
    currency: str


@dataclass(frozen=True, slots=True)
class LeaseOver(LeaseChanged):
    """The same, and how it ended."""

    end_reason: str
    ended_at: datetime
    credit: str
    currency: str


@dataclass(frozen=True, slots=True)
class PausePlanned(LeaseChanged):
    """The same, and when it is paused."""

    deadline: datetime


@dataclass(frozen=True, slots=True)
class MovePlanned(LeaseChanged):
    """The same, and when it moves to which pool."""

    deadline: datetime
    to_pool: str


@dataclass(frozen=True, slots=True)
class Transferred(LeaseChanged):
    """The same; `pool` is the pool that it has moved to, from `from_pool`."""

    from_pool: str


@dataclass(frozen=True, slots=True)
class UnitsReplaced(LeaseChanged):
    """The same, and which accelerators failed and which came for them."""

    out: tuple[str, ...]
    replaced_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class QuoteChanged:
    """A quote that holds capacity. `total` is a decimal text in `currency`."""

    quote: str
    pool: str
    class_of_service: str
    accelerators: int
    start: datetime
    end: datetime
    total: str
    currency: str
    held_until: datetime


@dataclass(frozen=True, slots=True)
class ReclaimChanged:
    """A reclaim: what the owner asked back and for when, and how many leases and replicas get notice for it."""

    reclaim: str
    pool: str
    accelerators: int
    start: datetime
    end: datetime
    victims: int
    forced: bool
    reason: str


@dataclass(frozen=True, slots=True)
class BlockChanged:
    """A block as it stands, what was changed, and how many sold leases were broken for it."""

    block: str
    pool: str
    kind: str
    accelerators: int
    start: datetime
    end: datetime
    broken: int
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class UnitQuarantined:
    """An accelerator that is not on sale until it is proved clean."""

    unit: str
    pool: str
    lease: str
    reason: str


READY = declare("lease.ready", LeaseChanged, "A lease can be logged in to.", subject="lease")
DEGRADED = declare(
    "lease.degraded", LeaseChanged, "A lease can't be logged in to, or lost accelerators.", subject="lease"
)
RECOVERED = declare("lease.recovered", LeaseChanged, "A degraded lease can be logged in to again.", subject="lease")
NOTICE_GIVEN = declare(
    "lease.notice_given", NoticeGiven, "The owner will reclaim a lease at a deadline.", subject="lease"
)
MOVE_PLANNED = declare(
    "lease.move_planned",
    MovePlanned,
    "The owner takes a lease's accelerators back, and it moves to another pool.",
    subject="lease",
)
MOVED = declare("lease.moved", Transferred, "A lease has moved to another pool and is started there.", subject="lease")
NOTICE_WITHDRAWN = declare(
    "lease.notice_withdrawn", LeaseChanged, "A notice was withdrawn: the lease keeps its window.", subject="lease"
)
REPLACED = declare(
    "lease.replaced", UnitsReplaced, "Accelerators of a lease failed and were replaced.", subject="lease"
)
SHRUNK = declare(
    "lease.shrunk", UnitsReplaced, "Accelerators of a lease failed and no replacement was available.", subject="lease"
)
PAUSE_PLANNED = declare("lease.pause_planned", PausePlanned, "A lease with a deadline will be paused.", subject="lease")
PAUSED = declare(
    "lease.paused", LeaseChanged, "A lease with a deadline is paused. Its home directory is kept.", subject="lease"
)
RESUMED = declare("lease.resumed", LeaseChanged, "A paused lease can be logged in to again.", subject="lease")
AT_RISK = declare(
    "lease.at_risk", LeaseChanged, "A waiting lease has little slack left before its deadline.", subject="lease"
)
LATE = declare("lease.late", LeaseOver, "A lease did not deliver all its hours by its deadline.", subject="lease")
CHANGED = declare("lease.changed", LeaseChanged, "A tenant extended, shortened or shrank its lease.", subject="lease")
ENDED = declare("lease.ended", LeaseOver, "A lease ended and its accelerators were released.", subject="lease")
BROKEN = declare("lease.broken", LeaseOver, "A lease was reclaimed before the end of its window.", subject="lease")
CANCELED = declare("lease.canceled", LeaseOver, "A lease was canceled before it began.", subject="lease")
FAILED = declare("lease.failed", LeaseOver, "A lease did not start.", subject="lease")
QUOTE_HELD = declare("quote.held", QuoteChanged, "A quote holds capacity.", subject="quote")
QUOTE_EXPIRED = declare("quote.expired", QuoteChanged, "A quote that held capacity expired unused.", subject="quote")
RECLAIM_MADE = declare(
    "reclaim.made", ReclaimChanged, "The owner reclaimed capacity.", subject="reclaim", audience="operator"
)
RECLAIM_MET = declare(
    "reclaim.met",
    ReclaimChanged,
    "All capacity of a reclaim was returned in time.",
    subject="reclaim",
    audience="operator",
)
RECLAIM_MISSED = declare(
    "reclaim.missed",
    ReclaimChanged,
    "Some capacity of a reclaim was not returned in time.",
    subject="reclaim",
    audience="operator",
)
QUARANTINED = declare(
    "unit.quarantined",
    UnitQuarantined,
    "An accelerator is not proved clean and is therefore not on sale.",
    subject="unit",
    audience="operator",
)

BLOCK_CHANGED = declare(
    "block.changed", BlockChanged, "A block was created, changed or withdrawn.", subject="block", audience="operator"
)

_OVER = {LeaseState.ENDED: ENDED, LeaseState.CANCELED: CANCELED, LeaseState.FAILED: FAILED}


def record_change(connection: Connection, lease: Lease, after: LeaseState, reason: str, now: datetime) -> None:
    """Record that a lease can or can't be logged in to. Notices and ends are recorded where they are decided."""
    kind: EventKind | None = None
    if after is LeaseState.ACTIVE and lease.state is LeaseState.PREPARING:
        kind = READY if lease.active_at is None else RESUMED
    elif after is LeaseState.PAUSED:
        kind = PAUSED
    elif after is LeaseState.ACTIVE and lease.state is LeaseState.DEGRADED:
        kind = RECOVERED
    elif after is LeaseState.DEGRADED:
        kind = DEGRADED
    if kind is not None:
        kind.record(connection, LeaseChanged(**_lease(lease, reason)), now, organization_id=lease.organization_id)


def record_notice(connection: Connection, lease: Lease, now: datetime) -> None:
    """Record the notice of `lease`: that it ends, or moves."""
    assert lease.reclaim_at is not None
    if lease.move is not None:
        moves = MovePlanned(**_lease(lease, OWNER_NEEDS), deadline=lease.reclaim_at, to_pool=lease.move.pool_id)
        MOVE_PLANNED.record(connection, moves, now, organization_id=lease.organization_id)
        return
    payload = NoticeGiven(
        # For what the owner needs it is the owner's own affair.
        **_lease(lease, OWNER_NEEDS),
        deadline=lease.reclaim_at,
        credit=text_from_nano(lease.credit_nano),
        currency=lease.currency,
    )
    NOTICE_GIVEN.record(connection, payload, now, organization_id=lease.organization_id)


def record_transferred(connection: Connection, lease: Lease, now: datetime) -> None:
    """Record that `lease` has moved to its current pool."""
    payload = Transferred(**_lease(lease, OWNER_NEEDS), from_pool=lease.moves[-1].from_pool_id)
    MOVED.record(connection, payload, now, organization_id=lease.organization_id)


def record_pause_planned(connection: Connection, lease: Lease, now: datetime) -> None:
    """Record when `lease`, which has a deadline, is paused."""
    assert lease.reclaim_at is not None
    payload = PausePlanned(**_lease(lease, OWNER_NEEDS), deadline=lease.reclaim_at)
    PAUSE_PLANNED.record(connection, payload, now, organization_id=lease.organization_id)


def record_at_risk(connection: Connection, lease: Lease, now: datetime) -> None:
    """Record that `lease`, which waits, has little slack left."""
    why = f"it has {max(0.0, lease.slack_s(now)) / 60:.0f} minutes of slack left and waits for idle accelerators"
    payload = LeaseChanged(**_lease(lease, why))
    AT_RISK.record(connection, payload, now, organization_id=lease.organization_id, key=(lease.id,))


def record_withdrawal(connection: Connection, lease: Lease, reason: str, now: datetime) -> None:
    payload = LeaseChanged(**_lease(lease, reason))
    NOTICE_WITHDRAWN.record(connection, payload, now, organization_id=lease.organization_id)


def record_changed(connection: Connection, lease: Lease, reason: str, now: datetime) -> None:
    """Record what the tenant has changed in `lease`."""
    CHANGED.record(connection, LeaseChanged(**_lease(lease, reason)), now, organization_id=lease.organization_id)


def record_over(connection: Connection, lease: Lease, after: LeaseState, why: str, now: datetime) -> None:
    """Tell that `lease`, which says when and why it ended, is over; and that it was broken, where the owner ended it."""
    payload = LeaseOver(
        # Why a teardown is not proved clean concerns the operator alone.
        **_lease(lease, why if after is not LeaseState.ENDED else lease.end_reason or ""),
        end_reason=lease.end_reason or "",
        ended_at=lease.ended_at or now,
        credit=text_from_nano(lease.credit_nano),
        currency=lease.currency,
    )
    _OVER[after].record(connection, payload, now, organization_id=lease.organization_id, key=(lease.id,))
    if lease.end_reason == model.LATE:
        LATE.record(connection, payload, now, organization_id=lease.organization_id, key=(lease.id,))
    elif lease.service_s is None and lease.reclaim_at is not None and lease.reclaim_at < lease.window.end:
        BROKEN.record(connection, payload, now, organization_id=lease.organization_id, key=(lease.id,))


def record_moved(
    connection: Connection, lease: Lease, out: tuple[str, ...], incoming: tuple[str, ...], reason: str, now: datetime
) -> None:
    """Tell that `lease` left the accelerators `out`; with fewer `incoming` than those it has become smaller."""
    kind = SHRUNK if len(incoming) < len(out) else REPLACED
    payload = UnitsReplaced(**_lease(lease, reason), out=out, replaced_by=incoming)
    kind.record(connection, payload, now, organization_id=lease.organization_id)


def record_quote(connection: Connection, quote: Quote, kind: EventKind, now: datetime) -> None:
    """Tell of a quote that holds capacity, or did; once of each kind."""
    assert quote.held_until is not None
    payload = QuoteChanged(
        quote.id,
        quote.pool_id,
        quote.class_name,
        quote.accelerators,
        quote.window.start,
        quote.window.end,
        text_from_nano(quote.total_nano),
        quote.currency,
        quote.held_until,
    )
    kind.record(connection, payload, now, organization_id=quote.organization_id, key=(quote.id,))


def record_quarantine(
    connection: Connection, unit_id: str, pool_id: str, lease_id: str, reason: str, now: datetime
) -> None:
    payload = UnitQuarantined(unit_id, pool_id, lease_id, reason)
    QUARANTINED.record(connection, payload, now, key=(unit_id, lease_id, format_time(now)))


def _lease(lease: Lease, reason: str) -> dict[str, Any]:
    return {
        "lease": lease.id,
        "pool": lease.pool_id,
        "class_of_service": lease.class_name,
        "accelerators": lease.accelerators,
        "start": lease.window.start,
        "end": lease.window.end,
        "reason": told_to_tenant(reason),
    }
