"""Which leases with a deadline run next, on which accelerators, and which are paused for them. Pure.

Least slack runs first, as admission replayed it. What is worth a pause is bounded: a lease that was resumed runs for a while,
and one that was paused waits for a while, longer each time, as far as its slack allows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sublet.leases.model import TURN, Lease
from sublet.values.clock import format_time
from sublet.values.plan import Step

MIN_RUN_S = 600
"""A lease is resumed for no less, unless it needs less, and is not paused for another one before that."""

SWAP_S = 3600
"""How much less slack a waiting lease needs to take the place of a running one: admission replays hour by hour."""

TIGHT_S = 1800
"""A waiting lease with less slack than this takes the place of any running one that has more."""

BACK_OFF_S = 60
BACK_OFF_S_MAX = 1800
"""How long a lease waits after its first pause and, doubled with each further one, at most: never more than a quarter of its
slack."""

SPARE_S = 60
"""A lease keeps its accelerators so much longer than it needs them if nothing goes wrong."""


@dataclass(frozen=True, slots=True)
class Pool:
    """A pool at one moment: `spare` more accelerators may be held by tenants (negative where they hold too many), of which
    `free` says what nobody holds and until when; `runs_until` is when the accelerators of each running lease are booked by
    others or no longer its own, `bookable` when the next booking of them begins."""

    id: str
    now: datetime
    spare: int
    free: Mapping[str, datetime | None]
    runs_until: Mapping[str, datetime] = field(default_factory=dict)
    bookable: Mapping[str, datetime | None] = field(default_factory=dict)


def schedule(pool: Pool, leases: Sequence[Lease]) -> Iterator[Step]:
    """Steps that resume, keep, or pause `leases`, which all have a deadline and are not over."""
    running = [lease for lease in leases if lease.unit_ids]
    for lease in running:
        yield from _kept(pool, lease)
    spare, free = pool.spare, dict(pool.free)
    stayers = [lease for lease in running if lease.reclaim_at is None and _ran_s(pool, lease) >= MIN_RUN_S]
    stayers.sort(key=lambda lease: -lease.slack_s(pool.now))
    # Who is to be paused already makes room before anybody else is asked.
    planned = {lease.id: lease for lease in running if _may_stay(pool, lease)}
    stayers = [*planned.values(), *stayers]
    waiting = [lease for lease in leases if lease.waits and lease.slack_s(pool.now) >= 0]
    for lease in sorted(waiting, key=lambda item: (item.slack_s(pool.now), item.window.end, item.created_at, item.id)):
        if not _rested(pool, lease):
            continue
        chosen = _units(pool, lease, free) if lease.accelerators <= spare else None
        if chosen is not None:
            units, until = chosen
            spare -= lease.accelerators
            for unit in units:
                del free[unit]
            yield _resume(pool, lease, units, until)
        elif spare >= 0 and (victims := _victims(pool, lease, stayers, spare)):
            for victim in victims:
                stayers.remove(victim)
                if planned.pop(victim.id, None) is None:
                    yield _ask(pool, victim, lease)
            # What they leave, and what is spare, is kept for the lease that they are paused for.
            spare = 0
    if pool.spare >= 0:
        for lease in planned.values():
            why = "nobody needs its accelerators any more: the pause that was planned is withdrawn"
            yield Step("withdraw_pause", lease.id, why, pool.now, {"pool_id": pool.id})


def _may_stay(pool: Pool, lease: Lease) -> bool:
    """Whether a lease that is to be paused for others could go on: nobody has booked its accelerators."""
    if lease.reclaim_at is None or lease.reclaim_at <= pool.now or lease.reclaim_origin != TURN:
        return False
    booked = pool.bookable.get(lease.id)
    return booked is None or booked >= pool.now + timedelta(seconds=lease.left_s + SPARE_S)


def _units(pool: Pool, lease: Lease, free: Mapping[str, datetime | None]) -> tuple[tuple[str, ...], datetime] | None:
    """The accelerators that are free for longest, and until when all of them are; None where that is too short."""
    last = lease.window.end
    longest = sorted(free, key=lambda unit: (-(free[unit] or last).timestamp(), unit))[: lease.accelerators]
    if len(longest) < lease.accelerators:
        return None
    until = min([last, *(free[unit] or last for unit in longest)])
    if (until - pool.now).total_seconds() < min(MIN_RUN_S, lease.left_s):
        return None
    return tuple(sorted(longest)), until


def _resume(pool: Pool, lease: Lease, units: tuple[str, ...], free_until: datetime) -> Step:
    needed = pool.now + timedelta(seconds=lease.left_s + SPARE_S)
    until = min(needed, free_until, lease.window.end)
    details: dict[str, Any] = {"pool_id": pool.id, "units": list(units), "until": format_time(until)}
    pauses = until < min(needed, lease.window.end)
    details["pauses_at"] = format_time(until) if pauses else None
    verb = "runs on" if lease.pauses else "begins"
    why = f"it {verb}: {_slack(lease, pool.now)}, the least of those that fit {lease.accelerators} idle accelerators"
    if pauses:
        why += f"; they are booked from {format_time(until)} on"
    return Step("resume", lease.id, why, pool.now, details)


def _victims(pool: Pool, waiting: Lease, stayers: Sequence[Lease], spare: int) -> list[Lease]:
    """Running leases with so much more slack that their pause makes room for `waiting`; none where they can't."""
    slack_s = waiting.slack_s(pool.now)
    missing = waiting.accelerators - spare
    chosen: list[Lease] = []
    for lease in stayers:
        more_s = lease.slack_s(pool.now) - slack_s
        if more_s > SWAP_S or (slack_s < TIGHT_S and more_s > TIGHT_S):
            chosen.append(lease)
            missing -= lease.accelerators
            if missing <= 0:
                return chosen
    return []


