"""Moves leases off accelerators: from failed ones to spares or to fewer, or to those of another pool. Each change is one
idempotent transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sublet.fleet.model import Unit
from sublet.leases import store as sql
from sublet.leases import unit_store as unit_sql
from sublet.leases.model import (
    UNIT_STATE_OF,
    Fence,
    Lease,
    LeaseState,
    Moved,
    Outage,
    PlannedMove,
    Timing,
    UnitState,
    credit_nano,
)
from sublet.leases.plan.failures import FailedUnit, Failure
from sublet.leases.quotes import calendar
from sublet.leases.reclaim import store as reclaim_store
from sublet.leases.volumes import store as volumes_sql
from sublet.values.windows import Window

_BY_DEADLINE = ("reclaimed", "window_over")
"""Why a lease ends that was to move and did not in time."""


def find_failures(connection: Connection, leases: Sequence[Lease], now: datetime) -> dict[str, Failure]:
    """The failures of `leases`, by lease id, each with spares. No accelerator is offered twice."""
    failed = sql.failed_units(connection)
    found: dict[str, Failure] = {}
    taken: set[str] = set()
    for lease in leases:
        broken = tuple(failed[unit] for unit in lease.unit_ids if unit in failed and _counts(failed[unit], lease))
        if not broken or lease.state is LeaseState.ENDING:
            continue
        spares = [unit.id for unit in free_units(connection, lease, now) if unit.id not in taken][: len(broken)]
        taken.update(spares)
        found[lease.id] = Failure(lease.id, tuple(item.unit for item in broken), tuple(spares))
    return found


def free_units(connection: Connection, lease: Lease, now: datetime) -> list[Unit]:
    """Working accelerators of the lease's pool that nobody holds until the lease is over and cleaned up. Those that reclaims
    hold for the owner are left out."""
    fence = max(calendar.fences_of(connection, lease.id), key=lambda item: item.fenced.end, default=None)
    if fence is None or fence.fenced.end <= now:
        return []
    span = Window(max(now, fence.fenced.start), fence.fenced.end)
    free = calendar.free_units(connection, lease.pool_id, span, now)
    return free[: max(0, len(free) - reclaim_store.held_for_owner(connection, lease.pool_id, span))]


def move(
    connection: Connection, lease: Lease, out: Sequence[str], incoming: Sequence[str], reason: str, now: datetime
) -> Lease | None:
    """Give the lease `incoming` instead of `out`, or fewer accelerators if `incoming` are fewer. Returns None if the plan is
    outdated: one is back in service, or a spare is taken. The caller holds the pool's lock and has stopped the sandbox."""
    failed = sql.failed_units(connection)
    stale = any(unit not in lease.unit_ids or unit not in failed for unit in out)
    free = {unit.id for unit in free_units(connection, lease, now)}
    fewer = len(out) - len(incoming)
    if stale or not out or not set(incoming) <= free or not 0 <= fewer < lease.accelerators:
        return None
    fences = {fence.unit_id: fence for fence in calendar.fences_of(connection, lease.id)}
    calendar.release_units(connection, lease.id, list(out))
    instead = dict(zip(out, incoming, strict=False))
    calendar.insert_fences(connection, [replace(fences[unit], unit_id=new) for unit, new in instead.items()])
    units = tuple(instead.get(unit, unit) for unit in lease.unit_ids if unit not in out or unit in instead)
    devices = calendar.devices_of(connection, list(units))
    changed = replace(lease, accelerators=len(units), shrunk_by=lease.shrunk_by + fewer)
    values: dict[str, Any] = {
        "unit_ids": list(units),
        "devices": [devices[unit] for unit in units],
        "accelerators": len(units),
        "shrunk_by": changed.shrunk_by,
        "last_error": reason[:500],
    }
    if lease.active_at is not None:
        gone = [_outage(lease, failed[unit].unit, now if unit in instead else lease.window.end, now) for unit in out]
        values["outages"] = [item.as_dict() for item in (*lease.outages, *gone)]
    if lease.reclaim_at is not None and lease.move is None:
        values["credit_nano"] = credit_nano(changed, lease.reclaim_at)
    if lease.handing_back is not None:
        left = tuple(instead.get(unit, unit) for unit in lease.handing_back.unit_ids)
        left = tuple(unit for unit in left if unit in units)
        values["handing_back"] = replace(lease.handing_back, unit_ids=left).kept() if left else None
    sql.update_lease(connection, lease.id, **values)
    unit_sql.set_unit_states(connection, lease.pool_id, out, UnitState.FREE, None, None, now)
    unit_sql.set_unit_states(connection, lease.pool_id, incoming, UNIT_STATE_OF[lease.state], lease.id, None, now)
    return sql.lease(connection, lease.id)


def hand_back(connection: Connection, lease: Lease, now: datetime) -> Lease | None:
    """The lease without the accelerators that its tenant gives back, or None if there are none. The caller holds the pool's
    lock and has stopped the sandbox."""
    handing = lease.handing_back
    if handing is None or handing.at > now or not set(handing.unit_ids) < set(lease.unit_ids):
        return None
    out = list(handing.unit_ids)
    kept = [(unit, device) for unit, device in zip(lease.unit_ids, lease.devices, strict=True) if unit not in out]
    values: dict[str, Any] = {
        "unit_ids": [unit for unit, _ in kept],
        "devices": [device for _, device in kept],
        "accelerators": len(kept),
        "handed_back": lease.handed_back + len(out),
        "handing_back": None,
    }
    if lease.active_at is not None:
        start = max(handing.at, lease.active_at)
        gone = [Outage(unit, start, max(start, lease.window.end)) for unit in out]
        values["outages"] = [item.as_dict() for item in (*lease.outages, *gone)]
    calendar.release_units(connection, lease.id, out)
    sql.update_lease(connection, lease.id, **values)
    unit_sql.set_unit_states(connection, lease.pool_id, out, UnitState.FREE, None, None, now)
    return sql.lease(connection, lease.id)


