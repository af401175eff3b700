"""From a state to a mix: the program, then whole replicas pool by pool; by marginal value alone if the program gave no result."""

from __future__ import annotations

import math
from collections.abc import Mapping

from sublet.allocation.mix.checks import usable
from sublet.allocation.mix.greedy import Deal
from sublet.allocation.mix.model import Broken, Fit, Limit, Mix, ModelState, Move, OfferKey, Pair, PoolState, State
from sublet.allocation.mix.program import Solution, Solver, build
from sublet.allocation.mix.served import served

ROUND_UP = 0.35
"""A part of a replica from here on is rounded up if there is room: where loads are uncertain, too many costs less than too few."""
FITS_PER_POOL = 3
"""Models that a round considers for a pool, beside those that run there."""


def decide(state: State, solver: Solver | None = None) -> Mix:
    """The mix for the first step of `state`.

    The same state gives the same mix. Hand-set limits hold unless what is idle can't fit them; those are named in `broken`. The
    surplus rule's limits always hold. Raises UnusableStateError.
    """
    checked, left_out = usable(state)
    checked = narrowed(checked)
    solver = solver or Solver()
    solution = solver.solve(build(checked))
    if solution is None:
        dealt = Deal(checked, checked.pools).run()
        replicas, sales = dealt.replicas, dealt.sales
        bids: dict[str, tuple[float, ...]] = {name: (bid,) for name, bid in dealt.bids.items()}
        method, note = "greedy", f"{solver.last_error}; decided by marginal value instead"
    else:
        replicas, sales = _whole(checked, solution)
        bids = solution.bids
        method, note = "program", ""
    return Mix(
        at=state.at,
        replicas=replicas,
        quotas={key: sales.get(key, 0) for key in _offered(checked)},
        value=worth(checked, replicas, sales),
        method=method,
        currency=state.currency,
        note=note,
        moves=_moves(checked, replicas),
        broken=_broken(checked, replicas),
        left_out=left_out,
        bids=bids,
    )


def _offered(state: State) -> list[OfferKey]:
    return [(pool.name, offer.class_name, offer.hours) for pool in state.pools for offer in pool.offers]


def worth(state: State, replicas: Mapping[Pair, int], sales: Mapping[OfferKey, int]) -> float:
    """What an hour of the first step earns with these replicas and sales, net of energy, by the state's own figures."""
    total = 0.0
    pools = {item.name: item for item in state.pools}
    for key, count in sales.items():
        pool = pools[key[0]]
        offer = next(item for item in pool.offers if (item.class_name, item.hours) == key[1:])
        total += count * ((offer.price or 0.0) - offer.loss - pool.energy)
    for fit in state.fits:
        total -= replicas.get(fit.pair, 0) * fit.accelerators * pools[fit.pool].energy
    supply = _supply(state, replicas)
    return total + sum(_earns(item, supply[item.name]) for item in state.models)


def narrowed(state: State) -> State:
    """The state with the pairs that a round considers: those that run or have a limit, and the best few of each pool."""
    worth_of: dict[Pair, float] = {}
    models = {item.name: item for item in state.models}
    for fit in state.fits:
        model = models[fit.model]
        unit = fit.accelerators * (fit.speed or 0.0)
        gain = served(unit, model.load[0], model.spread[0]) * (model.value or 0.0) / fit.accelerators
        worth_of[fit.pair] = gain
    kept = {fit.pair for fit in state.fits if fit.running or any(limit.covers(fit) for limit in state.limits)}
    for pool in state.pools:
        own = [fit for fit in state.fits if fit.pool == pool.name]
        most = len(own) if len(state.pools) == 1 else FITS_PER_POOL
        kept |= {fit.pair for fit in sorted(own, key=lambda item: (-worth_of[item.pair], item.pair))[:most]}
    return State(
        state.at,
        state.steps,
        state.pools,
        state.models,
        tuple(fit for fit in state.fits if fit.pair in kept),
        state.limits,
        state.currency,
    )


