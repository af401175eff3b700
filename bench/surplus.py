"""How well surplus is sold, and what a decision costs. `python bench/surplus.py` writes bench/results/surplus.json.

The traces are read from SUBLET_TRACES (by default ../shared/traces beside the repository); where they are not, only the
cost is measured and the file says so. `--cost` measures the cost alone, `--quality` the quality alone. The tables of promises
have an option each, which is `python bench/promises.py --tables` with their names: see `--help`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import promises
from sublet.demand.feeds.csv_series import parse_series, read_series
from sublet.demand.forecast.forecaster import candidates
from sublet.demand.model import Series, assemble
from sublet.surplus.backtest.backtest import Sum, backtest
from sublet.surplus.backtest.own import Sublet, single
from sublet.surplus.backtest.scoring import Book, Trace, bound, least_value_first, run, score, trace_of
from sublet.surplus.budget import Standing
from sublet.surplus.kept import pace_of, promised
from sublet.surplus.model import PoolFacts, Standings, Stood
from sublet.surplus.rule import ladder as rule
from sublet.surplus.rule.memory import SHADOW_HOURS_MAX, Hours, hours_of
from sublet.surplus.rule.seller import Seller, sellers
from sublet.surplus.rule.view import View
from sublet.surplus.service import view_of
from sublet.values import garbage
from sublet.values.clock import from_micros
from sublet.values.service_classes import LONG_SHARE, SHIPPED, ServiceClass

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "bench" / "results" / "surplus.json"
TRACES = Path(os.environ.get("SUBLET_TRACES", ROOT.parent / "shared" / "traces"))
FOUR = ("a100", "venus", "earth", "philly")
GANGS = ("gang_series2", "gang_a800")
WARMUP_DAYS = {"philly": 14, "earth": 7}
WINDOWS = (1, 4, 12, 24)
LONG_SHARES = (0.0, LONG_SHARE, 0.3, 0.5, 1.0)
POOLS = 1000
HISTORIES = 125
"""Pools that have a history of their own; the others have copies of these, in memory of their own. What the shadows of 1,000 pools
had learned would take most of the time of a run to make, and is not a part of what is measured."""

DAYS = 90
DRAWS = 10_000
HOURS_PASSED = 2
LIVED_HOURS = 6
ROUND_EVERY_MINUTES = 5


PROMISES = {
    "windows": (
        "uninterrupted windows of 1 h and 4 h, and 4 h with patience; weeks resampled",
        ("1h", "1h forecast alone", "4h", "4h forecast alone", "4h patient"),
    ),
    "left-out": ("1 h and 4 h, what each family's depth is chosen on the others", ("1h left out", "4h left out")),
    "deadlines": (
        "orders of 1 to 24 h",
        (
            "deadline 4 h within 24 h",
            "deadline 12 h within 24 h",
            "deadline 24 h within 48 h",
            "deadline 1 h within 2 h",
            "deadline 1 h within 8 h",
            "deadline 4 h within 8 h",
            "deadline 1 h within 24 h",
        ),
    ),
    "everything": ("windows and orders together", ("everything",)),
    "hostile": ("fifty pools that are made to break promises", ("hostile",)),
    "queued": ("pools whose jobs are known", ("queued",)),
    "moves": ("windows that move to another pool of their generation instead of breaking", ("moves",)),
    "sensitivity": ("each constant at half and at double", ("sensitivity",)),
}
"""By option, what it measures and the tables of bench/promises.py."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cost", action="store_true", help="what a decision costs, alone")
    parser.add_argument("--quality", action="store_true", help="how well surplus is sold, alone")
    for name, (what, _) in PROMISES.items():
        parser.add_argument(f"--{name}", action="store_true", help=what)
    asked = vars(parser.parse_args())
    tables = [table for name, (_, found) in PROMISES.items() if asked[name.replace("-", "_")] for table in found]
    if tables:
        promises.measure(tables)
    if asked["cost"] or asked["quality"] or not tables:
        _measure(quality_too=not asked["cost"] or asked["quality"], cost_too=not asked["quality"] or asked["cost"])


def _measure(*, quality_too: bool, cost_too: bool) -> None:
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} shared cores, Python {platform.python_version()}"
    if quality_too:
        result["quality"] = (
            quality() if (TRACES / "a100.csv").is_file() else f"no traces at {TRACES.name}: not measured"
        )
    if cost_too:
        result["cost"] = cost()
        result["memory"] = memory()
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    print(json.dumps(result, indent=1, sort_keys=True))


