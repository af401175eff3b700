"""Quantiles of the peak: how high the owner's demand may rise at any time until a horizon, and how often that held.

The paths of the forecaster give a distribution of the highest demand from now until the horizon. Its levels are corrected
by their own record, as adaptive conformal inference does (Gibbs and Candès, 2021): after every check whose outcome is
known, a level that was passed too often is raised, and one that was passed too seldom lowered. Where the history holds too
few separate spans of the horizon for a quantile, it is not known, and the reason is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sublet.demand.forecast import Forecaster, HourlyRises, PlainRises, recent
from sublet.demand.model import HOUR_S, Floats, Series
from sublet.values.clock import format_time, to_micros
from sublet.values.errors import InvalidInputError

HORIZON_S_MIN = 60
HORIZON_S_MAX = 14 * 24 * HOUR_S
HORIZONS_MAX = 24
HORIZONS_DEFAULT_S = (15 * 60, HOUR_S, 4 * HOUR_S, 12 * HOUR_S, 24 * HOUR_S, 72 * HOUR_S)
QUANTILES_DEFAULT = (0.5, 0.9, 0.95, 0.99)
QUANTILES_MAX = 12
FINE_SLOTS = 7 * 24 * 60
HOURS = 120 * 24
CHECKED_HOURS = 28 * 24
CHECKS_MAX = 120
LATEST_SAMPLES = 32
STALE_STEPS = 4
STALE_S_MIN = 120
LEVEL_STEP = 0.02
LEVEL_MAX = 0.9999
# A quantile needs so many of the spans that would tell it apart from the maximum.
SPANS_NEEDED = 0.5


@dataclass(frozen=True, slots=True)
class Peak:
    """The `quantile` of the highest demand within the horizon, in accelerators; None where `why` it is not known.

    `held` of `checks` earlier forecasts of it were not passed.
    """

    quantile: float
    accelerators: float | None
    why: str
    held: int
    checks: int

    def as_dict(self) -> dict[str, Any]:
        return {
            "quantile": self.quantile,
            "accelerators": None if self.accelerators is None else round(self.accelerators, 3),
            "why": self.why,
            "held": self.held,
            "checks": self.checks,
        }


@dataclass(frozen=True, slots=True)
class PeakForecast:
    """What demand may rise to from `at` on; `peaks` maps horizons in seconds to their quantiles, lowest first."""

    pool_id: str
    at: datetime
    in_use: float | None
    history_s: int
    method: str
    peaks: dict[int, tuple[Peak, ...]]

    def as_dict(self) -> dict[str, Any]:
        return {
            "pool_id": self.pool_id,
            "at": format_time(self.at),
            "in_use": self.in_use,
            "history_s": self.history_s,
            "method": self.method,
            "horizons": [
                {"horizon_s": horizon_s, "quantiles": [peak.as_dict() for peak in found]}
                for horizon_s, found in self.peaks.items()
            ],
        }


def forecast_peaks(
    history: Series,
    at: datetime,
    horizons_s: Sequence[int] = HORIZONS_DEFAULT_S,
    quantiles: Sequence[float] = QUANTILES_DEFAULT,
    progress: Callable[[float], None] = lambda done: None,
) -> PeakForecast:
    """The quantiles of the peak within each horizon, from what `history` says before `at`. Raises InvalidInputError.

    Below an hour the last week is looked at by the minute (or the series' own step); from an hour on, the last 120 days
    by the hour. `progress` is told the share done.
    """
    horizons, levels = _checked(horizons_s, quantiles)
    past = history.times_us[history.times_us <= to_micros(at)]
    # The present is where the last sample is, as long as it is news.
    at_us = int(past[-1]) if past.size else to_micros(at)
    age_s = (to_micros(at) - at_us) // 1_000_000
    # How often samples come now: an imported history may be hourly where the present is seen every few seconds.
    step_s = int(np.median(np.diff(past[-LATEST_SAMPLES:]))) // 1_000_000 if past.size > 1 else history.step_s
    stale = not past.size or age_s > max(STALE_S_MIN, STALE_STEPS * step_s)
    coarse = recent(history, at_us, HOUR_S, HOURS)
    fine_s = max(60, step_s)
    fine_wanted = any(fine_s <= horizon_s < HOUR_S for horizon_s in horizons)
    fine = recent(history, at_us, fine_s, FINE_SLOTS) if fine_wanted else None
    history_s = (to_micros(at) - int(past[0])) // 1_000_000 if past.size else 0
    found: dict[int, tuple[Peak, ...]] = {}
    method = ""
    for index, horizon_s in enumerate(horizons):
        if stale:
            why = f"the last sample is {age_s} s old" if past.size else "there is no sample"
            found[horizon_s] = tuple(Peak(level, None, why, 0, 0) for level in levels)
        elif horizon_s < min(HOUR_S, fine_s):
            why = f"samples come every {fine_s} s, so that nothing is known about {horizon_s} s"
            found[horizon_s] = tuple(Peak(level, None, why, 0, 0) for level in levels)
        elif horizon_s < HOUR_S and fine is not None:
            outlook = _Outlook(fine.in_use, PlainRises(fine.in_use), fine_s, horizon_s + age_s, levels)
            found[horizon_s] = outlook.peaks()
        else:
            forecaster = HourlyRises(coarse.in_use, at_us // (HOUR_S * 1_000_000) + 1 - coarse.in_use.size)
            outlook = _Outlook(coarse.in_use, forecaster, HOUR_S, horizon_s + age_s, levels)
            found[horizon_s] = outlook.peaks()
            method = outlook.method
        progress((index + 1) / len(horizons))
    in_use = None if stale else coarse.newest
    return PeakForecast(history.pool, at, in_use, history_s, method or PlainRises.method, _nested(found))


def _nested(found: dict[int, tuple[Peak, ...]]) -> dict[int, tuple[Peak, ...]]:
    """The peak of a shorter horizon is part of a longer one's: what holds for the longer is enough for the shorter."""
    nested: dict[int, tuple[Peak, ...]] = {}
    above: dict[float, float] = {}
    for horizon_s in sorted(found, reverse=True):
        peaks = []
        for peak in found[horizon_s]:
            if peak.accelerators is not None:
                above[peak.quantile] = min(peak.accelerators, above.get(peak.quantile, peak.accelerators))
                peak = replace(peak, accelerators=above[peak.quantile])
            peaks.append(peak)
        nested[horizon_s] = tuple(peaks)
    return dict(sorted(nested.items()))


class _Outlook:
    """One horizon of one pool: the levels learned from the checks of the past, and the peaks at the present."""

    def __init__(
        self, in_use: Floats, forecaster: Forecaster, slot_s: int, horizon_s: int, quantiles: Sequence[float]
    ) -> None:
        self._in_use = in_use
        self._forecaster = forecaster
        self._slot_s = slot_s
        self._slots = max(1, -(-horizon_s // slot_s))
        self._wanted = np.array(quantiles)
        self._levels = self._wanted.copy()
        self._held = np.zeros(len(quantiles), dtype=np.int64)
        self._checks = np.zeros(len(quantiles), dtype=np.int64)
        self.method = ""

    def peaks(self) -> tuple[Peak, ...]:
        """The quantiles at the end of the series."""
        t = self._in_use.size
        self._learn(t)
        values = self._at(t, self._levels)
        spans = np.isfinite(self._in_use).sum() / self._slots
        found = []
        for index, quantile in enumerate(self._wanted):
            needed = SPANS_NEEDED / (1 - quantile)
            held, checks = int(self._held[index]), int(self._checks[index])
            if values is None:
                why, value = "the history is too short to compare with", None
            elif spans < needed:
                why = f"the history holds {spans:.0f} spans of this length and {needed:.0f} are needed"
                value = None
            else:
                why, value = "", float(values[index])
            found.append(Peak(float(quantile), value, why, held, checks))
        return tuple(found)

    def _learn(self, t: int) -> None:
        """Live through the checks of the past, each with the levels that were known then."""
        reach = min(t, CHECKED_HOURS * HOUR_S // self._slot_s)
        stride = max(1, reach // CHECKS_MAX)
        waiting: list[tuple[int, NDArray[np.bool_], NDArray[np.bool_]]] = []
        first = t - self._slots - stride * ((reach - self._slots) // stride if reach > self._slots else 0)
        for moment in range(max(1, first), t - self._slots + 1, stride):
            while waiting and waiting[0][0] <= moment:
                self._count(*waiting.pop(0)[1:])
            known = (np.isfinite(self._in_use[:moment]).sum() / self._slots) >= SPANS_NEEDED / (1 - self._wanted)
            values = self._at(moment, self._levels) if known.any() else None
            ahead = self._in_use[moment : moment + self._slots]
            if values is not None and np.isfinite(ahead).all():
                peak = max(float(ahead.max()), float(self._in_use[moment - 1]))
                waiting.append((moment + self._slots, peak <= values + 1e-9, known))
        for _, held, known in waiting:
            self._count(held, known)

    def _count(self, held: NDArray[np.bool_], known: NDArray[np.bool_]) -> None:
        self._held += held & known
        self._checks += known
        moved = self._levels + LEVEL_STEP * np.where(known, self._wanted - held, 0.0)
        # Levels keep their order: a higher quantile is never forecast below a lower one.
        self._levels = np.maximum.accumulate(np.clip(moved, 0.0, LEVEL_MAX))

    def _at(self, t: int, levels: Floats) -> Floats | None:
        now = float(self._in_use[t - 1]) if t else float("nan")
        if not np.isfinite(now):
            return None
        futures = self._forecaster.futures(t, self._slots)
        if futures.paths.shape[0] == 0 or futures.weight <= 0:
            return None
        self.method = futures.method
        tops = np.maximum(futures.paths.max(axis=1).astype(np.float64), 0.0)
        order = np.argsort(tops, kind="stable")
        say = np.cumsum(futures.weights[order].astype(np.float64))
        place = np.searchsorted(say, levels * say[-1], side="left")
        values: Floats = now + tops[order][np.minimum(place, order.size - 1)]
        return values


def _checked(horizons_s: Sequence[int], quantiles: Sequence[float]) -> tuple[list[int], list[float]]:
    horizons, levels = sorted(set(horizons_s)), sorted(set(quantiles))
    if not 1 <= len(horizons) <= HORIZONS_MAX or not HORIZON_S_MIN <= horizons[0] <= horizons[-1] <= HORIZON_S_MAX:
        raise InvalidInputError(f"ask for 1 to {HORIZONS_MAX} horizons of {HORIZON_S_MIN} to {HORIZON_S_MAX} seconds")
    if not 1 <= len(levels) <= QUANTILES_MAX or not 0 < levels[0] <= levels[-1] < 1:
        raise InvalidInputError(f"ask for 1 to {QUANTILES_MAX} quantiles above 0 and below 1, such as 0.95")
    return horizons, levels
