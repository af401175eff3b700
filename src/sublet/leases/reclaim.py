"""Whom to ask back: the owner's need turned into a list of whole leases, each with its time, its credit and the reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sublet.leases.model import FORCED_NOTICE_S, RECLAIM_ORDER, Lease, credit_nano
from sublet.surplus.reclaim import Holding, least_destroyed
from sublet.values.clock import format_time
from sublet.values.money import text_from_nano


@dataclass(frozen=True, slots=True)
class Victim:
    """A lease to be taken back at `reclaim_at`, for `credit_nano`. `forced` breaks a firm one.

    `reason` is the owner's own affair; the tenant is told that it is needed. `cost` is what is destroyed.
    """

    lease: Lease
    reclaim_at: datetime
    credit_nano: int
    reason: str
    cost: Holding
    forced: bool = False

    @property
    def sentence(self) -> str:
        """Why a lease, and why this one, for whoever reads the plan."""
        return f"{self.reason}; {self.cost.sentence} {self.lease.currency}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "lease_id": self.lease.id,
            "organization_id": self.lease.organization_id,
            "class": self.lease.class_name,
            "accelerators": self.lease.accelerators,
            "reclaim_at": format_time(self.reclaim_at),
            "credit": text_from_nano(self.credit_nano),
            "income_forgone": text_from_nano(self.cost.income_nano),
            "work_lost": text_from_nano(self.cost.work_nano),
            "work_lost_s": self.cost.lost_s,
            "destroyed": text_from_nano(self.cost.destroyed_nano),
            "currency": self.lease.currency,
            "forced": self.forced,
            "reason": self.reason,
            "sentence": self.cost.sentence,
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

    @property
    def destroyed_nano(self) -> int:
        """Credits owed, income forgone and work lost, of all victims."""
        return sum(victim.cost.destroyed_nano for victim in self.victims)

    def as_dict(self) -> dict[str, Any]:
        return {
            "pool_id": self.pool_id,
            "needed": self.needed,
            "freed": self.freed,
            "short": self.short,
            "back_at": format_time(self.back_at) if self.back_at else None,
            "destroyed": text_from_nano(self.destroyed_nano),
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

    Spot goes before notice before firm; within a class the whole leases whose end destroys the least value, as
    `surplus.reclaim.least_destroyed` chooses them. Each gets at least its notice, more where there is time until `by`.
    """
    askable = [lease for lease in leases if force or lease.class_name != "firm"]
    offered = {lease.id: _victim(lease, by, now, why, clean_s) for lease in askable}
    by_s = max(0, int((by - now).total_seconds()))
    chosen = least_destroyed([victim.cost for victim in offered.values()], needed, by_s)
    victims = tuple(offered[item.id] for item in chosen)
    back_at = max((victim.reclaim_at + timedelta(seconds=clean_s) for victim in victims), default=None)
    short = max(0, needed - sum(victim.lease.accelerators for victim in victims))
    return ReclaimPlan(pool_id, needed, victims, short, back_at)


def _victim(lease: Lease, by: datetime, now: datetime, why: str, clean_s: int) -> Victim:
    notice_s = FORCED_NOTICE_S if lease.notice_s is None else lease.notice_s
    reclaim_at = max(now + timedelta(seconds=notice_s), by - timedelta(seconds=clean_s))
    reclaim_at = min(reclaim_at, lease.window.end)
    credit = credit_nano(lease, reclaim_at)
    began = lease.active_at or max(lease.window.start, now)
    cost = Holding(
        id=lease.id,
        accelerators=lease.accelerators,
        class_name=lease.class_name,
        rate_nano=lease.price_nano,
        credit_nano=credit,
        served_s=max(0, int((reclaim_at - began).total_seconds())),
        left_s=max(0, int((lease.window.end - max(reclaim_at, lease.window.start)).total_seconds())),
        drain_s=max(0, int((reclaim_at - now).total_seconds())) + clean_s,
        turn=RECLAIM_ORDER.index(lease.class_name),
    )
    return Victim(lease, reclaim_at, credit, why, cost, forced=lease.class_name == "firm")
