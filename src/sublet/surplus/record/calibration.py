"""What was promised against what happened: broken per 1,000 with what is known of it, survival, and share of the bound.

Pure. Two sources lead to the same figures and are never mixed: leases that were sold and are over, and the shadow that
lives through the recorded demand.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sublet.surplus.model import HOUR_S, Stood
from sublet.surplus.rule.earned import as_dict
from sublet.values.clock import format_time
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

DAY_S = 24 * HOUR_S
RECENT_DAYS = 30
PARTS = 24
"""Into how many equal parts a lease's window is cut for its survival curve; the shadow's are hours."""

Z = 1.959964
"""Two-sided 95 % of the normal distribution."""


class Outcome(StrEnum):
    """What became of a promise. A tenant who gives back early was not let down; a machine that fails is told apart."""

    KEPT = "kept"
    RELEASED = "released"
    BROKEN = "broken"
    FAILED = "failed"


class Verdict(StrEnum):
    """What the interval says about the risk that was accepted. Classes that may be taken back have no such risk."""

    NOTHING = "nothing"
    OPEN = "open"
    WITHIN = "within"
    ABOVE = "above"
    RECALLABLE = "recallable"


@dataclass(frozen=True, slots=True)
class Promise:
    """A lease that is over: when access closed, and for one taken back how long before that its tenant was told."""

    class_name: str
    accelerators: int
    window: Window
    outcome: Outcome
    over_at: datetime
    notice_s: int | None = None
    told_s: float | None = None


@dataclass(slots=True)
class Day:
    """Windows of one class and length that were over on one day, `day` since the epoch.

    `broken_after[k]` broke, and `released_after[k]` were given back, in part k of the window. `accepted` sums the risk
    per 1,000 under which each was sold. `bound_hours` is what perfect knowledge would have honored.
    """

    day: int
    started: int = 0
    kept: int = 0
    broken: int = 0
    accepted: float = 0.0
    bound_hours: int = 0
    released: int = 0
    failed: int = 0
    hours_sold: float = 0.0
    hours_lost: float = 0.0
    broken_after: dict[int, int] = field(default_factory=dict)
    released_after: dict[int, int] = field(default_factory=dict)

    @property
    def over(self) -> int:
        """The risk set: every window of which it is known whether the owner broke it."""
        return self.kept + self.released + self.broken


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true rate lies, per 1,000, with 95 % confidence; `occasions` is how many independent windows tell so."""

    low: float
    high: float
    occasions: float


def interval(days: Iterable[Day], window_s: int) -> Interval:
    """Wilson's interval on the effective number of windows.

    Windows break together, so 500 that were held in one bad hour tell little more than one. Days are taken as clusters,
    and the number of windows is divided by the design effect (Korn and Graubard, Survey Methodology 24, 1998); it is
    never taken to be more than the windows that fit into the time one after the other. Without a window: 0 to 1,000.
    """
    seen = [day for day in days if day.over]
    count = sum(day.over for day in seen)
    if not count:
        return Interval(0.0, 1000.0, 0.0)
    rate = sum(day.broken for day in seen) / count
    effective = float(count)
    if 0 < rate < 1 and len(seen) > 1:
        spread = sum((day.broken - rate * day.over) ** 2 for day in seen)
        variance = len(seen) / (len(seen) - 1) * spread / count**2
        effective = count / max(1.0, variance / (rate * (1 - rate) / count))
    effective = min(effective, sum(min(day.over, DAY_S / window_s) for day in seen))
    middle = (rate + Z**2 / (2 * effective)) / (1 + Z**2 / effective)
    half = Z / (1 + Z**2 / effective) * math.sqrt(rate * (1 - rate) / effective + (Z / (2 * effective)) ** 2)
    return Interval(1000 * max(0.0, middle - half), 1000 * min(1.0, middle + half), effective)


