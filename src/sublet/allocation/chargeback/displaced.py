"""What the owner's use of an hour would have earned otherwise: a difference of two solutions, in one static hour. Pure.

Sales stand as long as they usually do, so an hour holds a product's arrivals times its length. The surplus rule's limits apply,
raised by what the owner would not have used. Replicas start and drain for free, and nothing set by hand holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sublet.allocation.chargeback.book import Book, Use
from sublet.allocation.mix.checks import usable
from sublet.allocation.mix.model import Kind, Offer, PoolState, State
from sublet.allocation.mix.program import Solver, build
from sublet.values.money import NANO

HOUR_S = 3600
RAW = ("lease ", "block ")
"""How products of leases begin; a lease that was sold from a block counts as the block's."""


@dataclass(frozen=True, slots=True)
class Spare:
    """Average accelerators of a pool in an hour: what tenants and models had or could have had, raw leases among it, and what
    the owner used."""

    idle: float
    raw: float
    internal: float

    @classmethod
    def of(cls, book: Book) -> Spare:
        states = (Use.EXTERNAL, Use.STARTING, Use.DRAINING, Use.UNSOLD)
        raw = sum(
            count
            for (use, _, product), count in book.seconds.items()
            if use is Use.EXTERNAL and product.startswith(RAW)
        )
        return cls(sum(book.of(use) for use in states) / HOUR_S, raw / HOUR_S, book.of(Use.INTERNAL) / HOUR_S)


def displaced(state: State, hours: Mapping[str, Book], solver: Solver) -> dict[str, int | None]:
    """V(idle + internal) - V(idle) of each pool in an hour, in billionths; None for a pool that yield doesn't look at, and where
    the solver was late. Other pools stay as they were. `hours` are books by pool name."""
    spare = {name: Spare.of(book) for name, book in hours.items()}
    known = {pool.name for pool in state.pools}
    found: dict[str, int | None] = dict.fromkeys(spare, None)
    base = _value(static(state, spare, ""), solver)
    for name, item in sorted(spare.items()):
        if name not in known or base is None:
            continue
        raised = base if item.internal == 0 else _value(static(state, spare, name), solver)
        found[name] = max(0, round((raised - base) * NANO)) if raised is not None else None
    return found


def _value(state: State, solver: Solver) -> float | None:
    solved = solver.solve(build(usable(state)[0]))
    return solved.earned if solved is not None else None


def static(state: State, spare: Mapping[str, Spare], freed: str) -> State:
    """One hour of `state` in which pools have what `spare` says, and the pool `freed` its owner's accelerators, too."""
    return replace(
        state,
        steps=(1.0,),
        pools=tuple(_pool(pool, spare.get(pool.name, Spare(pool.idle[0], 0.0, 0.0)), pool.name == freed) for pool in state.pools),
        models=tuple(replace(item, load=item.load[:1], spread=item.spread[:1]) for item in state.models),
        fits=tuple(replace(item, running=0, start_hours=0.0, drain_hours=0.0) for item in state.fits),
        limits=(),
    )  # fmt: skip


def _pool(pool: PoolState, spare: Spare, freed: bool) -> PoolState:
    more = spare.internal if freed else 0.0
    return replace(
        pool,
        idle=(spare.idle + more,),
        offers=tuple(_offer(item) for item in pool.offers),
        ceilings=tuple(replace(item, counts=(item.counts[0] + spare.raw + more,)) for item in pool.ceilings),
    )


def _offer(offer: Offer) -> Offer:
    """Arrivals of an hour as what stands in it at once."""
    stands = {Kind.WINDOW: max(offer.hours, 1.0), Kind.EVICTABLE: 1 / max(1e-6, 1 - offer.stays)}.get(offer.kind, 1.0)
    return replace(offer, demand=(offer.demand[0] * stands,), held=0.0)
