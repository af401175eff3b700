"""Crowded positioning: z-scores and percentiles with their history, and what a price move can be attributed to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sublet.desk.formulas import formula
from sublet.desk.terms import Number, normal_share_below
from sublet.values.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a reading stands in its history."""

    z: float
    percentile: float
    observations: int
    window: str
    mean: float = 0.0
    sd: float = 1.0


@dataclass(frozen=True, slots=True)
class Regression:
    """Returns as alpha + beta x the market's: `explained` is R^2, `residual_sd` what is left, with n - 2 degrees of freedom."""

    alpha: float
    beta: float
    explained: float
    residual_sd: float


RETURNS_MIN = 10


def regression(owner: Sequence[float], market: Sequence[float]) -> Regression:
    """Least squares of one return history on another, row by row.

    Raises InvalidInputError for fewer than `RETURNS_MIN` returns, a market that never moved, or an owner that only followed it.
    """
    y, x = np.asarray(owner, dtype=float), np.asarray(market, dtype=float)
    if y.size < RETURNS_MIN:
        raise InvalidInputError(f"the history has {y.size} returns; give at least {RETURNS_MIN}")
    around, moved = x - x.mean(), y - y.mean()
    spread = float((around**2).sum())
    if float(np.ptp(x)) == 0:
        raise InvalidInputError("the market's return is the same in every row, so there is no beta; widen the window")
    beta = float((around * moved).sum()) / spread
    left = moved - beta * around
    residual = float(np.sqrt((left**2).sum() / (y.size - 2)))
    if not residual > 1e-12:
        raise InvalidInputError(
            "the market explains every return, so nothing is left to compare a move with; check the columns"
        )
    whole = float((moved**2).sum())
    return Regression(float(y.mean()) - beta * float(x.mean()), beta, 1 - float((left**2).sum()) / whole, residual)


def standing(reading: float, history: Sequence[float], window: str) -> Standing:
    """z-score (sample standard deviation) and percentile of `reading` in `history`.

    Raises InvalidInputError for fewer than two observations or a history that never moved.
    """
    values = np.asarray(history, dtype=float)
    if values.size < 2:
        raise InvalidInputError(
            f"history has {values.size} observations; give at least two, or state z with its source"
        )
    spread = float(values.std(ddof=1))
    if spread == 0:
        raise InvalidInputError(
            "every observation of the history is the same, so there is no z-score; widen the window"
        )
    below = float((values < reading).mean() + 0.5 * (values == reading).mean())
    mean = float(values.mean())
    return Standing((reading - mean) / spread, below, int(values.size), window, mean, spread)


@formula("prob", z="z")
def normal_percentile(z: Number) -> Number:
    """Phi(z). A fallback: positioning has fatter tails than a normal distribution."""
    return normal_share_below(z)


@formula("z", now="z", after="z")
def swing(now: Number, after: Number) -> Number:
    """How far positioning would travel: z now less z after. Two variables only if both are the same one."""
    return now - after


@formula("share", move="share", beta="x", market="share", fundamental="share")
def residual_move(move: Number, beta: Number, market: Number, fundamental: Number) -> Number:
    """What is left of a price move after market and fundamentals: r - beta r_m - f.

    An upper bound on what positioning explains, never a measurement of it.
    """
    return move - beta * market - fundamental


@formula("share of renewal value", move="share", exposed="share", beyond="share")
def implied_renewal_loss(move: Number, exposed: Number, beyond: Number) -> Number:
    """The loss of renewal value that a fall would imply if all of it were fundamental: move / (exposed x beyond).

    `exposed` is the share of business with the customers in question, `beyond` the share of value after today's contracts.
    """
    return move / (exposed * beyond)
