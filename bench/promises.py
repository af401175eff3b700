"""What is promised and what is kept, on every pool at hand: `python bench/promises.py` writes bench/results/promises.json.

The traces are read from SUBLET_TRACES (by default ../shared/traces beside the repository) and from `small/` in it; where they
are not, only the hostile pools and the cost are measured and the file says so. `--quick` leaves out what takes minutes;
`--tables 1h,4h` runs some tables alone and keeps the others as the file has them. `--list` names them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

import moves
from sublet.demand.feeds.csv_series import read_series
from sublet.surplus import budget
from sublet.surplus.backtest import promises
from sublet.surplus.backtest.hostile import hostile
from sublet.surplus.backtest.promises import RISK, Shadow, Verdict
from sublet.surplus.backtest.queued import queued
from sublet.surplus.backtest.scoring import Trace, trace_of
from sublet.surplus.deadlines import kinds, paths
from sublet.surplus.deadlines.kinds import Idle, Kind, OpenOrders
from sublet.surplus.deadlines.replay import compiled, last_admitted
from sublet.surplus.rule.seller import agreed_depth, deepest, phase_of, sellers
from sublet.surplus.terms import SHADOW_HOURS_MIN, firm_pace

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "bench" / "results" / "promises.json"
TRACES = Path(os.environ.get("SUBLET_TRACES", ROOT.parent / "shared" / "traces"))
FOUR = ("a100", "venus", "earth", "philly")
GANGS = ("gang_series2", "gang_a800")
FAMILIES = {
    "a100": "alibaba",
    "gang": "alibaba",
    "earth": "earth",
    "philly": "philly",
    "venus": "venus",
    "theta": "theta",
}
TAILS = {1: (2.0, 2.7, 4.0, 6.5, 10.0), 4: (0.8, 1.25, 1.6, 2.0)}
"""Shares of past paths that a promise may ignore, over its risk: what leaving a family out chooses among."""

MOST_ELSEWHERE = {1: (8.0,), 4: (8.0, 9.0)}
HOSTILE = 50
QUEUED = 8
DRAWS = 10_000
POOLS = 1000
FOUR_IN_A_DAY = Kind(4, 24)
DEADLINES = (Kind(1, 2), Kind(1, 8), Kind(4, 8), Kind(1, 24))
LONG = (Kind(12, 24), Kind(24, 48))
QUICK = ("1h", "deadline 1 h within 24 h", "cost")
SHOWN = (
    "groups",
    "above_10",
    "above_20_by_more_than_one_event",
    "weeks_drawn_anew",
    "compiled_round_cpu_s",
    "numpy_round_cpu_s",
)

Row = dict[str, Any]


def main() -> None:
    tables = _tables()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tables that take seconds, on the four oldest pools")
    parser.add_argument("--tables", default="", help="names separated by commas")
    parser.add_argument("--list", action="store_true", help="name the tables")
    asked = parser.parse_args()
    if asked.list:
        print("\n".join(tables))
        return
    measure(QUICK if asked.quick else asked.tables.split(",") if asked.tables else list(tables), quick=asked.quick)


def measure(wanted: Sequence[str], *, quick: bool = False) -> Row:
    """Run the tables that are wanted, print each, and write them beside what the file holds; `quick` takes the four oldest pools
    alone. Raises SystemExit for a table that is not there."""
    tables = _tables()
    missing = [name for name in wanted if name not in tables]
    if missing:
        raise SystemExit(f"there is no table {missing[0]!r}; --list names those that are")
    result: Row = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} shared cores, Python {platform.python_version()}"
    result["compiled"] = compiled() is not None
    found = {} if not (TRACES / "a100.csv").is_file() else _pools(FOUR if quick else None)
    result["pools"] = sorted(found) or f"no traces at {TRACES.name}: only hostile pools and the cost are measured"
    with Progress() as progress:
        task = progress.add_task("", total=len(wanted))
        for name in wanted:
            progress.update(task, description=name)
            began = time.process_time()
            result[name] = {
                **tables[name](found),
                "measured": datetime.now(UTC).date().isoformat(),
                "cpu_s": round(time.process_time() - began, 1),
            }
            progress.update(task, advance=1)
            RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
            print(name, json.dumps({key: result[name][key] for key in SHOWN if key in result[name]}), flush=True)
    return result


def _tables() -> dict[str, Callable[[dict[str, Trace]], Row]]:
    def orders(kind: Kind) -> Callable[[dict[str, Trace]], Row]:
        return lambda pools: _table(promises.deadlines(trace, kind) for trace in pools.values())

    def firm(window: int) -> Callable[[dict[str, Trace]], Row]:
        return lambda pools: _table(_firm(trace, window) for trace in pools.values())

    def alone(window: int) -> Callable[[dict[str, Trace]], Row]:
        return lambda pools: _table(_alone(trace, window) for trace in pools.values())

    return {
        "1h": firm(1),
        "1h forecast alone": alone(1),
        "4h": firm(4),
        "4h forecast alone": alone(4),
        "4h patient": lambda pools: _table(promises.firm(trace, 4, patient=True) for trace in pools.values()),
        f"deadline {FOUR_IN_A_DAY}": orders(FOUR_IN_A_DAY),
        "everything": _everything,
        "1h left out": lambda pools: _left_out(pools, 1),
        "4h left out": lambda pools: _left_out(pools, 4),
        "cost": lambda pools: orders_cost(),
        "hostile": lambda pools: _hostile(),
        "queued": lambda pools: _queued(),
        "moves": moves.table,
        "sensitivity": _sensitivity,
        **{f"deadline {kind}": orders(kind) for kind in (*DEADLINES, *LONG)},
        "12h": firm(12),
        "24h": firm(24),
    }


def _pools(names: Sequence[str] | None) -> dict[str, Trace]:
    found = {}
    for path in [*sorted(TRACES.glob("*.csv")), *sorted((TRACES / "small").glob("*.csv"))]:
        if path.stem.startswith("servegen") or (names is not None and path.stem not in names):
            continue
        days = 7 if path.stem.startswith("earth") else 14 if path.stem == "philly" else 28
        trace = trace_of(read_series(path).slots(), days * 24)
        found[trace.name] = trace
    return found


_FOUND: dict[tuple[str, int], tuple[Verdict, Shadow]] = {}


def _sold(trace: Trace, window: int) -> tuple[Verdict, Shadow]:
    """Found once for all tables that stand on it."""
    key = (trace.name, window)
    if key not in _FOUND:
        _FOUND[key] = promises.sell(trace, window, promises.depth_of(trace, window), firm_pace(window, RISK))
    return _FOUND[key]


def _firm(trace: Trace, window: int) -> Verdict:
    return _sold(trace, window)[0]


def _alone(trace: Trace, window: int) -> Verdict:
    return promises.unguarded(trace, window, _sold(trace, window)[1])


def _group(pool: str) -> str:
    return "four" if pool in FOUR else "gang" if pool in GANGS else "theta" if pool == "theta_2022" else "small"


def _table(verdicts: Iterable[Verdict]) -> Row:
    """Pooled over each group of pools and all of them, and each pool by itself."""
    found = list(verdicts)
    groups = {name: [one for one in found if _group(one.pool) == name] for name in ("four", "gang", "theta", "small")}
    groups["all"] = found
    return {
        "groups": {name: _cell(members) for name, members in groups.items() if members},
        "pools": {one.pool: _told(one) for one in found},
        "above_10": sorted(one.pool for one in found if one.per_1000 > 10),
        "above_20_by_more_than_one_event": sorted(one.pool for one in found if one.above(20)),
        "weeks_drawn_anew": _luck([one for one in found if _group(one.pool) == "four"]),
    }


def _cell(members: Sequence[Verdict]) -> str:
    kept, hours = sum(one.kept_hours for one in members), sum(one.bound_hours for one in members)
    sold, broken = sum(one.promised for one in members), sum(one.broken for one in members)
    return f"{kept / max(1, hours):.3f} @ {1000 * broken / max(1, sold):.1f}"


def _told(one: Verdict) -> str:
    stopped = f", {len(one.alarms)} alarms" if one.alarms else ""
    return (
        f"{one.share:.3f} @ {one.per_1000:.1f} ({one.broken:.0f} of {one.promised:.0f}, worst {one.worst:.0f}{stopped})"
    )


def _luck(members: Sequence[Verdict]) -> Row:
    """The rate that other bursts might have given: a block bootstrap, each pool's scored weeks resampled."""
    random, sums = np.random.default_rng(0), np.zeros((DRAWS, 2))
    for one in members:
        first = int(np.flatnonzero(one.sold)[0]) if one.sold.any() else 0
        weeks = np.stack(
            [np.add.reduceat(each[first:], np.arange(0, each.size - first, 168)) for each in (one.sold, one.lost)],
            axis=1,
        )
        sums += weeks[random.integers(0, len(weeks), (DRAWS, len(weeks)))].sum(axis=1)
    rates = 1000 * sums[:, 1] / np.maximum(1, sums[:, 0])
    return {"rate_90": round(float(np.quantile(rates, 0.9)), 2), "share_above_10": float((rates > 10).mean())}


