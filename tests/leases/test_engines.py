"""An engine that reserves ahead, picks where a lease runs, and takes it back by itself: what the books do about that."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.leases.world import CUSTOMER, KEY, PRICE_NANO, World

from sublet.leases.backends.base import BackendFailedError, Observation, Reservation, RunState
from sublet.leases.backends.engine import Traits
from sublet.leases.backends.simulated import Faults
from sublet.leases.model import Lease, LeaseState, NoCapacityError, Timing
from sublet.leases.plan.engines import engine_steps, reserve_order
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError

GAPS = Timing(prepare_s=30, clean_s=60, start_grace_s=120)
FLEET = Traits(reserves=True, picks_units=True, step=2, timing=GAPS, unreserved=frozenset({"spot"}), accounts=True)


@pytest.fixture
def fleet(store: Store, clock: SimulatedClock) -> World:
    return World(store, clock, traits=FLEET)


def sell(world: World, class_name: str = "notice", seconds: int = 600, ahead_s: int = 0) -> Lease:
    quote = world.leases.quote(CUSTOMER, world.request(2, class_name, seconds, ahead_s))
    return world.leases.accept(CUSTOMER, quote.id, [KEY])


def test_what_is_accepted_is_kept_by_the_engine_afterwards_with_its_gaps(fleet: World) -> None:
    lease = sell(fleet, ahead_s=3600)
    assert fleet.backend._kept == {}, "an acceptance never waits for the engine"
    assert fleet.lease(lease).as_dict()["fenced"] is None
    fleet.run(1)
    kept = fleet.backend._kept[lease.id].window
    assert (kept.start, kept.end) == (
        lease.window.start - timedelta(seconds=GAPS.prepare_s),
        lease.window.end + timedelta(seconds=GAPS.clean_s),
    )
    assert fleet.lease(lease).as_dict()["fenced"] == "asserted"
    assert [step.kind for step in fleet.leases.plan().steps] == [], "what is kept is not asked for again"


def test_what_the_engine_lost_is_asserted_again(fleet: World) -> None:
    """F8: an engine that is killed right after it said yes may have forgotten."""
    lease = sell(fleet, ahead_s=3600)
    fleet.run(1)
    fleet.backend._kept.clear()
    [step] = [step for step in fleet.leases.plan().steps if step.kind == "reserve"]
    assert step.subject == lease.id and "keeps nothing" in step.reason
    fleet.run(1)
    assert lease.id in fleet.backend._kept


def test_f09_a_directory_that_is_away_purges_no_reservation_from_the_books(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F9: while names can't be resolved, the engine drops the reservation and refuses a new one. The lease stays sold, its
    accelerators stay its own, the tenant sees why, and it is asserted again once the directory answers."""
    lease = sell(fleet, ahead_s=3600)
    fleet.run(1)

    def refused(order: Any) -> Observation:
        raise BackendFailedError("Invalid user id: the directory does not answer")

    with monkeypatch.context() as patch:
        fleet.backend._kept.clear()
        patch.setattr(fleet.backend, "reserve", refused)
        fleet.run(120, 10)
        kept = fleet.lease(lease)
        assert kept.state is LeaseState.SCHEDULED and kept.reclaim_at is None
        assert (kept.engine or {}).get("fenced") != "asserted", "what the engine does not keep is not said to be kept"
        with pytest.raises(NoCapacityError):
            quote = fleet.leases.quote("org_other", fleet.request(4, seconds=600, ahead_s=3600))
            fleet.leases.accept("org_other", quote.id, [KEY])
        [step] = [step for step in fleet.leases.plan().steps if step.kind == "reserve"]
        assert step.subject == lease.id
    fleet.run(2)
    assert lease.id in fleet.backend._kept and (fleet.lease(lease).engine or {})["fenced"] == "asserted"


def test_a_lease_that_is_over_is_kept_no_longer(fleet: World) -> None:
    canceled = sell(fleet, ahead_s=3600)
    fleet.run(1)
    fleet.leases.end(canceled.id)
    fleet.run(1)
    assert fleet.backend._kept == {}
    whole = sell(fleet)
    fleet.run(900, 10)
    assert fleet.lease(whole).state is LeaseState.ENDED
    assert fleet.backend._kept == {} == fleet.backend.observe_all()


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ({"broken": "node n3 is down"}, "would not hold: node n3 is down"),
        ({"accelerators": 1}, "keeps 1 of 2 accelerators"),
        ({"start": timedelta(minutes=5)}, "its engine keeps it until"),
        ({"end": -timedelta(minutes=5)}, "its engine keeps it until"),
        ({"start": timedelta(seconds=1), "end": timedelta(seconds=1)}, None),
    ],
)
def test_what_the_engine_keeps_wrongly_is_asked_for_again(
    fleet: World, kept: dict[str, Any], words: str | None
) -> None:
    lease = fleet.lease(sell(fleet, ahead_s=3600))
    window = reserve_order(lease, GAPS).window
    right = Reservation(window.start, window.end, 2)
    moved = {key: getattr(right, key) + value if isinstance(value, timedelta) else value for key, value in kept.items()}
    seen = Observation(lease.id, RunState.ABSENT, reservation=replace(right, **moved))
    steps = list(engine_steps(lease, seen, FLEET, GAPS, fleet.clock.now()))
    asked = [step.reason for step in steps if step.kind == "reserve"]
    assert len(asked) == (words is not None) and all(str(words) in reason for reason in asked)
    over = list(engine_steps(lease, seen, FLEET, GAPS, window.end))
    assert "reserve" not in [step.kind for step in over], "nothing is kept for what is over"


