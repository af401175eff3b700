"""What the overview shows, gathered by the app at one moment. The console draws it and reads nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sublet.surplus.record.calibration import PoolRecord
from sublet.values.money import Money
from sublet.values.service_classes import SHIPPED
from sublet.values.text import cleaned_line
from sublet.values.windows import Window

ROWS_MAX = 100
"""Rows of a table on the page; what is left out is counted and named."""

FIND_LENGTH_MAX = 120
"""Characters of a name to look for."""

ORDERS = ("use", "organization")
OFFSET_MAX = 1_000_000


@dataclass(frozen=True, slots=True)
class Sold:
    """Accelerators sold, by who holds them: raw leases by class of service, and the replicas of managed models."""

    by_class: Mapping[str, float] = field(default_factory=dict)
    model: float = 0

    @property
    def total(self) -> float:
        return sum(self.by_class.values()) + self.model


@dataclass(frozen=True, slots=True)
class PoolPoint:
    """A pool from `at` until the next point, in accelerators.

    `own_demand` is what was observed or, where `forecast`, the quantile that the surplus is computed from; it may
    exceed `capacity`, and None says that nobody knows. `on_sale` is what may still be sold to the least strict
    class: the other classes may have a part of the same accelerators. None where it was not recorded.
    """

    at: datetime
    capacity: float
    own_demand: float | None
    sold: Sold = Sold()
    on_sale: float | None = None
    forecast: bool = False

    @property
    def used(self) -> float:
        """Own demand and sold together."""
        return (self.own_demand or 0) + self.sold.total

    @property
    def withheld(self) -> float | None:
        """What is neither used nor on sale; None where either is unknown."""
        if self.own_demand is None or self.on_sale is None:
            return None
        return max(0.0, self.capacity - self.used - self.on_sale)


@dataclass(frozen=True, slots=True)
class Withheld:
    """Accelerators that are not on sale, and the sentence that says why."""

    accelerators: int
    reason: str


@dataclass(frozen=True, slots=True)
class AwayView:
    """Maintenance: so many accelerators are away over `window`."""

    window: Window
    accelerators: float
    reason: str


@dataclass(frozen=True, slots=True)
class PoolView:
    """One pool as it is now. `points` are in order of time, the observed before the forecast, whose first stands at `as_of`.

    Observed points more than `gap_s` seconds apart have a gap between them: the first holds for `gap_s` alone.
    `classes` are those that it is or was sold in, the strictest first. `on_sale` says what each class may still sell now; the
    counts share accelerators and do not add up.
    `forecast_quantile` is between 0 and 1; `sample_interval_s` is how long the first sample takes to come.
    """

    id: str
    name: str
    generation: str
    site: str
    capacity: float
    own_demand_now: float | None
    points: tuple[PoolPoint, ...] = ()
    classes: tuple[str, ...] = tuple(SHIPPED)
    on_sale: tuple[tuple[str, int], ...] = ()
    withheld: tuple[Withheld, ...] = ()
    forecast_quantile: float | None = None
    gap_s: float = 120.0
    sample_interval_s: float = 15.0
    away: tuple[AwayView, ...] = ()


@dataclass(frozen=True, slots=True)
class LeaseView:
    """A raw lease. `reclaim_at` is the moment at which the owner takes it back, where that is announced.

    `seconds_left` runs to whichever ends it first; before `starts_at` it still counts to the end.
    """

    id: str
    organization: str
    pool: str
    class_of_service: str
    accelerators: int
    state: str
    starts_at: datetime
    ends_at: datetime
    reclaim_at: datetime | None
    seconds_left: float

    @property
    def over_at(self) -> datetime:
        """When it ends as things stand."""
        return self.ends_at if self.reclaim_at is None else min(self.ends_at, self.reclaim_at)


@dataclass(frozen=True, slots=True)
class ModelView:
    """A managed model. `replicas` answer now, of `replicas_wanted`; the figures are over `Overview.models_window_s`.

    `tokens_per_s` counts output tokens; `ttft_ms` is the median time to the first token, None without requests. `pools` are those
    that it is served on, by name, with the replicas that answer there; `lost` are the nodes of replicas that do not answer, by name,
    with how many each has.
    """

    name: str
    replicas: int
    state: str
    tokens_per_s: float
    requests: int
    ttft_ms: int | None
    replicas_wanted: int | None = None
    pools: tuple[tuple[str, int], ...] = ()
    lost: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class MoneyView:
    """What was earned, in one currency. `credits` are what was given back this month, `open` what is billed or due and
    not paid; `by_product` and `by_class` divide `this_month`."""

    today: Money
    this_month: Money
    credits: Money
    open: Money
    by_product: tuple[tuple[str, Money], ...] = ()
    by_class: tuple[tuple[str, Money], ...] = ()


@dataclass(frozen=True, slots=True)
class PlanLine:
    """A step that the planner will take. `at` None: in its next round."""

    at: datetime | None
    kind: str
    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that the operator should know. `severity` is critical, warning or info."""

    severity: str
    sentence: str
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class ProcessView:
    """One process of Sublet. `state` is ok, starting, degraded or down; `detail` says what follows from it."""

    name: str
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """A threshold that was reached, when, and what failed in telling of it: a sentence, empty where nothing did."""

    percent: int
    at: datetime
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class BudgetView:
    """A budget in its present period. `scope` is organization, project or key, and `subject` the project's or the key's name.

    `spent` was billed, `held` is reserved for work under way. `resets_at` is None for one that never does; a `prepaid` one is
    money paid in advance, and of a `credit` limit, `spent` is what is owed or not invoiced yet. `channels` counts the ways in
    which its alerts are told.
    """

    id: str
    organization: str
    scope: str
    subject: str
    period: str
    limit: Money
    spent: Money
    held: Money
    hard: bool = True
    prepaid: bool = False
    credit: bool = False
    resets_at: datetime | None = None
    thresholds: tuple[int, ...] = ()
    told: tuple[Told, ...] = ()
    channels: int = 0

    @property
    def used(self) -> Money:
        return self.spent + self.held

    @property
    def left(self) -> Money:
        """What may still be spent; below zero where more was spent than the limit."""
        return self.limit - self.used


