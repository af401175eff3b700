"""What steering one inventory between raw classes and managed models is worth: `python bench/allocation.py`.

Writes bench/results/allocation.json. Owners' demand is from the shared traces (SUBLET_TRACES), token load from the series of
requests beside them; raw orders are drawn (Poisson, a daily wave, in fours) at list prices, elasticity -1.5. Firm windows are
limited by the product's own sellers, budget and monitor; the limits, orders and loads of an hour are the same for every policy.
Nothing online reads a later hour; the optimum in hindsight is an upper bound: whole weeks with everything known, starts free at
their beginning, no limits of the rule.

Assumed, in USD per accelerator-hour: firm 1 h 1.50, firm 4 h 1.30, spot 0.70 for 3 h on average, one hour by a deadline of 24
0.60, energy 0.08. A broken window is not paid and costs a quarter of its price. Models serve 350 to 6,000 tokens a second and
accelerator at 0.08 to 1.50 USD per million, 1.58 to 1.89 USD an hour when full; they start in 3 minutes and drain in 2.
`--hours 360 --pools venus,earth --seeds 1` is a short run.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from sublet.allocation.mix.decide import decide
from sublet.allocation.mix.greedy import Deal
from sublet.allocation.mix.model import Ceiling, Fit, Kind, Mix, ModelState, Offer, PoolState, State
from sublet.allocation.mix.program import Solver, build
from sublet.allocation.mix.served import served
from sublet.demand.feeds.csv_series import read_series
from sublet.surplus.backtest.promises import Living, depth_of
from sublet.surplus.backtest.scoring import Trace, trace_of
from sublet.surplus.budget import Passed, Standing
from sublet.surplus.terms import SHADOW_HOURS_MIN, firm_pace

ROOT = Path(__file__).resolve().parent.parent
RESULT = ROOT / "bench" / "results" / "allocation.json"
TRACES = Path(os.environ.get("SUBLET_TRACES", ROOT.parent / "shared" / "traces"))
SIX = ("a100", "venus", "earth", "philly", "gang_series2", "gang_a800")
WARMUP_DAYS = {"philly": 14, "earth": 7}
HORIZON = 6
WEEK = 168

MODELS = ("large", "mid", "small", "image", "reasoning")
SERIES = ("language_m_large", "language_m_mid", "language_m_small", "multimodal_mm_image", "reason_deepseek_r1")
TOKENS = np.array([500, 350, 200, 500, 2500.0])
SPEED = np.array([625, 1800, 6000, 1500, 350.0])
PER_MILLION = np.array([0.70, 0.25, 0.08, 0.35, 1.50])
REPLICA = (4, 1, 1, 1, 8)
FULL = SPEED * 3600 / 1e6 * PER_MILLION
PRICES = {"firm1": 1.50, "firm4": 1.30, "spot": 0.70, "deadline": 0.60}
SHARES = {"firm1": 0.15, "firm4": 0.25 / 4, "spot": 0.25 / 3, "deadline": 0.35}
CREDIT, ENERGY = 0.25, 0.08
START, DRAIN = 3 / 60, 2 / 60
FLUTTER = 0.12
STAYS = 2 / 3
ORDER = 4
AT = datetime(2026, 1, 5, tzinfo=UTC)

Row = dict[str, Any]


@dataclass(frozen=True)
class Scene:
    """One pool, scored hours alone: idle, the rule's limits, load in accelerators, orders by product; and what was before."""

    name: str
    idle: np.ndarray
    limit: Mapping[int, np.ndarray]
    load: np.ndarray
    orders: Mapping[str, np.ndarray]
    past: Mapping[str, np.ndarray]
    middle: float
    wave: np.ndarray

    def __len__(self) -> int:
        return self.idle.size - 1


def limits(trace: Trace, window: int) -> np.ndarray:
    """The most firm capacity that may run in each slot: as deep as the sellers go, within what the shadow has earned."""
    pace, standing, living = firm_pace(window, 0.01), Standing(), Living(trace, window)
    depth, found = depth_of(trace, window), np.zeros(len(trace))
    for t in range(SHADOW_HOURS_MIN, len(trace)):
        now = trace.capacity[t - 1] - trace.in_use[t - 1]
        living.step(t, depth)
        most = math.floor(standing.most(pace))
        if most and now > 0:
            found[t] = min(most, depth(t, now - np.zeros(window), 0.0))
        shadow = living.found
        standing.pass_hour(pace, trace.first_hour + t, Passed(shadow.started[t], shadow.broken[t], shadow.running[t]))
    return found