def test_an_engine_that_is_silent_at_acceptance_sells_nothing_twice(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, faults=Faults(deaf=1.0), traits=FLEET)
    lease = sell(world, ahead_s=600)
    world.run(30)
    assert world.lease(lease).state is LeaseState.SCHEDULED and world.lease(lease).engine is None
    world.backend._faults = Faults()
    world.run(2)
    assert (world.lease(lease).engine or {})["fenced"] == "asserted"


def test_where_the_engine_put_it_is_shown_with_every_door(fleet: World) -> None:
    lease = fleet.sell(4)
    assert fleet.lease(lease).as_dict()["devices"] == list(lease.devices), "as they were sold"
    fleet.run(3)
    told = fleet.lease(lease).as_dict()
    assert told["devices"] == ["node0:0", "node0:1", "node1:0", "node1:1"]
    assert len(told["doors"]) == 2 and told["ssh"] == told["doors"][0]
    fleet.leases.end(lease.id)
    assert fleet.lease(lease).as_dict()["doors"] == []


def test_part_of_a_node_is_not_sold(fleet: World) -> None:
    """F28: internal work could take the rest of it."""
    for count in (1, 3):
        with pytest.raises(InvalidInputError, match="whole nodes of 2 accelerators"):
            fleet.leases.quote(CUSTOMER, fleet.request(count))


def test_the_engines_own_notice_is_adopted_and_not_withdrawn(fleet: World) -> None:
    lease = sell(fleet, "spot", 3600)
    fleet.run(1200, 60)
    assert lease.id not in fleet.backend._kept, "what the engine may take back is not kept"
    taken_at = fleet.clock.now() + timedelta(seconds=20)
    fleet.backend.preempt(lease.id, taken_at)
    [step] = [step for step in fleet.leases.plan().steps if step.kind == "adopt"]
    assert step.at == taken_at
    fleet.run(2)
    seen = fleet.lease(lease)
    assert (seen.state, seen.reclaim_at, seen.reclaim_origin) == (LeaseState.NOTICE, taken_at, "engine")
    assert fleet.backend.observe(lease.id).reclaim_at == taken_at, "its tenant is told"
    assert fleet.leases._transitions.withdraw_notice(lease.id, "planner", "no need").state is LeaseState.NOTICE
    fleet.run(40)
    ended = fleet.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "reclaimed")
    used_s = (taken_at - fleet.clock.now()).total_seconds() + 1200 + 42
    assert 0 < ended.metered_s <= 2 * used_s and ended.metered_s == fleet.billed_s(ended)
    assert sum(note.amount_nano for note in fleet.credits) == ended.credit_nano <= PRICE_NANO * 2


def test_an_earlier_notice_of_the_owner_stands(fleet: World) -> None:
    lease = sell(fleet, "spot", 3600)
    fleet.run(600, 60)
    fleet.backend.preempt(lease.id, fleet.clock.now() + timedelta(seconds=10))
    fleet.run(1)
    first = fleet.lease(lease)
    fleet.backend.preempt(lease.id, fleet.clock.now() + timedelta(seconds=60))
    fleet.run(2)
    assert fleet.lease(lease).reclaim_at == first.reclaim_at


def test_what_was_taken_back_while_nobody_looked_is_reclaimed_with_its_credit(fleet: World) -> None:
    lease = sell(fleet, "spot", 7200)
    fleet.run(3000, 60)
    fleet.backend.preempt(lease.id, fleet.clock.now() + timedelta(seconds=5))
    fleet.clock.advance(60)
    fleet.run(5)
    ended = fleet.lease(lease)
    assert (ended.end_reason, ended.reclaim_origin) == ("reclaimed", "engine")


def test_an_engine_with_accounts_is_introduced_once(fleet: World, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[frozenset[str]] = []
    monkeypatch.setattr(fleet.backend, "introduce", heard.append)
    fleet.leases.quote(CUSTOMER, fleet.request(2))
    assert heard == [], "a quote never waits for the engine"
    fleet.run(5)
    assert heard == [frozenset({CUSTOMER})]


def test_the_gaps_are_the_engines_own(fleet: World) -> None:
    sell(fleet, seconds=600)
    with pytest.raises(NoCapacityError):
        fleet.leases.quote("org_other", fleet.request(4, seconds=600, ahead_s=600 + GAPS.clean_s))
    late = fleet.leases.quote("org_other", fleet.request(4, seconds=600, ahead_s=700 + GAPS.prepare_s))
    assert late.accelerators == 4
