"""What each kind of promise has earned: kept with the record, asked by every decision, and lost with the rule it is of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection
from tests.surplus import series as made
from tests.surplus.series import remember

from sublet.demand.model import Series
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.surplus.budget import Standing
from sublet.surplus.kept import pace_of, record_hours, weight
from sublet.surplus.model import HOUR_S, PoolFacts, Sold, Standings, Stood
from sublet.surplus.record import store as sql
from sublet.surplus.record.service import Record
from sublet.surplus.record.shadow_book import moment_of
from sublet.surplus.rule.earned import BEHIND_HOURS_MAX, as_dict, opens
from sublet.surplus.service import Surplus
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import ServiceClass, TakeBack
from sublet.values.windows import Window

CLASSES = (
    ServiceClass("firm", TakeBack.NEVER, None, 50, 300, windows_s=(HOUR_S, 4 * HOUR_S, 12 * HOUR_S)),
    ServiceClass("deadline", TakeBack.PAUSE, 300, 10, 150, orders=((1, 8),)),
    ServiceClass("spot", TakeBack.NOTICE, 120, 1000, 100, windows_s=(4 * HOUR_S,)),
)
SERIES = made.series(10, seed=7, pool="pool_a")
FACTS = PoolFacts("pool_a", "made", 100)
KEYS = {("firm", 1, 0), ("firm", 4, 0), ("deadline", 1, 8)}


class Pool:
    """A pool with its record and what it has on sale."""

    def __init__(self, store: Store, facts: PoolFacts = FACTS, classes: Sequence[ServiceClass] = CLASSES) -> None:
        self.store, self.facts, self.classes = store, facts, classes
        self.demand = Demand(store)
        self.record = Record(store, self.demand, lambda _: facts, lambda *_: [], classes)
        self.sold: list[Sold] = []
        self.surplus = Surplus(
            self.demand,
            lambda pool_id, connection: facts,
            lambda pool_id, connection: self.sold,
            classes,
            store.clock,
            standings=self._standings,
        )

    def _standings(
        self, pool_id: str, classes: Sequence[ServiceClass], patience_hours: int, connection: Connection
    ) -> Standings:
        return sql.standings(connection, pool_id, classes, patience_hours)

    def stood(self) -> dict[tuple[str, int, int], Stood]:
        with self.store.read() as connection:
            return sql.standings(connection, "pool_a", self.classes, self.facts.patience_hours)

    def firm(self, hours: int) -> tuple[int, set[str]]:
        at = self.store.clock.now()
        found = self.surplus.sellable("pool_a", "firm", Window.starting(at, hours * HOUR_S))
        return found.count, {item.reason_code for item in found.withheld}


@pytest.fixture
def pool(store: Store, clock: SimulatedClock) -> Pool:
    _go(clock, SERIES)
    made_pool = Pool(store)
    remember(made_pool.demand, SERIES)
    return made_pool


def _go(clock: SimulatedClock, series: Series) -> None:
    # Some minutes past the hour, so that its last sample had time to come in.
    clock.advance((series.end + timedelta(minutes=6) - clock.now()).total_seconds())


def test_nothing_firm_is_sold_before_a_record_and_no_more_than_it_supports_after(pool: Pool) -> None:
    count, reasons = pool.firm(1)
    assert count == 0 and "not_earned" in reasons
    pool.record.advance(["pool_a"])
    stood = pool.stood()
    assert set(stood) == KEYS
    supports = int(stood["firm", 1, 0].standing.most(stood["firm", 1, 0].pace))
    count, _ = pool.firm(1)
    assert 0 < count <= supports
    now = pool.store.clock.now()
    pool.sold = [Sold(supports, "firm", Window.starting(now, HOUR_S))]
    assert pool.firm(1)[0] == 0


def test_a_restart_goes_on_where_the_record_stood(pool: Pool) -> None:
    pool.record.advance(["pool_a"], hours_max=100)
    other = Pool(pool.store)
    other.record.advance(["pool_a"], hours_max=40)
    other.record.advance(["pool_a"])
    with_pauses = {key: stood.standing for key, stood in pool.stood().items()}
    with pool.store.read() as connection:
        assert sql.shadow(connection, "pool_a") is not None
    pool.store.write(lambda connection: sql.forget(connection, "pool_a"))
    whole = Pool(pool.store)
    whole.record.advance(["pool_a"])
    assert {key: stood.standing for key, stood in whole.stood().items()} == with_pauses


def test_a_record_of_another_risk_or_patience_is_rebuilt_from_history(pool: Pool) -> None:
    pool.record.advance(["pool_a"])
    patient = Pool(pool.store, replace(FACTS, patience_s=HOUR_S))
    assert patient.stood() == {}
    assert patient.firm(1)[0] == 0
    patient.record.advance(["pool_a"])
    assert set(patient.stood()) == KEYS
    assert patient.stood()["firm", 4, 0].standing.hours == 10 * 24 - 1
    assert pool.stood() == {}


def test_a_record_that_is_far_behind_says_nothing_about_now(pool: Pool) -> None:
    pool.record.advance(["pool_a"], hours_max=150)
    count, reasons = pool.firm(1)
    assert count == 0 and "not_earned" in reasons


def test_long_windows_are_not_sold_by_a_forecast_unless_the_operator_asks(pool: Pool) -> None:
    pool.record.advance(["pool_a"])
    count, reasons = pool.firm(12)
    assert count == 0 and "long_window" in reasons
    assert ("firm", 12, 0) not in pool.stood()
    asked = Pool(pool.store, classes=(replace(CLASSES[0], long_windows=True), *CLASSES[1:]))
    asked.record.advance(["pool_a"])
    assert ("firm", 12, 0) in asked.stood()
    assert "long_window" not in asked.firm(12)[1]


def test_the_ladder_tells_what_is_earned_and_when_it_opens(pool: Pool) -> None:
    pool.record.advance(["pool_a"])
    told = {(item["class"], item["hours"]): item for item in pool.surplus.ladder("pool_a").promises}
    assert {item["state"] for item in told.values()} <= {"earning", "open", "full", "stopped"}
    assert "supports" in str(told["firm", 1]["sentence"])
    shown = pool.record.of("pool_a", "made").as_dict()["promises"]
    assert {(item["class"], item["hours"]) for item in shown} == set(told)


def test_a_stop_says_when_why_and_until_when() -> None:
    policy = CLASSES[0]
    standing = Standing(rate=5.0, running=20.0)
    standing.stop(500_000, 17)
    stood = Stood("firm", 4, 0, 500_003, pace_of(policy, 4), standing)
    at = moment_of(500_004)
    said = opens(stood, at)
    assert "not yet" in said and "17 broke in one hour" in said and "stopped at" in said
    assert as_dict(stood, at)["state"] == "stopped"
    assert as_dict(stood, at)["opens_at"]


def test_a_record_that_is_catching_up_tells_no_time_that_has_passed() -> None:
    standing = Standing(earned=3.0, rate=5.0, running=20.0)
    stood = Stood("firm", 4, 0, 500_003, pace_of(CLASSES[0], 4), standing)
    late = as_dict(stood, moment_of(500_003 + BEHIND_HOURS_MAX + 3))
    assert (late["state"], late["supports"], late["opens_at"], late["hours_to_open"]) == ("earning", 0, None, None)
    assert f"its record is {BEHIND_HOURS_MAX + 1} h behind and is catching up" in late["sentence"]
    soon = as_dict(stood, moment_of(500_003 + BEHIND_HOURS_MAX + 2))
    assert (soon["state"], soon["supports"]) == ("open", 6) and soon["opens_at"]


def test_long_orders_say_that_the_owner_has_never_used_the_pool() -> None:
    standing = Standing(earned=0.0, rate=5.0, running=20.0, near=True, unused=True, unused_hours=90)
    stood = Stood("deadline", 12, 24, 500_003, pace_of(CLASSES[1], 12, 24), standing)
    told = as_dict(stood, moment_of(500_004))
    assert (told["state"], told["supports"], told["opens_at"]) == ("earning", 0, None)
    assert "has not used half of the pool" in told["sentence"]
    later = replace(stood, standing=replace(standing, unused=False))
    assert "since its owner did not use half of the pool before" in opens(later, moment_of(500_004))
    assert "h behind" in opens(stood, moment_of(500_200)), "what was so long ago is no news"


def test_negative_patience_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="patience_s"):
        PoolFacts("p", "p", 10, patience_s=-1)


def test_longer_windows_count_for_more_of_the_record_that_speaks_for_them() -> None:
    firm = CLASSES[0]
    assert (record_hours(firm, HOUR_S), weight(firm, HOUR_S)) == (1, 1)
    assert (record_hours(firm, 3 * HOUR_S), weight(firm, 3 * HOUR_S)) == (1, 3)
    assert (record_hours(firm, 8 * HOUR_S), weight(firm, 8 * HOUR_S)) == (4, 2)
    assert (record_hours(firm, 600), weight(firm, 600)) == (1, 1)