def token_load(hours: int, mean: float, seed: int) -> np.ndarray:
    """Load by model and ten minutes, in accelerators, a week ahead of the scored hours; gaps filled as stated in the facts."""
    with (TRACES / "servegen_rate_10min.csv").open() as file:
        rows = list(csv.DictReader(file))
    rate = np.array([[float(row[name + "_req_per_s"]) for name in SERIES] for row in rows]).T
    for one in rate:
        if (one > 0).sum() < 200:
            one[:] = np.resize(one[one > 0][:144], one.size)
        for t in range(144, one.size):
            one[t] = one[t] or one[t - 144]
    load = rate * (TOKENS / SPEED)[:, None]
    load *= 0.6 * mean / load.sum(0).mean()
    size = (hours + WEEK) * 6
    load = np.tile(load, math.ceil(size / load.shape[1]))[:, :size]
    drift, steps = np.zeros(load.shape), np.random.default_rng(1000 + seed).normal(0, 0.02, load.shape)
    for t in range(1, size):
        drift[:, t] = drift[:, t - 1] * 0.995 + steps[:, t]
    return np.asarray(load * np.exp(drift))


def scene(name: str, hours: int, seed: int, found: Mapping[int, np.ndarray], trace: Trace) -> Scene:
    warm = trace.warmup
    end = min(len(trace), warm + hours)
    count = end - warm
    rng = np.random.default_rng(seed)
    before = trace.idle[max(0, warm - 14 * 24) : warm]
    mean = max(float(before.mean()), float(trace.idle[warm:end].mean()) * 0.25)
    wave = 1 + 0.5 * np.sin((np.arange(count + WEEK) % 24 - 9) / 24 * 2 * np.pi)
    orders = {}
    for product, share in SHARES.items():
        numbers = rng.poisson(share * mean / ORDER * wave)
        orders[product] = np.array([rng.geometric(1 / ORDER, int(n)).sum() for n in numbers], float)
    return Scene(
        name,
        trace.idle[warm - 1 : end],
        {window: each[warm:end] for window, each in found.items()},
        token_load(count, mean, seed),
        {product: each[WEEK:] for product, each in orders.items()},
        {product: each[:WEEK] for product, each in orders.items()},
        float(np.median(trace.idle[:warm])),
        wave[WEEK:],
    )


@dataclass
class World:
    """What runs and what was earned, hour by hour. The owner's hour comes last: deadline orders pause, then spot and replicas are
    taken back, then firm windows break, the youngest first."""

    scene: Scene
    t: int = 0
    replicas: np.ndarray = field(default_factory=lambda: np.zeros(5))
    firm4: np.ndarray = field(default_factory=lambda: np.zeros(4))
    spot: float = 0.0
    waiting: np.ndarray = field(default_factory=lambda: np.zeros(24))
    earned: float = 0.0
    by: dict[str, float] = field(default_factory=dict)
    sold: float = 0.0
    broken: float = 0.0
    moves: float = 0.0

    @property
    def held(self) -> np.ndarray:
        """Firm windows that are still there in each of the next hours."""
        return np.array([self.firm4[1:].sum(), self.firm4[2:].sum(), self.firm4[3:].sum()])

    def book(self, what: str, amount: float) -> None:
        self.by[what] = self.by.get(what, 0.0) + amount
        self.earned += amount

    def step(self, plan: Plan) -> None:
        t, scene = self.t, self.scene
        idle, held = scene.idle[t + 1], self.held[0]
        most4 = max(0.0, scene.limit[4][t] - held)
        most1 = max(0.0, max(scene.limit[1][t], scene.limit[4][t]) - held)
        four = math.floor(min(plan.firm4, scene.orders["firm4"][t], most4, most1))
        one = math.floor(min(plan.firm1, scene.orders["firm1"][t], most1 - four))
        self.firm4 = np.append(self.firm4[1:], 0.0)
        self.firm4[3] += four
        self.sold += four + one
        self.waiting[0] += scene.orders["deadline"][t]
        self.spot = min(plan.spot, self.spot + scene.orders["spot"][t])
        late, replicas = min(plan.deadline, self.waiting.sum()), plan.replicas.copy()
        over = max(0.0, self.firm4.sum() + one + self.spot + late + replicas.sum() - idle)
        taken = min(late, over)
        late, over = late - taken, over - taken
        taken = min(self.spot, over)
        self.spot, over = self.spot - taken, over - taken
        taken = min(replicas.sum(), over)
        if taken > 0:
            replicas *= 1 - taken / replicas.sum()
            over -= taken
        for place in (3, -1, 2, 1, 0):
            count = min(one if place < 0 else self.firm4[place], over)
            over -= count
            self.broken += count
            if place < 0:
                one -= count
                self.book("credit", -count * CREDIT * PRICES["firm1"])
            else:
                self.firm4[place] -= count
                self.book("credit", -count * CREDIT * 4 * PRICES["firm4"])
        self._earn(one, late, replicas)

    def _earn(self, one: float, late: float, replicas: np.ndarray) -> None:
        t = self.t
        self.book("firm4", self.firm4[0] * 4 * PRICES["firm4"])
        self.book("firm1", one * PRICES["firm1"])
        self.book("spot", self.spot * PRICES["spot"])
        self.book("deadline", late * PRICES["deadline"])
        left = late
        for age in range(23, -1, -1):
            done = min(self.waiting[age], left)
            self.waiting[age] -= done
            left -= done
        self.waiting = np.append(0.0, self.waiting[:23])
        up, down = np.maximum(0, replicas - self.replicas), np.maximum(0, self.replicas - replicas)
        self.moves += float((up + down).sum())
        for m in range(5):
            for part in range(6):
                capacity = replicas[m] - (up[m] * START * 6 if part == 0 else 0.0)
                load = self.scene.load[m, (WEEK + t) * 6 + part]
                self.book("managed", served(capacity, load, FLUTTER) * FULL[m] / 6)
        used = self.firm4.sum() + one + self.spot + late + replicas.sum() + down.sum() * DRAIN
        self.book("energy", -ENERGY * float(used))
        self.replicas = replicas
        self.spot = math.floor(self.spot * STAYS + 0.5 * (self.spot > 0))
        self.t += 1


