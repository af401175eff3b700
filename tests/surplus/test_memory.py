"""What the surplus remembers of a pool between two decisions."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest
from tests.surplus import series as made

from sublet.demand.model import Sample
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.surplus import memory
from sublet.surplus import store as sql
from sublet.surplus.memory import RECHECK_S, Hours, Memory
from sublet.surplus.model import HOUR_S, ClassPolicy, PoolFacts
from sublet.surplus.record import Record
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


def test_a_start_goes_on_from_what_the_record_kept_and_decides_the_same(
    store: Store, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SHADOW_HOURS_MAX", 10 * 24)
    series = made.series(25, seed=3, pool="pool_a")
    demand = Demand(store)
    demand.record_series(series)
    classes = [ClassPolicy("firm", None, 50, windows_s=(HOUR_S, 4 * HOUR_S))]
    facts = PoolFacts("pool_a", "made", 100)
    lived = Record(store, demand, lambda _: facts, lambda *_: [], classes)
    clock.set(series.end + timedelta(minutes=10))
    lived.advance(["pool_a"])
    kept = lived._lives["pool_a"].hours
    assert kept is not None

    def learned(pool_id: str, connection: object) -> Mapping[str, Any] | None:
        with store.read() as reading:
            return sql.learned(reading, pool_id)

    def odds(hours: Hours) -> list[Any]:
        sellers = [hours.seller(slots) for slots in (1, 4)]
        return [(seller.next, seller.method, seller.since, seller.ratio) for seller in sellers]

    def recalled(remembers: Memory) -> Hours:
        return remembers.recall("pool_a", series.end - timedelta(hours=1), None).hours

    again = recalled(Memory(demand, learned))
    assert again.learned is not None
    assert odds(again) == odds(kept)
    # Without what was kept it lives through the last ten days alone, and remembers other odds.
    assert odds(recalled(Memory(demand))) != odds(kept)
    demand.record_samples("pool_a", [Sample(series.start + timedelta(hours=30, minutes=20), 100, 99.0)])
    assert recalled(Memory(demand, learned)).learned is None
