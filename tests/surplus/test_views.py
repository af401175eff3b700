"""A pool is looked at once a second, unless something changes."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection
from tests.classes import a_class

from sublet.demand.service import Demand
from sublet.store import Store
from sublet.surplus.model import PoolFacts
from sublet.surplus.service import Surplus
from sublet.values.clock import SimulatedClock

CLASSES = (a_class("firm", None, 10), a_class("spot", 120, 1000))


def test_a_view_stands_for_a_second_while_nothing_changes(store: Store, clock: SimulatedClock) -> None:
    state: list[int | None] = [1]
    looked: list[datetime] = []

    def facts(pool_id: str, connection: Connection) -> PoolFacts:
        looked.append(clock.now())
        return PoolFacts("pool_a", "made", 8)

    sells = Surplus(Demand(store), facts, lambda *_: [], CLASSES, clock, unchanged=lambda pool_id, connection: state[0])
    assert sells.view("pool_a") is sells.view("pool_a")
    clock.advance(0.5)
    sells.view("pool_a")
    assert len(looked) == 1
    clock.advance(0.5)
    assert sells.view("pool_a").at == clock.now()
    state[0] = 2
    sells.view("pool_a")
    assert len(looked) == 3
    # Where nobody can tell whether something changed, and for another moment, it is looked at each time.
    state[0] = None
    sells.view("pool_a")
    sells.view("pool_a")
    sells.view("pool_a", clock.now())
    assert len(looked) == 6
