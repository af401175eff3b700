"""How high the owner's demand may rise: the forecast that decides what is sold, told as quantiles, and how often it held.

There is one forecaster: `View.outlook`. The rule and the ladder sell by its paths, the record's shadow by the same, and here
and in the console's chart its quantiles are shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np

from sublet.demand.forecast.forecaster import Forecaster, PlainRises
from sublet.demand.model import HOUR_S, Floats
from sublet.surplus.rule.view import Outlook, View
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError

HORIZON_S_MIN = 60
HORIZON_S_MAX = 14 * 24 * HOUR_S
HORIZONS_MAX = 24
HORIZONS_DEFAULT_S = (15 * 60, HOUR_S, 4 * HOUR_S, 12 * HOUR_S, 24 * HOUR_S, 72 * HOUR_S)
QUANTILES_DEFAULT = (0.5, 0.9, 0.95, 0.99)
QUANTILES_MAX = 12
CHECKED_S = 28 * 24 * HOUR_S
CHECKS_MAX = 120
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


def peaks_of(
    view: View,
    horizons_s: Sequence[int] = HORIZONS_DEFAULT_S,
    quantiles: Sequence[float] = QUANTILES_DEFAULT,
    progress: Callable[[float], None] = lambda done: None,
) -> PeakForecast:
    """The quantiles of the peak within each horizon, as the rule expects it. Raises InvalidInputError.

    Below an hour, where samples allow, the last week is looked at by the minute; from an hour on, whole hours of the last 120
    days. `progress` is told the share done.
    """
    horizons, levels = _checked(horizons_s, quantiles)
    found: dict[int, tuple[Peak, ...]] = {}
    method = PlainRises.method
    for index, horizon_s in enumerate(horizons):
        if view.stale:
            age_s = view.sample_age_s
            why = f"the last sample is {age_s:.0f} s old" if age_s is not None else "there is no sample"
            found[horizon_s] = tuple(Peak(level, None, why, 0, 0) for level in levels)
        else:
            outlook = view.outlook(horizon_s, firm=horizon_s >= HOUR_S)
            found[horizon_s] = _peaks(view, outlook, levels)
            method = outlook.futures.method
        progress((index + 1) / len(horizons))
    in_use = None if view.stale else view.in_use
    return PeakForecast(view.facts.pool_id, view.at, in_use, int(view.history_s), method, _nested(found))


def _peaks(view: View, outlook: Outlook, levels: Sequence[float]) -> tuple[Peak, ...]:
    """One horizon: its quantiles now, and how many of the checks of the last weeks each of them held."""
    if outlook.seller is not None:
        in_use, forecaster = view.hours.in_use, outlook.seller.forecaster
    else:
        assert view.fine is not None
        in_use = view.fine.in_use
        forecaster = PlainRises(in_use)
    spans = np.isfinite(in_use).sum() / outlook.slots
    needed = [SPANS_NEEDED / (1 - level) for level in levels]
    known = [level for level, least in zip(levels, needed, strict=True) if spans >= least]
    held, checks = _checks(in_use, forecaster, outlook, known)
    found = []
    for level, least in zip(levels, needed, strict=True):
        rise = outlook.rise(level)
        if rise is None:
            found.append(Peak(level, None, "the history is too short to compare with", 0, 0))
        elif spans < least:
            why = f"the history holds {math.floor(spans)} spans of this length, and {least:.0f} are needed"
            found.append(Peak(level, None, why, 0, 0))
        else:
            found.append(Peak(level, view.in_use + rise, "", held[level], checks))
    return tuple(found)


def _checks(
    in_use: Floats, forecaster: Forecaster, outlook: Outlook, levels: Sequence[float]
) -> tuple[dict[float, int], int]:
    """What the leading method would have said at moments of the last weeks, each from what was known then alone, and how
    often the peak stayed below."""
    t, slots = in_use.size, outlook.slots
    reach = min(t, CHECKED_S // outlook.slot_s)
    stride = max(1, reach // CHECKS_MAX)
    held = dict.fromkeys(levels, 0)
    checks = 0
    for moment in range(max(1, t - reach), t - slots + 1, stride):
        ahead = in_use[moment - 1 : moment + slots]
        futures = forecaster.futures(moment, slots) if levels and np.isfinite(ahead).all() else None
        if futures is None or futures.weights.size == 0 or futures.weight <= 0:
            continue
        checks += 1
        rose = float(ahead.max() - ahead[0])
        for level in levels:
            held[level] += rose <= max(0.0, float(futures.peaks.reached((1 - level) * futures.weight))) + 1e-6
    return held, checks


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


def _checked(horizons_s: Sequence[int], quantiles: Sequence[float]) -> tuple[list[int], list[float]]:
    horizons, levels = sorted(set(horizons_s)), sorted(set(quantiles))
    if not 1 <= len(horizons) <= HORIZONS_MAX or not HORIZON_S_MIN <= horizons[0] <= horizons[-1] <= HORIZON_S_MAX:
        raise InvalidInputError(f"ask for 1 to {HORIZONS_MAX} horizons of {HORIZON_S_MIN} to {HORIZON_S_MAX} seconds")
    if not 1 <= len(levels) <= QUANTILES_MAX or not 0 < levels[0] <= levels[-1] < 1:
        raise InvalidInputError(f"ask for 1 to {QUANTILES_MAX} quantiles above 0 and below 1, such as 0.95")
    return horizons, levels
