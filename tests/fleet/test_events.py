"""What the fleet tells of: capacity that is lost, and maintenance that is announced, once each."""

from __future__ import annotations

from datetime import timedelta

from tests.fleet.specs import spec
from tests.store.events import kinds, payloads

from sublet.fleet.service import Fleet
from sublet.store import Store
from sublet.values.clock import SimulatedClock, format_time


def test_a_pool_that_shrinks_or_goes_has_lost_capacity(any_store: Store) -> None:
    fleet = Fleet(any_store)
    fleet.sync([spec("a", 4), spec("b", 2)])
    for specs in ([spec("a", 3), spec("b", 2)], [spec("a", 3)], [spec("a", 4)]):
        fleet.sync(specs)
        fleet.sync(specs)
    assert [(item["name"], item["lost"], item["in_service"]) for item in payloads(any_store)] == [
        ("a", 1, 3),
        ("b", 2, 0),
    ]


def test_maintenance_is_announced_once(any_store: Store, clock: SimulatedClock) -> None:
    fleet = Fleet(any_store)

    def window(days: int) -> dict[str, object]:
        start = clock.now() + timedelta(days=days)
        end = start + timedelta(hours=2)
        return {"start": format_time(start), "end": format_time(end), "accelerators": 2, "reason": "new fans"}

    over, coming, later = window(-3), window(3), window(5)
    for stated in ([over, coming], [over, coming], [coming, later]):
        fleet.sync([spec("a", 4, stated={"maintenance": stated})])
    assert kinds(any_store) == ["pool.maintenance_announced"] * 2
    assert [item["start"] for item in payloads(any_store)] == [coming["start"], later["start"]]
