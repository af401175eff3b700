"""Wire types of the control plane as a whole: health, plans and earnings."""

from __future__ import annotations

from sublet.leases.wire import Plan
from sublet.ledger.wire import BooksHealth
from sublet.values.moments import Moment
from sublet.values.wire import answer


@answer
class Liveness:
    """Whether the control plane works."""

    ok: bool


@answer
class LoopState:
    """A loop of the control plane: whether this process is its leader, and how often it failed in a row."""

    name: str
    leads: bool
    rounds: int
    failing: int
    last_error: str | None
    last_at: Moment | None
    longest_s: float


@answer
class BackendState:
    """The circuit breaker of a backend: `closed` (it responds), `open` (it is not called) or `half-open`."""

    name: str
    state: str
    failures: int
    hanging_calls: int
    last_answer_s: float
    last_error: str | None


@answer
class Health:
    """The state of every loop, backend, and the books, and what fails."""

    ok: bool
    failing: list[LoopState]
    backends: list[BackendState]
    ledger: BooksHealth
    loops: list[LoopState]


@answer
class BacklogMonth:
    """What is contracted and not yet delivered in a month, and how much of it was sold from blocks. Amounts are exact decimals
    as text."""

    month: str
    currency: str
    accelerator_hours: float
    amount: str
    from_blocks: str
    leases: int


@answer
class BacklogByMonth:
    """What is contracted and not yet delivered, earliest month first."""

    months: list[BacklogMonth]


@answer
class Plans:
    """The next plan, and the last plans that were carried out."""

    next: Plan
    last: list[Plan]


@answer
class ComparablePrice:
    """What another provider earns per watt, and the source."""

    name: str
    usd_per_watt_year: float
    basis: str
    source: str
    date: str


@answer
class CurrencyWorth:
    """Earnings in a currency, in major units, per accelerator-hour and per IT watt-year. `other` is revenue that belongs to no
    pool, such as fees."""

    currency: str
    revenue: float
    other: float
    credits: float
    earned: float
    accelerator_hours: float
    per_accelerator_hour: float | None
    per_watt_year_it: float | None
    earned_per_watt_year_it: float | None
    comparables: list[ComparablePrice]
    sentence: str


@answer
class Worth(CurrencyWorth):
    """Earnings in the currency with the most accelerator-hours, and in each other currency."""

    other_currencies: list[CurrencyWorth]


@answer
class SourcedNumber:
    """A number with its unit, how it was obtained, and its source."""

    value: float | None
    unit: str
    status: str
    source: str
    date: str


@answer
class ComparableNumber:
    """A number of another provider, on its own basis."""

    name: str
    value: float
    unit: str
    basis: str
    status: str
    source: str
    date: str


@answer
class WorthNumbers:
    """Total earnings."""

    revenue: SourcedNumber
    other: SourcedNumber
    credits: SourcedNumber
    earned: SourcedNumber
    accelerator_hours: SourcedNumber
    per_accelerator_hour: SourcedNumber
    per_watt_year: SourcedNumber
    earned_per_watt_year: SourcedNumber
    comparables: list[ComparableNumber]


@answer
class PoolEarnings:
    """The earnings of a pool through one channel."""

    pool: str
    generation: str
    channel: str
    revenue: SourcedNumber
    credits: SourcedNumber
    earned: SourcedNumber
    per_accelerator_hour: SourcedNumber
    per_watt_year: SourcedNumber
    per_offered_watt_year: SourcedNumber
    utilization: SourcedNumber


@answer
class Backlog:
    """The contracted amount at signing, what remains of it, and what counts under two accounting rules."""

    signing: SourcedNumber
    remaining: SourcedNumber
    revenue_backlog: SourcedNumber
    rpo: SourcedNumber


@answer
class ForecastScore:
    """The accuracy of a pool's forecast: errors in accelerators, and the share of values inside the forecast range."""

    pool: str
    windows: int
    bias: float
    absolute_error: float
    coverage: float


@answer
class ActualsWindow:
    """The window of the figures."""

    start: Moment
    end: Moment


@answer
class EarningsStatement:
    """All earnings in a currency, reconciled with the journal. Amounts are exact decimals as text."""

    currency: str
    parts: dict[str, str]
    total: str
    moved: dict[str, str]
    journal: str
    unexplained: str
    unrated_events: int
    sentence: str


@answer
class CurrencyFigures:
    """Earnings in a currency by pool, channel and customer, how concentrated they are, and the backlog."""

    owner: str
    currency: str
    statement: EarningsStatement | None
    window: ActualsWindow
    worth: WorthNumbers
    pools: list[PoolEarnings]
    others: dict[str, SourcedNumber]
    customers: dict[str, SourcedNumber]
    hhi: SourcedNumber
    effective_customers: SourcedNumber
    backlog: Backlog
    renewal_ladder: dict[str, dict[str, float]]
    stress_by_year: dict[str, SourcedNumber]
    forecast: list[ForecastScore]


@answer
class ActualFigures(CurrencyFigures):
    """Earnings in the currency with the most accelerator-hours, and in each other currency."""

    other_currencies: list[CurrencyFigures]
