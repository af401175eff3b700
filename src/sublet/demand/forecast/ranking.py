"""WeightedLevels of weighted moments, read from the highest down."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sublet.demand.forecast.lookback import Grid
from sublet.demand.model import Floats

PART_MIN = 64


@dataclass(frozen=True)
class Ranking:
    """Which heights are the highest: found once for all who weigh them, as far down as it is asked for."""

    heights: Grid

    @property
    def size(self) -> int:
        return int(self.heights.size)

    @cached_property
    def highest(self) -> tuple[NDArray[np.int64], Grid]:
        """The places of the highest sixth (PART_MIN at least) from the highest down, and these heights."""
        size = min(max(PART_MIN, self.size // 6), self.size)
        return self._ordered(self.heights.argpartition(self.size - size)[-size:] if size else np.arange(0))

    @cached_property
    def all(self) -> tuple[NDArray[np.int64], Grid]:
        """The same of all of them."""
        return self._ordered(np.arange(self.size))

    def _ordered(self, places: NDArray[np.int64]) -> tuple[NDArray[np.int64], Grid]:
        heights = self.heights[places]
        down = (-heights).argsort(kind="stable")
        return places[down], heights[down]


@dataclass(frozen=True)
class WeightedLevels:
    """WeightedLevels in their order, and the weight of each (before they were put in order)."""

    order: Ranking
    weights: Grid

    def reached(self, weight: float) -> np.float32:
        """The highest that all heights from it upwards have more than `weight` at; -inf where all have no more than that."""
        for part in (self._highest, self._all):
            heights, sums = part()
            place = int(sums.searchsorted(weight + 1e-9, side="right"))
            if place < heights.size:
                reached: np.float32 = heights[place]
                return reached
        return np.float32(-math.inf)

    def _highest(self) -> tuple[Grid, Floats]:
        return self.order.highest[1], self._sums_of_highest

    def _all(self) -> tuple[Grid, Floats]:
        return self.order.all[1], self._sums_of_all

    @cached_property
    def _sums_of_highest(self) -> Floats:
        """The weight of each of the highest and all above it."""
        return self.weights[self.order.highest[0]].cumsum(dtype=np.float64)

    @cached_property
    def _sums_of_all(self) -> Floats:
        return self.weights[self.order.all[0]].cumsum(dtype=np.float64)
