"""The mix as a linear program, built from a checked state and solved by HiGHS (Huangfu and Hall, 2018).

Every pool has a row per step for its idle capacity. Models couple pools through their load, whose value is concave. Limits set by
hand have elastic columns with a high cost, so the program always has a solution and the used column names the limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sublet.allocation.mix.model import Fit, Kind, Offer, OfferKey, Pair, PoolState, State
from sublet.allocation.mix.served import pieces

TIME_LIMIT_S = 5.0
ELASTIC = 1_000.0
"""What a missing replica of a floor costs, in multiples of the best price: far beyond anything that it could earn elsewhere."""
LARGE = 10_000
"""Columns from which on a first solution comes from the interior point, ten times as fast there; its crossover leaves a basis, from
which the simplex continues in later rounds."""
TIE = 1e-7
"""Makes one of several equally good mixes the best one, always the same; far below a cent."""


@dataclass(slots=True)
class Program:
    """Columns and rows. Every row is a sum that must not exceed its bound."""

    costs: list[float] = field(default_factory=list)
    uppers: list[float] = field(default_factory=list)
    starts: list[int] = field(default_factory=lambda: [0])
    columns: list[int] = field(default_factory=list)
    factors: list[float] = field(default_factory=list)
    bounds: list[float] = field(default_factory=list)
    running: dict[Pair, list[int]] = field(default_factory=dict)
    sold: dict[OfferKey, list[int]] = field(default_factory=dict)
    capacity: dict[str, list[int]] = field(default_factory=dict)

    def column(self, cost: float, upper: float = np.inf) -> int:
        self.costs.append(cost)
        self.uppers.append(upper)
        return len(self.costs) - 1

    def row(self, terms: Sequence[tuple[int, float]], bound: float) -> int:
        for column, factor in terms:
            self.columns.append(column)
            self.factors.append(factor)
        self.starts.append(len(self.columns))
        self.bounds.append(bound)
        return len(self.bounds) - 1


@dataclass(frozen=True, slots=True)
class Solution:
    """Accelerators of each pair and what each offer sells, by step; `bids` are the prices of the capacity rows."""

    running: dict[Pair, list[float]]
    sold: dict[OfferKey, list[float]]
    bids: dict[str, tuple[float, ...]]
    earned: float


def build(state: State) -> Program:
    """The program of a checked state."""
    program = Program()
    starts = np.concatenate([[0.0], np.cumsum(state.steps)])
    fits = sorted(state.fits, key=lambda item: item.pair)
    pools = {item.name: item for item in state.pools}
    for number, fit in enumerate(fits):
        _running(program, state, pools[fit.pool], fit, TIE * number / max(1, len(fits)))
    for pool in state.pools:
        _pool(program, state, pool, starts, [fit for fit in fits if fit.pool == pool.name])
    for model in state.models:
        _served(program, state, model.name, [fit for fit in fits if fit.model == model.name])
    _limits(program, state, fits)
    return program


def best_price(state: State) -> float:
    """The most that an accelerator-hour may earn in this state."""
    prices = [offer.price or 0.0 for pool in state.pools for offer in pool.offers]
    values = {model.name: model.value or 0.0 for model in state.models}
    prices += [(fit.speed or 0.0) * values[fit.model] for fit in state.fits]
    return max(prices, default=0.0) or 1.0


def start_cost(state: State, pool: PoolState, fit: Fit) -> float:
    """What starting a replica costs per accelerator: it earns nothing until it answers, and as nothing else while it drains."""
    full = (fit.speed or 0.0) * (state.model(fit.model).value or 0.0)
    raw = max((offer.price or 0.0 for offer in pool.offers), default=full)
    return fit.start_hours * full + fit.drain_hours * raw


def _running(program: Program, state: State, pool: PoolState, fit: Fit, tie: float) -> None:
    hurdle, start = max(pool.energy, pool.cost), start_cost(state, pool, fit)
    found: list[int] = []
    for step, width in enumerate(state.steps):
        here = program.column(hurdle * width + tie)
        up = program.column(start)
        terms = [(here, 1.0), (up, -1.0)]
        if step:
            terms.append((found[-1], -1.0))
        program.row(terms, 0.0 if step else float(fit.running * fit.accelerators))
        found.append(here)
    program.running[fit.pair] = found


def _pool(program: Program, state: State, pool: PoolState, starts: Any, fits: Sequence[Fit]) -> None:
    count = len(state.steps)
    use: list[list[tuple[int, float]]] = [
        [(program.running[fit.pair][step], 1.0) for fit in fits] for step in range(count)
    ]
    held: dict[tuple[str, float], list[list[tuple[int, float]]]] = {}
    for offer in pool.offers:
        terms = _offer(program, state, pool, offer, starts)
        held[offer.class_name, offer.hours] = terms
        for step in range(count):
            use[step].extend(terms[step])
    program.capacity[pool.name] = [program.row(use[step], pool.idle[step]) for step in range(count)]
    for ceiling in pool.ceilings:
        for step in range(count):
            terms_of = [term for key in ceiling.offers if key in held for term in held[key][step]]
            if terms_of:
                program.row(terms_of, ceiling.counts[step])


def _offer(program: Program, state: State, pool: PoolState, offer: Offer, starts: Any) -> list[list[tuple[int, float]]]:
    """Columns of what is sold in each step, and which of them occupy each step by how much."""
    count, steps = len(state.steps), state.steps
    net = (offer.price or 0.0) - offer.loss - pool.energy
    terms: list[list[tuple[int, float]]] = [[] for _ in range(count)]
    columns = []
    for step in range(count):
        if offer.kind is Kind.WINDOW:
            end = starts[step] + max(offer.hours, 0.0)
            overlaps = np.clip(np.minimum(end, starts[1:]) - np.maximum(starts[step], starts[:-1]), 0.0, None)
            column = program.column(-net * float(overlaps.sum()), offer.demand[step])
            for later in range(step, count):
                if overlaps[later] > 0:
                    terms[later].append((column, float(overlaps[later] / steps[later])))
        else:
            column = program.column(-net * steps[step])
            terms[step].append((column, 1.0))
        columns.append(column)
    if offer.kind is Kind.EVICTABLE:
        for step in range(count):
            kept = [(columns[step - 1], -(offer.stays ** steps[step - 1]))] if step else []
            program.row([(columns[step], 1.0), *kept], offer.demand[step] + (0.0 if step else offer.held))
    elif offer.kind is Kind.BACKLOG:
        waiting = offer.held
        for step in range(count):
            waiting += offer.demand[step]
            program.row([(columns[each], steps[each]) for each in range(step + 1)], waiting)
    program.sold[pool.name, offer.class_name, offer.hours] = columns
    return terms


def _served(program: Program, state: State, name: str, fits: Sequence[Fit]) -> None:
    model = state.model(name)
    for step, width in enumerate(state.steps):
        parts = [
            program.column(-(model.value or 0.0) * slope * width, size)
            for size, slope in pieces(model.load[step], model.spread[step])
        ]
        supply = [(program.running[fit.pair][step], -(fit.speed or 0.0)) for fit in fits]
        program.row([*((part, 1.0) for part in parts), *supply], 0.0)


def _limits(program: Program, state: State, fits: Sequence[Fit]) -> None:
    price = ELASTIC * best_price(state)
    for limit in state.limits:
        covered = [fit for fit in fits if limit.covers(fit)]
        if not covered:
            continue
        for step, width in enumerate(state.steps):
            replicas = [(program.running[fit.pair][step], 1.0 / fit.accelerators) for fit in covered]
            if limit.floor:
                missing = program.column(price * width)
                program.row([*((column, -factor) for column, factor in replicas), (missing, -1.0)], -float(limit.floor))
            if limit.cap is not None:
                above = program.column(price * width)
                program.row([*replicas, (above, -1.0)], float(limit.cap))


class Solver:
    """Solves one program after another; where the next has the same shape, it starts from the last one's basis.

    One solver serves one thread. `last_error` says why the last call returned None.
    """

    def __init__(self, time_limit_s: float = TIME_LIMIT_S) -> None:
        self._time_limit_s = time_limit_s
        self._basis: Any = None
        self._shape: tuple[object, ...] = ()
        self.last_error = ""

    def solve(self, program: Program) -> Solution | None:
        """The best solution, or None if the solver found none within its time: it has no partial result."""
        import highspy  # here, because commands that decide nothing should not load it
        from highspy._core import _Highs  # the class itself: its wrapper prints a banner to the standard output

        highs = _Highs()
        highs.setOptionValue("output_flag", False)
        highs.setOptionValue("threads", 1)
        highs.setOptionValue("time_limit", self._time_limit_s)
        columns, rows = len(program.costs), len(program.bounds)
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = columns, rows
        lp.col_cost_ = np.array(program.costs)
        lp.col_lower_ = np.zeros(columns)
        lp.col_upper_ = np.array(program.uppers)
        lp.row_lower_ = np.full(rows, -np.inf)
        lp.row_upper_ = np.array(program.bounds)
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_ = np.array(program.starts, dtype=np.int32)
        lp.a_matrix_.index_ = np.array(program.columns, dtype=np.int32)
        lp.a_matrix_.value_ = np.array(program.factors)
        highs.passModel(lp)
        shape = (columns, rows, tuple(program.running), tuple(program.sold))
        if self._basis is not None and shape == self._shape:
            highs.setBasis(self._basis)
        elif columns >= LARGE:
            highs.setOptionValue("solver", "ipm")
            highs.setOptionValue("run_crossover", "on")
        highs.run()
        status = highs.getModelStatus()
        info = highs.getInfo()
        if status != highspy.HighsModelStatus.kOptimal:
            self.last_error = (
                f"the solver ended with {highs.modelStatusToString(status)!r} after {highs.getRunTime():.1f} s"
            )
            self._basis = None
            return None
        self._basis, self._shape, self.last_error = highs.getBasis(), shape, ""
        solution = highs.getSolution()
        return _read(program, list(solution.col_value), list(solution.row_dual), -info.objective_function_value)


def _read(program: Program, values: list[float], duals: list[float], earned: float) -> Solution:
    return Solution(
        {pair: [max(0.0, values[column]) for column in columns] for pair, columns in program.running.items()},
        {key: [max(0.0, values[column]) for column in columns] for key, columns in program.sold.items()},
        {name: tuple(max(0.0, -duals[row]) for row in rows) for name, rows in program.capacity.items()},
        earned,
    )
