"""What an hour of a pool is worth: each product and model with its interval and source, and the next and the last accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sublet.allocation.mix.checks import usable
from sublet.allocation.mix.decide import narrowed
from sublet.allocation.mix.model import Offer, State
from sublet.allocation.mix.program import Solver, build
from sublet.allocation.mix.served import served
from sublet.allocation.model import Round
from sublet.allocation.ports import AskedHour
from sublet.allocation.pricing import advised, as_dict
from sublet.values.clock import format_time


def difference(state: State, pool: str, change: int) -> float | None:
    """What `change` accelerators more (or fewer) in the first step would earn (or lose). A difference of two solutions, never the
    price of a row: that is not unique where several limits meet. None where the solver is late."""
    checked, _ = usable(state)
    checked = narrowed(checked)
    solver = Solver()
    before = solver.solve(build(checked))
    after = solver.solve(build(_changed(checked, pool, change)))
    return after.earned - before.earned if before is not None and after is not None else None


def _changed(state: State, name: str, change: int) -> State:
    return replace(
        state,
        pools=tuple(
            replace(item, idle=(max(0.0, item.idle[0] + change), *item.idle[1:])) if item.name == name else item
            for item in state.pools
        ),
    )


def explained(found: Round, pool: str, asked: Sequence[AskedHour] = ()) -> dict[str, Any]:
    """The document of `sublet yield explain`. `asked` are the quotes of the pool in past hours."""
    state, mix = found.facts.state, found.mix
    known = {item.name: item for item in state.pools}
    here = known.get(pool)
    return {
        "pool": pool,
        "pool_id": found.facts.pool_ids[pool],
        "at": format_time(mix.at),
        "currency": mix.currency,
        "mode": found.facts.modes[pool].value,
        "idle": [round(item, 2) for item in here.idle] if here else [],
        "energy_per_hour": round(here.energy, 6) if here else 0.0,
        "cost_per_hour": round(here.cost, 6) if here else 0.0,
        "next_accelerator": _rounded(difference(state, pool, 1)) if here else None,
        "last_accelerator": _rounded(_lost(state, pool)) if here else None,
        "products": [_product(found, pool, offer, asked) for offer in here.offers] if here else [],
        "models": [
            _model(found, pool, model) for model in sorted({item.model for item in state.fits if item.pool == pool})
        ],
        "left_out": [{"what": item.what, "why": item.why} for item in mix.left_out],
    }


def _lost(state: State, pool: str) -> float | None:
    found = difference(state, pool, -1)
    return -found if found is not None else None


def _rounded(value: float | None) -> float | None:
    return round(value, 6) if value is not None else None


def _product(found: Round, pool: str, offer: Offer, asked: Sequence[AskedHour]) -> dict[str, Any]:
    energy = found.facts.state.pool(pool).energy
    told = next(
        item
        for item in found.facts.products
        if (item.pool, item.class_name, item.hours) == (pool, offer.class_name, offer.hours)
    )
    net = offer.price - offer.loss - energy if offer.price is not None else None
    return {
        "class": offer.class_name,
        "hours": offer.hours,
        "price": _rounded(offer.price),
        "price_source": told.price_source,
        "expected_loss": round(offer.loss, 6),
        "net": _rounded(net),
        "asked_per_hour": told.asked.as_dict(),
        "accepted_share": told.accepted.as_dict(),
        "quota": found.mix.quotas.get((pool, offer.class_name, offer.hours), 0),
        "advice": as_dict(advised(found.facts, told, offer, asked)),
    }


def _model(found: Round, pool: str, name: str) -> dict[str, Any]:
    """What one replica more would earn here, and what one fewer would lose, an hour and accelerator."""
    state, mix = found.facts.state, found.mix
    fit = next(item for item in state.fits if item.pair == (name, pool))
    model = next((item for item in state.models if item.name == name), None)
    told = next((item for item in found.facts.loads if item.model == name), None)
    more = fewer = full = None
    if model is not None and model.value is not None and fit.speed is not None:
        supply = sum(
            mix.replicas.get(item.pair, item.running) * item.accelerators * (item.speed or 0.0)
            for item in state.fits
            if item.model == name
        )
        unit = fit.accelerators * fit.speed

        def earns(capacity: float) -> float:
            assert model is not None and model.value is not None
            return served(capacity, model.load[0], model.spread[0]) * model.value

        more = (earns(supply + unit) - earns(supply)) / fit.accelerators
        fewer = (earns(supply) - earns(max(0.0, supply - unit))) / fit.accelerators
        full = fit.speed * model.value
    return {
        "model": name,
        "running": fit.running,
        "wanted": mix.replicas.get(fit.pair, fit.running),
        "accelerators": fit.accelerators,
        "load": told.load.as_dict() if told else None,
        "speed_per_accelerator": _rounded(fit.speed),
        "speed_source": told.speed_source if told else "",
        "full_per_hour": _rounded(full),
        "value_source": told.value_source if told else "",
        "next_replica": _rounded(more),
        "last_replica": _rounded(fewer),
    }