def survival(days: Iterable[Day], parts: int) -> tuple[float, ...]:
    """Share of windows still held after 1, 2, … `parts` of their length (Kaplan and Meier): who gave back early is
    counted for as long as it held. Empty without a window."""
    broken, released = [0] * parts, [0] * parts
    left = 0
    for day in days:
        left += day.over
        for counts, after in ((broken, day.broken_after), (released, day.released_after)):
            for part, count in after.items():
                counts[min(part, parts - 1)] += count
    if not left:
        return ()
    share, found = 1.0, []
    for part in range(parts):
        share *= 1 - broken[part] / left if left else 1.0
        found.append(round(share, 6))
        left -= broken[part] + released[part]
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Figures:
    """One class and window length of one source."""

    class_name: str
    window_s: int
    windows: int
    kept: int
    released: int
    broken: int
    failed: int
    running: int
    accepted_per_1000: float | None
    known: Interval
    survival: tuple[float, ...]
    bound_hours: int
    hours_sold: float
    hours_lost: float
    notice_s: int | None = None
    short_notices: int | None = None

    @property
    def broken_per_1000(self) -> float | None:
        return 1000 * self.broken / self.windows if self.windows else None

    @property
    def share_of_bound(self) -> float | None:
        """Hours of windows that ran to their end, over what perfect knowledge would have honored."""
        return self.kept * self.window_s / HOUR_S / self.bound_hours if self.bound_hours else None

    @property
    def verdict(self) -> Verdict:
        if not self.windows:
            return Verdict.NOTHING
        if self.accepted_per_1000 is None:
            return Verdict.RECALLABLE
        if self.known.low > self.accepted_per_1000:
            return Verdict.ABOVE
        return Verdict.WITHIN if self.known.high <= self.accepted_per_1000 else Verdict.OPEN

    @property
    def sentence(self) -> str:
        """What the figures say, and what they can't say yet."""
        if not self.windows:
            return f"{self.running} running, none over yet" if self.running else "none was sold"
        span = f"{_rate(self.known.low)} to {_rate(self.known.high)}"
        happened = f"{_happened(self.broken_per_1000 or 0.0)} of 1,000"
        if self.accepted_per_1000 is None:
            told = {None: "", 0: ", each with its notice"}.get(
                self.short_notices, f", {self.short_notices} of them with less than its notice"
            )
            return f"{happened} were taken back ({span}){told if self.broken else ''}"
        accepted = f"{_rate(self.accepted_per_1000)} were accepted"
        if self.verdict is Verdict.ABOVE:
            return f"{happened} broke where {accepted}: more than chance explains ({span})"
        if self.verdict is Verdict.WITHIN:
            return f"{happened} broke where {accepted}: kept ({span})"
        many = f"{self.broken:,} of {self.windows:,} broke, worth {self.known.occasions:,.0f} that do not overlap"
        return f"can't tell yet: {many}, fits {span} of 1,000, and {accepted}"

    def as_dict(self) -> dict[str, Any]:
        return {
            "class": self.class_name,
            "window_s": self.window_s,
            "windows": self.windows,
            "kept": self.kept,
            "released": self.released,
            "broken": self.broken,
            "failed": self.failed,
            "running": self.running,
            "accepted_per_1000": self.accepted_per_1000,
            "broken_per_1000": self.broken_per_1000,
            "low_per_1000": round(self.known.low, 3),
            "high_per_1000": round(self.known.high, 3),
            "confidence": 0.95,
            "independent_windows": round(self.known.occasions, 1),
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "survival": [
                {"after_s": round(self.window_s * (part + 1) / len(self.survival)), "share": share}
                for part, share in enumerate(self.survival)
            ],
            "accelerator_hours_sold": round(self.hours_sold, 3),
            "accelerator_hours_lost": round(self.hours_lost, 3),
            "bound_hours": self.bound_hours or None,
            "share_of_bound": self.share_of_bound,
            "notice_s": self.notice_s,
            "short_notices": self.short_notices,
        }