def quality() -> dict[str, Any]:
    """The benchmark on all traces, whole and split by time."""
    traces = [_trace(name) for name in FOUR]
    whole = backtest(traces, WINDOWS, advance=_tell)
    gangs = [_trace(name) for name in GANGS]
    return {
        **whole.as_dict(),
        "split": {f"{window}h": _split(traces, window) for window in WINDOWS},
        "weeks_drawn_anew": {f"{window}h": _luck(traces, window) for window in WINDOWS},
        "ladder_by_long_share": {str(share): _ladder_on_halves(traces, share) for share in LONG_SHARES},
        "gangs": {f"{window}h": _pooled(gangs, window) for window in (1, 4)},
        "gangs_split": {"4h": _split(gangs, 4)},
    }


def cost() -> dict[str, Any]:
    """Seconds for one round over 1,000 pools with 90 days of hours: each class and window, firm, notice and spot, and, once an
    hour, orders of 4 h within 24 h.

    Each kind of promise has a record that has earned enough, as in a service that has run for months; windows that are too long for
    a forecast are refused by it. `forecast_alone` is without records, which sells windows of every length by the forecast.

    The first round is that of a service that has just started: the samples are read, what the shadows had learned is
    there as the record keeps it, and nothing is fitted. Then three hours go by, with a round every five minutes: in them
    the shadows live on and fits are renewed, as in the running service. Reading the samples is not a part of any round.
    """
    # As the control plane does when it starts.
    garbage.settle()
    classes = [
        replace(item, broken_per_1000_max=max(10.0, item.broken_per_1000_max))
        for item in SHIPPED.values()
        if item.by_window
    ]
    policies = {policy.name: policy for policy in classes}
    start = 500_000
    began = time.perf_counter()
    pools = [_made(pool % HISTORIES, start) for pool in range(POOLS)]
    present = from_micros((start + (DAYS * 24 - HOURS_PASSED)) * 3_600_000_000)
    own = min(HISTORIES, POOLS)
    learned_before = [_kept(view.hours) for view in _views(pools[:own], [None] * own, present)]
    kept = [learned_before[place % HISTORIES] for place in range(POOLS)]
    loaded = time.perf_counter() - began
    earned = _earned(classes)
    # The memory of a pool that was sold by nothing but the forecast is not that of one that was not.
    alone: list[Hours | None] = [None] * POOLS
    alone_first = _round(_views(pools, alone, present), classes, policies, kept)
    alone_steady = [_round(_views(pools, alone, present), classes, policies) for _ in range(5)]
    alone.clear()
    known: list[Hours | None] = [None] * POOLS
    views = _views(pools, known, present, earned)
    first = _round(views, classes, policies, kept)
    steady = [_round(_views(pools, known, present, earned), classes, policies) for _ in range(5)]
    passing = []
    for minute in range(ROUND_EVERY_MINUTES, 60 * (HOURS_PASSED + 1), ROUND_EVERY_MINUTES):
        views = _views(pools, known, present + timedelta(minutes=minute), earned)
        passing.append(_round(views, classes, policies))
    hours = views[0].hours
    began = time.process_time()
    for seller in sellers(hours.in_use, hours.first_hour, hours.t - SHADOW_HOURS_MAX, WINDOWS).values():
        seller.learn(hours.in_use, hours.capacity, hours.t)
    learned = time.process_time() - began
    cost_of_orders = promises.orders_cost()
    by_deadline = cost_of_orders.get("compiled_round_cpu_s") or cost_of_orders["numpy_round_cpu_s"]
    return {
        "deadlines": cost_of_orders,
        "first_round_with_deadlines_cpu_s": round(first[1] + by_deadline[0], 3),
        "round_with_deadlines_cpu_s": round(min(cpu for _, cpu in steady) + max(by_deadline[1:]), 3),
        "measured": datetime.now(UTC).date().isoformat(),
        "pools": POOLS,
        "histories": HISTORIES,
        "days": DAYS,
        "classes_and_windows": sum(len(policy.windows_s) for policy in classes),
        "methods": len(next(iter(hours.sellers.values())).records),
        "load_s": round(loaded, 3),
        "load_average": round(os.getloadavg()[0], 1),
        "ten_million_additions_cpu_s": round(_speed(), 2),
        "first_round_s": round(first[0], 3),
        "first_round_cpu_s": round(first[1], 3),
        "round_s": round(min(wall for wall, _ in steady), 3),
        "round_cpu_s": round(min(cpu for _, cpu in steady), 3),
        # In the first hour the methods that did not decide so far are fitted, too.
        "passing_hours_round_cpu_s": [round(cpu, 3) for _, cpu in passing],
        "highest_round_cpu_s": round(max(cpu for _, cpu in [first, *steady, *passing]), 3),
        "highest_round_s": round(max(wall for wall, _ in [first, *steady, *passing]), 3),
        "forecast_alone_first_round_cpu_s": round(alone_first[1], 3),
        "forecast_alone_round_cpu_s": round(min(cpu for _, cpu in alone_steady), 3),
        "one_pool_without_a_kept_record_cpu_s": round(learned, 3),
    }