def _everything(pools: dict[str, Trace]) -> Row:
    """Uninterrupted windows of 4 h first, then orders of 1 h within 24 h on what is left; shares of all idle hours."""
    pairs = [_both(trace, _sold(trace, 4)) for trace in pools.values()]
    firm, orders = _table(one for one, _ in pairs), _table(two for _, two in pairs)
    return {"groups": {"firm 4 h": firm["groups"], "1 h within 24 h": orders["groups"]}, "firm": firm, "orders": orders}


def _both(trace: Trace, first: tuple[Verdict, Shadow] | None = None) -> tuple[Verdict, Verdict]:
    return promises.everything(trace, 4, Kind(1, 24), first=first)


def _fixed(trace: Trace, window: int) -> dict[float, Verdict]:
    """Fixed shares of past paths for the plain mean of three forecasts, for an hour that of one; all in one go."""
    seller = sellers(trace.in_use, trace.first_hour, SHADOW_HOURS_MIN, (window,), phase_of(trace.name), patient=True)[
        window
    ]
    living = {share: promises.Living(trace, window) for share in TAILS[window]}
    real = {share: promises.Selling(shadow, firm_pace(window, RISK)) for share, shadow in living.items()}

    def depth_of(share: float) -> promises.Depth:
        return lambda t, room, booked: agreed_depth(
            seller.voices(t), lambda voice: deepest(voice.futures, room, share * RISK * voice.futures.weight)
        )

    depths = {share: depth_of(share) for share in living}
    for t in range(SHADOW_HOURS_MIN, len(trace)):
        for share, shadow in living.items():
            shadow.step(t, depths[share])
            real[share].step(t, depths[share])
    return {share: selling.verdict for share, selling in real.items()}