def figures(policy: ServiceClass, window_s: int, days: Sequence[Day], parts: int, running: int = 0) -> Figures:
    """The figures of one class and window length over `days`; `parts` is what their survival was counted in."""
    over = sum(day.over for day in days)
    accepted = sum(day.accepted for day in days) / over if over else policy.broken_per_1000_max
    return Figures(
        class_name=policy.name,
        window_s=window_s,
        windows=over,
        kept=sum(day.kept for day in days),
        released=sum(day.released for day in days),
        broken=sum(day.broken for day in days),
        failed=sum(day.failed for day in days),
        running=running,
        accepted_per_1000=None if policy.reclaimable else accepted,
        known=interval(days, window_s),
        survival=survival(days, parts),
        bound_hours=sum(day.bound_hours for day in days),
        hours_sold=sum(day.hours_sold for day in days),
        hours_lost=sum(day.hours_lost for day in days),
        notice_s=policy.notice_s,
    )


def figures_of_leases(policies: Iterable[ServiceClass], promises: Sequence[Promise]) -> tuple[Figures, ...]:
    """Leases that are over, by class and by the shortest window on offer that covers theirs; longer ones by themselves."""
    found: list[Figures] = []
    for policy in policies:
        mine = [promise for promise in promises if promise.class_name == policy.name]
        for window_s in sorted({_offered(policy, promise) for promise in mine}):
            cell = [promise for promise in mine if _offered(policy, promise) == window_s]
            told = figures(policy, window_s, _days(policy, cell), PARTS)
            broken = [promise for promise in cell if promise.outcome is Outcome.BROKEN]
            short = sum(
                promise.told_s is not None and promise.told_s < (promise.notice_s or 0) - 1 for promise in broken
            )
            found.append(_with_notices(told, short if policy.reclaimable else None))
    return tuple(found)


def _with_notices(told: Figures, short: int | None) -> Figures:
    values = {name: getattr(told, name) for name in Figures.__slots__}
    return Figures(**{**values, "short_notices": short})


def _offered(policy: ServiceClass, promise: Promise) -> int:
    """The window length that a lease counts under; a month for those beyond all on offer."""
    covering = [window_s for window_s in policy.windows_s if promise.window.seconds <= window_s]
    return min(covering, default=30 * DAY_S)


def _days(policy: ServiceClass, promises: Sequence[Promise]) -> list[Day]:
    days: dict[int, Day] = {}
    for promise in promises:
        number = int(promise.over_at.timestamp()) // DAY_S
        day = days.setdefault(number, Day(number))
        length_s = max(1.0, promise.window.seconds)
        held_s = min(length_s, max(0.0, (promise.over_at - promise.window.start).total_seconds()))
        part = min(PARTS - 1, int(PARTS * held_s / length_s))
        if promise.outcome is Outcome.FAILED:
            day.failed += 1
            continue
        day.started += 1
        day.accepted += policy.broken_per_1000_max
        day.hours_sold += promise.accelerators * length_s / HOUR_S
        if promise.outcome is Outcome.KEPT:
            day.kept += 1
        elif promise.outcome is Outcome.RELEASED:
            day.released += 1
            day.released_after[part] = day.released_after.get(part, 0) + 1
        else:
            day.broken += 1
            day.broken_after[part] = day.broken_after.get(part, 0) + 1
            day.hours_lost += promise.accelerators * (length_s - held_s) / HOUR_S
    return [days[number] for number in sorted(days)]