@dataclass(frozen=True)
class Plan:
    replicas: np.ndarray
    firm1: float
    firm4: float
    spot: float
    deadline: float


Policy = Callable[[World], Plan]


def forecast(scene: Scene, t: int, count: int) -> np.ndarray:
    """The last hour's load, moved by half of the week's median daily shape, fading into the shape."""
    now = (WEEK + t) * 6
    past = scene.load[:, now - WEEK * 6 : now].reshape(5, WEEK, 6).mean(2)
    shape = np.median(past.reshape(5, 7, 24), 1) + 1e-9
    k = np.arange(count)
    near = 0.9**k
    ahead = shape[:, k % 24]
    return np.asarray(near * past[:, -1:] * (ahead / shape[:, -1:]) ** 0.5 + (1 - near) * ahead)


def state_of(world: World, count: int = HORIZON) -> State:
    """What an online policy knows: the hour before, what is committed, the rule's limits, and orders that wait for an answer."""
    scene, t, k = world.scene, world.t, np.arange(count)
    now = scene.idle[t]
    idle = np.minimum(scene.middle + (now - scene.middle) * 0.985**k, now * 1.5 + 8)
    held = np.zeros(count)
    held[: min(3, count)] = world.held[:count]
    wave = np.roll(scene.wave[:24], -(t % 24))[k % 24] if scene.wave.size >= 24 else np.ones(count)
    asked = {}
    for product in SHARES:
        seen = np.concatenate([scene.past[product], scene.orders[product][:t]])[-WEEK:]
        asked[product] = seen.mean() * wave
        asked[product][0] = scene.orders[product][t]
    load = forecast(scene, t, count)
    spread = np.minimum(0.35, 0.2 + 0.015 * k)
    four, one = scene.limit[4][t], max(scene.limit[1][t], scene.limit[4][t])

    def series(values: np.ndarray) -> tuple[float, ...]:
        return tuple(float(each) for each in values)

    offers = (
        Offer("firm", 1.0, Kind.WINDOW, PRICES["firm1"], series(asked["firm1"])),
        Offer("firm", 4.0, Kind.WINDOW, PRICES["firm4"], series(asked["firm4"])),
        Offer("spot", 3.0, Kind.EVICTABLE, PRICES["spot"], series(asked["spot"]), held=world.spot, stays=STAYS),
        Offer(
            "deadline",
            1.0,
            Kind.BACKLOG,
            PRICES["deadline"],
            series(asked["deadline"]),
            held=float(world.waiting.sum()),
        ),
    )
    ceilings = (
        Ceiling("4 h", (("firm", 4.0),), series(np.maximum(0, four - held))),
        Ceiling("1 h", (("firm", 1.0), ("firm", 4.0)), series(np.maximum(0, one - held))),
    )
    pool = PoolState(scene.name, series(np.maximum(0, idle - held)), offers, ceilings, ENERGY)
    models = tuple(ModelState(name, series(load[m]), float(FULL[m]), series(spread)) for m, name in enumerate(MODELS))
    fits = tuple(
        Fit(name, scene.name, REPLICA[m], 1.0, round(world.replicas[m] / REPLICA[m]), START, DRAIN)
        for m, name in enumerate(MODELS)
    )
    return State(AT + timedelta(hours=t), (1.0,) * count, (pool,), models, fits)