@dataclass(frozen=True, slots=True)
class BudgetsQuery:
    """Which budgets to show: those with `find` in the name of the organization, project or key, ROWS_MAX of them from the one
    at `offset` on, in the order of use (the most used first) or of organization."""

    find: str = ""
    order: str = "use"
    offset: int = 0

    @classmethod
    def of(cls, find: str, order: str, offset: str) -> BudgetsQuery:
        """What an address asks for. An address is typed by people: what can't be meant is taken for the first page."""
        number = int(offset) if offset.isascii() and offset.isdecimal() and len(offset) <= len(str(OFFSET_MAX)) else 0
        return cls(
            cleaned_line(find, FIND_LENGTH_MAX), order if order in ORDERS else ORDERS[0], min(number, OFFSET_MAX)
        )


@dataclass(frozen=True, slots=True)
class BudgetsView:
    """Budgets as of `as_of`: `rows` of the `many` that were wished for. Of these `many`, `refusing` are hard and used up,
    `passed` soft and used up, `near` the others used to 80 % at least."""

    as_of: datetime
    rows: tuple[BudgetView, ...] = ()
    many: int = 0
    refusing: int = 0
    passed: int = 0
    near: int = 0
    query: BudgetsQuery = BudgetsQuery()


@dataclass(frozen=True, slots=True)
class BlockView:
    """A part of a pool that the owner sells by its own decision, and how much of it is rented now. `sold_share` is the part of
    all its hours to come that is rented."""

    id: str
    pool: str
    accelerators: int
    sold: int
    sold_share: float
    state: str
    starts_at: datetime
    ends_at: datetime
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Overview:
    """The system at `as_of`, aware UTC. `money` has one view per currency: amounts of two can't be added. `budgets` holds
    the most used alone."""

    as_of: datetime
    pools: tuple[PoolView, ...] = ()
    leases: tuple[LeaseView, ...] = ()
    models: tuple[ModelView, ...] = ()
    money: tuple[MoneyView, ...] = ()
    plan: tuple[PlanLine, ...] = ()
    alerts: tuple[Alert, ...] = ()
    processes: tuple[ProcessView, ...] = ()
    models_window_s: int = 60
    budgets: BudgetsView | None = None
    blocks: tuple[BlockView, ...] = ()


@dataclass(frozen=True, slots=True)
class WaitsLine:
    """What a team, or the pool's own demand, waited for on one day within its patience."""

    day: datetime
    team: str
    waits: int
    hours: float
    accelerator_hours: float


@dataclass(frozen=True, slots=True)
class RecordView:
    """What one pool's promises came to, as of `as_of`; None where there is no pool. `pools` are the names to choose from, `waits`
    what the owner's own work waited for on the latest days."""

    as_of: datetime
    pools: tuple[str, ...] = ()
    record: PoolRecord | None = None
    waits: tuple[WaitsLine, ...] = ()
