"""The fits against the same written down plainly, moment by moment, in double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sublet.demand.forecast.fits import (
    HALF_LIFE_HOURS,
    JUMP_SHARE,
    KERNEL_HOURS,
    LONG_HALF_LIFE_HOURS,
    NEAR_HOURS,
    SHRINK,
    SPREAD_FLOOR,
    Fits,
)
from sublet.demand.forecast.forecaster import HIGH, ORIGINS, candidates
from sublet.demand.forecast.lookback import (
    DAY,
    HIGH_HOURS,
    JUMP_QUANTILE,
    MEMORY_HOURS,
    SPREAD_MIN,
    SWING_REST,
    SWING_SLOTS,
)
from sublet.demand.model import Floats

HOURS = 40 * DAY + 5
Cells = dict[tuple[int, int], Floats]
"""By hour of the day and day."""


class Plain:
    """What is known at slot `t`, from a fit of `length` slots that was renewed at slot `at`."""

    def __init__(self, demand: Floats, t: int, at: int, length: int, pull: float) -> None:
        self.demand, self.t, self.at, self.length, self.pull = demand, t, at, length, pull
        end = at - length + 1
        self.first = end - DAY * (min(end - 1, MEMORY_HOURS) // DAY)
        moments = range(self.first, end)
        self.moves = {u: self._move(u) for u in moments if np.isfinite(demand[u - 1 : u + length]).all()}
        steps = [demand[u] - demand[u - 1] for u in self.moves]
        self.jump = np.quantile(steps, JUMP_QUANTILE) / np.nanmax(demand[self.first - 1 : at])
        seen = demand[max(0, self.first - 26) : at]
        self.rest = SWING_REST * float(np.nanmean(np.abs(np.diff(seen)))) + SPREAD_MIN
        self.near = [(t + away) % DAY for away in range(-NEAR_HOURS, NEAR_HOURS + 1)]
        self.mean = self._shrunk({u: move for u, move in self.moves.items()}, range(DAY))
        off = {u: np.abs(move - self.mean[u % DAY]) for u, move in self.moves.items() if u % DAY in self.near}
        self.spread = self._shrunk(off, self.near)
        typical = np.mean(list(off.values()), axis=0)
        for hour in self.near:
            self.spread[hour] = np.maximum(self.spread[hour], SPREAD_FLOOR * typical + SPREAD_MIN)

    def _move(self, u: int) -> Floats:
        before, high = self.demand[u - 1], np.nanmax(self.demand[max(0, u - HIGH_HOURS) : u])
        return self.demand[u : u + self.length] - (before + self.pull * (high - before))

    def _shrunk(self, moves: dict[int, Floats], hours: range | list[int]) -> dict[int, Floats]:
        every = np.mean(list(moves.values()), axis=0)
        found = {}
        for hour in hours:
            mine = [move for u, move in moves.items() if u % DAY == hour]
            say = len(mine) / (len(mine) + SHRINK)
            found[hour] = say * np.mean(mine, axis=0) + (1 - say) * every if mine else every
        return found

    def _swing(self, u: int) -> float:
        moved = np.abs(np.diff(self.demand[max(0, u - 26) : u - 1]))
        moved = moved[np.isfinite(moved)]
        return math.sqrt((moved.mean() if moved.size else 0.0) + self.rest)

    def path(self, u: int) -> Floats:
        """What the moment `u` says may come after slot `t`, above the demand just before it."""
        here, hour = self.t % DAY, u % DAY
        scale = self.spread[here] / self.spread[hour]
        if self.length <= SWING_SLOTS and self.jump <= JUMP_SHARE:
            scale = scale * self._swing(self.t) / self._swing(u)
        lately = self.demand[self.t - HIGH_HOURS : self.t]
        above = self.pull * (np.nanmax(lately) - lately[np.isfinite(lately)][-1])
        path: Floats = (self.moves[u] - self.mean[hour]) * scale + self.mean[here] + above
        return path

    def say(self, u: int) -> float:
        away = (u - self.t + DAY // 2) % DAY - DAY // 2
        half_life = HALF_LIFE_HOURS if self.length <= 5 else LONG_HALF_LIFE_HOURS
        return float(math.exp(-0.5 * (away / KERNEL_HOURS) ** 2) * 2 ** (-(self.t - u) / half_life))


def _demand(kind: str) -> Floats:
    random = np.random.default_rng(11)
    day = 300 + 80 * np.sin(np.arange(HOURS) * 2 * np.pi / DAY)
    demand = day + np.cumsum(random.normal(0, 4, HOURS)) + random.normal(0, 10, HOURS) * (np.arange(HOURS) % 300 < 60)
    if kind == "gaps":
        demand[random.random(HOURS) < 0.02] = np.nan
        demand[400:430] = np.nan
    if kind == "its last hours unseen":
        demand[-3:] = np.nan
    if kind == "large jobs":
        demand += 500 * np.repeat(random.random(HOURS // 3 + 1) < 0.3, 3)[:HOURS]
    return demand


@pytest.mark.parametrize("kind", ["whole", "gaps", "its last hours unseen", "large jobs"])
@pytest.mark.parametrize(("slots", "length"), [(1, 5), (4, 5), (12, 25)])
def test_paths_are_those_of_the_plain_way(kind: str, slots: int, length: int) -> None:
    demand = _demand(kind)
    fits, t = Fits(demand, 0, 3, ORIGINS), HOURS
    found, agreed = fits.set_at(t, slots), fits.agreed(t, slots)
    plain = [Plain(demand, t, fits.at(t, slots).at, length, pull) for pull in ORIGINS]
    assert (plain[0].jump > JUMP_SHARE) == (kind == "large jobs")

    moments = [int(u) for u in found.moments]
    assert sorted(moments) == sorted(u for u in plain[0].moves if u % DAY in plain[0].near)
    np.testing.assert_allclose(found.weights, [plain[0].say(u) for u in moments], rtol=1e-4)
    each = [np.array([one.path(u)[:slots] for u in moments]) for one in plain]
    for origin, paths in enumerate(each):
        np.testing.assert_allclose(found.rises(slots, origin), paths, rtol=1e-3, atol=0.02)
    np.testing.assert_allclose(agreed.rises(slots), np.maximum(*each), rtol=1e-3, atol=0.02)


def test_each_method_uses_its_origin_and_long_promises_both() -> None:
    demand = _demand("whole")
    fits = Fits(demand, 0, 3, ORIGINS)
    methods = candidates(demand, 0, 3)
    for name in ("day_high", "levels"):
        short, long = methods[name].futures(HOURS, 4).paths, methods[name].futures(HOURS, 12).paths
        np.testing.assert_array_equal(short, fits.set_at(HOURS, 4).rises(4, HIGH))
        np.testing.assert_array_equal(long, fits.agreed(HOURS, 12).rises(12))
    for slots in (4, 12):
        np.testing.assert_array_equal(
            methods["hours"].futures(HOURS, slots).paths, fits.set_at(HOURS, slots).rises(slots)
        )
