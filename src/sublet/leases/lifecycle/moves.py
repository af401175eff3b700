"""A lease leaves accelerators that failed: for others, for fewer, or for good. Each change is one transaction, harmless when
repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sublet.fleet.model import Unit
from sublet.leases import store as sql
from sublet.leases.model import UNIT_STATE_OF, Lease, LeaseState, Outage, UnitState, credit_nano
from sublet.leases.plan.failures import FailedUnit, Failure
from sublet.leases.quotes import calendar
from sublet.leases.reclaim import store as reclaim_store
from sublet.values.windows import Window


def find_failures(connection: Connection, leases: Sequence[Lease], now: datetime) -> dict[str, Failure]:
    """The failures of `leases`, by lease id, each with spares of its own: no two are offered the same accelerator."""
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
    """Accelerators of the lease's pool that work and that nobody holds until the lease is over and cleaned up, but for what
    reclaims keep for the owner."""
    fence = max(calendar.fences_of(connection, lease.id), key=lambda item: item.fenced.end, default=None)
    if fence is None or fence.fenced.end <= now:
        return []
    span = Window(max(now, fence.fenced.start), fence.fenced.end)
    free = calendar.free_units(connection, lease.pool_id, span, now)
    return free[: max(0, len(free) - reclaim_store.held_for_owner(connection, lease.pool_id, span))]


def move(
    connection: Connection, lease: Lease, out: Sequence[str], incoming: Sequence[str], reason: str, now: datetime
) -> Lease | None:
    """Give the lease `incoming` instead of `out`, or fewer where `incoming` are fewer; None where the plan no longer holds:
    one is back in service, or a spare is taken. The caller holds the pool's lock and has stopped the sandbox."""
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
    if lease.reclaim_at is not None:
        values["credit_nano"] = credit_nano(changed, lease.reclaim_at)
    if lease.handing_back is not None:
        left = tuple(instead.get(unit, unit) for unit in lease.handing_back.unit_ids)
        left = tuple(unit for unit in left if unit in units)
        values["handing_back"] = replace(lease.handing_back, unit_ids=left).kept() if left else None
    sql.update_lease(connection, lease.id, **values)
    sql.set_unit_states(connection, lease.pool_id, out, UnitState.FREE, None, None, now)
    sql.set_unit_states(connection, lease.pool_id, incoming, UNIT_STATE_OF[lease.state], lease.id, None, now)
    return sql.lease(connection, lease.id)


def hand_back(connection: Connection, lease: Lease, now: datetime) -> Lease | None:
    """The lease without the accelerators that its tenant gives back; None where there is nothing to give back by now. The caller
    holds the pool's lock and has stopped the sandbox."""
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
    sql.set_unit_states(connection, lease.pool_id, out, UnitState.FREE, None, None, now)
    return sql.lease(connection, lease.id)


def with_open_outages(connection: Connection, lease: Lease) -> Lease:
    """The lease with what does not work at this moment, for the meter."""
    failed = sql.failed_units(connection, lease.unit_ids)
    since = [item.unit for item in failed.values() if item.unit.since is not None and item.lease_id is None]
    if not since:
        return lease
    now = [Outage(unit.unit_id, unit.since, max(unit.since, lease.window.end)) for unit in since if unit.since]
    return replace(lease, outages=(*lease.outages, *now))


def _counts(failed: sql.FailedRow, lease: Lease) -> bool:
    """An accelerator that another lease left unclean is none to begin on; what the lease itself leaves is its own affair."""
    return failed.lease_id is None or (failed.lease_id != lease.id and lease.state is LeaseState.SCHEDULED)


def _outage(lease: Lease, unit: FailedUnit, end: datetime, now: datetime) -> Outage:
    start = max(unit.since or now, lease.active_at or lease.window.start)
    return Outage(unit.unit_id, min(start, end), end)