def plan_of(scene: Scene, replicas: Mapping[tuple[str, str], int], sales: Mapping[Any, int]) -> Plan:
    counts = np.array([replicas[name, scene.name] * REPLICA[m] for m, name in enumerate(MODELS)], float)
    return Plan(counts, *(sales.get((scene.name, *key), 0) for key in OFFERED))


OFFERED = (("firm", 1.0), ("firm", 4.0), ("spot", 3.0), ("deadline", 1.0))


def program(count: int = HORIZON, keep: list[float] | None = None) -> Policy:
    solver = Solver()

    def policy(world: World) -> Plan:
        began = time.perf_counter()
        mix: Mix = decide(state_of(world, count), solver)
        if keep is not None:
            keep.append(time.perf_counter() - began)
        return plan_of(world.scene, mix.replicas, mix.quotas)

    return policy


def greedy(world: World) -> Plan:
    """The product whose next accelerator earns most now, by the last hour's load, without a look ahead; starts are free."""
    now = (WEEK + world.t) * 6
    last = world.scene.load[:, now - 6 : now].mean(1)
    state = state_of(world, 1)
    state = replace(state, models=tuple(replace(item, load=(float(last[m]),)) for m, item in enumerate(state.models)))
    free = replace(state, fits=tuple(replace(item, start_hours=0.0, drain_hours=0.0) for item in state.fits))
    deal = Deal(free, free.pools).run()
    return plan_of(world.scene, deal.replicas, deal.sales)


def fallback(world: World) -> Plan:
    """What the product decides without a solver: by marginal value with the same forecast, starts paid for."""
    state = state_of(world, 1)
    deal = Deal(state, state.pools).run()
    return plan_of(world.scene, deal.replicas, deal.sales)


def split(share: float) -> Policy:
    """A fixed share of what is idle for models, the rest raw, the dearest first."""

    def policy(world: World) -> Plan:
        state = state_of(world, 1)
        (pool,) = state.pools
        now = world.scene.idle[world.t]
        room = math.floor(share * now)
        alone = replace(pool, idle=(float(room),), offers=(), ceilings=())
        free = tuple(replace(item, start_hours=0.0, drain_hours=0.0) for item in state.fits)
        models = Deal(replace(state, pools=(alone,), fits=free), [alone]).run()
        rest = replace(pool, idle=(max(0.0, now - room - world.held[0]),))
        raw = Deal(replace(state, pools=(rest,), fits=()), [rest]).run()
        return plan_of(world.scene, models.replicas, raw.sales)

    return policy