@dataclass(frozen=True, slots=True)
class Tuning:
    """How promises of one length are tightened (`factor` below 1) or loosened on a pool now, since when, and why.

    The factor is on the risk that the last unit sold may carry. `ratio` is what broke in the shadow's fading record over
    what the forecast had expected to. `regime_since` is set while that ratio says that demand is not what it was.
    `latest` are the shadow's windows of the class that can't be taken back, over in the last RECENT_DAYS.
    """

    window_s: int
    ratio: float
    factor: float
    since: datetime | None
    regime_since: datetime | None
    latest: Figures | None = None

    @property
    def sentence(self) -> str:
        """How it sells now, since when and why; and what came of it lately."""
        return f"{self._now}{self._lately}"

    @property
    def _lately(self) -> str:
        if self.latest is None or not self.latest.windows:
            return ""
        return (
            f"; on paper {_happened(self.latest.broken_per_1000 or 0.0)} of 1,000 broke in the last {RECENT_DAYS} days "
            f"where {_rate(self.latest.accepted_per_1000 or 0.0)} were accepted"
        )

    @property
    def _now(self) -> str:
        hours = f"{self.window_s / HOUR_S:g} h"
        if self.regime_since is not None:
            return (
                f"windows of {hours}: demand changed, noticed on {_date(self.regime_since)}: {self.ratio:.1f} times as many "
                f"broke as was forecast, so they are sold at {self.factor:.2f} of the risk accepted until it calms"
            )
        if self.since is None:
            return f"windows of {hours}: as forecast; sold at the risk accepted"
        which = "tightened" if self.factor < 1 else "loosened"
        return (
            f"windows of {hours}: {which} since {_date(self.since)}: {self.ratio:.2f} times as many broke as was forecast, "
            f"so they are sold at {self.factor:.2f} of the risk accepted"
        )

    def as_dict(self) -> dict[str, Any]:
        return {
            "window_s": self.window_s,
            "broken_over_expected": round(self.ratio, 4),
            "factor": round(self.factor, 4),
            "since": format_time(self.since) if self.since else None,
            "regime_changed_at": format_time(self.regime_since) if self.regime_since else None,
            "broken_per_1000_lately": self.latest.broken_per_1000 if self.latest else None,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class Shadowed:
    """How far the shadow has come: hours lived through since `since`, of which `unseen` had no sample; `behind` are still
    to be lived. None of it was sold."""

    since: datetime | None
    until: datetime | None
    hours: int
    unseen: int
    behind: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "since": format_time(self.since) if self.since else None,
            "until": format_time(self.until) if self.until else None,
            "hours": self.hours,
            "hours_without_samples": self.unseen,
            "hours_to_come": self.behind,
        }


@dataclass(frozen=True, slots=True)
class PoolRecord:
    """A pool's record over the last `days` days: what was sold, and beside it what the shadow would have sold."""

    pool_id: str
    pool: str
    at: datetime
    days: int
    leases: tuple[Figures, ...]
    leases_since: datetime
    shadow: tuple[Figures, ...]
    lived: Shadowed
    tunings: tuple[Tuning, ...]
    promises: tuple[Stood, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "pool_id": self.pool_id,
            "pool": self.pool,
            "at": format_time(self.at),
            "days": self.days,
            "leases": {"since": format_time(self.leases_since), "figures": [item.as_dict() for item in self.leases]},
            "shadow": {**self.lived.as_dict(), "figures": [item.as_dict() for item in self.shadow]},
            "tuning": [item.as_dict() for item in self.tunings],
            "promises": [as_dict(item, self.at) for item in self.promises],
        }


def by_cell(rows: Iterable[tuple[str, int, Day]]) -> Mapping[tuple[str, int], list[Day]]:
    """Days by class and window length."""
    cells: dict[tuple[str, int], list[Day]] = {}
    for class_name, window_s, day in rows:
        cells.setdefault((class_name, window_s), []).append(day)
    return cells


def _rate(per_1000: float) -> str:
    return f"{per_1000:.0f}" if per_1000 >= 100 or per_1000 == 0 else f"{per_1000:.1f}".removesuffix(".0")


def _happened(per_1000: float) -> str:
    """What happened once is never told as never."""
    return "less than 0.1" if 0 < per_1000 < 0.05 else _rate(per_1000)


def _date(moment: datetime) -> str:
    return f"{moment.day} {moment:%B %Y}"
