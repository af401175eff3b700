"""Wire types of the surplus ladder, the forecast, the record and the shadow trial."""

from __future__ import annotations

from sublet.values.moments import Moment
from sublet.values.wire import answer


@answer
class WithheldUnits:
    """Accelerators that are not on sale: the count, a stable reason code, and a sentence that explains it."""

    count: int
    reason: str
    sentence: str


@answer
class Offer:
    """How many accelerators a class can sell for a window of `window_s` seconds, and why the rest is withheld."""

    pool_id: str
    class_: str
    window_s: int
    count: int
    withheld: list[WithheldUnits]


@answer
class Rung(Offer):
    """An offer of the ladder. `alone` is its count if nothing firmer or longer were sold first."""

    alone: int


@answer
class Evidence:
    """The data behind the ladder: the owner's current use, the age of the newest sample, the length of the history, and the
    method."""

    in_use: float | None
    sample_age_s: float | None
    history_s: float
    samples: int
    method: str


@answer
class PromiseState:
    """The track record of one kind of promise on a pool. `supports` is the number that may be promised at once. `within` is
    the deadline, in hours, of an order that can be paused; null for a window that can't be reclaimed. `state` is `earning`,
    `open`, `full` or `stopped`."""

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
    """How many accelerators can be promised `hours` of service each within `within` hours if nothing else is sold, and what
    limits the number."""

    class_: str
    hours: int
    within: int
    count: int
    sentence: str


@answer
class SurplusLadder:
    """Everything that a pool has on sale, firmest and longest windows first."""

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
    """One quantile of the peak demand. If the history is too short, it is null, and `why` explains. The quantile held in
    `held` of `checks` past forecasts."""

    quantile: float
    accelerators: float | None
    why: str
    held: int
    checks: int


@answer
class HorizonForecast:
    """Quantiles of the peak demand within `horizon_s` seconds."""

    horizon_s: int
    quantiles: list[PeakQuantile]


@answer
class DemandForecast:
    """The owner's current and forecast demand, in accelerators."""

    pool_id: str
    at: Moment
    in_use: float | None
    history_s: int
    method: str
    horizons: list[HorizonForecast]


@answer
class Survival:
    """The share of windows that were still running after `after_s` seconds."""

    after_s: int
    share: float | None


@answer
class RecordFigures:
    """The outcomes of promises of one class and window length."""

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
    """The outcomes of leases since `since`."""

    since: Moment
    figures: list[RecordFigures]


@answer
class ShadowFigures:
    """The outcomes in the shadow: everything on sale, as if it had been sold."""

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
    """What a pool promised, compared with what happened."""

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
    """A page of the records of pools."""

    pools: list[PoolRecord]
    next: str | None


@answer
class TrialWindow:
    """The outcomes of simulated windows of one length."""

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
    """An hour in which accelerators would have been reclaimed."""

    at: Moment
    accelerators: int


@answer
class ShadowTrial:
    """The result of selling a pool in simulation. `windows` and `broken_over_expected` are by length, such as `4h`. `reclaims`
    are the largest of the `reclaim_hours` hours with a reclaim."""

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
    """A pool without enough history for a trial, and the reason."""

    pool: str
    why: str


@answer
class ShadowTrials:
    """The trial of each pool."""

    pools: list[ShadowTrial]
    left_out: list[PoolLeftOut]
