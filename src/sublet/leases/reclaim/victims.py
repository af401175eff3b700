"""Turns the owner's need into a list of leases and replicas to reclaim, each with its time, cost and reason.

Pure. Replicas of managed models rent capacity from Sublet, so they are treated like leases of their class.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sublet.leases.model import FORCED_NOTICE_S, Lease, PlannedMove, credit_nano, late_credit_nano
from sublet.leases.plan.elsewhere import Elsewhere
from sublet.surplus.rule.reclaim import Holding, least_destroyed
from sublet.values.clock import format_time
from sublet.values.money import text_from_nano
from sublet.values.service_classes import SHIPPED, ServiceClasses
from sublet.values.windows import Window

PAUSE_SLACK_S = 1800
"""With less slack than this a pause is likely to make a lease late: it then counts as what it is, a promise that is broken."""

LOOK_S = 60
"""So long a span is looked at from each moment at which a notice given now would be over."""


BLOCK_LAST = 1_000_000
"""Above the strictness of any class: what was sold from a block is taken back after everything else."""

REPLICA_LEFT_S = 3600
"""A replica has no end of its own: what is forgone is counted as one hour, for it starts again once there is room."""


@dataclass(frozen=True, slots=True)
class Occupant:
    """A replica as the reclaim plan sees it. `rate_nano` is the price of its class on its pool, per accelerator-hour.
    `leaving_at` is when it is gone if it drains or is under notice. A `protected` replica belongs to a floor, which the
    operator pays for, so it is reclaimed only with force."""

    id: str
    model: str
    accelerators: int
    rate_nano: int
    currency: str
    drain_s: int
    leaving_at: datetime | None = None
    protected: bool = False
    class_name: str = "spot"


@dataclass(frozen=True, slots=True)
class Victim:
    """A lease to reclaim at `reclaim_at`, for a credit of `credit_nano`. `forced` means that its class is never reclaimed
    otherwise. `reason` is internal; the tenant is told only that the owner needs the capacity. `cost` is the value that is
    destroyed."""

    lease: Lease
    reclaim_at: datetime
    credit_nano: int
    reason: str
    cost: Holding
    forced: bool = False
    move: PlannedMove | None = None

    @property
    def id(self) -> str:
        return self.lease.id

    @property
    def accelerators(self) -> int:
        return self.lease.accelerators

    @property
    def sentence(self) -> str:
        """Explains to readers of the plan why this lease was chosen."""
        verb = "; it is paused" if self.lease.service_s is not None else ""
        verb = f"; it moves to pool {self.move.pool_id}" if self.move is not None else verb
        return f"{self.reason}{verb}; {self.cost.sentence} {self.lease.currency}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": "lease",
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
            "move_to": self.move.pool_id if self.move is not None else "",
        }


@dataclass(frozen=True, slots=True)
class ReplicaVictim:
    """A replica of a managed model to drain so that it is gone at `reclaim_at`. No credit is owed."""

    occupant: Occupant
    reclaim_at: datetime
    reason: str
    cost: Holding

    @property
    def id(self) -> str:
        return self.occupant.id

    @property
    def accelerators(self) -> int:
        return self.occupant.accelerators

    @property
    def forced(self) -> bool:
        """Whether it belongs to a floor."""
        return self.occupant.protected

    @property
    def sentence(self) -> str:
        """Explains to readers of the plan why this replica was chosen."""
        return f"{self.reason}; {self.occupant.model}: {self.cost.sentence} {self.occupant.currency}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "kind": "replica",
            "replica_id": self.occupant.id,
            "model": self.occupant.model,
            "class": self.occupant.class_name,
            "accelerators": self.occupant.accelerators,
            "reclaim_at": format_time(self.reclaim_at),
            "credit": text_from_nano(0),
            "income_forgone": text_from_nano(self.cost.income_nano),
            "work_lost": text_from_nano(0),
            "work_lost_s": 0,
            "destroyed": text_from_nano(self.cost.destroyed_nano),
            "currency": self.occupant.currency,
            "forced": self.forced,
            "reason": self.reason,
            "sentence": self.cost.sentence,
        }


@dataclass(frozen=True, slots=True)
class ReclaimPlan:
    """`needed` accelerators must be reclaimed from tenants. `victims` free `freed` accelerators, the last of them at
    `back_at`. `short` is what is left to classes that are never reclaimed and to floors, which only force can break."""

    pool_id: str
    needed: int
    victims: tuple[Victim | ReplicaVictim, ...]
    short: int
    back_at: datetime | None

    @property
    def freed(self) -> int:
        return sum(victim.accelerators for victim in self.victims)

    @property
    def destroyed_nano(self) -> int:
        """The credits owed, income forgone and work lost, over all victims."""
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


@dataclass(frozen=True, slots=True)
class Return:
    """A notice to withdraw because its reason is gone."""

    id: str
    pool_id: str
    kind: str
    reason: str


@dataclass(frozen=True, slots=True)
class _Tenant:
    """A lease or a replica as `rising` counts it. `place` is the strictness of its class. `leaving_in_time` means that it is
    under notice and gone by the end of that notice."""

    id: str
    accelerators: int
    notice_s: int | None
    place: int
    start: datetime
    end: datetime | None
    leaving: bool
    leaving_in_time: bool
    lease: Lease | None = None

    def count_at(self, at: datetime) -> int:
        """The accelerators that it holds at a moment, without those that its tenant gives back."""
        if not self.start <= at or (self.end is not None and self.end <= at):
            return 0
        return self.lease.held_at(at) if self.lease is not None else self.accelerators

    def holds(self, window: Window) -> bool:
        """Whether it holds its accelerators at any moment of `window`."""
        return self.start < window.end and (self.end is None or self.end > window.start)


def _tenant_of(lease: Lease, classes: ServiceClasses, now: datetime, clean_s: int) -> _Tenant:
    in_time = now + timedelta(seconds=(lease.notice_s or 0) + clean_s)
    leaving = not lease.may_be_asked(in_time)
    return _Tenant(
        id=lease.id,
        accelerators=lease.accelerators,
        notice_s=lease.notice_s,
        place=_turn(lease, classes, in_time),
        start=lease.window.start,
        end=lease.deadline,
        leaving=leaving,
        leaving_in_time=lease.reclaim_at is not None and lease.deadline <= in_time,
        lease=lease,
    )


def _tenant_of_replica(item: Occupant, classes: ServiceClasses, now: datetime) -> _Tenant:
    leaving_at = item.leaving_at
    return _Tenant(
        id=item.id,
        accelerators=item.accelerators,
        notice_s=item.drain_s,
        place=classes.place_of(item.class_name, item.drain_s),
        start=now,
        end=leaving_at,
        leaving=leaving_at is not None,
        leaving_in_time=leaving_at is not None and leaving_at <= now + timedelta(seconds=item.drain_s),
    )


def _most_at_once(tenants: Sequence[_Tenant], window: Window) -> int:
    """The accelerators that they hold together at the busiest moment of `window`. A tenant that begins when another ends adds
    nothing."""
    moments = {window.start, *(item.start for item in tenants if window.start < item.start < window.end)}
    return max(sum(item.count_at(at) for item in tenants) for at in moments)


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
    replicas: Sequence[Occupant] = (),
    classes: ServiceClasses = SHIPPED,
    elsewhere: Elsewhere | None = None,
) -> ReclaimPlan:
    """Choose among `leases` and `replicas`: those that hold accelerators of the pool after `by` and are not under notice.

    Less strict classes go first. Replicas go with the class that they rent in, and replicas of floors with the strictest. Within
    a class, those whose end destroys the least value are chosen (see `surplus.rule.reclaim.least_destroyed`). Each gets at least
    its notice, or more if `by` allows. If there is capacity `elsewhere`, a lease that may move does so instead of ending, which
    destroys less.
    """
    offered: dict[str, Victim | ReplicaVictim] = {
        lease.id: _moving(_victim(lease, by, now, why, clean_s, classes), elsewhere)
        for lease in leases
        if force or lease.reclaimable
    }
    offered |= {
        item.id: _replica_victim(item, by, now, why, classes) for item in replicas if force or not item.protected
    }
    by_s = max(0, int((by - now).total_seconds()))
    chosen = least_destroyed([victim.cost for victim in offered.values()], needed, by_s)
    victims = tuple(offered[item.id] for item in chosen)
    if elsewhere is not None:
        elsewhere.keep([victim.id for victim in victims])
        victims = tuple(_moving(victim, elsewhere) for victim in victims)
    back_at = max((now + timedelta(seconds=victim.cost.drain_s) for victim in victims), default=None)
    short = max(0, needed - sum(victim.accelerators for victim in victims))
    return ReclaimPlan(pool_id, needed, victims, short, back_at)


def rising(
    pool_id: str,
    leases: Sequence[Lease],
    replicas: Sequence[Occupant],
    may_stay: Callable[[Window], int],
    now: datetime,
    clean_s: int,
    classes: ServiceClasses = SHIPPED,
    elsewhere: Elsewhere | None = None,
) -> ReclaimPlan | None:
    """Who gets notice because tenants hold more than they may. Each class gets notice only as early as its notice period
    requires.

    A stricter class is not reclaimed in place of a less strict one just because its notice is shorter. The less strict one gets
    notice too, and counts as gone during its own notice.
    """
    rented = [item for item in replicas if not item.protected]
    tenants = [
        *(_tenant_of(lease, classes, now, clean_s) for lease in leases),
        *(_tenant_of_replica(item, classes, now) for item in rented),
    ]
    victims: list[Victim | ReplicaVictim] = []
    needed = short = 0
    for notice_s in sorted({item.notice_s for item in tenants if item.notice_s is not None}):
        by = now + timedelta(seconds=notice_s + clean_s)
        window = Window.starting(by, LOOK_S)
        gone = {victim.id for victim in victims}
        present = [item for item in tenants if item.id not in gone and item.holds(window)]
        able = [(item, item.notice_s) for item in present if not item.leaving and item.notice_s is not None]
        place = max((item.place for item, needs_s in able if needs_s <= notice_s), default=0)
        counted = [item for item in present if not (item.leaving_in_time and item.place < place)]
        excess = _most_at_once(counted, window) - may_stay(window)
        if excess <= 0:
            continue
        asked = {item.id for item, needs_s in able if needs_s <= notice_s or item.place < place}
        plan = plan_reclaim(
            pool_id,
            excess,
            by,
            [lease for lease in leases if lease.id in asked],
            now,
            why=f"the owner needs more of the pool: tenants hold {excess} more than may stay",
            clean_s=clean_s,
            replicas=[item for item in rented if item.id in asked],
            classes=classes,
            elsewhere=elsewhere,
        )
        victims += plan.victims
        needed += excess
        short = plan.short
    if not victims:
        return None
    back_at = max(now + timedelta(seconds=victim.cost.drain_s) for victim in victims)
    return ReclaimPlan(pool_id, needed, tuple(victims), short, back_at)


def returning(
    leases: Sequence[Lease],
    replicas: Sequence[Occupant],
    noticed: Collection[str],
    may_stay: Callable[[Window], int],
    now: datetime,
    classes: ServiceClasses = SHIPPED,
) -> list[str]:
    """Which notices in `noticed` can be withdrawn because the need is gone: strictest class first, then those that lose most.
    `may_stay` returns what tenants may hold at the highest recent need, so that nobody gets notice again at once."""
    window = Window.starting(now, LOOK_S)
    # Longer notices look further ahead: everybody must fit into what may stay at each of these moments.
    moments = [window, *(Window.starting(now + timedelta(seconds=s), LOOK_S) for s in sorted(_notices(leases)))]
    waiting = [lease for lease in leases if lease.id in noticed and lease.deadline > now]
    rented = [item for item in replicas if not item.protected]
    going = [item for item in rented if item.id in noticed and item.leaving_at is not None and item.leaving_at > now]
    asked = {lease.id for lease in waiting} | {item.id for item in going}
    found: list[str] = []
    spare = min(
        may_stay(moment)
        - sum(lease.held_at(moment.end) for lease in leases if lease.id not in asked and _holds(lease, moment))
        - sum(
            item.accelerators
            for item in rented
            if item.id not in asked and (item.leaving_at is None or item.leaving_at > moment.start)
        )
        for moment in moments
    )
    order = sorted(
        waiting,
        key=lambda lease: (
            -classes.place_of(lease.class_name, lease.notice_s),
            -lease.credit_nano,
            lease.created_at,
            lease.id,
        ),
    )
    for lease in order:
        if lease.accelerators <= spare:
            spare -= lease.accelerators
            found.append(lease.id)
    for item in going:
        if item.accelerators <= spare:
            spare -= item.accelerators
            found.append(item.id)
    return found


def moved_of(victims: Sequence[Victim | ReplicaVictim], *, count: bool = False) -> int:
    """How many of them move to another pool instead of ending; with `count`, how many accelerators these have."""
    moving = [victim for victim in victims if isinstance(victim, Victim) and victim.move is not None]
    return sum(victim.accelerators for victim in moving) if count else len(moving)


def accelerators_of(leases: Sequence[Lease], replicas: Sequence[Occupant]) -> int:
    """The accelerators that they hold together."""
    return sum(lease.accelerators for lease in leases) + sum(item.accelerators for item in replicas)


def _notices(leases: Sequence[Lease]) -> set[int]:
    return {lease.notice_s for lease in leases if lease.notice_s is not None}


def _holds(lease: Lease, window: Window) -> bool:
    """Whether the lease holds its accelerators at any moment of `window`."""
    return lease.window.start < window.end and lease.deadline > window.start


def _replica_victim(item: Occupant, by: datetime, now: datetime, why: str, classes: ServiceClasses) -> ReplicaVictim:
    reclaim_at = max(now + timedelta(seconds=item.drain_s), by)
    cost = Holding(
        id=item.id,
        accelerators=item.accelerators,
        class_name=item.class_name,
        rate_nano=item.rate_nano,
        credit_nano=0,
        served_s=0,
        left_s=REPLICA_LEFT_S,
        drain_s=max(0, int((reclaim_at - now).total_seconds())),
        turn=classes.strictest.strictness if item.protected else classes.place_of(item.class_name, item.drain_s),
    )
    return ReplicaVictim(item, reclaim_at, why, cost)


def _turn(lease: Lease, classes: ServiceClasses, at: datetime) -> int:
    """The order in which leases give capacity back. A lease that can be paused and still meet its deadline goes before every
    class, most slack first."""
    place = classes.place_of(lease.class_name, lease.notice_s)
    if lease.service_s is None:
        return place
    slack_s = lease.slack_s(at)
    return place if slack_s < PAUSE_SLACK_S else -int(slack_s // PAUSE_SLACK_S)


def _paused(
    lease: Lease, reclaim_at: datetime, now: datetime, why: str, clean_s: int, classes: ServiceClasses
) -> Victim:
    """A lease with a deadline as a victim to pause. No credit is owed and no income is lost while it can still meet its
    deadline."""
    slack_s = lease.slack_s(reclaim_at)
    late_s = round(max(0.0, min(lease.left_s, PAUSE_SLACK_S - slack_s)))
    credit = late_credit_nano(lease, late_s * lease.accelerators)
    cost = Holding(
        id=lease.id,
        accelerators=lease.accelerators,
        class_name=lease.class_name,
        rate_nano=lease.price_at(reclaim_at),
        credit_nano=credit,
        served_s=0,
        left_s=late_s,
        drain_s=max(0, int((reclaim_at - now).total_seconds())) + clean_s,
        turn=_turn(lease, classes, reclaim_at),
    )
    return Victim(lease, reclaim_at, credit, why, cost)


def _moving(victim: Victim | ReplicaVictim, elsewhere: Elsewhere | None) -> Victim | ReplicaVictim:
    """The same victim with a move if one is possible: no credit is owed and no income is lost, but its processes restart."""
    if elsewhere is None or not isinstance(victim, Victim) or victim.move is not None:
        return victim
    move = elsewhere.find(victim.lease, victim.reclaim_at)
    if move is None:
        return victim
    return replace(victim, move=move, credit_nano=0, cost=replace(victim.cost, credit_nano=0, left_s=0))


def _victim(lease: Lease, by: datetime, now: datetime, why: str, clean_s: int, classes: ServiceClasses) -> Victim:
    notice_s = FORCED_NOTICE_S if lease.notice_s is None else lease.notice_s
    reclaim_at = max(now + timedelta(seconds=notice_s), by - timedelta(seconds=clean_s))
    reclaim_at = min(reclaim_at, lease.window.end)
    if lease.service_s is not None:
        return _paused(lease, reclaim_at, now, why, clean_s, classes)
    credit = credit_nano(lease, reclaim_at)
    began = lease.active_at or max(lease.window.start, now)
    cost = Holding(
        id=lease.id,
        accelerators=lease.accelerators,
        class_name=lease.class_name,
        rate_nano=lease.price_at(reclaim_at),
        credit_nano=credit,
        served_s=max(0, int((reclaim_at - began).total_seconds())),
        left_s=max(0, int((lease.window.end - max(reclaim_at, lease.window.start)).total_seconds())),
        drain_s=max(0, int((reclaim_at - now).total_seconds())) + clean_s,
        # Leases from blocks go last: they do not depend on a forecast that could have been wrong.
        turn=classes.place_of(lease.class_name, lease.notice_s) + (BLOCK_LAST if lease.block_id else 0),
    )
    return Victim(lease, reclaim_at, credit, why, cost, forced=not lease.reclaimable)
