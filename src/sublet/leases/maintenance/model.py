"""A window of maintenance, and what it takes back. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sublet.leases.model import Lease, checked_ahead
from sublet.leases.plan.elsewhere import Elsewhere
from sublet.leases.reclaim.victims import ReclaimPlan, Victim, moved_of, plan_reclaim
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.money import price_from_nano, text_from_nano
from sublet.values.service_classes import ServiceClasses
from sublet.values.windows import Window

PAST_S_MAX = 60
"""A window that begins "now" is not past because the request took a moment."""


class MaintenanceOverlapError(ConflictError):
    """Together with maintenance that is planned already, this takes more accelerators than the pool has; choose another time
    or fewer accelerators, or cancel the other window."""

    code = "maintenance_overlap"


class MaintenanceState(StrEnum):
    """Where a window stands."""

    PLANNED = "planned"
    ACTIVE = "active"
    OVER = "over"
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Maintenance:
    """`accelerators` of a pool that are away over `window`. `reclaim_id` is the order that takes back what is in the way."""

    id: str
    pool_id: str
    accelerators: int
    window: Window
    reason: str
    actor: str
    created_at: datetime
    reclaim_id: str | None = None
    canceled_at: datetime | None = None

    def state(self, now: datetime) -> MaintenanceState:
        if self.canceled_at is not None:
            return MaintenanceState.CANCELED
        if self.window.end <= now:
            return MaintenanceState.OVER
        return MaintenanceState.ACTIVE if self.window.start <= now else MaintenanceState.PLANNED

    def as_dict(self, now: datetime) -> dict[str, Any]:
        return {
            "id": self.id,
            "pool_id": self.pool_id,
            "state": self.state(now).value,
            "accelerators": self.accelerators,
            "start": format_time(self.window.start),
            "end": format_time(self.window.end),
            "reason": self.reason,
            "actor": self.actor,
            "created_at": format_time(self.created_at),
            "canceled_at": format_time(self.canceled_at) if self.canceled_at else None,
            "reclaim_id": self.reclaim_id,
        }


@dataclass(frozen=True, slots=True)
class Away:
    """`count` accelerators that are away over `window` already, by `reason`."""

    count: int
    window: Window
    reason: str


@dataclass(frozen=True, slots=True)
class MaintenancePlan:
    """A window, and the leases that have to end for it: notice goes to all of them at once, and says when access ends."""

    maintenance: Maintenance
    takes: ReclaimPlan

    @property
    def credits(self) -> dict[str, int]:
        """What is owed to tenants, in nano-units by currency."""
        found: dict[str, int] = defaultdict(int)
        for victim in self.takes.victims:
            if isinstance(victim, Victim):
                found[victim.lease.currency] += victim.credit_nano
        return dict(found)

    @property
    def sentence(self) -> str:
        """What it takes, for a person who decides."""
        takes = self.takes
        if not takes.victims and not takes.short:
            return "no lease is in the way"
        words = []
        moved = moved_of(takes.victims)
        if moved:
            words.append(f"{moved} leases move to another pool" if moved > 1 else "1 lease moves to another pool")
        if len(takes.victims) > moved:
            ending = len(takes.victims) - moved
            many = f"{ending} leases end" if ending > 1 else "1 lease ends"
            owed = ", ".join(f"{price_from_nano(nano)} {currency}" for currency, nano in sorted(self.credits.items()))
            words.append(
                f"{many} early, which frees {takes.freed - moved_of(takes.victims, count=True)} accelerators for credits of {owed}; "
                "notice goes at once"
            )
        if takes.short:
            words.append(f"{takes.short} accelerators are promised firmly for that time")
        return "; ".join(words)

    def as_dict(self, now: datetime) -> dict[str, Any]:
        return {
            "maintenance": self.maintenance.as_dict(now),
            "takes_back": [victim.as_dict() for victim in self.takes.victims],
            "short": self.takes.short,
            "credits": [
                {"currency": currency, "amount": text_from_nano(nano)}
                for currency, nano in sorted(self.credits.items())
            ],
            "sentence": self.sentence,
        }


def checked_window(start: datetime, end: datetime, now: datetime) -> Window:
    """The window, if maintenance may be planned for it. Raises InvalidInputError."""
    if end <= start:
        raise InvalidInputError(
            f"maintenance must end after it starts; {format_time(start)} to {format_time(end)} does not", field="end"
        )
    for name, at, earliest in (("start", start, now - timedelta(seconds=PAST_S_MAX)), ("end", end, now)):
        if at < earliest:
            raise InvalidInputError(f"{name} {format_time(at)} is past; it is {format_time(now)} now", field=name)
    checked_ahead(end, now)
    return Window(start, end)


def checked_count(accelerators: int, capacity: int, pool: str) -> int:
    """How many are away; 0 stands for the whole pool. Raises InvalidInputError."""
    if accelerators > capacity:
        raise InvalidInputError(f"{pool} has {capacity} accelerators, not {accelerators}", field="accelerators")
    return accelerators or capacity


def refuse_overlap(count: int, window: Window, others: Sequence[Away], capacity: int, pool: str) -> None:
    """Raises MaintenanceOverlapError where more than the pool has would be away at once."""
    near = [item for item in others if item.window.start < window.end and item.window.end > window.start]
    at, most = _busiest(window.start, window, (item.window for item in near), lambda at: _away(near, at))
    if most + count > capacity:
        standing = "; ".join(
            f"{item.count} from {format_time(item.window.start)} to {format_time(item.window.end)} ({item.reason})"
            for item in near[:5]
        )
        raise MaintenanceOverlapError(
            f"{most} of {capacity} accelerators of {pool} are away already at {format_time(at)}: {standing}; "
            f"{capacity - most} are left to take away then"
        )


def plan_maintenance(
    maintenance: Maintenance,
    capacity: int,
    others: Sequence[Away],
    leases: Sequence[Lease],
    now: datetime,
    *,
    clean_s: int,
    classes: ServiceClasses,
    force: bool,
    elsewhere: Elsewhere | None = None,
) -> ReclaimPlan:
    """Which of the pool's `leases` have to end, or to move where there is room `elsewhere`, so that no more are held than are there.

    Of those that hold something at the fullest moment of the window, the ones whose end destroys the least value, until every moment
    fits. Leases of a class that is never taken back go by `force` alone; without it they are `short`.
    """
    window, pool_id = maintenance.window, maintenance.pool_id
    left = [item for item in leases if item.may_be_asked(window.start) and _holds(item, window)]
    left_anyway = [item for item in leases if not item.may_be_asked(window.start) and _holds(item, window)]
    victims: list[Victim] = []
    begin = max(window.start, now)

    def excess(at: datetime) -> int:
        held = sum(item.accelerators for item in (*left, *left_anyway) if item.window.start <= at < item.deadline)
        return held + _away(others, at) + maintenance.accelerators - capacity

    while True:
        windows = [*(item.window for item in left), *(item.window for item in others)]
        at, most = _busiest(begin, window, windows, excess)
        if most <= 0:
            break
        there = [item for item in left if item.window.start <= at < item.deadline]
        plan = plan_reclaim(
            pool_id, most, window.start, there, now,
            why=f"maintenance: {maintenance.reason}", clean_s=clean_s, force=force, classes=classes,
            elsewhere=elsewhere,
        )  # fmt: skip
        chosen = [victim for victim in plan.victims if isinstance(victim, Victim)]
        victims += chosen
        left = [item for item in left if item.id not in {victim.id for victim in chosen}]
        if plan.short or not chosen:
            back_at = max((victim.reclaim_at for victim in victims), default=None)
            return ReclaimPlan(pool_id, most, tuple(victims), plan.short, back_at)
    freed = sum(victim.accelerators for victim in victims)
    return ReclaimPlan(pool_id, freed, tuple(victims), 0, max((item.reclaim_at for item in victims), default=None))


def _busiest(begin: datetime, window: Window, windows: Iterable[Window], count: Any) -> tuple[datetime, int]:
    """The first moment of `window` from `begin` on at which `count` is highest, and how high: it rises where a window begins."""
    moments = sorted({begin, *(item.start for item in windows if begin < item.start < window.end)})
    at = max(moments, key=count)
    return at, int(count(at))


def _away(others: Iterable[Away], at: datetime) -> int:
    return sum(item.count for item in others if item.window.start <= at < item.window.end)


def _holds(lease: Lease, window: Window) -> bool:
    return not lease.state.terminal and lease.window.start < window.end and lease.deadline > window.start
