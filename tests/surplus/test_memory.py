"""What the surplus remembers of a pool between two decisions."""

from __future__ import annotations

from datetime import timedelta

from sublet.demand.model import Sample
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.surplus.memory import RECHECK_S, Memory
from sublet.values.clock import SimulatedClock


def test_history_imported_later_is_seen_by_one_who_asks_all_the_time(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    memory = Memory(demand)
    demand.record_samples("pool_a", [Sample(clock.now(), 4, 1.0)])
    assert len(memory.recall("pool_a", clock.now(), None).series) == 1
    start = clock.now()
    demand.record_samples("pool_a", [Sample(start - timedelta(hours=hour), 4, 1.0) for hour in range(1, 49)])
    for _ in range(2 * RECHECK_S):
        clock.advance(0.5)
        seen = memory.recall("pool_a", clock.now(), None)
    assert len(seen.series) == 49