def hold(connection: Connection, lease: Lease, planned: PlannedMove, timing: Timing) -> None:
    """Hold accelerators of another pool for the lease, from the time of the move to its end, so that nobody else can buy them.
    The caller holds both pools' locks. If the move is not made, the hold ends after its grace period."""
    window = Window(planned.at, lease.window.end)
    place = (planned.pool_id, _class_in_book(connection, lease), lease.organization_id)
    held = [
        Fence(_holder(lease.id), unit, *place, window, timing.fence(window), planned.until) for unit in planned.unit_ids
    ]
    calendar.insert_fences(connection, held)
    sql.update_lease(connection, lease.id, move=planned.kept())


def _class_in_book(connection: Connection, lease: Lease) -> str:
    """What the calendar calls the lease's class: a longer notice of its own goes with it."""
    held = calendar.fences_of(connection, lease.id)
    return held[0].class_name if held else lease.class_name


def drop(connection: Connection, lease: Lease) -> None:
    """Cancel the move and release what was held for it."""
    if lease.move is not None:
        calendar.release(connection, _holder(lease.id))
        sql.update_lease(connection, lease.id, move=None)


def stay(connection: Connection, lease: Lease, end_reason: str) -> Lease:
    """Cancel the move because the lease ends for a reason of its own: its tenant leaves, or something fails. The owner breaks
    no promise, because the lease would have continued elsewhere."""
    if lease.move is None or end_reason in _BY_DEADLINE:
        return lease
    drop(connection, lease)
    sql.update_lease(connection, lease.id, reclaim_at=None, reclaim_reason=None)
    return sql.lease(connection, lease.id) or lease


def break_after_all(connection: Connection, lease: Lease) -> None:
    """End the lease at the time of the move, with the credit of its class, because it can't move."""
    if lease.move is not None and lease.reclaim_at is not None:
        drop(connection, lease)
        sql.update_lease(connection, lease.id, credit_nano=credit_nano(lease, lease.reclaim_at))


def go(connection: Connection, lease: Lease, planned: PlannedMove, timing: Timing, now: datetime) -> Lease | None:
    """Move the lease to another pool, with its volumes, at the price and until the end that it was sold for.

    Returns None and changes nothing if the accelerators are not available. The caller holds both pools' locks and has stopped the
    sandbox of a lease that has begun.
    """
    if now >= lease.window.end:
        return None
    window = Window(max(now, lease.window.start), lease.window.end)
    fenced = timing.fence(window)
    held = _holder(lease.id)
    taken = calendar.overlapping(connection, planned.pool_id, fenced, now, without=held)
    failed = sql.failed_units(connection, planned.unit_ids)
    free = [unit.id for unit in calendar.free_units(connection, planned.pool_id, fenced, now)]
    # Instead of one that failed, only what the owner's reclaims leave.
    free = free[: max(0, len(free) - reclaim_store.held_for_owner(connection, planned.pool_id, window))]
    able = [unit for unit in dict.fromkeys((*planned.unit_ids, *free)) if unit not in taken and unit not in failed]
    if len(able) < lease.accelerators:
        return None
    units = sorted(able[: lease.accelerators])
    devices = calendar.devices_of(connection, units)
    place = (planned.pool_id, _class_in_book(connection, lease), lease.organization_id)
    calendar.release(connection, held)
    calendar.release(connection, lease.id)
    calendar.insert_fences(connection, [Fence(lease.id, unit, *place, window, fenced) for unit in units])
    unit_sql.set_unit_states(connection, lease.pool_id, lease.unit_ids, UnitState.FREE, None, None, now)
    made = Moved(lease.pool_id, planned.pool_id, now)
    sql.update_lease(
        connection,
        lease.id,
        pool_id=planned.pool_id,
        unit_ids=units,
        devices=[devices[unit] for unit in units],
        reclaim_at=None,
        reclaim_reason=None,
        credit_nano=0,
        engine=None,
        block_id=None,
        move=None,
        moves=[item.as_dict() for item in (*lease.moves, made)],
        last_error=None,
    )
    volumes_sql.carry(connection, lease.id, planned.pool_id)
    unit_sql.set_unit_states(connection, planned.pool_id, units, UNIT_STATE_OF[lease.state], lease.id, None, now)
    return sql.lease(connection, lease.id)


def _holder(lease_id: str) -> str:
    """The calendar holder of a planned move's accelerators."""
    return f"{calendar.MOVING}{lease_id.partition('_')[2]}"


def with_open_outages(connection: Connection, lease: Lease) -> Lease:
    """The lease with its current outages, for the meter."""
    failed = sql.failed_units(connection, lease.unit_ids)
    since = [item.unit for item in failed.values() if item.unit.since is not None and item.lease_id is None]
    if not since:
        return lease
    now = [Outage(unit.unit_id, unit.since, max(unit.since, lease.window.end)) for unit in since if unit.since]
    return replace(lease, outages=(*lease.outages, *now))


def _counts(failed: sql.FailedRow, lease: Lease) -> bool:
    """Whether an unusable accelerator counts as a failure of the lease. If another lease left it in quarantine, it counts only
    before this lease begins. What this lease itself leaves never counts."""
    return failed.lease_id is None or (failed.lease_id != lease.id and lease.state is LeaseState.SCHEDULED)


def _outage(lease: Lease, unit: FailedUnit, end: datetime, now: datetime) -> Outage:
    start = max(unit.since or now, lease.active_at or lease.window.start)
    return Outage(unit.unit_id, min(start, end), end)
