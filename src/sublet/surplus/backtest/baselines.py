"""The simple policies that Sublet has to beat, as the literature and practice have them.

Each states how many units it would have sold, `q`, and starts what is missing. `prev` is the demand of the slot before,
`rise` the maximum demand over the window less `prev`; quantiles are over the trailing warm-up length of errors whose
whole window is known, at least a quarter of it, with linear interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from sublet.demand.model import Floats
from sublet.surplus.backtest.scoring import Book, Trace, whole

WEEK = 168
QUANTILE = 0.95
GFS_QUANTILE = 0.9
GAUSSIAN_90 = 1.2816
"""As the rule states it for GFS_QUANTILE."""


class Stated:
    """A policy that states a quantity for each slot and starts the difference to what runs."""

    def __init__(self, window: int, quantity: Floats) -> None:
        self.windows: tuple[int, ...] = (window,)
        self._window = window
        self._quantity = quantity

    def starts(self, t: int, book: Book) -> dict[int, int]:
        return {self._window: whole(self.stated(t)) - book.total}

    def stated(self, t: int) -> float:
        """Units that the policy is willing to have sold at slot `t`."""
        return float(self._quantity[t])

    def saw(self, t: int, finished: int, broken: int) -> None:
        pass


class WithFeedback(Stated):
    """The feedback of Alibaba's GFS (ASPLOS 2026): the quantity is scaled by how many of the last hours' windows broke."""

    def __init__(self, window: int, quantity: Floats) -> None:
        super().__init__(window, quantity)
        self._factor = 1.0
        self._past: list[tuple[int, int]] = []

    def stated(self, t: int) -> float:
        if self._past:
            finished = sum(item[0] for item in self._past[-4:])
            broken = sum(item[1] for item in self._past[-4:])
            rate = broken / (broken + finished) if broken + finished else 0.0
            if rate >= 0.15:
                self._factor = max(0.25, self._factor * 0.1 / rate)
            elif rate <= 0.05:
                self._factor = min(1.25, self._factor * (1.5 - rate / 0.1))
        return super().stated(t) * self._factor

    def saw(self, t: int, finished: int, broken: int) -> None:
        self._past = [*self._past[-3:], (finished, broken)]


def static_peak(trace: Trace, window: int, quantile: float = 1.0) -> Stated:
    """Capacity less the highest demand of the trailing warm-up length, or less another `quantile` of it."""
    demand, before = trace.in_use, _capacity_before(trace)
    levels = [np.quantile(demand[max(0, t - trace.warmup) : t], quantile) if t else math.inf for t in range(len(trace))]
    return Stated(window, before - np.array(levels))


def seasonal(trace: Trace, window: int, quantile: float = QUANTILE) -> Stated:
    """The same hours of last week, and a `quantile` of past errors of saying so."""
    season = WEEK * math.ceil(window / WEEK)
    peak = forward_peak(trace.in_use, window)
    same = np.full(len(trace), np.nan)
    same[season:] = peak[: max(0, len(trace) - season)]
    error = _trailing(peak - same, trace.warmup, window, _quantile(quantile))
    return Stated(window, _capacity_before(trace) - same - error)


def rise_quantile(trace: Trace, window: int, quantile: float = QUANTILE) -> Stated:
    """Demand now, and a `quantile` of past maximum rises over the window."""
    return Stated(window, _room(trace) - _trailing(_rise(trace, window), trace.warmup, window, _quantile(quantile)))


def gaussian(trace: Trace, window: int, quantile: float = GFS_QUANTILE) -> Stated:
    """Demand now, and mean + 1.2816 standard deviations of past maximum rises: the rule of GFS at 90 %."""
    return Stated(window, _gaussian_quantity(trace, window, quantile))


def gaussian_with_feedback(trace: Trace, window: int, quantile: float = GFS_QUANTILE) -> Stated:
    """The same with GFS's feedback."""
    return WithFeedback(window, _gaussian_quantity(trace, window, quantile))


def sell_all(trace: Trace, window: int) -> Stated:
    """Everything that was idle a slot ago: sell, and evict."""
    return Stated(window, _room(trace))


BASELINES: dict[str, Callable[[Trace, int], Stated]] = {
    "static_peak": static_peak,
    "seasonal": seasonal,
    "rise_quantile": rise_quantile,
    "gaussian": gaussian,
    "gaussian_feedback": gaussian_with_feedback,
    "sell_all": sell_all,
}

CURVED: dict[str, Callable[[Trace, int, float], Stated]] = {
    "static_peak": static_peak,
    "seasonal": seasonal,
    "rise_quantile": rise_quantile,
    "gaussian": gaussian,
    "gaussian_feedback": gaussian_with_feedback,
}
"""Those that a quantile makes safer or bolder; to sell everything is one point."""

QUANTILES = (0.5, 0.8, 0.9, 0.95, 0.99, 0.999)


def forward_peak(demand: Floats, window: int) -> Floats:
    """Highest demand over slots t … t+window-1, clipped at the end."""
    peak = demand.copy()
    for ahead in range(1, min(window, demand.size)):
        peak[:-ahead] = np.maximum(peak[:-ahead], demand[ahead:])
    return peak


def _before(values: Floats) -> Floats:
    return np.concatenate([values[:1], values[:-1]])


def _capacity_before(trace: Trace) -> Floats:
    return _before(trace.capacity)


def _room(trace: Trace) -> Floats:
    return _capacity_before(trace) - _before(trace.in_use)


def _rise(trace: Trace, window: int) -> Floats:
    return forward_peak(trace.in_use, window) - _before(trace.in_use)


def _gaussian_quantity(trace: Trace, window: int, quantile: float) -> Floats:
    deviations = GAUSSIAN_90 if quantile == GFS_QUANTILE else NormalDist().inv_cdf(quantile)

    def upper(errors: Floats) -> float:
        return float(errors.mean() + deviations * errors.std(ddof=1))

    return _room(trace) - _trailing(_rise(trace, window), trace.warmup, window, upper)


def _quantile(quantile: float) -> Callable[[Floats], float]:
    return lambda errors: float(np.quantile(errors, quantile))


def _trailing(errors: Floats, memory: int, window: int, of: Callable[[Floats], float]) -> Floats:
    """`of` the errors known before each slot, +inf (nothing is sold) where fewer than a quarter of `memory` are known."""
    found = np.full(errors.size, np.inf)
    for t in range(errors.size):
        stop = max(0, t - window + 1)
        known = errors[max(0, stop - memory) : stop]
        known = known[np.isfinite(known)]
        if known.size >= memory / 4 and known.size > 1:
            found[t] = of(known)
    return found