def _left_out(pools: dict[str, Trace], window: int) -> Row:
    """Each family's share of ignored paths is chosen on the other families: what sells most within the given rate there."""
    by_pool = {name: _fixed(trace, window) for name, trace in pools.items()}
    every = {share: {name: found[share] for name, found in by_pool.items()} for share in TAILS[window]}
    families = {name: next(family for start, family in FAMILIES.items() if name.startswith(start)) for name in pools}
    found: Row = {"in sample": {str(share): _table(by.values())["groups"] for share, by in every.items()}}
    for most in MOST_ELSEWHERE[window]:
        chosen, verdicts = {}, []
        for family in sorted(set(families.values())):
            others = [name for name in pools if families[name] != family]
            able = {s: by for s, by in every.items() if _rate([by[name] for name in others]) <= most}
            share = max(able or every, key=lambda s: sum(every[s][n].kept_hours for n in others if n in FOUR))
            chosen[family] = share if able else min(every)
            verdicts += [every[chosen[family]][name] for name in pools if families[name] == family]
        table = _table(verdicts)
        found[f"others within {most:g}"] = {"chosen": chosen, "groups": table["groups"], "pools": table["pools"]}
    found["groups"] = {name: by["groups"] for name, by in found.items() if name.startswith("others")}
    return found


