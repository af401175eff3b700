"""What a lease with a deadline needs next that other leases don't. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sublet.leases.backends.base import Delivery, Observation, RunState
from sublet.leases.backends.job import JOB_DONE
from sublet.leases.lifecycle.metering import delivered_s
from sublet.leases.model import Lease, LeaseState
from sublet.leases.plan.failures import Failure
from sublet.values.clock import format_time, from_micros, to_micros
from sublet.values.plan import Step

RISK_S = 1800
"""A lease that waits with less slack than this may be late."""

END_MARGIN_S = 5
"""The backend's own end is so much later than the last promised second: the plan ends the lease, and the backend where no
plan is made."""


def completed(lease: Lease, deliveries: Sequence[Delivery]) -> bool:
    """Whether all that was promised is delivered."""
    if lease.service_s is None:
        return False
    return delivered_s(lease, deliveries) >= lease.service_s * (lease.accelerators + lease.shrunk_by)


def ends_at(lease: Lease, seen: Observation) -> datetime:
    """When the backend has to end the lease by itself: of one with a deadline, when all its hours are delivered."""
    if lease.service_s is None or not seen.deliveries or not seen.deliveries[-1].open:
        return lease.window.end
    *earlier, last = seen.deliveries
    left = lease.service_s * (lease.accelerators + lease.shrunk_by) - delivered_s(lease, earlier)
    begun_s = -(-to_micros(last.start) // 1_000_000)
    done = from_micros((begun_s + -(-left // max(1, last.accelerators)) + END_MARGIN_S) * 1_000_000)
    return min(lease.window.end, done)


def own_step(lease: Lease, seen: Observation, failure: Failure | None, now: datetime, grace_s: int) -> Step | None:
    """The one step that is due for a lease with a deadline; None where it goes on as any lease does."""
    if seen.state is RunState.STOPPED and seen.reason == JOB_DONE:
        if lease.state is LeaseState.PREPARING and seen.deliveries:
            return Step("activate", lease.id, "its job has run to its end already")
        return Step("end", lease.id, "its job has run to its end", now, {"end_reason": JOB_DONE})
    if completed(lease, seen.deliveries):
        return _end(lease, now, "all its hours are delivered")
    if now >= lease.window.end:
        return _end(lease, now, "its deadline has come")
    if seen.state in (RunState.STOPPED, RunState.FAILED):
        return _end(lease, now, f"its backend ended it: {seen.reason or seen.error or 'no reason was given'}")
    if lease.waits:
        return Step("pause", lease.id, "it waits, and its backend still runs it") if seen.state.live else None
    if now >= lease.deadline:
        return Step("pause", lease.id, lease.reclaim_reason or "its pause has come", lease.reclaim_at)
    if failure is not None and len(failure.spares) < len(failure.units):
        out = [{"unit": unit.unit_id, "since": format_time(unit.since or now)} for unit in failure.units]
        return Step("pause", lease.id, f"{failure.sentence}; none is free", now, {"out": out})
    late = now > (lease.turned_at or lease.created_at) + timedelta(seconds=grace_s)
    if lease.state is LeaseState.PREPARING and late and seen.state is not RunState.RUNNING:
        return Step("pause", lease.id, f"it did not start within {grace_s} s", now)
    return None


def at_risk(lease: Lease, now: datetime) -> bool:
    """Whether the tenant of a lease that waits is to be told, once, that it can't wait for much longer."""
    return lease.waits and lease.at_risk_at is None and 0 <= lease.slack_s(now) < RISK_S


def _end(lease: Lease, now: datetime, why: str) -> Step:
    details: dict[str, Any] = {"end_reason": "window_over"}
    return Step("end", lease.id, why, now, details)
