"""What the mix is decided from, and what is decided.

Amounts are in major units of one currency, as floats: they weigh choices and are never booked. Counts are accelerators unless a
name says replicas. `steps` are the hours of each step of the horizon; every series has one value per step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

Pair = tuple[str, str]
"""A model and the pool that its replicas may run on, by name."""

OfferKey = tuple[str, str, float]
"""A pool, a class of service and a length in hours."""


class Kind(StrEnum):
    """How an offer uses capacity over time."""

    WINDOW = "window"
    """Sold for its whole length, and not taken back before."""
    EVICTABLE = "evictable"
    """Held until its tenant leaves or the owner takes it back."""
    BACKLOG = "backlog"
    """Work that waits and may be paused: any idle hour serves it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """A raw product of a pool.

    `price` is per accelerator-hour, or None if nobody stated one; `loss` what credits and restarts are expected to cost of it.
    `demand` is what is asked for in each step: accelerators for a window or evictable capacity, accelerator-hours for a backlog.
    `held` is what of it runs now (evictable) or waits (backlog). `stays` is the share of held evictable capacity that is still
    there an hour later.
    """

    class_name: str
    hours: float
    kind: Kind
    price: float | None
    demand: tuple[float, ...]
    loss: float = 0.0
    held: float = 0.0
    stays: float = 2 / 3


@dataclass(frozen=True, slots=True)
class Ceiling:
    """What the surplus rule lets be sold: the `offers`, by class and length, never hold more than `counts` together."""

    name: str
    offers: tuple[tuple[str, float], ...]
    counts: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class PoolState:
    """A pool: what is `idle` beyond the owner's need and everything sold already, and what can be sold of it.

    `energy` is what an accelerator in use costs an hour beyond an idle one. `cost` is the least that its hour may be sold for:
    what leased-in capacity costs, or 0.
    """

    name: str
    idle: tuple[float, ...]
    offers: tuple[Offer, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()
    energy: float = 0.0
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class ModelState:
    """A managed model: the `load` expected in each step, in any unit, and what an hour of one unit earns, or None if nobody
    knows. `spread` is the relative error of each step's load, fluctuation within the hour included."""

    name: str
    load: tuple[float, ...]
    value: float | None
    spread: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Fit:
    """Replicas of a model on a pool: `accelerators` for each, the load that one accelerator serves (`speed`, or None if it was
    never measured), replicas that run now, and the hours to start and to drain one."""

    model: str
    pool: str
    accelerators: int
    speed: float | None
    running: int = 0
    start_hours: float = 0.05
    drain_hours: float = 2 / 60

    @property
    def pair(self) -> Pair:
        return self.model, self.pool


@dataclass(frozen=True, slots=True)
class Limit:
    """A floor and a cap that somebody set by hand, in replicas, for a model on one pool, or on all of its pools together."""

    model: str
    pool: str | None = None
    floor: int = 0
    cap: int | None = None

    def covers(self, fit: Fit) -> bool:
        return fit.model == self.model and self.pool in (None, fit.pool)

    def __str__(self) -> str:
        place = f" on {self.pool}" if self.pool else ""
        if self.cap is None:
            return f"floor {self.floor} of {self.model}{place}"
        return f"floor {self.floor} and cap {self.cap} of {self.model}{place}"


@dataclass(frozen=True, slots=True)
class State:
    """Everything that one round decides from."""

    at: datetime
    steps: tuple[float, ...]
    pools: tuple[PoolState, ...]
    models: tuple[ModelState, ...] = ()
    fits: tuple[Fit, ...] = ()
    limits: tuple[Limit, ...] = ()
    currency: str = "USD"

    def pool(self, name: str) -> PoolState:
        return next(item for item in self.pools if item.name == name)

    def model(self, name: str) -> ModelState:
        return next(item for item in self.models if item.name == name)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A part of the state that was not decided on, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Broken:
    """A limit set by hand that cannot hold, and by how many replicas."""

    limit: Limit
    missing: float

    def __str__(self) -> str:
        missing = f"{self.missing:g} replica" + ("" if self.missing == 1 else "s")
        return f"{self.limit} does not fit: {missing} more than idle accelerators allow"


@dataclass(frozen=True, slots=True)
class Move:
    """A change of one pair: replicas before and after, and what the difference earns an hour in its first step."""

    model: str
    pool: str
    before: int
    after: int
    gain: float

    def said(self, currency: str) -> str:
        count = abs(self.after - self.before)
        noun = "replica" if count == 1 else "replicas"
        verb = "starts" if self.after > self.before else "drains"
        verb = verb if count == 1 else verb[:-1]
        change = f"{self.gain:+.2f} {currency} an hour"
        return f"{count} {noun} of {self.model} {verb} on {self.pool}: {change}"


@dataclass(frozen=True, slots=True)
class Mix:
    """What to do until the next round.

    `replicas` has every pair that was decided; `quotas` the accelerators (backlog: accelerator-hours) that each offer may sell in
    the first step. `value` is what the first step earns by the model's own figures. `method` is "program" or "greedy"; `note` says
    why it was not the program. `bids` is, by pool, the least that one more accelerator-hour of each step should sell for; a fallback
    knows that of the first step alone.
    """

    at: datetime
    replicas: Mapping[Pair, int]
    quotas: Mapping[OfferKey, int]
    value: float
    method: str
    currency: str = "USD"
    note: str = ""
    moves: tuple[Move, ...] = ()
    broken: tuple[Broken, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    bids: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def bid(self, pool: str, hours: float, steps: tuple[float, ...]) -> float:
        """The least that an accelerator-hour of a window of `hours` from now on should sell for; 0 if nothing else wants it."""
        total, at = 0.0, 0.0
        for width, price in zip(steps, self.bids.get(pool, ()), strict=False):
            part = max(0.0, min(hours, at + width) - at)
            total, at = total + part * price, at + width
        return total / hours
