"""What may be sold now: the ladder, and the reasons for withholding the rest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sublet.demand.model import Claim
from sublet.surplus.budget import Pace, Standing
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window

HOUR_S = 3600
PATIENCE_S_MAX = 24 * HOUR_S


class BeyondForecastError(InvalidInputError):
    """The window reaches further ahead than the forecast; request an earlier one, or a block."""

    code = "beyond_forecast"


@dataclass(frozen=True, slots=True)
class Absence:
    """`count` accelerators that are unavailable over `window`, because of maintenance or because a pool goes offline."""

    count: int
    window: Window
    reason: str = "maintenance"


@dataclass(frozen=True, slots=True)
class BackOff:
    """Demand reclaimed capacity at `level`. That capacity is sold again once demand has stayed lower for `hold_s` seconds."""

    level: float
    hold_s: int


IN_BLOCK = "in a block"
"""The class name under which the rule counts what was sold from a block: nothing takes it back, and no forecast stands behind it."""


@dataclass(frozen=True, slots=True)
class StandingBlock:
    """`count` accelerators over `window` that the owner has decided to sell. Its own demand beyond the rest of the pool waits.

    If `min_price_nano` is set, a firm lease from the block costs at least that much per accelerator-hour, in `currency`.
    """

    id: str
    count: int
    window: Window
    min_price_nano: int | None = None
    currency: str = ""


@dataclass(frozen=True, slots=True)
class PoolFacts:
    """What the rule needs to know about a pool besides its demand.

    `capacity` is the number of working accelerators. `never_sell` is the operator's setting. `failure_reserve` covers failures.
    `quarantined` accelerators are not proved clean. `reclaims` are the owner's reclaims and what they still hold. `back_off` is
    set if demand reclaimed capacity lately. The owner's demand may wait `patience_s` seconds before it breaks what is sold.
    `blocks` are the owner's blocks. `pauses` says whether the backend can pause a lease; otherwise, nothing is promised by a
    deadline.
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
    patience_s: int = 0
    blocks: tuple[StandingBlock, ...] = ()
    pauses: bool = True
    relet: bool = True
    """False where the pool is leased in on terms that forbid selling it to others: `never_sell` is then all of it."""

    def __post_init__(self) -> None:
        if not 0 <= self.patience_s <= PATIENCE_S_MAX:
            raise InvalidInputError(
                f"patience_s of pool {self.name} is {self.patience_s}; it must be 0 to {PATIENCE_S_MAX} seconds"
            )

    @property
    def patience_hours(self) -> int:
        """Whole hours of patience. Shadows advance by the hour, so less than an hour counts as none."""
        return self.patience_s // HOUR_S


@dataclass(frozen=True, slots=True)
class Sold:
    """Accelerators that are already promised: `count` of a class over `window`, from the block `block_id` if it is set."""

    count: int
    class_name: str
    window: Window
    block_id: str | None = None


@dataclass(frozen=True, slots=True)
class Promised:
    """An order that is promised or held: `accelerators` for `left_s` more seconds of service each, due by `due`."""

    id: str
    accelerators: int
    left_s: float
    due: datetime


@dataclass(frozen=True, slots=True)
class Stood:
    """The standing of one kind of promise on a pool after the whole hour `hour` (since the epoch).

    `hours` is its length. `within` is the deadline of an order, or 0 for a window that can't be reclaimed.
    """

    class_name: str
    hours: int
    within: int
    hour: int
    pace: Pace
    standing: Standing


Standings = Mapping[tuple[str, int, int], Stood]
"""By class, hours, and hours until the deadline (0: uninterrupted)."""


@dataclass(frozen=True, slots=True)
class Withheld:
    """`count` accelerators that are not on sale for one reason, with a sentence that explains it."""

    count: int
    reason_code: str
    sentence: str

    def as_dict(self) -> dict[str, object]:
        return {"count": self.count, "reason": self.reason_code, "sentence": self.sentence}


REASONS: dict[str, str] = {
    "never_sell": "the operator's setting",
    "not_relet": "leased in on terms that do not allow them to be sold to others",
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
    "looser_class": "not on sale even in a less strict class",
    "known_jobs": "needed by jobs of the owner that run or wait now",
    "demand_quantile": "the owner's demand may rise so far, at the risk accepted for the class",
    "kept_short": "kept for the shortest window, so that few long ones share its risk",
    "not_earned": "more than the record of so long a promise on this pool supports: it earns by what it keeps",
    "long_window": "not sold by a forecast for so long: order with a deadline, or buy from a block",
    "deadline_work": "needed by what is promised by a deadline",
    "better_use": "kept for uses that earn more, as `sublet yield` decided",
    "cold_start": "too little history to know",
    "stale_demand": "the last sample is too old to decide on",
    "not_on_sale": "the class is not on sale",
    "too_far": "so far ahead that nothing is known: only blocks are sold",
}


@dataclass(frozen=True, slots=True)
class Sellable:
    """How many accelerators of one class and window may be sold now. `withheld` and `count` add up to the pool's capacity."""

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
    """The basis of a decision: the latest demand, its age, the length of the history, and the forecaster."""

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

    `rungs` are cumulative: each rung's count is on top of all above it. `alone`, in the same order, is what each could sell if it
    were the only one on offer. `promises` is the standing of each kind of promise.
    """

    pool_id: str
    at: datetime
    capacity: int
    sold: int
    rungs: tuple[Sellable, ...]
    alone: tuple[Sellable, ...]
    evidence: Evidence
    notes: tuple[str, ...] = field(default=())
    promises: tuple[dict[str, object], ...] = ()

    @property
    def total(self) -> int:
        """Accelerators on sale, over all rungs."""
        return sum(rung.count for rung in self.rungs)

    def count(self, class_name: str, window_s: int | None = None) -> int:
        """The most that one class (and window) could sell now if it were the only one on offer."""
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
            "promises": list(self.promises),
        }
