"""Whom to ask back: the owner's need turned into a list of whole leases, each with its time, its credit and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sublet.leases.model import FORCED_NOTICE_S, RECLAIM_ORDER, Lease, credit_nano
from sublet.values.clock import format_time
from sublet.values.money import text_from_nano


@dataclass(frozen=True, slots=True)
class Victim:
    """A lease to be taken back at `reclaim_at`, for `credit_nano`. `forced` breaks a firm one."""

    lease: Lease
    reclaim_at: datetime
    credit_nano: int
    reason: str
    forced: bool = False

    def as_dict(self) -> dict[str, Any]:
        return {
            "lease_id": self.lease.id,
            "organisation_id": self.lease.organisation_id,
            "class": self.lease.class_name,
            "accelerators": self.lease.accelerators,
            "reclaim_at": format_time(self.reclaim_at),
            "credit": text_from_nano(self.credit_nano),
            "currency": self.lease.currency,
            "forced": self.forced,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class ReclaimPlan:
    """`needed` accelerators must come back from tenants; `victims` give `freed`, the last of them at `back_at`.

    `short` is what only firm leases hold: they are not touched unless they are broken by force.
    """

    pool_id: str
    needed: int
    victims: tuple[Victim, ...]
    short: int
    back_at: datetime | None

    @property
    def freed(self) -> int:
        return sum(victim.lease.accelerators for victim in self.victims)

    def as_dict(self) -> dict[str, Any]:
        return {
            "pool_id": self.pool_id,
            "needed": self.needed,
            "freed": self.freed,
            "short": self.short,
            "back_at": format_time(self.back_at) if self.back_at else None,
            "victims": [victim.as_dict() for victim in self.victims],
        }


def plan_reclaim(
    pool_id: str,
    needed: int,
    by: datetime,
    leases: Sequence[Lease],
    now: datetime,
    *,
    why: str,
    clean_s: int = 0,
    force: bool = False,
) -> ReclaimPlan:
    """Choose among `leases` (those that hold accelerators of the pool past `by` and are under no notice).

    Spot goes before notice before firm; within a class the fewest whole leases that free what is needed, then the least
    credit, then the youngest. Each gets at least its notice, more where there is time until `by`.
    """
    victims: list[Victim] = []
    short = needed
    for class_name in RECLAIM_ORDER:
        forced = class_name == "firm"
        if short <= 0 or (forced and not force):
            continue
        candidates = [
            _victim(lease, by, now, why, clean_s, forced) for lease in leases if lease.class_name == class_name
        ]
        chosen = _fewest(candidates, short)
        victims += chosen
        short -= sum(victim.lease.accelerators for victim in chosen)
    victims = _without_spare(victims, needed)
    back_at = max((victim.reclaim_at + timedelta(seconds=clean_s) for victim in victims), default=None)
    return ReclaimPlan(pool_id, needed, tuple(victims), max(0, short), back_at)


def _victim(lease: Lease, by: datetime, now: datetime, why: str, clean_s: int, forced: bool) -> Victim:
    notice_s = FORCED_NOTICE_S if lease.notice_s is None else lease.notice_s
    reclaim_at = max(now + timedelta(seconds=notice_s), by - timedelta(seconds=clean_s))
    reclaim_at = min(reclaim_at, lease.window.end)
    return Victim(lease, reclaim_at, credit_nano(lease, reclaim_at), why, forced)


def _cost(victim: Victim) -> tuple[int, float]:
    return (victim.credit_nano, -victim.lease.created_at.timestamp())


def _fewest(candidates: list[Victim], needed: int) -> list[Victim]:
    """The smallest set that frees `needed`, all of them where even that is too little; then cheaper ones in its place."""
    by_size = sorted(candidates, key=lambda item: (-item.lease.accelerators, *_cost(item)))
    chosen: list[Victim] = []
    freed = 0
    for victim in by_size:
        if freed >= needed:
            break
        chosen.append(victim)
        freed += victim.lease.accelerators
    spare = freed - needed
    if spare < 0:
        return chosen
    rest = sorted(by_size[len(chosen) :], key=_cost)
    for index, victim in sorted(enumerate(chosen), key=lambda pair: _cost(pair[1]), reverse=True):
        for other in rest:
            if _cost(other) >= _cost(victim):
                break
            if victim.lease.accelerators - other.lease.accelerators <= spare:
                spare -= victim.lease.accelerators - other.lease.accelerators
                chosen[index] = other
                rest.remove(other)
                break
    return chosen


def _without_spare(victims: list[Victim], needed: int) -> list[Victim]:
    """Leave out whom the need can do without, the dearest and firmest first."""
    kept = list(victims)
    freed = sum(victim.lease.accelerators for victim in kept)
    for victim in reversed(victims):
        if freed - victim.lease.accelerators >= needed:
            kept.remove(victim)
            freed -= victim.lease.accelerators
    return kept
