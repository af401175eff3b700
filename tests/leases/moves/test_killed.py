"""The control plane dies at every step of a move, on both databases; the lease, the books and both calendars stay right."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.leases.deadlines.test_killed import insist, stores
from tests.leases.moves.pools import TwoPools
from tests.leases.test_calendar import assert_no_overlap
from tests.leases.test_recovery import Deadly
from tests.leases.world import CUSTOMER, KEY

from sublet.leases.model import Lease, LeaseState, OnReclaim
from sublet.leases.quotes import calendar
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.windows import Window

__all__ = ["stores"]
ROUND_S = 60


def play(world: TwoPools) -> dict[str, Any]:
    """Sold, told that it moves, moved, run to its end elsewhere; and another that has not begun, which moves at once."""

    def run(rounds: int) -> None:
        for _ in range(rounds):
            world.clock.advance(ROUND_S)
            insist(world, lambda: world.leases.tick())
            assert_no_overlap(world.store, world.clock.now())

    def sell(name: str, count: int, seconds: int, ahead_s: int = 0) -> Lease:
        request = replace(world.request(count, "notice", seconds, ahead_s), on_reclaim=OnReclaim.MOVE)
        quote = insist(world, lambda: world.leases.quote(CUSTOMER, request, f"quote {name}"))
        lease: Lease = insist(world, lambda: world.leases.accept(CUSTOMER, quote.id, [KEY], f"lease {name}"))
        return lease

    one, two = sell("one", 2, 2400), sell("two", 1, 1200, 1800)
    run(4)
    start = world.clock.now() + timedelta(seconds=60)
    order = ReclaimOrder("metal", 4, Window.starting(start, 7200), "needed")
    insist(world, lambda: world.leases.reclaim(order, "operator", "once"))
    run(60)
    found = [world.lease(one), world.lease(two)]
    with world.store.read() as connection:
        left = calendar.all_fences(connection)
    return {
        "leases": [(item.state, item.end_reason, item.pool_id == world.other.id, len(item.moves)) for item in found],
        "billed": [world.billed_s(item) - item.metered_s for item in found],
        "metered": [item.metered_s // 120 for item in found],
        "credits": world.credits,
        "left": [sorted(world.backend.observe_all()), left],
        "sold": len(world.leases.leases()),
    }


@pytest.mark.parametrize(
    ("stores", "stride"),
    [
        pytest.param("", 131, id="sqlite"),
        pytest.param("", 7, id="whole", marks=pytest.mark.real),
        pytest.param("postgres", 31, id="postgres", marks=pytest.mark.real),
    ],
    indirect=["stores"],
)
def test_killed_at_every_step_of_a_move(stores: Callable[[SimulatedClock], Store], stride: int) -> None:
    def make() -> TwoPools:
        clock = SimulatedClock()
        return TwoPools(stores(clock), clock)

    calm = make()
    counter = Deadly(calm)
    expected = play(calm)
    over = (LeaseState.ENDED, "window_over", True, 1)
    assert expected["leases"] == [over, over] and expected["credits"] == [] and expected["left"] == [[], []]
    assert expected["billed"] == [0, 0] and counter.reached > 20
    for step in range(0, counter.reached, stride):
        for after in (False, True):
            world = make()
            deadly = Deadly(world)
            deadly.left, deadly.after = step, after
            found = play(world)
            assert {**found, "metered": None} == {**expected, "metered": None}, f"killed at {step}, after: {after}"
            assert all(abs(x - y) <= 2 for x, y in zip(found["metered"], expected["metered"], strict=True))