def _rate(members: Sequence[Verdict]) -> float:
    return 1000 * sum(one.broken for one in members) / max(1.0, sum(one.promised for one in members))


def _hostile() -> Row:
    """Pools that are made to break promises; by kind, everything together and orders of 4 h within 24 h."""
    firm, orders, alone, short = [], [], [], []
    for seed in range(HOSTILE):
        trace = hostile(seed)
        one, two = _both(trace)
        firm.append(one)
        orders.append(two)
        alone.append(promises.deadlines(trace, FOUR_IN_A_DAY))
        short.append(promises.firm(trace, 1))
    found: Row = {}
    names = {
        "everything: firm 4 h": firm,
        "everything: 1 h within 24 h": orders,
        "4 h within 24 h": alone,
        "1 h": short,
    }
    for name, members in names.items():
        kinds = sorted({one.pool.split("-")[0] for one in members})
        found[name] = {
            "all": _cell(members),
            "kinds": {kind: _cell([one for one in members if one.pool.startswith(kind)]) for kind in kinds},
            "above_10": sorted(one.pool for one in members if one.per_1000 > 10),
            "above_20_by_more_than_one_event": sorted(f"{one.pool} {_told(one)}" for one in members if one.above(20)),
        }
    found["groups"] = {name: found[name]["all"] for name in names}
    return found


Change = Mapping[tuple[Any, str], float]


def _sensitivity(pools: dict[str, Trace]) -> Row:
    """Each constant of budget, monitor and deadlines at half and at double, everything else as it is; the four oldest pools."""
    four = [pools[name] for name in FOUR if name in pools]
    groups: Row = {}
    for window in (1, 4):
        pace = firm_pace(window, RISK)
        by = [_firm_variants(trace, window, _paces(pace)) for trace in four]
        groups[f"{window} h"] = {name: _cell([found[name] for found in by]) for name in by[0]}
    kind = FOUR_IN_A_DAY
    changes: dict[str, Change] = {
        "as it is": {},
        **_halved("earning", kinds, "EARNING"),
        **_halved("half-life", budget, "HALF_LIFE_HOURS"),
        **_halved("null", budget, "NULL"),
        **_halved("alarm", budget, "ALARM_HOURS"),
        **_halved("ahead", kinds, "AHEAD"),
        **_halved("days back", paths, "BACK_HOURS"),
        "stays 0.64": {(paths, "STAYS"): 0.64},
        "stays 0.9": {(paths, "STAYS"): 0.9},
        "loss half": {(budget, "LOSS"): 0.5},
        "loss double": {(budget, "LOSS"): 2.0},
    }
    found = {}
    for name, change in changes.items():
        with _changed(change):
            found[name] = _cell([promises.deadlines(trace, kind) for trace in four])
    return {"groups": {**groups, str(kind): found}}


def _halved(name: str, module: Any, constant: str) -> dict[str, Change]:
    value = getattr(module, constant)
    # Hours that are counted stay whole.
    half = value // 2 if isinstance(value, int) else value / 2
    return {f"{name} half": {(module, constant): half}, f"{name} double": {(module, constant): value * 2}}


