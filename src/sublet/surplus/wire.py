"""What is on sale, the forecast and the record as they cross the API."""

from __future__ import annotations

from sublet.values.moments import Moment
from sublet.values.wire import answer


@answer
class WithheldUnits:
    """Accelerators that are not on sale: how many, a stable code, and why in a sentence."""

    count: int
    reason: str
    sentence: str


@answer
class Offer:
    """How many accelerators a class could sell for a window of `window_s` seconds, and why not more."""

    pool_id: str
    class_: str
    window_s: int
    count: int
    withheld: list[WithheldUnits]


@answer
class Rung(Offer):
    """A class and window of the ladder; `alone` is what it could sell if nothing firmer or longer were sold first."""

    alone: int


@answer
class Evidence:
    """What the ladder rests on: the owner's use, the newest sample's age, the history, and the method."""

    in_use: float | None
    sample_age_s: float | None
    history_s: float
    samples: int
    method: str


@answer
class PromiseState:
    """What one kind of promise has earned on a pool: `supports` may be promised at once. `within` is the deadline in hours of
    an order that may be paused, null for a window that can't be taken back. `state` is earning, open, full or stopped."""

    class_: str
    hours: int
    within: int | None
    state: str
    supports: int
    running: int
    sold: int
    broken: int
    broken_per_1000: float | None
    promised_per_1000: float
    worst_hour: int
    alarms: int
    stopped_at: Moment | None
    stopped_by: str | None
    hours_to_open: int | None
    opens_at: Moment | None
    sentence: str


@answer
class OrderOnSale:
    """How many accelerators could be promised `hours` of service each within `within` hours, each kind as if it were the only one,
    and what limits it."""

    class_: str
    hours: int
    within: int
    count: int
    sentence: str


@answer
class SurplusLadder:
    """Everything that a pool has on sale, from the firmest and longest window down."""

    pool_id: str
    at: Moment
    capacity: int
    sold: int
    on_sale: int
    rungs: list[Rung]
    evidence: Evidence
    notes: list[str]
    promises: list[PromiseState]
    orders: list[OrderOnSale]


@answer
class PeakQuantile:
    """The highest demand at one quantile, null with `why` where there is too little history; it held in `held` of `checks`."""

    quantile: float
    accelerators: float | None
    why: str
    held: int
    checks: int


@answer
class HorizonForecast:
    """The highest demand within `horizon_s` seconds, at each quantile."""

    horizon_s: int
    quantiles: list[PeakQuantile]


@answer
class DemandForecast:
    """The owner's demand as it is and as it is forecast, in accelerators."""

    pool_id: str
    at: Moment
    in_use: float | None
    history_s: int
    method: str
    horizons: list[HorizonForecast]


@answer
class Survival:
    """The share of windows that still ran after so many seconds."""

    after_s: int
    share: float | None


@answer
class RecordFigures:
    """What became of the promises of one class and window length."""

    class_: str
    window_s: int
    windows: int
    kept: int
    released: int
    broken: int
    failed: int
    running: int
    accepted_per_1000: float | None
    broken_per_1000: float | None
    low_per_1000: float
    high_per_1000: float
    confidence: float
    independent_windows: float
    verdict: str
    sentence: str
    survival: list[Survival]
    accelerator_hours_sold: float
    accelerator_hours_lost: float
    bound_hours: float | None
    share_of_bound: float | None
    notice_s: int | None
    short_notices: int | None


@answer
class LeaseFigures:
    """What became of leases since a moment."""

    since: Moment
    figures: list[RecordFigures]


@answer
class ShadowFigures:
    """What would have become of everything that was on sale, tried on paper."""

    since: Moment | None
    until: Moment | None
    hours: int
    hours_without_samples: int
    hours_to_come: int
    figures: list[RecordFigures]


@answer
class TuningState:
    """How promises of one length are tightened (`factor` below 1) or loosened, since when, and why."""

    window_s: int
    broken_over_expected: float
    factor: float
    since: Moment | None
    regime_changed_at: Moment | None
    broken_per_1000_lately: float | None
    sentence: str


@answer
class PoolRecord:
    """What a pool promised against what happened."""

    pool_id: str
    pool: str
    at: Moment
    days: int
    leases: LeaseFigures
    shadow: ShadowFigures
    tuning: list[TuningState]
    promises: list[PromiseState]


@answer
class RecordList:
    """A page of the record of each pool."""

    pools: list[PoolRecord]
    next: str | None


@answer
class TrialWindow:
    """What would have become of windows of one length."""

    started: int
    honored: int
    broken: int
    promised_broken_per_1000: float
    broken_per_1000: float
    honored_hours: int
    survival: dict[str, float]
    share_of_bound_alone: float


@answer
class TrialBreak:
    """An hour in which accelerators would have been taken back."""

    at: Moment
    accelerators: int


@answer
class ShadowTrial:
    """What selling a pool would have come to: windows and `broken_over_expected` are by length, such as `4h`; `reclaims` are the
    largest of the `reclaim_hours` hours in which something would have been taken back."""

    pool: str
    since: Moment
    until: Moment
    hours: int
    windows: dict[str, TrialWindow]
    idle_hours: int
    honored_hours: int
    sold_share_of_idle: float
    earned: str
    credited: str
    reclaims: list[TrialBreak]
    reclaim_hours: int
    broken_over_expected: dict[str, float]
    notes: list[str]


@answer
class PoolLeftOut:
    """A pool that has too little history, and why."""

    pool: str
    why: str


@answer
class ShadowTrials:
    """The trial of each pool."""

    pools: list[ShadowTrial]
    left_out: list[PoolLeftOut]
