"""Backtest: every policy on every series, per pool and pooled, and Sublet's ladder of all windows together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from sublet.demand.model import HOUR_S, Series, Slots
from sublet.surplus.backtest.baselines import BASELINES, CURVED, QUANTILES
from sublet.surplus.backtest.own import RISK, Sublet, ladder, single
from sublet.surplus.backtest.scoring import (
    Outcome,
    Policy,
    Trace,
    bound,
    least_value_first,
    run,
    score,
    trace_of,
    youngest_first,
)
from sublet.values.clock import format_time, from_micros
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import LONG_SHARE

WINDOWS = (1, 4, 12, 24)
WARMUP_DAYS = 28
WARMUP_SHARE_MAX = 0.27
MISSING_SHARE_MAX = 0.10
SLOTS_MIN = 14 * 24
RISKS = (0.002, 0.005, 0.01, 0.02, 0.05)
OWN = "sublet"

Advance = Callable[[str], None]


@dataclass
class Sum:
    """Hours and windows of one policy and window length, over one pool or several."""

    window: int
    honored: int = 0
    bound: int = 0
    finished: int = 0
    broken: int = 0
    lost: int = 0
    displaced: float = 0.0
    kept: float = 0.0

    def add(self, outcome: Outcome, bound_hours: int) -> None:
        tally = outcome.tallies[self.window]
        self.honored += tally.honored_hours
        self.finished += tally.finished
        self.broken += tally.broken
        self.lost += tally.lost_hours
        self.bound += bound_hours
        self.displaced += outcome.displaced_hours
        self.kept += outcome.kept_hours

    def as_dict(self) -> dict[str, Any]:
        sold = self.finished + self.broken
        return {
            "share": self.honored / self.bound if self.bound else 0.0,
            "broken_per_1000": 1000 * self.broken / sold if sold else 0.0,
            "displaced_share": self.displaced / self.kept if self.kept else 0.0,
            "honored_hours": self.honored,
            "bound_hours": self.bound,
            "broken": self.broken,
            "lost_hours": self.lost,
        }


@dataclass
class Backtest:
    """What a backtest found. `as_dict` is what `--json` prints."""

    pools: dict[str, dict[str, Any]] = field(default_factory=dict)
    pooled: dict[str, Any] = field(default_factory=dict)
    ladder: dict[str, Any] = field(default_factory=dict)
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    baseline_curves: dict[str, dict[str, list[dict[str, float]]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    runs: dict[str, tuple[Trace, Outcome]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return {
            "pooled": self.pooled,
            "pools": self.pools,
            "ladder": self.ladder,
            "curves": self.curves,
            "baseline_curves": self.baseline_curves,
            "notes": self.notes,
        }


def prepare(series: Series, warmup_days: int | None = None) -> tuple[Trace, list[str]]:
    """The hourly trace of a series with its warm-up, and what a reader must know about it.

    The warm-up is `warmup_days`, or 28 days, or 27 % of a series shorter than 104 days in whole weeks (at least
    one). Raises InvalidInputError for a series too short or with too many gaps to say anything.
    """
    if series.step_s > HOUR_S:
        raise InvalidInputError(
            f"{series.pool} has a sample every {series.step_s / HOUR_S:g} hours; import at least one per hour"
        )
    slots = series.slots(HOUR_S)
    if len(slots) < SLOTS_MIN:
        raise InvalidInputError(
            f"{series.pool} spans {len(slots)} hours; a backtest or a shadow needs at least {SLOTS_MIN} (two weeks) of them"
        )
    if warmup_days is None:
        weeks = max(1, int(len(slots) * WARMUP_SHARE_MAX) // 168)
        warmup_days = min(WARMUP_DAYS, 7 * weeks)
    if warmup_days * 24 >= len(slots):
        raise InvalidInputError(
            f"{series.pool} is not longer than its warm-up of {warmup_days} days; use a shorter one"
        )
    trace = trace_of(slots, warmup_days * 24)
    if trace.bridged > MISSING_SHARE_MAX * len(slots):
        begin, hours = _longest_gap(slots)
        raise InvalidInputError(
            f"{series.pool} is missing {trace.bridged} of {len(slots)} hours, {hours} of them in a row from {begin}; "
            "check the times, or import a series with fewer gaps"
        )
    return trace, [f"{series.pool}: {sentence}" for sentence in _noticed(series, trace.bridged)]


def _noticed(series: Series, bridged: int) -> list[str]:
    """What was noticed while the series was read; of gaps, what became of them here: the benchmark bridges whole hours."""
    if not bridged:
        return series.findings.sentences()
    count = series.findings.gaps
    gaps = f"{count:,} {'gap' if count == 1 else 'gaps'} in time; " if count else ""
    hours = "1 hour has no sample and repeats the hour before it"
    if bridged > 1:
        hours = f"{bridged:,} hours have no sample and repeat the hour before them"
    rest = replace(series.findings, gaps=0, missing_slots=0).sentences()
    return [*rest, f"{gaps}{hours}, as the benchmark's rules say"]


def backtest(
    traces: Sequence[Trace],
    windows: Sequence[int] = WINDOWS,
    risk: float = RISK,
    advance: Advance = lambda _: None,
    *,
    curves: bool = True,
    long_share: float = LONG_SHARE,
) -> Backtest:
    """Run every policy on every trace. `advance` is told each piece of work as it is done.

    `long_share` is what may be sold for longer than the shortest window, of what could be sold for that.
    """
    result = Backtest()
    sums: dict[str, dict[int, Sum]] = {}
    for trace in traces:
        found: dict[str, dict[str, Any]] = {}
        for window in windows:
            hours = bound(trace, window)
            for name, make in makers(window, risk).items():
                outcome = score(trace, make)
                alone = Sum(window)
                alone.add(outcome, hours)
                found.setdefault(name, {})[f"{window}h"] = alone.as_dict()
                sums.setdefault(name, {}).setdefault(window, Sum(window)).add(outcome, hours)
                advance(f"{trace.name} {window} h {name}")
        result.pools[trace.name] = found
    result.pooled = {name: {f"{w}h": total.as_dict() for w, total in by.items()} for name, by in sums.items()}
    result.ladder = _ladder(traces, tuple(windows), risk, long_share, result, advance)
    if curves:
        window = 4 if 4 in windows else windows[0]
        result.curves = _curves(traces, window, advance)
        result.baseline_curves = {f"{window}h": _baseline_curves(traces, window, advance)}
    for window in windows:
        if not any(trace.idle[trace.warmup :].size >= window for trace in traces):
            result.notes.append(f"no window of {window} h fits into the hours that are scored")
    return result


def makers(window: int, risk: float) -> dict[str, Callable[[Trace], Policy]]:
    """Every policy of the benchmark by name, for one window length; Sublet's own is called `sublet`."""
    found: dict[str, Callable[[Trace], Policy]] = {OWN: single(window, risk)}
    for name, build in BASELINES.items():
        found[name] = lambda trace, build=build: build(trace, window)  # type: ignore[misc]
    return found