def _speed() -> float:
    """CPU seconds of ten million additions in Python: how fast this machine is at the moment."""
    began, total = time.process_time(), 0
    for number in range(10_000_000):
        total += number
    return time.process_time() - began


def _kept(hours: Hours) -> dict[str, Any]:
    """The document that the pool's record keeps, as it comes from the database; its shadow lived LIVED_HOURS."""
    hours.methods.update(candidates(hours.in_use, hours.first_hour, hours.phase))
    hours.sellers.update({slots: Seller(slots, hours.methods, hours.t - LIVED_HOURS) for slots in WINDOWS})
    for seller in hours.sellers.values():
        seller.learn(hours.in_use, hours.capacity, hours.t)
    document: dict[str, Any] = json.loads(json.dumps(hours.as_state()))
    return document


def _views(
    pools: list[Series], known: list[Hours | None], at: datetime, earned: Callable[[int], Standings] | None = None
) -> list[View]:
    """The views at `at`; `known` keeps each pool's hours from the last time, as the service does. Without `earned` the forecast
    alone limits what is sold."""
    views = []
    for place, series in enumerate(pools):
        seen = series.until(at)
        fresh, before = hours_of(seen, at), known[place]
        hours = before if before is not None and before.t == fresh.t else before.extended(fresh) if before else fresh
        known[place] = hours
        view = view_of(seen, hours, PoolFacts(series.pool, "", 1000), (), at)
        views.append(replace(view, standings=earned(hours.next_hour - 1) if earned is not None else None))
    return views


def _earned(classes: list[ServiceClass]) -> Callable[[int], Standings]:
    """What each kind of promise has earned by an hour: all that a pool could ever sell of it."""

    @cache
    def standings(hour: int) -> Standings:
        return {
            key: Stood(*key, hour, pace_of(policy, *key[1:]), Standing(earned=10_000, hours=DAYS * 24))
            for policy in classes
            for key in promised(policy)
        }

    return standings


def memory() -> dict[str, Any]:
    """Bytes at the peak of reading a year of minutes from CSV text and deciding on it."""
    import io

    base = datetime(2025, 1, 1, tzinfo=UTC)
    count = 365 * 24 * 60
    path = io.StringIO()
    path.write("time,capacity,in_use\n")
    for minute in range(count):
        path.write(f"{(base + timedelta(minutes=minute)).isoformat()},100,{40 + minute % 37}\n")
    path.seek(0)
    tracemalloc.start()
    began = time.perf_counter()
    series = parse_series(path, "year", "year.csv")
    hours_of(series, series.end)
    seconds = time.perf_counter() - began
    held, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return {"samples": count, "held_mb": round(held / 1e6, 1), "peak_mb": round(peak / 1e6, 1), "s": round(seconds, 1)}


def _round(
    views: list[View],
    classes: list[ServiceClass],
    policies: dict[str, ServiceClass],
    kept: list[dict[str, Any]] | None = None,
) -> tuple[float, float]:
    """Seconds of one round: wall clock, and CPU time of the one process. With `kept` it goes on from there."""
    began, spent = time.perf_counter(), time.process_time()
    for place, view in enumerate(views):
        if kept is not None:
            view.hours.resume(kept[place])
        for policy in classes:
            rule.offers(view, policy, (), policies)
    return time.perf_counter() - began, time.process_time() - spent


def _trace(name: str) -> Trace:
    return trace_of(read_series(TRACES / f"{name}.csv").slots(), WARMUP_DAYS.get(name, 28) * 24)


