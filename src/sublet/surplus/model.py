"""What may be sold now: classes of service, the ladder, and why the rest is withheld."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from sublet.demand.model import Claim
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window

HOUR_S = 3600
WINDOW_S_MAX = 90 * 24 * HOUR_S
LONG_SHARE = 0.15
WINDOWS_DEFAULT_S = (24 * HOUR_S, 12 * HOUR_S, 4 * HOUR_S, HOUR_S)


class UnknownClassError(InvalidInputError):
    """There is no such class of service; use one that the settings name: firm, notice or spot."""

    code = "unknown_class"


@dataclass(frozen=True, slots=True)
class ClassPolicy:
    """One class of service and the risk that the operator accepts for it.

    `notice_s` is None for a class that can't be taken back before its window ends. `teardown_s` is what clearing an
    accelerator takes after the notice. `broken_per_1000_max` counts promises that may be broken per 1,000 sold.
    `windows_s` are the window lengths that the ladder offers, longest first. Of a class that can't be taken back, at most
    `long_share_max` of what could be sold for the shortest window is sold for longer ones.
    """

    name: str
    notice_s: int | None
    broken_per_1000_max: float
    teardown_s: int = 30
    windows_s: tuple[int, ...] = WINDOWS_DEFAULT_S
    sell: bool = True
    long_share_max: float = LONG_SHARE

    def __post_init__(self) -> None:
        if not 0 < self.broken_per_1000_max <= 1000:
            raise InvalidInputError(
                f"broken_per_1000_max of class {self.name} is {self.broken_per_1000_max}; write a number above 0, at most 1000"
            )
        if not self.windows_s or any(not 0 < window <= WINDOW_S_MAX for window in self.windows_s):
            raise InvalidInputError(f"windows of class {self.name} must be from 1 to {WINDOW_S_MAX} seconds long")
        if not 0 <= self.long_share_max <= 1:
            raise InvalidInputError(
                f"long_share_max of class {self.name} is {self.long_share_max}; write a number from 0 to 1"
            )
        object.__setattr__(self, "windows_s", tuple(sorted(self.windows_s, reverse=True)))

    @property
    def patience_s(self) -> float:
        """Seconds until a promise of the class is over at the latest once it is taken back; infinite where it can't be."""
        return float("inf") if self.notice_s is None else self.notice_s + self.teardown_s

    @property
    def shortest_s(self) -> int:
        """The shortest window length of the ladder."""
        return self.windows_s[-1]

    @property
    def laddered(self) -> bool:
        """Whether long and short promises share the risk of one pool."""
        return self.notice_s is None and len(self.windows_s) > 1 and self.risk < 1

    @property
    def risk(self) -> float:
        """The share of promises that may be broken."""
        return self.broken_per_1000_max / 1000

    def horizon_s(self, window_s: float) -> float:
        """How far ahead the peak of demand matters for a promise of `window_s`: until it can be taken back."""
        if self.notice_s is None:
            return window_s
        return min(window_s, self.notice_s + self.teardown_s)


@dataclass(frozen=True, slots=True)
class Absence:
    """`count` accelerators that will not be there over `window`: maintenance, or a pool going offline."""

    count: int
    window: Window
    reason: str = "maintenance"


