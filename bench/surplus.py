"""How well surplus is sold, and what a decision costs. `python bench/surplus.py` writes bench/results/surplus.json.

The traces are read from SUBLET_TRACES (by default ../shared/traces beside the repository); where they are not, only the
cost is measured and the file says so. `--cost` measures the cost alone, `--quality` the quality alone.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from sublet.demand.csv_series import parse_series, read_series
from sublet.demand.model import Series, assemble
from sublet.surplus import rule
from sublet.surplus.benchmark.backtest import Sum, backtest
from sublet.surplus.benchmark.own import Sublet, single
from sublet.surplus.benchmark.scoring import Trace, bound, run, score, trace_of
from sublet.surplus.memory import SHADOW_HOURS_MAX, hours_of
from sublet.surplus.model import ClassPolicy, PoolFacts
from sublet.surplus.seller import sellers
from sublet.surplus.service import view_of
from sublet.values.clock import from_micros

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "bench" / "results" / "surplus.json"
TRACES = Path(os.environ.get("SUBLET_TRACES", ROOT.parent / "shared" / "traces"))
FOUR = ("a100", "venus", "earth", "philly")
GANGS = ("gang_series2", "gang_a800")
WARMUP_DAYS = {"philly": 14, "earth": 7}
WINDOWS = (1, 4, 12, 24)
POOLS = 1000
DAYS = 90


def main() -> None:
    result: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} shared cores, Python {platform.python_version()}"
    if "--cost" not in sys.argv:
        result["quality"] = (
            quality() if (TRACES / "a100.csv").is_file() else f"no traces at {TRACES.name}: not measured"
        )
    if "--quality" not in sys.argv:
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
        "gangs": {f"{window}h": _pooled(gangs, window) for window in (1, 4)},
        "gangs_split": {"4h": _split(gangs, 4)},
    }


def cost() -> dict[str, Any]:
    """Seconds for one round over 1,000 pools with 90 days of hours: each class and window, firm, notice and spot."""
    classes = [ClassPolicy("firm", None, 10), ClassPolicy("notice", 300, 10), ClassPolicy("spot", 120, 1000)]
    policies = {policy.name: policy for policy in classes}
    start = 500_000
    views = []
    began = time.perf_counter()
    for pool in range(POOLS):
        series = _made(pool, start)
        at = from_micros((start + DAYS * 24) * 3_600_000_000)
        view = view_of(series, hours_of(series, at), PoolFacts(f"pool_{pool}", "", 1000), (), at)
        hours = view.hours
        # The shadow's record is kept between rounds; here it begins at the present hour, and is timed on its own below.
        hours.sellers.update(sellers(hours.in_use, hours.first_hour, hours.t, WINDOWS))
        views.append(view)
        _tell(f"pool {pool}")
    loaded = time.perf_counter() - began
    began = time.perf_counter()
    _round(views, classes, policies)
    first = time.perf_counter() - began
    rounds, cpu = [], []
    for _ in range(5):
        began, spent = time.perf_counter(), time.process_time()
        _round(views, classes, policies)
        rounds.append(time.perf_counter() - began)
        cpu.append(time.process_time() - spent)
    began = time.perf_counter()
    for view in views:
        for seller in view.hours.sellers.values():
            seller.next = view.hours.t - 1
            seller.learn(view.hours.in_use, view.hours.capacity, view.hours.t)
    learning = time.perf_counter() - began
    known = views[0].hours
    began = time.perf_counter()
    for seller in sellers(known.in_use, known.first_hour, known.t - SHADOW_HOURS_MAX, WINDOWS).values():
        seller.learn(known.in_use, known.capacity, known.t)
    start_s = time.perf_counter() - began
    return {
        "pools": POOLS,
        "days": DAYS,
        "classes_and_windows": sum(len(policy.windows_s) for policy in classes),
        "load_s": round(loaded, 3),
        "first_round_of_a_day_s": round(first, 3),
        "round_s": round(min(rounds), 3),
        "round_cpu_s": round(min(cpu), 3),
        "round_s_all": [round(value, 3) for value in rounds],
        "learning_once_an_hour_s": round(learning, 3),
        "one_pool_from_a_restart_s": round(start_s, 3),
    }


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


def _round(views: list[rule.View], classes: list[ClassPolicy], policies: dict[str, ClassPolicy]) -> None:
    for view in views:
        for policy in classes:
            rule.offers(view, policy, (), policies)


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


def _split(traces: list[Trace], window: int) -> dict[str, Any]:
    """The scored hours halved by time: what was developed on, and what was not."""
    first, second = Sum(window), Sum(window)
    for trace in traces:
        half = trace.until(trace.warmup + (len(trace) - trace.warmup) // 2)
        rest = Trace(trace.name, trace.first_hour, trace.capacity, trace.in_use, len(half))
        first.add(run(half, Sublet(half, (window,))), bound(half, window))
        # The later half begins with an empty book and all that was learned before it.
        later = Sublet(Trace(trace.name, trace.first_hour, trace.capacity, trace.in_use, trace.warmup), (window,))
        second.add(run(rest, later), bound(rest, window))
    return {"first_half": first.as_dict(), "second_half": second.as_dict()}


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
