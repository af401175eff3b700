"""What an hour of a pool could have earned, in hindsight: three static hours, each with less than the one before. Pure.

The first knows that everything the owner left was idle, the second leaves out what was withheld, and the third has the replicas that
really ran. Other pools stand as they were: a model's load is divided by where its replicas ran.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sublet.allocation.chargeback.book import Book, Use
from sublet.allocation.chargeback.displaced import HOUR_S, Spare, static
from sublet.allocation.mix.checks import usable
from sublet.allocation.mix.model import State
from sublet.allocation.mix.program import Solver, build
from sublet.allocation.mix.served import served

MODEL = "model "


@dataclass(frozen=True, slots=True)
class HourWorth:
    """What an hour could have earned, net of energy, in major units: `attainable` of all that was idle, `sellable` of what was not
    withheld, `standing` of that with the replicas that ran. `priced_low` is what better prices would have added."""

    attainable: float
    sellable: float
    standing: float
    priced_low: float = 0.0


def worth_of(state: State, name: str, books: dict[str, Book], solver: Solver) -> HourWorth | None:
    """The worth of an hour of the pool `name`, from the books of all pools by name; None where the solver was late or the pool is
    not known."""
    if name not in {pool.name for pool in state.pools}:
        return None
    here = books[name]
    alone = _alone(usable(state)[0], name, books)
    withheld = here.of(Use.WITHHELD) / HOUR_S
    spare = Spare.of(here)
    everything = Spare(spare.idle + withheld, spare.raw + withheld, 0.0)
    attainable = _earned(static(alone, {name: everything}, ""), solver)
    sellable = _earned(static(alone, {name: spare}, ""), solver)
    standing = _standing(static(alone, {name: spare}, ""), name, _running(here), solver)
    if attainable is None or sellable is None or standing is None:
        return None
    # Each knows less than the one before, so none may earn more than it: the remainder is the solver's.
    sellable = min(sellable, attainable)
    return HourWorth(attainable, sellable, min(standing, sellable))


def _earned(state: State, solver: Solver) -> float | None:
    solved = solver.solve(build(state))
    return solved.earned if solved is not None else None


def _standing(state: State, name: str, running: dict[str, float], solver: Solver) -> float | None:
    """The hour with the accelerators that each model had; raw products share the rest."""
    pool = state.pool(name)
    speeds = {fit.model: fit.speed or 0.0 for fit in state.fits}
    held = sum(running.values())
    managed = -held * pool.energy
    for model in state.models:
        supply = running.get(model.name, 0.0) * speeds.get(model.name, 0.0)
        managed += served(supply, model.load[0], model.spread[0]) * (model.value or 0.0)
    left = replace(pool, idle=(max(0.0, pool.idle[0] - held),))
    raw = _earned(replace(state, pools=(left,), models=(), fits=()), solver)
    return managed + raw if raw is not None else None


def _running(book: Book) -> dict[str, float]:
    """Accelerators of each model in the hour, on average."""
    found: dict[str, float] = {}
    for (use, _, product), seconds in book.seconds.items():
        if use in (Use.EXTERNAL, Use.STARTING, Use.DRAINING) and product.startswith(MODEL):
            name = product.removeprefix(MODEL)
            found[name] = found.get(name, 0.0) + seconds / HOUR_S
    return found


def _alone(state: State, name: str, books: dict[str, Book]) -> State:
    """The state with one pool, and each model's load as far as that pool served it; a model that ran nowhere is divided evenly."""
    by_pool = {pool: _running(book) for pool, book in books.items()}
    models = []
    for model in state.models:
        pools = [fit.pool for fit in state.fits if fit.model == model.name]
        if name not in pools:
            continue
        whole = sum(by_pool.get(pool, {}).get(model.name, 0.0) for pool in pools)
        share = by_pool.get(name, {}).get(model.name, 0.0) / whole if whole else 1 / len(pools)
        models.append(replace(model, load=tuple(each * share for each in model.load)))
    kept = {model.name for model in models}
    fits = tuple(fit for fit in state.fits if fit.pool == name and fit.model in kept)
    return replace(state, pools=(state.pool(name),), models=tuple(models), fits=fits, limits=())