def _paces(pace: budget.Pace) -> dict[str, tuple[budget.Pace, Change]]:
    found: dict[str, tuple[budget.Pace, Change]] = {"as it is": (pace, {})}
    for field in ("earning", "loss", "half_life_hours"):
        for word, factor in (("half", 0.5), ("double", 2.0)):
            found[f"{field} {word}"] = (replace(pace, **{field: factor * getattr(pace, field)}), {})
    for change in (_halved("null", budget, "NULL"), _halved("alarm", budget, "ALARM_HOURS")):
        found |= {name: (pace, values) for name, values in change.items()}
    return found


def _firm_variants(trace: Trace, window: int, variants: Mapping[str, tuple[budget.Pace, Change]]) -> dict[str, Verdict]:
    """What each variant of budget and monitor sells beside one and the same shadow."""
    depth, shadow = promises.depth_of(trace, window), promises.Living(trace, window)
    real = {name: promises.Selling(shadow, pace) for name, (pace, _) in variants.items()}
    for t in range(SHADOW_HOURS_MIN, len(trace)):
        shadow.step(t, depth)
        for name, (_, change) in variants.items():
            with _changed(change):
                real[name].step(t, depth)
    return {name: selling.verdict for name, selling in real.items()}


@contextmanager
def _changed(change: Change) -> Iterator[None]:
    """Constants of modules at other values."""
    before = {place: getattr(*place) for place in change}
    for (module, name), value in change.items():
        setattr(module, name, value)
    paths._decays.cache_clear()
    try:
        yield
    finally:
        for (module, name), value in before.items():
            setattr(module, name, value)
        paths._decays.cache_clear()


def _queued() -> Row:
    """Pools whose demand is a batch queue, with their jobs unknown and known."""
    traces = [queued(seed) for seed in range(QUEUED)]
    blind = [replace(trace, known=None) for trace in traces]
    tables: dict[str, Callable[[Trace], Verdict]] = {
        "1 h": lambda trace: promises.firm(trace, 1),
        "4 h": lambda trace: promises.firm(trace, 4),
        str(FOUR_IN_A_DAY): lambda trace: promises.deadlines(trace, FOUR_IN_A_DAY),
    }
    groups = {
        name: {"unknown": _cell([of(trace) for trace in blind]), "known": _cell([of(trace) for trace in traces])}
        for name, of in tables.items()
    }
    return {"groups": groups}


def orders_cost() -> Row:
    """Seconds for the deadline decisions of 1,000 pools, once an hour, compiled and in numpy; what a start costs besides."""
    kind = FOUR_IN_A_DAY
    random = np.random.default_rng(1)
    hours = np.arange(90 * 24)
    pools = []
    for _ in range(POOLS):
        demand = 500 + 200 * np.sin(2 * np.pi * hours / 24) + np.cumsum(random.normal(0, 10, hours.size))
        pools.append(np.floor(1000 - np.clip(np.round(demand), 0, 1000)))
    found: Row = {"pools": POOLS, "load_average": round(os.getloadavg()[0], 1)}
    for name, admitted in (("compiled", compiled()), ("numpy", last_admitted)):
        if admitted is None:
            found[name] = "numba is not installed"
            continue
        began = time.perf_counter()
        admitted(np.ones((2, 4)), np.zeros((1, 4)), 1.0)
        found[f"{name}_compile_s"] = round(time.perf_counter() - began, 2)
        books = [OpenOrders(kind) for _ in range(POOLS)]
        rounds = []
        for t in range(hours.size - 6, hours.size):
            began = time.process_time()
            for idle, book in zip(pools, books, strict=True):
                book.add(book.room(Idle(idle[:t], float(idle[t - 1]), 1000.0), admitted))
            rounds.append(time.process_time() - began)
            for idle, book in zip(pools, books, strict=True):
                book.pass_hour(float(idle[t]))
        found[f"{name}_round_cpu_s"] = [round(each, 3) for each in rounds]
    return found


if __name__ == "__main__":
    main()
