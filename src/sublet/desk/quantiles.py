"""Distributions by their normal score: what a draw of a standard normal stands for in any other shape.

A table over scores turns a normal draw into a draw of a truncated, mixed, triangular, uniform or beta distribution. It is how such
shapes are sampled, and how inputs that move together are: their scores are correlated, each keeps its own distribution.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import erfc, sqrt
from statistics import NormalDist

import numpy as np

from sublet.desk.terms import FloatArray

REACH = 8.0
STEPS = 8192
"""Scores from -8 to 8 in steps of 1/512: what lies beyond is drawn once in 10^15 times."""
_BETA_POINTS = 1 << 15


@cache
def scores() -> FloatArray:
    """The scores of a table."""
    return np.linspace(-REACH, REACH, STEPS + 1)


@cache
def shares() -> FloatArray:
    """The share of a normal distribution below each score."""
    return np.array([0.5 * erfc(-score / sqrt(2.0)) for score in scores()])


@dataclass(frozen=True, slots=True)
class Table:
    """A value for each score, and the step to the next."""

    values: FloatArray
    steps: FloatArray

    @classmethod
    def of(cls, values: FloatArray) -> Table:
        return cls(values, np.append(np.diff(values), 0.0))

    def at(self, score: FloatArray) -> FloatArray:
        """The value of each score, straight between two of the table."""
        place = np.clip((score + REACH) * (STEPS / (2 * REACH)), 0.0, STEPS - 1e-9)
        whole = place.astype(np.int32)
        place -= whole
        place *= self.steps[whole]
        place += self.values[whole]
        return place

    @property
    def mean(self) -> float:
        """The expected value: the table's values, each with the share of draws around its score."""
        weights = np.diff(shares())
        return float(((self.values[:-1] + self.values[1:]) / 2 * weights).sum() / weights.sum())

    def score_of(self, value: FloatArray) -> FloatArray:
        """The score below which a value lies."""
        return np.interp(value, self.values, scores(), left=-np.inf, right=np.inf)


def normal_quantile(share: float) -> float:
    """The score below which a share lies, held to the table's ends."""
    low, high = float(shares()[0]), float(shares()[-1])
    return (
        NormalDist().inv_cdf(min(max(share, low), high)) if low < share < high else (-REACH if share <= low else REACH)
    )


def beta_quantiles(a: float, b: float) -> FloatArray:
    """The beta distribution's value at each score, by summing its density over x = sin^2(t), which has no pole for a, b >= 1/2."""
    edges = np.linspace(0.0, np.pi / 2, _BETA_POINTS + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    with np.errstate(divide="ignore"):
        logs = (2 * a - 1) * np.log(np.sin(middle)) + (2 * b - 1) * np.log(np.cos(middle))
    density = np.exp(logs - logs.max())
    summed = np.concatenate([[0.0], np.cumsum(density)])
    return np.sin(np.interp(shares(), summed / summed[-1], edges)) ** 2


def truncated(table: Table, low: float, high: float) -> Table:
    """The distribution of a table, held between two values."""
    first, last = (float(score) for score in table.score_of(np.array([low, high])))
    below, above = _share_below(first), _share_below(last)
    inner = below + shares() * (above - below)
    found = np.interp(inner, shares(), table.values)
    return Table.of(np.clip(found, low, high))


def mixed(parts: Sequence[tuple[float, Table]]) -> Table:
    """One of several distributions by chance."""
    values = np.unique(np.concatenate([table.values for _, table in parts]))
    total = sum(weight for weight, _ in parts)
    below = np.zeros_like(values)
    for weight, table in parts:
        below += weight / total * np.interp(table.score_of(values), scores(), shares(), left=0.0, right=1.0)
    return Table.of(np.interp(shares(), below, values))


def _share_below(score: float) -> float:
    return 0.0 if score <= -REACH else 1.0 if score >= REACH else 0.5 * erfc(-score / sqrt(2.0))
