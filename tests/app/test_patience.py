"""Patience in the whole system: within it a shortage delays the owner's own work and ends no lease; it is bounded and counted."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from sublet.demand.model import Claim
from sublet.leases.model import Lease, LeaseState
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.reclaim import waits as waits_sql
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.reporting.overview import Overviews
from sublet.simulation.world import SSH_KEY, World
from sublet.values.windows import Window

HOUR_S = 3600
START = datetime.fromisoformat("2026-01-05T02:00:00+00:00")


class PatientWorld(World):
    """A pool of eight whose owner uses two, and a customer."""

    customer: str

    def set_patience(self, patience_s: int, times_a_day: int = 3) -> None:
        stated = self.settings.pools[0]
        told = {"patience_s": patience_s, "patience_times_a_day": times_a_day}
        self.settings = self.settings.model_copy(update={"pools": (stated.model_copy(update=told),)})
        self.crash()
        self.system.sync_fleet()

    def lease(self, count: int, hours: float = 24) -> Lease:
        end = self.clock.now() + timedelta(hours=hours)
        quote = self.system.leases.quote(self.customer, QuoteRequest(count, "spot", end, pool=self.pool.id))
        lease = self.system.leases.accept(self.customer, quote.id, [SSH_KEY])
        self.pass_time(60)
        return lease

    def need(self, accelerators: float, seconds: float, tick_s: float = 120.0) -> None:
        """The owner needs so many for so long."""
        self.in_use = accelerators
        self.clock.advance(1)
        self.observe()
        while seconds > 0:
            self.pass_time(min(tick_s, seconds), tick_s)
            self.observe()
            seconds -= tick_s

    def state(self, lease: Lease) -> LeaseState:
        return self.system.leases.lease(lease.id).state

    def days(self) -> list[waits_sql.DayOfWaiting]:
        return self.system.leases.owner_waits(self.pool.name).items

    def waits(self) -> list[str]:
        return [step.reason for step in self.system.leases.plan().pending if step.kind == "wait"]

    def claim(self, count: int, hours: float, patience_s: int, team: str = "org_team") -> Claim:
        window = Window.starting(self.clock.now(), round(hours * HOUR_S))
        return self.system.demand.add_claim(self.pool.id, count, window, "training", patience_s=patience_s, team=team)


def make(folder: Path) -> PatientWorld:
    made = PatientWorld(folder, accelerators=8, start=START)
    made.customer = made.system.accounts.create_organization("tidal").id
    made.remember(days=10, need=0.25, spread=0.0)
    made.in_use = 2.0
    made.observe()
    return made


@pytest.fixture
def world(tmp_path: Path) -> Iterator[PatientWorld]:
    made = make(tmp_path / "w")
    yield made
    made.close()


def test_without_patience_a_shortage_takes_leases_back_at_once(world: PatientWorld) -> None:
    lease = world.lease(6)
    world.need(5.0, 300)
    assert world.state(lease).terminal and world.days() == [] and world.waits() == []


def test_a_shortage_within_the_patience_ends_no_lease_and_is_counted(world: PatientWorld) -> None:
    world.set_patience(HOUR_S)
    lease = world.lease(6)
    world.need(5.0, 2700)
    [sentence] = world.waits()
    assert "the owner waits: the pool's own demand is short of 3 since 2026-01-05T02:0" in sentence
    assert "before 2026-01-05T03:0" in sentence and "of 180 minutes" in sentence
    world.need(2.0, 1200)
    assert world.state(lease) is LeaseState.ACTIVE and world.waits() == []
    assert world.system.leases.lease(lease.id).reclaim_at is None
    [day] = world.days()
    assert (day.team, day.waits, day.accelerator_s) == ("", 1, 3 * day.waited_s)
    assert 2600 <= day.waited_s <= 2760, "from the first round that saw it to the first that did not"


def test_a_shortage_that_outlasts_the_patience_takes_leases_back(world: PatientWorld) -> None:
    world.set_patience(HOUR_S)
    lease = world.lease(6)
    world.need(5.0, 3500)
    assert world.state(lease) is LeaseState.ACTIVE
    world.need(5.0, 420)
    assert world.state(lease).terminal
    assert [day.waited_s for day in world.days()] == [HOUR_S]


def test_the_patience_of_a_day_is_bounded_and_then_leases_go_at_once(world: PatientWorld) -> None:
    world.set_patience(HOUR_S, times_a_day=1)
    lease = world.lease(6)
    for _ in range(2):
        world.need(5.0, 1500)
        world.need(2.0, 600)
    assert world.state(lease) is LeaseState.ACTIVE
    spent_s = world.days()[0].waited_s
    world.need(5.0, HOUR_S - spent_s + 600)
    assert world.state(lease).terminal
    assert world.days()[0].waited_s == HOUR_S and world.days()[0].waits == 3
    world.need(2.0, 10 * HOUR_S, 3600)
    second = world.lease(6)
    world.need(5.0, 300)
    assert world.state(second).terminal, "nothing is left of today"
    world.need(2.0, 16 * HOUR_S, 3600)
    third = world.lease(6)
    world.need(5.0, 1200)
    assert world.state(third) is LeaseState.ACTIVE, "it is another day"


def test_patience_outlives_a_crash_and_begins_only_once(world: PatientWorld) -> None:
    world.set_patience(HOUR_S)
    lease = world.lease(6)
    for _ in range(6):
        world.need(5.0, 540)
        world.crash()
    assert world.state(lease) is LeaseState.ACTIVE
    world.need(5.0, 700)
    assert world.state(lease).terminal
    assert [(day.waits, day.waited_s) for day in world.days()] == [(1, HOUR_S)]


def test_the_record_shows_what_each_team_waited_for(world: PatientWorld) -> None:
    world.set_patience(HOUR_S)
    team = world.system.accounts.create_organization("research", kind="internal")
    world.lease(6)
    world.need(5.0, 600)
    world.claim(4, 1, patience_s=1800, team=team.id)
    world.need(5.0, 600)
    lines = {line.team: line for line in Overviews(world.system, dict).record(None).waits}
    assert set(lines) == {"research", "the pool’s own demand"}
    assert all(line.waits == 1 and 0 < line.hours < 0.4 for line in lines.values())
    assert lines["research"].accelerator_hours == pytest.approx(3 * lines["research"].hours), (
        "of the 6, 3 are short already"
    )


def test_what_is_asked_for_outright_waits_for_nothing(world: PatientWorld) -> None:
    world.set_patience(HOUR_S)
    lease = world.lease(6)
    order = ReclaimOrder(world.pool.id, 6, Window.starting(world.clock.now(), HOUR_S), "now")
    world.system.leases.reclaim(order, "team")
    world.need(2.0, 300)
    assert world.state(lease).terminal and world.days() == []
    world.need(2.0, 2 * HOUR_S, 1200)
    second = world.lease(6)
    world.claim(8, 1, patience_s=0)
    world.need(2.0, 300)
    assert world.state(second).terminal, "a claim is as patient as it says"


@pytest.mark.parametrize("shows", [2.0, 8.0], ids=["unseen", "queued"])
def test_a_patient_claim_waits_and_its_team_is_counted(world: PatientWorld, shows: float) -> None:
    """Whether its jobs queue already, and show in the demand, or not."""
    lease = world.lease(6, hours=6)
    claim = world.claim(6, 4, patience_s=1800)
    world.need(shows, 1500)
    assert world.state(lease) is LeaseState.ACTIVE
    [sentence] = world.waits()
    assert f"claim {claim.id} of org_team is short of 6" in sentence
    world.need(shows, 420)
    assert world.state(lease).terminal
    [day] = world.days()
    assert (day.team, day.waits) == ("org_team", 1)
    assert day.accelerator_s == 6 * day.waited_s and 1500 < day.waited_s <= 1800


def test_what_a_team_waits_for_on_one_day_is_bounded(world: PatientWorld) -> None:
    world.set_patience(0, times_a_day=1)
    first = world.lease(6)
    held = world.claim(6, 0.3, patience_s=1200)
    world.need(2.0, 900)
    world.system.demand.withdraw_claim(held.id)
    world.need(2.0, 300)
    assert world.state(first) is LeaseState.ACTIVE
    world.claim(6, 4, patience_s=1200)
    world.need(2.0, 600)
    assert world.state(first).terminal, "five minutes of twenty were left"
    assert world.days()[0].waited_s <= 1200
    second_team = world.system.demand.claims(world.pool.id)[0]
    assert second_team.team == "org_team"
