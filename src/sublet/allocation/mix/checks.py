"""What of a state can be decided on. The solver accepts NaN and calls the result optimal, so nothing unchecked reaches it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sublet.allocation.errors import UnusableStateError
from sublet.allocation.mix.model import Ceiling, Fit, Kind, LeftOut, Limit, ModelState, Offer, PoolState, State

STEPS_MAX = 64
LARGEST = 1e12
"""No count, load or price of a real fleet comes near it; beyond it, sums lose the digits that decide."""


def usable(state: State) -> tuple[State, tuple[LeftOut, ...]]:
    """The part of `state` that can be decided on, and what was left out with its reason.

    A product without a usable price, a model without figures and a pool without a usable forecast are left out; replicas that
    run there stay as they are, and what they occupy is not sold again. Raises UnusableStateError if the horizon, a hand-set
    limit or a limit of the surplus rule is not usable, because leaving those out would sell what must not be sold.
    """
    count = len(state.steps)
    if not 1 <= count <= STEPS_MAX or not _fine(state.steps, least=1e-6):
        raise UnusableStateError(f"the horizon needs 1 to {STEPS_MAX} steps, each longer than 0 hours")
    _check_names(state)
    _check_limits(state.limits)
    out: list[LeftOut] = []
    models = [item for item in state.models if _keep(f"model {item.name}", _fault_of_model(item, count), out)]
    pools = [_pool(item, count, out) for item in state.pools]
    known = {item.name for item in pools if item is not None}
    valued = {item.name for item in models}
    fits = [
        item for item in state.fits if _keep(f"{item.model} on {item.pool}", _fault_of_fit(item, valued, known), out)
    ]
    kept = {item.pair for item in fits}
    staying: dict[str, float] = {}
    for fit in state.fits:
        if fit.pair not in kept:
            staying[fit.pool] = staying.get(fit.pool, 0.0) + fit.running * fit.accelerators
    left = [
        replace(item, idle=tuple(max(0.0, idle - staying.get(item.name, 0.0)) for idle in item.idle))
        for item in pools
        if item is not None
    ]
    return (
        replace(state, pools=tuple(left), models=tuple(models), fits=tuple(fits), limits=_limits(state, fits)),
        tuple(out),
    )


def _limits(state: State, kept: Sequence[Fit]) -> tuple[Limit, ...]:
    """The limits on what is decided. Replicas that stay where they are count toward them; a limit on nothing else is met or
    missed by what was left out, not by what is idle."""
    pairs = {item.pair for item in kept}
    found = []
    for limit in state.limits:
        stay = [fit.running for fit in state.fits if fit.pair not in pairs and limit.covers(fit)]
        if not stay:
            found.append(limit)
        elif any(limit.covers(fit) for fit in kept):
            cap = None if limit.cap is None else max(0, limit.cap - sum(stay))
            floor = max(0, limit.floor - sum(stay))
            found.append(replace(limit, floor=floor, cap=cap))
    return tuple(found)


def _check_names(state: State) -> None:
    for what, names in (
        ("pool", [item.name for item in state.pools]),
        ("model", [item.name for item in state.models]),
        ("pair", [str(item.pair) for item in state.fits]),
    ):
        if len(set(names)) < len(names):
            raise UnusableStateError(f"a {what} is named twice; name each once")


def _check_limits(limits: Iterable[Limit]) -> None:
    for item in limits:
        if item.floor < 0 or (item.cap is not None and item.cap < item.floor):
            raise UnusableStateError(f"{item}: a floor is at least 0 and at most the cap")


def _keep(what: str, fault: str, out: list[LeftOut]) -> bool:
    if fault:
        out.append(LeftOut(what, fault))
    return not fault


def _fault_of_model(model: ModelState, count: int) -> str:
    if model.value is None:
        return "nobody stated what its tokens sell for"
    if not _fine([model.value]):
        return f"its value per unit of load is {model.value}"
    if len(model.load) != count or not _fine(model.load):
        return "its load forecast has missing or impossible values"
    if len(model.spread) != count or not _fine(model.spread):
        return "the spread of its load has missing or impossible values"
    return ""


def _fault_of_fit(fit: Fit, models: set[str], pools: set[str]) -> str:
    if fit.model not in models:
        return "its model was left out"
    if fit.pool not in pools:
        return "its pool is gone or was left out"
    if fit.speed is None:
        return "its speed was not measured yet"
    if not _fine([fit.speed], least=1e-12) or fit.accelerators < 1 or fit.running < 0:
        return "its speed, accelerators or running replicas are impossible"
    if not _fine([fit.start_hours, fit.drain_hours]):
        return "its times to start and to drain are impossible"
    return ""


def _pool(pool: PoolState, count: int, out: list[LeftOut]) -> PoolState | None:
    fault = ""
    if len(pool.idle) != count or not _fine(pool.idle):
        fault = "its forecast of idle capacity has missing or impossible values"
    elif not _fine([pool.energy, pool.cost]):
        fault = "its energy or its owner's cost is impossible"
    if not _keep(f"pool {pool.name}", fault, out):
        return None
    for ceiling in pool.ceilings:
        _check_ceiling(pool, ceiling, count)
    offers = tuple(
        item
        for item in pool.offers
        if _keep(f"{item.class_name} {item.hours:g} h on {pool.name}", _fault_of_offer(item, pool, count), out)
    )
    return replace(pool, offers=offers)


def _check_ceiling(pool: PoolState, ceiling: Ceiling, count: int) -> None:
    if len(ceiling.counts) != count or not _fine(ceiling.counts):
        raise UnusableStateError(
            f"the surplus rule's limit {ceiling.name} on {pool.name} has missing or impossible values"
        )


def _fault_of_offer(offer: Offer, pool: PoolState, count: int) -> str:
    if offer.price is None:
        return "nobody stated a price"
    if not _fine([offer.price, offer.loss]):
        return f"its price is {offer.price} and its expected loss {offer.loss}"
    if offer.price < pool.cost:
        return f"its price of {offer.price:g} is below the {pool.cost:g} that the capacity costs"
    if not _fine([offer.hours], least=1e-6) or not _fine([offer.held]) or not 0 <= offer.stays <= 1:
        return "its length, or what of it is held, is impossible"
    if len(offer.demand) != count or not _fine(offer.demand):
        return "its demand has missing or impossible values"
    if offer.kind is Kind.WINDOW and not any((offer.class_name, offer.hours) in item.offers for item in pool.ceilings):
        return "the surplus rule states no limit for it"
    return ""


def _fine(values: Iterable[float], least: float = 0.0) -> bool:
    return all(math.isfinite(item) and least <= item <= LARGEST for item in values)
