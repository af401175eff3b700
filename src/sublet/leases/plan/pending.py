"""What is going to happen to leases and accelerators without anybody doing more: shown with the plan, never carried out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row

from sublet.leases.model import Lease, LeaseState
from sublet.leases.plan.failures import failure_steps
from sublet.leases.plan.planner import View
from sublet.leases.plan.waits import pending_waits
from sublet.values.clock import format_time
from sublet.values.plan import Step


def pending(view: View, reclaims: Sequence[Row[Any]]) -> Iterator[Step]:
    """Every change that waits, of `view` and of the owner's standing `reclaims`."""
    for lease in view.leases:
        yield _of_lease(view, lease)
    for name in sorted(view.silent):
        why = "this backend does not answer; its leases stay as they are, to their deadlines, until it does"
        yield Step("observe", name, why)
    live = {lease.id for lease in view.leases}
    for unit in view.quarantined:
        whose = "its lease is over" if unit.lease_id not in live else "what its lease left is gone"
        why = f"in quarantine until {whose} and it is proved clean: {unit.reason or 'not proved clean'}"
        yield Step("release_unit", unit.unit_id, why)
    yield from pending_waits(view.waiting)
    for row in reclaims:
        yield from _of_reclaim(row, view.now)


def _of_lease(view: View, lease: Lease) -> Step:
    if lease.state is LeaseState.ENDING:
        return Step("finish", lease.id, "access is closed; it ends once nothing of it is left")
    if lease.service_s is not None:
        return _of_deadline(lease)
    if lease.move is not None:
        why = f"the owner takes its accelerators back: it goes on in pool {lease.move.pool_id}, where others are held for it"
        return Step("transfer", lease.id, why, lease.move.at, {"to_pool_id": lease.move.pool_id})
    if lease.reclaim_at is not None and lease.reclaim_at <= lease.window.end:
        return Step("end", lease.id, "it is under notice: the owner takes it back", lease.reclaim_at)
    if lease.state is LeaseState.SCHEDULED:
        opens = lease.window.start - timedelta(seconds=view.timing_of(lease).prepare_s)
        if lease.id in view.failures:
            for step in failure_steps(lease, view.failures[lease.id], opens, view.timing_of(lease)):
                return replace(step, at=opens)
        return Step("prepare", lease.id, f"{lease.accelerators} accelerators from then on", opens)
    if lease.state is LeaseState.PREPARING:
        return Step("activate", lease.id, "it starts; it is active once SSH answers")
    return Step("end", lease.id, "its window ends", lease.window.end)


def _of_deadline(lease: Lease) -> Step:
    done = (
        f"{lease.left_s / 3600:.1f} of {lease.billable_s / 3600:g} h are left, done by {format_time(lease.window.end)}"
    )
    if lease.waits:
        latest = lease.window.end - timedelta(seconds=lease.left_s)
        return Step("resume", lease.id, f"it waits for idle accelerators; {done}", latest)
    if lease.reclaim_at is not None:
        return Step("pause", lease.id, f"{lease.reclaim_reason or 'a pause is planned'}; {done}", lease.reclaim_at)
    return Step("end", lease.id, f"it runs until all its hours are delivered; {done}", lease.window.end)


def _of_reclaim(row: Row[Any], now: datetime) -> Iterator[Step]:
    if row.held == 0:
        # Leases were broken for a block: nothing is kept for anybody.
        return
    if row.start_at > now:
        why = f"{row.held} are the owner's until {format_time(row.end_at)}: {row.reason}"
        yield Step("keep", row.id, why, row.start_at)
    yield Step("release", row.id, f"{row.held} that the owner took back may be sold again: {row.reason}", row.end_at)
