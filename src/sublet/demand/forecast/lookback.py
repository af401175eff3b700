"""What was known of a pool's demand, laid out by hour of the day, and how much it swung."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from sublet.demand.model import Floats

DAY = 24
MEMORY_HOURS = 120 * DAY
HIGH_HOURS = 24
SWING_HOURS = 24
SWING_REST = 0.5
SWING_SLOTS = 5
SPREAD_MIN = 1e-3
JUMP_QUANTILE = 0.95
BURST_SHARE = 0.01

WHOLE_DAYS = 14
"""With so many whole days of moments the oldest part of a day is left out: each hour of the day then has as many."""

BEFORE_HOURS = SWING_HOURS + 2
"""What is looked at before a moment: its swing is that of the hours until the one before the last."""

Grid = NDArray[np.float32]
Places = NDArray[np.int64]
Kind = TypeVar("Kind", np.float32, np.bool_)


@dataclass(frozen=True, slots=True)
class Swings:
    """How far demand moved from hour to hour just before each moment (rows by hour of the day, columns by day).

    Rises are larger while demand swings: their spread is taken to grow with the square root of the mean move of SWING_HOURS
    and SWING_REST of what is typical of all that was seen (`rest`). It is what filtered historical simulation does with a
    volatility model (Barone-Adesi and others, 1999).
    """

    roots: Grid
    rest: float

    @classmethod
    def of(cls, seen: Grid, days: int) -> Swings:
        """`seen` begins BEFORE_HOURS before the first moment."""
        moves = np.abs(seen[1:] - seen[:-1])
        unknown = np.isnan(moves)
        if unknown.any():
            moves[unknown] = 0
            known = (~unknown).astype(np.float32)
            moved, counts = float(known.sum()), _sums(known, SWING_HOURS)
        else:
            moved, counts = float(moves.size), np.full(1, SWING_HOURS, dtype=np.float32)
        rest = SWING_REST * float(moves.sum()) / max(1.0, moved) + SPREAD_MIN
        over = _sums(moves, SWING_HOURS)
        over /= np.maximum(1, counts)
        over += np.float32(rest)
        return cls(_by_hour(np.sqrt(over), DAY, days), rest)

    def against(self, lately: Floats, rows: Places) -> Grid:
        """How much wider rises are now than after each moment of the hours `rows`; `lately` is demand before now."""
        lately = lately[-SWING_HOURS - 1 :]
        moves = np.abs(lately[1:] - lately[:-1])
        if not math.isfinite(moves.sum()):
            moves = moves[np.isfinite(moves)]
        now = math.sqrt((float(moves.sum()) / moves.size if moves.size else 0.0) + self.rest)
        return np.float32(now) / self.roots.take(rows, axis=0)


@dataclass(frozen=True)
class Lookback:
    """What was known at slot `at`, laid out by hour of the day: row r, column d is moment `first + r + 24 d`.

    `demand` has demand just before each moment in its first DAY rows, and what came after it in the rows that follow;
    `high` is the highest of the HIGH_HOURS until just before each moment. `jump` is the JUMP_QUANTILE of one-slot rises over the
    highest demand, `burst` the mean of the largest BURST_SHARE of them, from their 99 % quantile to their maximum. `whole` says
    which moments were seen to their end, None where all of them were.
    """

    at: int
    slots: int
    first: int
    demand: Grid
    high: Grid
    swings: Swings | None
    whole: NDArray[np.bool_] | None
    highest: float
    jump: float
    burst: float = 0.0

    @classmethod
    def of(cls, in_use: Floats, at: int, slots: int) -> Lookback:
        end = at - slots + 1
        count = max(0, min(end - 1, MEMORY_HOURS))
        days = count // DAY if count >= WHOLE_DAYS * DAY else -(-count // DAY)
        first = end - DAY * days
        if days == 0:
            none = np.empty((DAY + slots, 0), dtype=np.float32)
            return cls(at, slots, first, none, none[:DAY], None, None, 0.0, 0.0)
        seen = np.full(BEFORE_HOURS + DAY * days + slots - 1, np.nan, dtype=np.float32)
        known = in_use[max(0, first - BEFORE_HOURS) : at]
        seen[seen.size - known.size :] = known
        lately = seen[BEFORE_HOURS - 1 :]
        demand = _by_hour(lately, DAY + slots, days)
        steps = lately[1 : DAY * days + 1] - lately[: DAY * days]
        whole, highest = None, float(lately.max())
        if not math.isfinite(highest):
            highest = float(np.fmax.reduce(lately))
            seen_until = np.zeros(lately.size + 1, dtype=np.int64)
            np.isfinite(lately).cumsum(out=seen_until[1:])
            every = seen_until[slots + 1 :] - seen_until[: -slots - 1] == slots + 1
            whole, steps = _by_hour(every, DAY, days), steps[every]
        jump = burst = 0.0
        if steps.size:
            # What the second looks at lies above what the first one put aside.
            jump, above = _quantile(steps, JUMP_QUANTILE)
            burst = _top_mean(above, max(1, int(steps.size * BURST_SHARE)))
            jump, burst = jump / max(1.0, highest), burst / max(1.0, highest)
        swings = Swings.of(seen, days) if slots <= SWING_SLOTS else None
        high = _by_hour(_highest_lately(seen[BEFORE_HOURS - HIGH_HOURS :]), DAY, days)
        return cls(at, slots, first, demand, high, swings, whole, highest, jump, burst)

    @property
    def days(self) -> int:
        return int(self.demand.shape[1])

    @property
    def before(self) -> Grid:
        """Demand just before each moment."""
        return self.demand[:DAY]

    @property
    def ahead(self) -> Grid:
        """Demand at each moment in its first DAY rows, and what came after it in the rows that follow."""
        return self.demand[1:]


def last_seen(demand: Floats) -> float:
    """The last demand that was seen within HIGH_HOURS, NaN where none was."""
    if demand.size and math.isfinite(demand[-1]):
        return float(demand[-1])
    recently = demand[-HIGH_HOURS:]
    known = recently[np.isfinite(recently)]
    return float(known[-1]) if known.size else math.nan


def _by_hour(row: NDArray[Kind], hours: int, days: int) -> NDArray[Kind]:
    """Row r, column d is the element r + 24 d; there may be more rows than a day has hours."""
    step = row.itemsize
    found: NDArray[Kind] = np.ndarray((hours, days), row.dtype, row, 0, (step, DAY * step)).copy()
    return found


def _quantile(values: Grid, level: float) -> tuple[float, Grid]:
    """With linear interpolation between order statistics, and the values from it upwards; `values` are put into another order."""
    at = level * (values.size - 1)
    low = int(at)
    high = min(low + 1, values.size - 1)
    values.partition((low, high))
    return float(values[low] + (at - low) * (values[high] - values[low])), values[low:]


def _top_mean(values: Grid, count: int) -> float:
    """The mean of the `count` highest of `values`, which are put into another order."""
    values.partition(values.size - count)
    return float(values[values.size - count :].mean())


def _sums(values: Grid, count: int) -> Grid:
    """The sum of `count` elements from each on, as long as there are so many; by powers of two."""
    found, covered = np.zeros(values.size + 1, dtype=np.float32), 0
    part, width = values, 1
    while covered < count:
        if count & width:
            left = values.size - covered - width + 1
            found = found[:left] + part[covered : covered + left]
            covered += width
        part, width = part[width:] + part[:-width], 2 * width
    return found


def _highest_lately(in_use: Grid) -> Grid:
    """The highest demand of HIGH_HOURS slots, over what was seen of them: the first element is of the first so many."""
    highest, covered = in_use, 1
    while covered < HIGH_HOURS:
        step = min(covered, HIGH_HOURS - covered)
        highest = np.fmax(highest[step:], highest[:-step])
        covered += step
    return highest
