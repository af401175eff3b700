"""What an engine does of its own, and what the books do about it: notices adopted, capacity kept ahead, places written down. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from sublet.leases.backends.base import Observation
from sublet.leases.backends.engine import ReserveOrder, Traits
from sublet.leases.model import Lease, LeaseState, Timing
from sublet.values.clock import format_time
from sublet.values.plan import Step
from sublet.values.windows import Window

SLACK = timedelta(seconds=2)
"""Engines count whole seconds, and may take one to say so."""


def engine_steps(lease: Lease, seen: Observation, traits: Traits, timing: Timing, now: datetime) -> Iterator[Step]:
    """What is to be done about a lease because of its engine, besides running it."""
    if is_taken(lease, seen) and lease.state.served:
        assert seen.taken_at is not None
        yield Step("adopt", lease.id, f"its engine takes it back at {format_time(seen.taken_at)}", seen.taken_at)
    if lease.state is LeaseState.ENDING:
        return
    # Hours with a deadline run when accelerators are idle: nothing is kept ahead for them.
    kept = traits.keeps(lease.class_name) and lease.service_s is None
    why = _unkept(lease, seen, timing, now) if kept else None
    if why is not None:
        yield Step("reserve", lease.id, why)
    if engine_facts(lease, seen, traits) != (lease.engine or {}):
        yield Step("record", lease.id, "where its engine has put it, and what it keeps for it, has changed")


def is_taken(lease: Lease, seen: Observation) -> bool:
    """The engine gives it up earlier than the books know."""
    return seen.taken_at is not None and seen.taken_at + SLACK < lease.deadline


def engine_facts(lease: Lease, seen: Observation, traits: Traits) -> dict[str, Any]:
    """What the lease shows of its engine: `fenced` (asserted, or broken and why), where it is, and its doors if it has several.
    Places and doors that are unknown at the moment stay as they were."""
    before = lease.engine or {}
    facts: dict[str, Any] = {}
    if traits.keeps(lease.class_name) and seen.reservation is not None:
        broken = seen.reservation.broken
        facts["fenced"] = f"broken: {broken}" if broken else "asserted"
    if devices := list(seen.devices) or before.get("devices"):
        facts["devices"] = devices
    if doors := [item.as_dict() for item in seen.endpoints] or before.get("endpoints"):
        facts["endpoints"] = doors
    return facts


def reserve_order(lease: Lease, timing: Timing) -> ReserveOrder:
    """What the engine is to keep for the lease, until it is over and cleaned up."""
    window = timing.fence(Window(lease.window.start, max(lease.deadline, lease.window.start + timedelta(seconds=1))))
    return ReserveOrder(lease.id, lease.organization_id, lease.accelerators, window, lease.class_name, lease.block_id)


def _unkept(lease: Lease, seen: Observation, timing: Timing, now: datetime) -> str | None:
    """Why the engine has to be asked (again) to keep capacity for the lease; None where what it keeps is right."""
    wanted, kept = reserve_order(lease, timing), seen.reservation
    if wanted.window.end <= now:
        return None
    if kept is None:
        return "its engine keeps nothing for it"
    if kept.broken is not None:
        return f"what its engine keeps for it would not hold: {kept.broken}"
    if kept.accelerators < wanted.accelerators or (lease.handed_back and kept.accelerators > wanted.accelerators):
        return f"its engine keeps {kept.accelerators} of {wanted.accelerators} accelerators"
    moved = wanted.window.start > now and abs(kept.start - wanted.window.start) > SLACK
    if moved or abs(kept.end - wanted.window.end) > SLACK:
        return f"its engine keeps it until {format_time(kept.end)}, its window with gaps ends {format_time(wanted.window.end)}"
    return None