def _whole(state: State, solution: Solution) -> tuple[dict[Pair, int], dict[OfferKey, int]]:
    """Whole replicas: each pool takes the better of the rounded program and of a repair that deals whole replicas by marginal
    value beside the program's firm sales. The other pools stand as the program, or the pools before, have them."""
    supply = {item.name: 0.0 for item in state.models}
    for fit in state.fits:
        supply[fit.model] += solution.running[fit.pair][0] * (fit.speed or 0.0)
    counts: dict[Pair, float] = {fit.pair: solution.running[fit.pair][0] / fit.accelerators for fit in state.fits}
    sales: dict[OfferKey, int] = {}
    for pool in state.pools:
        own = [fit for fit in state.fits if fit.pool == pool.name]
        for fit in own:
            supply[fit.model] -= counts[fit.pair] * fit.accelerators * (fit.speed or 0.0)
        under = {
            limit: math.floor(
                sum(counts[fit.pair] for fit in state.fits if limit.covers(fit) and fit.pool != pool.name) + 1e-6
            )
            for limit in state.limits
        }
        given = _windows(pool, solution)
        best = max(
            (
                _rounded(state, pool, solution, given, supply, under),
                Deal(state, [pool], given, supply).run(under),
            ),
            key=lambda item: item.earned(),
        )
        for fit in own:
            counts[fit.pair] = best.replicas[fit.pair]
            supply[fit.model] += counts[fit.pair] * fit.accelerators * (fit.speed or 0.0)
        sales |= best.sales
    return {pair: round(count) for pair, count in counts.items()}, sales


def _windows(pool: PoolState, solution: Solution) -> dict[OfferKey, int]:
    """What the program sells of each window now, in whole accelerators within the rule's limits and what is idle."""
    left = math.floor(pool.idle[0] + 1e-9)
    found: dict[OfferKey, int] = {}
    for offer in pool.offers:
        if offer.kind != "window":
            continue
        count = round(solution.sold[pool.name, offer.class_name, offer.hours][0])
        count = min(count, left, math.floor(offer.demand[0] + 1e-6))
        for ceiling in pool.ceilings:
            if (offer.class_name, offer.hours) in ceiling.offers:
                held = sum(found.get((pool.name, *key), 0) for key in ceiling.offers)
                count = min(count, math.floor(ceiling.counts[0] + 1e-6) - held)
        found[pool.name, offer.class_name, offer.hours] = max(0, count)
        left -= max(0, count)
    return found


def _rounded(
    state: State,
    pool: PoolState,
    solution: Solution,
    given: Mapping[OfferKey, int],
    supply: Mapping[str, float],
    under: Mapping[Limit, int],
) -> Deal:
    """The program's own replicas, rounded; then floors; then what may be evicted or paused."""
    deal = Deal(state, [pool], given, supply).begin(under)
    parts: list[tuple[float, Fit]] = []
    for fit in deal.fits:
        exact = solution.running[fit.pair][0] / fit.accelerators
        whole = math.floor(exact + 1e-6)
        deal.place(fit, whole - deal.replicas[fit.pair])
        parts.append((exact - whole, fit))
    for part, fit in sorted(parts, key=lambda item: (-item[0], item[1].pair)):
        if part > ROUND_UP:
            deal.place(fit, 1)
    deal.sell_rest()
    return deal


def _supply(state: State, replicas: Mapping[Pair, int]) -> dict[str, float]:
    supply = {item.name: 0.0 for item in state.models}
    for fit in state.fits:
        supply[fit.model] += replicas.get(fit.pair, 0) * fit.accelerators * (fit.speed or 0.0)
    return supply


def _earns(model: ModelState, supply: float) -> float:
    return served(supply, model.load[0], model.spread[0]) * (model.value or 0.0)


def _moves(state: State, replicas: Mapping[Pair, int]) -> tuple[Move, ...]:
    """What changes, each with what the change of its model is worth an hour with everything else as decided."""
    supply = _supply(state, replicas)
    models = {item.name: item for item in state.models}
    energy = {item.name: item.energy for item in state.pools}
    found = []
    for fit in state.fits:
        after = replicas.get(fit.pair, 0)
        if after != fit.running:
            accelerators = (after - fit.running) * fit.accelerators
            model, here = models[fit.model], supply[fit.model]
            gain = _earns(model, here) - _earns(model, here - accelerators * (fit.speed or 0.0))
            found.append(Move(fit.model, fit.pool, fit.running, after, gain - accelerators * energy[fit.pool]))
    return tuple(sorted(found, key=lambda item: (-abs(item.gain), item.model, item.pool)))


def _broken(state: State, replicas: Mapping[Pair, int]) -> tuple[Broken, ...]:
    found = []
    for limit in state.limits:
        count = sum(replicas.get(fit.pair, 0) for fit in state.fits if limit.covers(fit))
        if count < limit.floor:
            found.append(Broken(limit, limit.floor - count))
    return tuple(found)
