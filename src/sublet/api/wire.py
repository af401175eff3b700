"""What the control plane says of itself and of the whole: health, plans and what was earned."""

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
    """A loop of the control plane: whether this process leads it, and how often it failed in a row."""

    name: str
    leads: bool
    rounds: int
    failing: int
    last_error: str | None
    last_at: Moment | None
    longest_s: float


@answer
class BackendState:
    """Whether a backend answers: closed (it does), open (it is left alone) or half-open."""

    name: str
    state: str
    failures: int
    hanging_calls: int
    last_answer_s: float
    last_error: str


@answer
class Health:
    """Every loop and backend, which fail, and the state of the books."""

    ok: bool
    failing: list[LoopState]
    backends: list[BackendState]
    ledger: BooksHealth
    loops: list[LoopState]


@answer
class BacklogMonth:
    """What is contracted and still to be delivered in a month, and what of it was sold from blocks. Exact decimals as text."""

    month: str
    currency: str
    accelerator_hours: float
    amount: str
    from_blocks: str
    leases: int


@answer
class BacklogByMonth:
    """What is contracted and not yet delivered, the earliest month first."""

    months: list[BacklogMonth]


@answer
class Plans:
    """What would be done now, and the last plans that were carried out."""

    next: Plan
    last: list[Plan]


@answer
class ComparablePrice:
    """What somebody else gets for a watt, with where that is from."""

    name: str
    usd_per_watt_year: float
    basis: str
    source: str
    date: str


@answer
class CurrencyWorth:
    """What was earned in a currency, in its major units, per accelerator-hour and per IT watt and year; `other` is what no
    pool has, as fees."""

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
    """What was earned: in the currency of most accelerator-hours, and in each other one."""

    other_currencies: list[CurrencyWorth]


@answer
class SourcedNumber:
    """A number with its unit, how it was come by, and where from."""

    value: float | None
    unit: str
    status: str
    source: str
    date: str


@answer
class ComparableNumber:
    """Somebody else's number, on its own basis."""

    name: str
    value: float
    unit: str
    basis: str
    status: str
    source: str
    date: str


@answer
class WorthNumbers:
    """What was earned in all."""

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
    """What a pool earned through one channel."""

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
    """What is contracted: at signing, what remains of it, and what the two accounting rules make of it."""

    signing: SourcedNumber
    remaining: SourcedNumber
    revenue_backlog: SourcedNumber
    rpo: SourcedNumber


@answer
class ForecastScore:
    """How a pool's forecast did: errors in accelerators, and the share inside its range."""

    pool: str
    windows: int
    bias: float
    absolute_error: float
    coverage: float


@answer
class ActualsWindow:
    """From when to when."""

    start: Moment
    end: Moment


@answer
class EarningsStatement:
    """All that was earned in a currency, reconciled with the journal. Exact decimals as text."""

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
    """What was earned in a currency by pool, channel and customer, how concentrated it is, and what is contracted."""

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
    """What was earned: in the currency of most accelerator-hours, and in each other one."""

    other_currencies: list[CurrencyFigures]