@dataclass(frozen=True, slots=True)
class BackOff:
    """Demand took capacity back when it stood at `level`: what it needs then is on sale again once demand has stayed lower
    for `hold_s` seconds."""

    level: float
    hold_s: int


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What the rule has to know about a pool besides its demand.

    `capacity` works now; `never_sell` is the operator's setting; `failure_reserve` covers accelerators that may die.
    `quarantined` ones are not proved clean. `reclaims` are what the owner asked back and what is kept for it since;
    `back_off` is there where demand took capacity back lately.
    """

    pool_id: str
    name: str
    capacity: int
    never_sell: int = 0
    failure_reserve: int = 0
    absences: tuple[Absence, ...] = ()
    quarantined: int = 0
    reclaims: tuple[Claim, ...] = ()
    back_off: BackOff | None = None


@dataclass(frozen=True, slots=True)
class Sold:
    """Accelerators that are promised already: `count` of a class over `window`."""

    count: int
    class_name: str
    window: Window


@dataclass(frozen=True, slots=True)
class Withheld:
    """`count` accelerators that are not on sale, by one reason, in a sentence that a person can check."""

    count: int
    reason_code: str
    sentence: str

    def as_dict(self) -> dict[str, object]:
        return {"count": self.count, "reason": self.reason_code, "sentence": self.sentence}


REASONS: dict[str, str] = {
    "never_sell": "the operator's setting",
    "failure_reserve": "kept for accelerators that fail",
    "not_working": "do not work now, by the latest sample",
    "quarantined": "in quarantine: what a lease left there is not proved gone",
    "maintenance": "maintenance or an end of service within the window",
    "in_use": "in use by the owner now",
    "already_sold": "sold already",
    "sold_deeper": "on sale as a longer window or a firmer class of the same ladder",
    "claim": "claimed by an internal team within the window",
    "reclaimed": "taken back by the owner, and kept for it until the reclaim ends",
    "back_off": "needed by the owner a moment ago, so that they are not sold and taken back again and again",
    "fragmented": "free for parts of the window only: no single accelerator is free for all of it",
    "looser_class": "not on sale even in a class that can be taken back sooner",
    "demand_quantile": "the owner's demand may rise so far, at the risk accepted for the class",
    "kept_short": "kept for the shortest window, so that few long ones share its risk",
    "cold_start": "too little history to know",
    "stale_demand": "the last sample is too old to decide on",
    "not_on_sale": "the class is not on sale",
}


@dataclass(frozen=True, slots=True)
class Sellable:
    """The count of one class and window that may be sold now; `withheld` and `count` sum to the pool's capacity."""

    pool_id: str
    class_name: str
    window_s: int
    count: int
    withheld: tuple[Withheld, ...]

    def as_dict(self) -> dict[str, object]:
        return {
            "pool_id": self.pool_id,
            "class": self.class_name,
            "window_s": self.window_s,
            "count": self.count,
            "withheld": [item.as_dict() for item in self.withheld],
        }


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a decision stands on: the latest demand, its age, how much history, and the forecaster that spoke."""

    in_use: float
    sample_age_s: float | None
    history_s: float
    samples: int
    method: str

    def as_dict(self) -> dict[str, object]:
        return {
            "in_use": self.in_use,
            "sample_age_s": self.sample_age_s,
            "history_s": self.history_s,
            "samples": self.samples,
            "method": self.method,
        }


@dataclass(frozen=True, slots=True)
class Ladder:
    """What a pool has on sale at one moment, longest and firmest first.

    `rungs` are meant together: each rung's count comes on top of all above it. `alone` says, in the same order, what
    each could sell if it were the only one on offer.
    """

    pool_id: str
    at: datetime
    capacity: int
    sold: int
    rungs: tuple[Sellable, ...]
    alone: tuple[Sellable, ...]
    evidence: Evidence
    notes: tuple[str, ...] = field(default=())

    @property
    def total(self) -> int:
        """Accelerators on sale, all rungs together."""
        return sum(rung.count for rung in self.rungs)

    def count(self, class_name: str, window_s: int | None = None) -> int:
        """Most that one class (and window) could sell now if it were the only one on offer."""
        return max(
            (item.count for item in self.alone if item.class_name == class_name and window_s in (None, item.window_s)),
            default=0,
        )

    def as_dict(self) -> dict[str, object]:
        return {
            "pool_id": self.pool_id,
            "at": format_time(self.at),
            "capacity": self.capacity,
            "sold": self.sold,
            "on_sale": self.total,
            "rungs": [
                {**rung.as_dict(), "alone": alone.count} for rung, alone in zip(self.rungs, self.alone, strict=True)
            ],
            "evidence": self.evidence.as_dict(),
            "notes": list(self.notes),
        }