def _ask(pool: Pool, lease: Lease, instead: Lease) -> Step:
    why = f"{instead.id} has less slack: {_slack(instead, pool.now)} against {_slack(lease, pool.now)}"
    at = pool.now + timedelta(seconds=lease.notice_s or 0)
    return Step("ask_pause", lease.id, why, at, {"pool_id": pool.id})


def _kept(pool: Pool, lease: Lease) -> Iterator[Step]:
    """What becomes of a running lease whose accelerators are its own for less time than it needs."""
    until = pool.runs_until.get(lease.id)
    needed = min(pool.now + timedelta(seconds=lease.left_s), lease.window.end)
    soon = pool.now + timedelta(seconds=(lease.notice_s or 0) + 2 * SPARE_S)
    if until is None or lease.reclaim_at is not None or until >= needed or until > soon:
        return
    booked = pool.bookable.get(lease.id)
    longer = min(needed + timedelta(seconds=SPARE_S), lease.window.end, booked or lease.window.end)
    if longer > until:
        details = {"pool_id": pool.id, "until": format_time(longer)}
        yield Step("prolong", lease.id, f"it needs its accelerators until {format_time(longer)}", pool.now, details)
    else:
        why = f"its accelerators are booked from {format_time(until)} on"
        yield Step("ask_pause", lease.id, why, max(until, pool.now), {"pool_id": pool.id})


def _rested(pool: Pool, lease: Lease) -> bool:
    """Whether a lease that was paused has waited long enough to be resumed."""
    if not lease.pauses or lease.turned_at is None:
        return True
    wait_s = min(BACK_OFF_S_MAX, BACK_OFF_S << min(lease.pauses - 1, 10))
    return _ran_s(pool, lease) >= min(wait_s, lease.slack_s(pool.now) / 4)


def _ran_s(pool: Pool, lease: Lease) -> float:
    """Seconds since it was resumed or paused."""
    return (pool.now - (lease.turned_at or lease.created_at)).total_seconds()


def _slack(lease: Lease, now: datetime) -> str:
    return f"{max(0.0, lease.slack_s(now)) / 3600:.1f} h of slack"