def by_list(world: World) -> Plan:
    """Products in the order of their list price, a model at its price when full, up to its load now over 0.85."""
    state = state_of(world, 1)
    (pool,) = state.pools
    left, replicas, sales = math.floor(pool.idle[0]), {item.pair: 0 for item in state.fits}, {}
    now = world.scene.load[:, (WEEK + world.t) * 6 - 6 : (WEEK + world.t) * 6].mean(1)
    ranked: list[tuple[float, int, Any]] = [(item.price or 0.0, 0, item) for item in pool.offers]
    ranked += [(float(FULL[m]), 1 + m, item) for m, item in enumerate(state.fits)]
    for _, kind, item in sorted(ranked, key=lambda each: (-each[0], each[1])):
        if kind:
            wanted = math.ceil(now[kind - 1] / 0.85 / item.accelerators)
            count = min(wanted, left // item.accelerators)
            replicas[item.pair] = count
            left -= count * item.accelerators
        else:
            one = Deal(replace(state, fits=()), [replace(pool, idle=(float(left),), offers=(item,))])
            one.sales = {key: count for key, count in sales.items()}
            one.run()
            sales = one.sales
            left = math.floor(one.left[pool.name])
    return plan_of(world.scene, replicas, sales)


def run(scene: Scene, policy: Policy) -> World:
    world = World(scene)
    for _ in range(len(scene)):
        world.step(policy(world))
    return world


def hindsight(scene: Scene) -> float:
    """The most that whole weeks could have earned with everything known."""
    total = 0.0
    for begin in range(0, len(scene), WEEK):
        end = min(len(scene), begin + WEEK)
        world = World(scene, t=begin)
        # What may have been there when the week begins counts as given: an upper bound.
        world.spot = float(scene.orders["spot"][max(0, begin - 6) : begin].sum())
        world.waiting[0] = float(scene.orders["deadline"][max(0, begin - 23) : begin].sum())
        state = state_of(world, end - begin)
        (pool,) = state.pools
        known = tuple(
            replace(offer, demand=tuple(scene.orders[product][begin:end]))
            for offer, product in zip(pool.offers, ("firm1", "firm4", "spot", "deadline"), strict=True)
        )
        whole = tuple(replace(item, counts=(1e9,) * (end - begin)) for item in pool.ceilings)
        pool = replace(pool, idle=tuple(scene.idle[begin + 1 : end + 1]), offers=known, ceilings=whole)
        load = scene.load[:, (WEEK + begin) * 6 : (WEEK + end) * 6].reshape(5, -1, 6).mean(2)
        models = tuple(
            replace(item, load=tuple(load[m]), spread=(FLUTTER,) * (end - begin)) for m, item in enumerate(state.models)
        )
        fits = tuple(replace(item, running=10**6) for item in state.fits)
        solver = Solver(time_limit_s=600)
        solution = solver.solve(build(replace(state, pools=(pool,), models=models, fits=fits)))
        if solution is None:
            raise SystemExit(f"no optimum for {scene.name}: {solver.last_error}")
        total += solution.earned
    return total


def replay(names: list[str], hours: int, seeds: list[int]) -> Row:
    """Every policy on every pool, as shares of the optimum in hindsight and over the best fixed split of that pool."""
    rows: Row = {}
    sums: dict[str, float] = {}
    for name in names:
        path = TRACES / f"{name}.csv"
        slots = read_series(path if path.is_file() else TRACES / "small" / f"{name}.csv", name).slots(3600)
        warm = WARMUP_DAYS.get(name.split("_")[0], 28) * 24
        trace = trace_of(slots, warm).until(warm + hours)
        found = {window: limits(trace, window) for window in (1, 4)}
        for seed in seeds:
            row = _pool(scene(name, hours, seed, found, trace))
            rows[f"{name} seed {seed}"] = row
            for key, value in row["net"].items():
                sums[key] = sums.get(key, 0.0) + value
            print(name, seed, json.dumps(_shares(row["net"])), f"broken {row['broken']} {row['seconds']}", flush=True)
    worst = min(row["net"]["program"] / row["net"]["best split"] for row in rows.values())
    return {
        "hours": hours,
        "seeds": seeds,
        "pooled": _shares(sums),
        "worst_pool_x_split": round(worst, 4),
        "pools": rows,
    }


def _pool(scene: Scene) -> Row:
    net, broken = {"optimum": hindsight(scene)}, {}
    splits = {}
    for tenth in range(11):
        world = run(scene, split(tenth / 10))
        splits[tenth] = world.earned
        if tenth == 0:
            net["all raw"], broken["all raw"] = world.earned, [round(world.broken), round(world.sold)]
    net["all managed"], net["best split"] = splits[10], max(splits.values())
    times: list[float] = []
    for key, policy in (
        ("list price", by_list),
        ("greedy", greedy),
        ("fallback", fallback),
        ("program", program(keep=times)),
    ):
        world = run(scene, policy)
        net[key], broken[key] = world.earned, [round(world.broken), round(world.sold)]
    seconds = {"mean": round(float(np.mean(times)), 4), "worst": round(max(times), 4)}
    return {
        "net": net,
        "broken": broken,
        "best_share": max(splits, key=lambda each: splits[each]) / 10,
        "seconds": seconds,
    }


def _shares(net: Mapping[str, float]) -> Row:
    return {
        "of_optimum": {key: round(value / net["optimum"], 4) for key, value in net.items()},
        "program_x": {key: round(net["program"] / value, 4) for key, value in net.items() if key != "program"},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pools", default=",".join(SIX))
    parser.add_argument("--hours", type=int, default=1440)
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--write", action="store_true", help="write the result file")
    asked = parser.parse_args()
    seeds = [int(each) for each in asked.seeds.split(",")]
    row = replay(asked.pools.split(","), asked.hours, seeds)
    print(json.dumps({key: value for key, value in row.items() if key != "pools"}))
    if asked.write:
        result: Row = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
        result["replay"] = {**row, "measured": datetime.now(UTC).date().isoformat()}
        RESULT.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
