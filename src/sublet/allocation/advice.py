"""Price advice from quotes accepted and refused: pure.

Buyers accept a price with probability 1 / (1 + exp(slope * ln(price / middle))); slope and middle are known by a posterior on a grid.
The advice is the price that earns most by the posterior's mean, where capacity is finite and has another use: it maximizes
(price - worth of that use) * E[min(accepted, capacity)]. In simulation the mean with small steps beat sampling where quotes are
few, so nothing is ever tried out on buyers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sublet.allocation.errors import UnusableStateError

STEP_MAX = 0.10
"""The most that a price moves in a day, up or down."""
FORGET = 0.03
"""The share of what was learned that a day fades by."""
FORGET_FAST = 0.3
"""The same after a predictive check has failed: the market is another one."""
SURPRISE = 3.0
"""Standard deviations by which the last days' acceptance may miss the prediction before the market counts as changed."""
CHECK_DAYS = 3
SLOPE_PRIOR, SLOPE_SPREAD = 2.5, 0.7
PRICES = 41
_SLOPES = np.linspace(0.8, 8.0, 25)
_MIDDLES = np.exp(np.linspace(math.log(0.25), math.log(4.0), 41))
"""Middles as multiples of the reference price."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the operator allows: a price stays within floor and ceiling, whatever is advised."""

    floor: float
    ceiling: float

    def __post_init__(self) -> None:
        if not 0 < self.floor <= self.ceiling < math.inf:
            raise UnusableStateError("a price floor is above 0 and at most the ceiling")

    def within(self, price: float) -> float:
        return min(max(price, self.floor), self.ceiling)


@dataclass(frozen=True, slots=True)
class Advice:
    """`price` for the next day; `best` is where it is heading. `expected` is the share of quotes accepted at `price`, between `low`
    and `high` nine times in ten. `quotes` is the weight of what it was learned from."""

    price: float
    best: float
    expected: float
    low: float
    high: float
    quotes: float
    changed: bool
    reason: str
    missed: float = 0.0
    """What a day at `best` would earn beyond a day at the price of today, in orders times price."""