def pieces(traces: int, windows: int, *, curves: bool = True) -> int:
    """How many times `advance` is called."""
    drawn = len(RISKS) + len(CURVED) * len(QUANTILES) if curves else 0
    return traces * (windows * (1 + len(BASELINES)) + 2 + drawn)


def _ladder(
    traces: Sequence[Trace],
    windows: tuple[int, ...],
    risk: float,
    long_share: float,
    result: Backtest,
    advance: Advance,
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for order in (least_value_first, youngest_first):
        totals = {window: Sum(window) for window in windows}
        idle = kept = displaced = 0.0
        pools = {}
        for trace in traces:
            outcome = score(trace, ladder(windows, risk, long_share), order)
            trace_idle = float(trace.idle[trace.warmup :].sum())
            for window in windows:
                totals[window].add(outcome, 0)
            idle += trace_idle
            kept += outcome.kept_hours
            displaced += outcome.displaced_hours
            pools[trace.name] = _classes(outcome, trace_idle)
            if order is least_value_first:
                result.runs[trace.name] = (trace, outcome)
            advance(f"{trace.name} ladder {order.__name__}")
        honored = sum(total.honored for total in totals.values())
        found[order.__name__] = {
            "sold_share_of_idle": honored / idle if idle else 0.0,
            "displaced_share": displaced / kept if kept else 0.0,
            "lost_hours": sum(total.lost for total in totals.values()),
            "windows": {
                f"{window}h": {
                    "honored_hours": total.honored,
                    "broken_per_1000": total.as_dict()["broken_per_1000"],
                    "lost_hours": total.lost,
                }
                for window, total in totals.items()
            },
            "pools": pools,
        }
    return found


def _classes(outcome: Outcome, idle: float) -> dict[str, Any]:
    tallies = outcome.tallies
    return {
        "sold_share_of_idle": sum(tally.honored_hours for tally in tallies.values()) / idle if idle else 0.0,
        "broken_per_1000": {f"{window}h": tally.broken_per_1000 for window, tally in tallies.items()},
    }


def _curves(traces: Sequence[Trace], window: int, advance: Advance) -> dict[str, list[dict[str, float]]]:
    """Sublet's share against broken promises as the risk that the operator sets changes, for one window length."""
    points = []
    for risk in RISKS:
        total = Sum(window)
        for trace in traces:
            total.add(run(trace, Sublet(trace, (window,), risk)), bound(trace, window))
            advance(f"{trace.name} {window} h risk {risk:g}")
        found = total.as_dict()
        points.append({"risk": risk, "share": found["share"], "broken_per_1000": found["broken_per_1000"]})
    return {f"{window}h": points}


def _baseline_curves(traces: Sequence[Trace], window: int, advance: Advance) -> dict[str, list[dict[str, float]]]:
    """The same for each simple policy that a quantile makes safer or bolder."""
    found: dict[str, list[dict[str, float]]] = {}
    bounds = [bound(trace, window) for trace in traces]
    for name, build in CURVED.items():
        for quantile in QUANTILES:
            total = Sum(window)
            for trace, hours in zip(traces, bounds, strict=True):
                total.add(run(trace, build(trace, window, quantile)), hours)
                advance(f"{trace.name} {window} h {name} {quantile:g}")
            told = total.as_dict()
            point = {"quantile": quantile, "share": told["share"], "broken_per_1000": told["broken_per_1000"]}
            found.setdefault(name, []).append(point)
    return found


def _longest_gap(slots: Slots) -> tuple[str, int]:
    """When the longest run of unseen hours begins, and how long it is."""
    seen = np.flatnonzero(slots.seen)
    gaps = np.diff(seen) - 1
    place = int(gaps.argmax())
    return format_time(from_micros((slots.start_s + (int(seen[place]) + 1) * HOUR_S) * 1_000_000)), int(gaps[place])