def _pooled(traces: list[Trace], window: int) -> dict[str, Any]:
    total = Sum(window)
    pools = {}
    for trace in traces:
        alone = Sum(window)
        outcome = score(trace, single(window))
        for each in (alone, total):
            each.add(outcome, bound(trace, window))
        pools[trace.name] = alone.as_dict()
    return {**total.as_dict(), "pools": pools}


def _halves(trace: Trace) -> tuple[Trace, Trace]:
    """The first half of the scored hours, and the second as hours that come after a longer warm-up."""
    half = trace.until(trace.warmup + (len(trace) - trace.warmup) // 2)
    return half, Trace(trace.name, trace.first_hour, trace.capacity, trace.in_use, len(half))


def _split(traces: list[Trace], window: int) -> dict[str, Any]:
    """The scored hours halved by time: what was developed on, and what was not."""
    found: dict[str, Any] = {}
    for place, name in enumerate(("first_half", "second_half")):
        total, pools = Sum(window), {}
        for trace in traces:
            part = _halves(trace)[place]
            # The later half begins with an empty book and all that was learned before it.
            known = part if place == 0 else trace
            alone = Sum(window)
            outcome, hours = run(part, Sublet(known, (window,))), bound(part, window)
            for each in (alone, total):
                each.add(outcome, hours)
            pools[trace.name] = alone.as_dict()
        found[name] = {**total.as_dict(), "pools": pools}
    return found


class _Counting(Sublet):
    """Sublet's policy, which also notes how many windows it started in each slot."""

    def __init__(self, trace: Trace, windows: tuple[int, ...]) -> None:
        super().__init__(trace, windows)
        self.started: dict[int, int] = {}

    def starts(self, t: int, book: Book) -> dict[int, int]:
        started = super().starts(t, book)
        self.started[t] = sum(started.values())
        return started


def _luck(traces: list[Trace], window: int) -> dict[str, float]:
    """The rate that other bursts might have given: a block bootstrap, each pool's scored weeks resampled."""
    random = np.random.default_rng(0)
    sums = np.zeros((DRAWS, 2))
    for trace in traces:
        policy = _Counting(trace, (window,))
        broken = np.array(run(trace, policy).broken)
        started = np.array([policy.started.get(t, 0) for t in range(trace.warmup, len(trace))])
        weeks = np.stack([np.add.reduceat(each, np.arange(0, each.size, 168)) for each in (started, broken)], axis=1)
        sums += weeks[random.integers(0, len(weeks), (DRAWS, len(weeks)))].sum(axis=1)
    rates = 1000 * sums[:, 1] / np.maximum(1, sums[:, 0])
    return {"rate_90": float(np.quantile(rates, 0.9)), "share_above_10": float((rates > 10).mean())}


def _ladder_on_halves(traces: list[Trace], long_share: float) -> dict[str, Any]:
    """The ladder of all windows, least value first, on all scored hours and on each half."""
    found: dict[str, Any] = {}
    for place, name in enumerate(("whole", "first_half", "second_half")):
        totals, idle, pools = {window: Sum(window) for window in WINDOWS}, 0.0, {}
        for trace in traces:
            part = trace if place == 0 else _halves(trace)[place - 1]
            policy = Sublet(part if place == 1 else trace, WINDOWS, long_share=long_share)
            outcome = run(part, policy, least_value_first)
            idle += float(part.idle[part.warmup :].sum())
            pools[trace.name] = {f"{w}h": tally.broken_per_1000 for w, tally in outcome.tallies.items()}
            for total in totals.values():
                total.add(outcome, 0)
        honored = sum(total.honored for total in totals.values())
        found[name] = {
            "sold_share_of_idle": honored / idle,
            "share_of_sold": {f"{w}h": total.honored / honored for w, total in totals.items()},
            "broken_per_1000": {f"{w}h": total.as_dict()["broken_per_1000"] for w, total in totals.items()},
            "pools_broken_per_1000": pools,
        }
    return found


def _made(seed: int, start: int) -> Series:
    random = np.random.default_rng(seed)
    hours = np.arange(DAYS * 24)
    demand = 500 + 200 * np.sin(2 * np.pi * hours / 24) + np.cumsum(random.normal(0, 10, hours.size))
    demand = np.round(np.clip(demand, 0, 1100))
    times = (start + hours.astype(np.int64)) * 3_600_000_000
    return assemble(f"pool_{seed}", times, np.full(hours.size, 1000.0), demand, np.zeros(hours.size))


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{what:60}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
