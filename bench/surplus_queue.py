"""What the queue and running jobs add to the forecast, where they are known. Writes `queue` of bench/results/surplus.json.

`python bench/surplus_queue.py` reads `philly_jobs.csv.gz` and `earth_minute.csv.gz` from SUBLET_TRACES. Each sign, as known at the
beginning of each hour, weighs past moments by likeness (`Alike`); the first half of the scored hours alone is scored.
"""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np

from sublet.demand.forecast.fits import Fits
from sublet.demand.forecast.forecaster import HIGH, ORIGINS, Alike, Forecaster, candidates
from sublet.demand.model import Floats
from sublet.surplus.backtest.own import SHADOW_START, Sublet
from sublet.surplus.backtest.scoring import Trace, bound, run
from sublet.surplus.rule.seller import Seller, phase_of
from surplus import RESULT, TRACES, _halves, _trace

WINDOWS = (1, 4)
AGES_H = (0.0, 0.25, 1.0, 4.0, 12.0, 24.0, 72.0)
AHEAD_H = 4.0
JOBS_MEMORY_H = 30 * 24


def main() -> None:
    found = {}
    for name, signs in (("philly", _job_signs), ("earth", _queue_signs)):
        trace = _halves(_trace(name))[0]
        found[name] = _compared(trace, signs(trace))
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    result["queue"] = found
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print(json.dumps(found, indent=1))


def _compared(trace: Trace, signs: Mapping[str, Floats]) -> dict[str, Any]:
    """Share and broken per 1,000 of each method on its own, and of the choice without and with the signs."""
    own = candidates(trace.in_use, trace.first_hour, phase_of(trace.name))
    fits = Fits(trace.in_use, trace.first_hour, phase_of(trace.name), ORIGINS)
    more: dict[str, Forecaster] = {name: Alike(fits, name, sign, HIGH, agreed=True) for name, sign in signs.items()}
    sets = {name: {name: method} for name, method in {**own, **more}.items()}
    sets["chosen without signs"], sets["chosen with signs"] = own, {**own, **more}
    return {
        f"{window}h": {name: _scored(trace, window, methods) for name, methods in sets.items()} for window in WINDOWS
    }


def _scored(trace: Trace, window: int, methods: Mapping[str, Forecaster]) -> dict[str, Any]:
    policy = Sublet(trace, (window,))
    policy.sellers = {window: Seller(window, methods, max(SHADOW_START, trace.warmup // 3))}
    tally = run(trace, policy).tallies[window]
    return {
        "share": tally.honored_hours / bound(trace, window),
        "broken_per_1000": tally.broken_per_1000,
        "broken": tally.broken,
    }


def _job_signs(trace: Trace) -> dict[str, Floats]:
    """Of the jobs that run as an hour begins: how many, the share that is older than a day, what is expected to end.

    The last is by how often past jobs of the same age ended within AHEAD_H; beside it the accelerators started lately.
    """
    with gzip.open(TRACES / "philly_jobs.csv.gz", "rt") as lines:
        rows = list(csv.DictReader(lines))
    begun = np.array([datetime.fromisoformat(row["timestamp"]).replace(tzinfo=UTC).timestamp() for row in rows])
    begun = begun / 3600 - trace.first_hour
    lasted = np.array([float(row["duration"]) for row in rows]) / 3600
    size = np.array([float(row["num_gpus"]) for row in rows])
    names = ("running jobs", "share older than a day", "expected to end", "started within 4 h")
    signs = {name: np.zeros(len(trace) + 1) for name in names}
    for t in range(1, len(trace) + 1):
        known = (begun < t) & (begun > t - 2 * JOBS_MEMORY_H)
        live = known & (begun + lasted > t)
        age, held = t - begun[live], size[live]
        total = max(1.0, float(held.sum()))
        ends = _ending(lasted[known & ~live & (begun > t - JOBS_MEMORY_H)], age)
        signs["running jobs"][t] = live.sum()
        signs["share older than a day"][t] = held[age > 24].sum() / total
        signs["expected to end"][t] = (held * ends[np.searchsorted(AGES_H, age, side="right") - 1]).sum() / total
        signs["started within 4 h"][t] = size[known & (begun >= t - AHEAD_H)].sum()
    return signs


def _ending(lasted: Floats, ages: Floats) -> Floats:
    """For each age, the share of the jobs that reached it and then ended within AHEAD_H."""
    shares = [
        ((lasted >= age) & (lasted < age + AHEAD_H)).sum()
        / max(1, (lasted >= age).sum() + (ages >= age + AHEAD_H).sum())
        for age in AGES_H
    ]
    return np.array(shares)


def _queue_signs(trace: Trace) -> dict[str, Floats]:
    """The most that waited in the hour before, and by how much it grew within four."""
    waiting = np.zeros(len(trace) + 1)
    with gzip.open(TRACES / "earth_minute.csv.gz", "rt") as lines:
        for row in csv.DictReader(lines):
            hour = int(datetime.fromisoformat(row["time"]).replace(tzinfo=UTC).timestamp()) // 3600
            after = hour - trace.first_hour + 1
            if 0 <= after <= len(trace):
                waiting[after] = max(waiting[after], float(row["pending"]))
    return {"waiting": waiting, "growth within 4 h": waiting - np.concatenate([np.zeros(4), waiting[:-4]])}


if __name__ == "__main__":
    main()
