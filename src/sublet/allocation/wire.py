"""Wire types of yield: the round that would be decided now, and what an hour of a pool is worth."""

from __future__ import annotations

from sublet.values.moments import Moment
from sublet.values.wire import answer


@answer
class YieldReplicas:
    """Replicas of a model on a pool: how many run and how many are wanted, and the accelerators of each."""

    model: str
    running: int
    wanted: int
    accelerators: int


@answer
class YieldQuota:
    """What of a class and length may be sold in the next hour: `count` accelerators, and beyond them at a price of at least `bid`
    per accelerator-hour. For hours by a deadline, accelerators that serve them."""

    class_: str
    hours: float
    count: int
    bid: float


@answer
class YieldPool:
    """The mix on one pool. `idle` is what replicas and new sales may have together. `bids` are what one more accelerator-hour
    should sell for in each of the next hours."""

    pool: str
    pool_id: str
    mode: str
    idle: int
    replicas: list[YieldReplicas]
    quotas: list[YieldQuota]
    bids: list[float]


@answer
class YieldMove:
    """A change of a model's replicas on a pool, and what it earns an hour."""

    model: str
    pool: str
    before: int
    after: int
    gain_per_hour: float
    sentence: str


@answer
class YieldLeftOut:
    """What could not be decided on, and why."""

    what: str
    why: str


@answer
class YieldPlan:
    """The best mix of models and raw classes now. Amounts are estimates in major units of `currency`. `method` is `program`, or
    `greedy` where the solver gave no result in time, which `note` explains. `broken_limits` are floors set by hand that idle
    capacity can't fit."""

    at: Moment
    currency: str
    method: str
    note: str
    value_per_hour: float
    pools: list[YieldPool]
    moves: list[YieldMove]
    broken_limits: list[str]
    left_out: list[YieldLeftOut]
    notes: list[str]


@answer
class YieldEstimate:
    """An estimate, the interval that holds it nine times in ten, and its source."""

    value: float
    low: float
    high: float
    source: str


@answer
class YieldAdvice:
    """The price advised for the next day, at most a tenth from the current one; `best` is where it is heading. `accepted_share` is
    the share of quotes that is expected to be accepted at `price`."""

    price: float
    best: float
    accepted_share: YieldEstimate
    reason: str


@answer
class YieldProduct:
    """A class and length on a pool: its list price, expected credits and net per accelerator-hour, accelerators asked for per
    hour, and the share of quotes accepted."""

    class_: str
    hours: float
    price: float | None
    price_source: str
    expected_loss: float
    net: float | None
    asked_per_hour: YieldEstimate
    accepted_share: YieldEstimate
    quota: int
    advice: YieldAdvice | None


@answer
class YieldModel:
    """A model on a pool: its load and an accelerator's speed in answer tokens per second, what an accelerator earns when full,
    and what one replica more would earn, and one fewer lose, per accelerator-hour."""

    model: str
    running: int
    wanted: int
    accelerators: int
    load: YieldEstimate | None
    speed_per_accelerator: float | None
    speed_source: str
    full_per_hour: float | None
    value_source: str
    next_replica: float | None
    last_replica: float | None


@answer
class YieldWorth:
    """What an hour of a pool is worth. `idle` is by hour. `next_accelerator` is what one accelerator more would earn in the next
    hour, `last_accelerator` what one fewer would lose; null where the solver was late."""

    pool: str
    pool_id: str
    at: Moment
    currency: str
    mode: str
    idle: list[float]
    energy_per_hour: float
    cost_per_hour: float
    next_accelerator: float | None
    last_accelerator: float | None
    products: list[YieldProduct]
    models: list[YieldModel]
    left_out: list[YieldLeftOut]


@answer
class ChargebackTeam:
    """A team's month in accelerator-seconds, and what it is charged. `claimed_used_s` is the part of `used_s` that its claims
    covered, `claimed_idle_s` what it claimed and did not use, and `patience_s` what its work waited for tenants. `displaced` is
    what its use would have earned otherwise, whatever the basis."""

    team: str
    name: str
    used_s: int
    claimed_used_s: int
    claimed_idle_s: int
    patience_s: int
    charge: str
    displaced: str


@answer
class ChargebackAccelerators:
    """All accelerator-seconds of a month by state. The states from `unavailable_s` to `unsold_s` add up to `total_s`; the rest are
    parts of them, and what waited beyond the capacity."""

    unavailable_s: int
    internal_s: int
    external_s: int
    draining_s: int
    starting_s: int
    withheld_s: int
    unsold_s: int
    total_s: int
    internal_without_team_s: int
    withheld_for_claims_s: int
    blocks_s: int
    waiting_s: int


@answer
class ChargebackStatement:
    """A month in one currency: the charges of teams add up to `total`. `pool_hours` are hours of pools that are booked. Sums and
    states are null for a team, which sees only its own line."""

    currency: str
    total: str | None
    displaced: str | None
    pool_hours: int
    pool_hours_without_opportunity_price: int
    accelerators: ChargebackAccelerators | None
    teams: list[ChargebackTeam]


@answer
class Chargeback:
    """Monthly statements of internal teams, one for each currency of the pools."""

    month: str
    start: Moment
    end: Moment
    basis: str
    statements: list[ChargebackStatement]


@answer
class YieldLoss:
    """Where a week's difference went, in major units: the causes add up to it. `withheld` was kept off sale, `load_misjudged` are
    replicas that were too few, too many or of the wrong model, `unsold` was on sale, `broken` are credits, and `priced_low` is what
    the best prices would have added."""

    withheld: float
    load_misjudged: float
    unsold: float
    broken: float
    priced_low: float


@answer
class YieldUse:
    """A use of a pool in a week (`raw` or `managed`), before credits and energy. `per_watt_year` is per IT watt."""

    use: str
    accelerator_hours: float
    earned: float
    per_accelerator_hour: float | None
    per_watt_year: float | None


@answer
class YieldWeek:
    """A pool's week: `realized` net of credits and energy, against what was `attainable` in hindsight. Hours that nobody could
    value count as the average of the `valued_hours`; without any, what was attainable is null."""

    pool: str
    pool_id: str
    week: Moment
    currency: str
    hours: int
    valued_hours: int
    realized: float
    attainable: float | None
    share: float | None
    lost: YieldLoss | None
    idle_hours: float
    uses: list[YieldUse]


@answer
class YieldReport:
    """Realized against attainable yield, by pool and week, newest first."""

    since: Moment
    until: Moment
    weeks: list[YieldWeek]
