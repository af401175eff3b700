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
