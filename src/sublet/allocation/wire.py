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