@dataclass(slots=True)
class DemandModel:
    """What is known of the buyers of one class on one pool. `reference` is the price around which middles are looked for, fixed
    when the model begins. As plain data it can be stored."""

    reference: float
    log_weights: Floats = field(default_factory=lambda: _prior())
    weight: float = 0.0
    rate: float = 0.0
    days: float = 0.0
    recent: list[tuple[float, int, int]] = field(default_factory=list)
    changed: bool = False

    def learn(self, price: float, asked: int, accepted: int) -> None:
        """One day at one price: `asked` quotes, of which `accepted` became leases. Raises UnusableStateError."""
        self.learn_day([(price, asked, accepted)])

    def learn_day(self, quotes: Sequence[tuple[float, int, int]]) -> None:
        """One day: by price, how many quotes were asked for and accepted. A day without quotes forgets, too."""
        for price, asked, accepted in quotes:
            if not (math.isfinite(price) and price > 0 and 0 <= accepted <= asked):
                raise UnusableStateError(f"{accepted} of {asked} quotes at {price} can't have been accepted")
        self.changed = self._surprised(quotes)
        keep = 1 - (FORGET_FAST if self.changed else FORGET)
        prior = _prior()
        self.log_weights = prior + keep * (self.log_weights - prior)
        self.weight, self.rate, self.days = keep * self.weight, keep * self.rate, keep * self.days + 1
        for price, asked, accepted in quotes:
            share = self._accept(price)
            self.log_weights = self.log_weights + accepted * np.log(share) + (asked - accepted) * np.log(1 - share)
            self.weight += asked
            self.rate += asked
        self.recent = [*self.recent, *((price, asked, accepted) for price, asked, accepted in quotes if asked)][-50:]
        if self.changed:
            self.recent = self.recent[-len(quotes) :]

    def accepted_share(self, price: float) -> tuple[float, float, float]:
        """The expected share of quotes accepted at `price`, and the interval that holds it nine times in ten."""
        weights, shares = self._weights().ravel(), self._accept(price).ravel()
        order = np.argsort(shares)
        cumulative = np.cumsum(weights[order])
        low, high = (float(shares[order][np.searchsorted(cumulative, each)]) for each in (0.05, 0.95 - 1e-9))
        return float((weights * shares).sum()), low, high

    def advise(self, now: float, bounds: Bounds, capacity: float, worth: float = 0.0) -> Advice:
        """The price of the next day from the price `now`. `capacity` is what can be sold in a day, in orders; `worth` what the
        capacity of an order would earn otherwise, per accelerator-hour."""
        if not (math.isfinite(now) and now > 0 and capacity >= 0 and math.isfinite(worth)):
            raise UnusableStateError(
                "a price, a capacity and the worth of another use are finite numbers, the price above 0"
            )
        low, high = bounds.within(now * (1 - STEP_MAX)), bounds.within(now * (1 + STEP_MAX))
        if self.weight < 1:
            price = bounds.within(now)
            share, least, most = self.accepted_share(price)
            return Advice(price, price, share, least, most, self.weight, False, "no quotes yet: the price stays")
        grid = np.exp(np.linspace(math.log(bounds.floor), math.log(bounds.ceiling), PRICES))
        weights = self._weights()
        shares = np.array([(weights * self._accept(price)).sum() for price in grid])
        gains = (grid - worth) * _sold(self.rate / self.days * shares, capacity)
        best = float(grid[int(np.argmax(gains))])
        today = (now - worth) * _sold(np.array([self.rate / self.days * self.accepted_share(now)[0]]), capacity)
        price = min(max(best, low), high)
        share, least, most = self.accepted_share(price)
        moved = price / now - 1
        reason = f"{share:.0%} of quotes accepted expected at {price:.4g}, from {self.weight:.0f} quotes"
        reason += f"; {moved:+.0%} towards {best:.4g}" if abs(moved) > 1e-3 else "; it stays"
        reason += "; the market has changed, so older quotes count less" if self.changed else ""
        return Advice(
            price, best, share, least, most, self.weight, self.changed, reason, max(0.0, float(gains.max() - today[0]))
        )

    def as_state(self) -> dict[str, Any]:
        return {
            "reference": self.reference,
            "log_weights": [[round(float(each), 9) for each in row] for row in self.log_weights],
            "weight": self.weight,
            "rate": self.rate,
            "days": self.days,
            "recent": [list(item) for item in self.recent],
            "changed": self.changed,
        }

    @classmethod
    def of_state(cls, state: dict[str, Any]) -> DemandModel:
        recent = [(float(price), int(asked), int(accepted)) for price, asked, accepted in state["recent"]]
        return cls(
            **{**state, "log_weights": np.array(state["log_weights"], dtype=np.float64), "recent": recent},
        )

    def _weights(self) -> Floats:
        weights = np.exp(self.log_weights - self.log_weights.max())
        return np.asarray(weights / weights.sum())

    def _accept(self, price: float) -> Floats:
        """The share accepted at `price`, by slope and middle; never quite 0 or 1, so that nobody is ruled out by one quote."""
        exponent = _SLOPES[:, None] * (math.log(price / self.reference) - np.log(_MIDDLES)[None, :])
        return np.asarray(np.clip(1 / (1 + np.exp(np.clip(exponent, -60, 60))), 1e-6, 1 - 1e-6))

    def _surprised(self, today: Sequence[tuple[float, int, int]]) -> bool:
        """Whether the last days' acceptance is further from the prediction than chance and what is not known explain."""
        weights = self._weights()
        seen = expected = variance = 0.0
        for price, asked, accepted in [*self.recent[-CHECK_DAYS + 1 :], *today]:
            shares = self._accept(price)
            mean = float((weights * shares).sum())
            unknown = float((weights * (shares - mean) ** 2).sum())
            seen += accepted
            expected += asked * mean
            variance += asked * mean * (1 - mean) + asked**2 * unknown
        return self.weight >= 20 and variance > 0 and abs(seen - expected) > SURPRISE * math.sqrt(variance + 1)


def _prior() -> Floats:
    """Slopes log-normal around SLOPE_PRIOR; middles flat."""
    slopes = -((np.log(_SLOPES) - math.log(SLOPE_PRIOR)) ** 2) / (2 * SLOPE_SPREAD**2)
    return np.asarray(np.repeat(slopes[:, None], _MIDDLES.size, axis=1))


def _sold(mean: Floats, capacity: float) -> Floats:
    """E[min(N, capacity)] for N normal with the mean and the variance of a Poisson number."""
    spread = np.sqrt(mean) + 1e-9
    z = (capacity - mean) / spread
    below = np.array([(1 + math.erf(each / math.sqrt(2))) / 2 for each in z])
    density = np.exp(-np.clip(z * z, 0, 1400) / 2) / math.sqrt(2 * math.pi)
    return np.asarray(np.clip(capacity - (capacity - mean) * below - spread * density, 0, np.minimum(mean, capacity)))
