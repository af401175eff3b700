"""What the surplus remembers of a pool between two decisions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection
from tests.classes import a_class
from tests.surplus import series as made
from tests.surplus.series import remember

from sublet.demand.forecast.forecaster import Forecaster
from sublet.demand.model import Floats, Sample, Series
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.store.paging import PageRequest
from sublet.surplus.model import HOUR_S, PoolFacts
from sublet.surplus.record import store as sql
from sublet.surplus.record.service import Record
from sublet.surplus.rule import memory, seller
from sublet.surplus.rule.memory import HOUR_US, RECHECK_S, Hours, Memory, Reach, hours_of
from sublet.values.clock import SimulatedClock, from_micros, to_micros

HOUR = timedelta(hours=1)
NO_CONNECTION = cast(Connection, None)
SERIES = made.series(25, seed=3, pool="pool_a")


class Reads(Demand):
    """Demand that notes how long the stretches were that were read of it."""

    def __init__(self, store: Store, history_days: int = 400) -> None:
        super().__init__(store, history_days)
        self.stretches: list[timedelta] = []

    def history(self, pool_id: str, since: datetime, until: datetime, connection: Connection | None = None) -> Series:
        self.stretches.append(until - since)
        return super().history(pool_id, since, until, connection)


def hour(place: int) -> datetime:
    """The moment at which the hour `place` of SERIES begins."""
    return SERIES.start + place * HOUR


def keep(demand: Demand, first: int, stop: int) -> None:
    remember(demand, SERIES.part(first, stop))


def odds(hours: Hours, lengths: tuple[int, ...] = (1, 4)) -> list[Any]:
    """What the sellers learned and what they expect now."""
    told = []
    for length in lengths:
        asked = hours.seller(length)
        depths = [
            (voice.share, voice.ratio, float(voice.futures.peaks.reached(1.0))) for voice in asked.voices(hours.t)
        ]
        since = None if asked.since is None else hours.first_hour + asked.since
        told.append((hours.first_hour + asked.next, asked.method, since, asked.ratio, depths))
    return told


@pytest.fixture
def lived(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The slots that records lived through, those of 4 h: an hour needs none; a short history in slow steps makes it quick."""
    slots: list[int] = []
    live = seller.Record.live

    def noted(record: seller.Record, forecaster: Forecaster, in_use: Floats, capacity: Floats, t: int) -> None:
        slots.append(t)
        live(record, forecaster, in_use, capacity, t)

    monkeypatch.setattr(seller.Record, "live", noted)
    monkeypatch.setattr(memory, "SHADOW_HOURS_MAX", 3 * 24)
    return slots


def test_history_imported_later_is_seen_by_one_who_asks_all_the_time(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    memory = Memory(demand)
    demand.record_samples("pool_a", [Sample(clock.now(), 4, 1.0)])
    assert len(memory.recall("pool_a", clock.now(), NO_CONNECTION).series) == 1
    start = clock.now()
    demand.record_samples("pool_a", [Sample(start - timedelta(hours=hour), 4, 1.0) for hour in range(1, 49)])
    for _ in range(2 * RECHECK_S):
        clock.advance(0.5)
        seen = memory.recall("pool_a", clock.now(), NO_CONNECTION)
    assert len(seen.series) == 49


def test_a_start_goes_on_from_what_the_record_kept_and_decides_the_same(
    store: Store, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "SHADOW_HOURS_MAX", 10 * 24)
    demand = Demand(store)
    remember(demand, SERIES)
    classes = [a_class("firm", None, 50, windows_s=(HOUR_S, 4 * HOUR_S))]
    facts = PoolFacts("pool_a", "made", 100)
    lived = Record(store, demand, lambda _: facts, lambda *_: [], classes)
    clock.set(SERIES.end + timedelta(minutes=10))
    lived.advance(["pool_a"])
    kept = lived._lives["pool_a"].hours
    assert kept is not None

    def learned(pool_id: str, connection: object) -> Mapping[str, Any] | None:
        with store.read() as reading:
            return sql.learned(reading, pool_id)

    def recalled(remembers: Memory) -> Hours:
        return remembers.recall("pool_a", SERIES.end - HOUR, NO_CONNECTION).hours

    again = recalled(Memory(demand, learned))
    assert again.learned is not None
    assert odds(again) == odds(kept)
    # Without what was kept it lives through the last ten days alone, and remembers other odds.
    assert odds(recalled(Memory(demand))) != odds(kept)
    demand.record_samples("pool_a", [Sample(SERIES.start + timedelta(hours=30, minutes=20), 100, 99.0)])
    assert recalled(Memory(demand, learned)).learned is None


def test_who_asks_about_an_earlier_moment_takes_nothing_from_the_present(store: Store, lived: list[int]) -> None:
    demand = Demand(store)
    remember(demand, SERIES)
    turn = hour(20 * 24)
    before, after = turn - timedelta(milliseconds=50), turn + timedelta(milliseconds=10)
    alone = Memory(demand)
    alone.recall("pool_a", before - timedelta(minutes=5), NO_CONNECTION).hours.seller(4)
    expected = odds(alone.recall("pool_a", after, NO_CONNECTION).hours)
    both = Memory(demand)
    both.recall("pool_a", before - timedelta(minutes=5), NO_CONNECTION).hours.seller(4)
    present = both.recall("pool_a", after, NO_CONNECTION).hours
    lived.clear()
    assert both.recall("pool_a", before, NO_CONNECTION).hours.t == present.t - 1
    assert odds(both.recall("pool_a", before, NO_CONNECTION).hours) == odds(
        Memory(demand).recall("pool_a", before, NO_CONNECTION).hours
    )
    assert odds(present) == expected
    assert odds(both.recall("pool_a", after + timedelta(minutes=3), NO_CONNECTION).hours) == expected


def test_an_earlier_moment_is_answered_without_what_came_later(store: Store, lived: list[int]) -> None:
    demand = Reads(store)
    remember(demand, SERIES)
    remembers = Memory(demand)
    latest = remembers.recall("pool_a", hour(22 * 24), NO_CONNECTION)
    odds(latest.hours)
    for place in (18, 16):
        earlier = remembers.recall("pool_a", hour(place * 24), NO_CONNECTION).hours
        assert odds(earlier) == odds(Memory(demand).recall("pool_a", hour(place * 24), NO_CONNECTION).hours)
    # A clock that was set back by days asks about earlier moments alone, hour by hour: nothing is learned twice.
    lived.clear()
    demand.stretches.clear()
    for place in range(16 * 24 + 1, 16 * 24 + 9):
        odds(remembers.recall("pool_a", hour(place), NO_CONNECTION).hours)
    assert len(lived) == 4 * 8
    assert max(demand.stretches) <= timedelta(hours=2)
    assert remembers.recall("pool_a", hour(22 * 24), NO_CONNECTION).hours.shared is latest.hours.shared


def test_the_first_question_knows_the_hours_that_others_recalled_before_it(lived: list[int]) -> None:
    def known(stop: int) -> Hours:
        return hours_of(SERIES, hour(stop))

    asked = known(400)
    odds(asked)
    expected = odds(asked.extended(known(402)))
    old = known(400)
    new = old.extended(known(402))
    odds(old)
    old.extended(known(401))
    assert odds(new) == expected


def test_a_service_that_runs_for_long_learns_each_hour_once_and_decides_as_one_that_begins(
    store: Store, lived: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "HISTORY", timedelta(days=8))
    monkeypatch.setattr(memory, "STEP_HOURS", 48)
    demand = Reads(store)
    remember(demand, SERIES)
    remembers = Memory(demand)
    first = remembers.recall("pool_a", hour(11 * 24), NO_CONNECTION)
    begun = odds(first.hours)[1][0] - len(lived) // 4
    places = set()
    for place in range(11 * 24 + 3, 25 * 24, 3):
        lived_before = len(lived)
        known = remembers.recall("pool_a", hour(place), NO_CONNECTION)
        told = odds(known.hours)
        places.add(known.hours.first_hour)
        assert len(lived) - lived_before == 4 * 3
        if place % 8 == 0:
            state = json.loads(json.dumps(known.hours.as_state()))
            begins = Memory(demand, lambda pool_id, connection, state=state: state)  # type: ignore[misc]
            again = begins.recall("pool_a", hour(place), NO_CONNECTION)
            assert odds(again.hours) == told
            assert again.series.times_us.tolist() == known.series.times_us.tolist()
            assert known.hours.t <= 10 * 24
    assert len(lived) == 4 * (known.hours.next_hour - begun)
    assert len(places) == 7


@pytest.mark.parametrize("days", [1, 4, 30, 139, 3660])
def test_the_first_hour_moves_seldom_and_none_of_it_is_dropped(days: int) -> None:
    reach = Reach.of(timedelta(days=days))
    begins = [reach.begin(place, "pool_a") for place in range(500_000, 500_000 + 90 * 24)]
    ages = [place - begin for place, begin in enumerate(begins, 500_000)]
    assert begins == sorted(begins)
    assert max(ages) + memory.DROPPED_HOURS <= days * 24
    assert max(ages) - min(ages) < reach.step <= max(1, days * 24 // 14)
    assert min(ages) >= min(125 * 24, days * 24 * 0.8)
    assert reach.marked <= min(ages), "a mark of hours that are not known"


@pytest.mark.parametrize("history_days", [10, 20])
def test_a_pool_whose_oldest_samples_are_dropped_is_not_read_over_and_over(
    store: Store, lived: list[int], history_days: int
) -> None:
    demand = Reads(store, history_days)
    remembers = Memory(demand)
    keep(demand, 0, 21 * 24)
    odds(remembers.recall("pool_a", hour(21 * 24), NO_CONNECTION).hours)
    step = Reach.of(demand.kept).step
    demand.stretches.clear()
    lived.clear()
    told: Mapping[str, Any] | None = None
    for place in range(21 * 24, 25 * 24):
        keep(demand, place, place + 1)
        known = remembers.recall("pool_a", hour(place + 1), NO_CONNECTION)
        odds(known.hours)
        begins = Memory(demand, lambda pool_id, connection, told=told: told)  # type: ignore[misc]
        begun = begins.recall("pool_a", hour(place + 1), NO_CONNECTION)
        assert begun.hours.first_hour == known.hours.first_hour
        assert (begun.hours.learned is None) == (told is None), "what was kept an hour ago was of another past"
        told = known.hours.as_state()
    again = sum(length > timedelta(days=2) for length in demand.stretches) - 4 * 24
    assert again <= 4 * 24 // step + 1
    assert len(lived) == 4 * 4 * 24


def test_a_corrected_sample_is_seen(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    remembers = Memory(demand)
    keep(demand, 0, 20 * 24)
    at = hour(20 * 24 - 1) + timedelta(minutes=20)
    clock.set(at)
    remembers.recall("pool_a", at, NO_CONNECTION)
    newest, old = 20 * 24 - 1, 10 * 24
    for place, column, wait in (
        (newest, "in_use", RECHECK_S),
        (newest - 30, "capacity", RECHECK_S),
        (old, "in_use", 3600),
    ):
        sample = {"capacity": 100.0, "in_use": float(SERIES.in_use[place])}
        sample[column] += 0.25 if column == "in_use" else -0.25
        demand.record_samples("pool_a", [Sample(hour(place), **sample)])
        at += timedelta(seconds=wait)
        seen = remembers.recall("pool_a", at, NO_CONNECTION).series
        assert float(getattr(seen, column)[place]) == sample[column]


def test_samples_of_ten_seconds_are_kept_by_the_minute_as_they_come(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    remembers = Memory(demand)
    start = hour(0)
    random = np.random.default_rng(5)
    for place in range(130):
        at = start + timedelta(seconds=10 * place)
        demand.record_samples("pool_a", [Sample(at, 100 - place % 7, float(random.integers(0, 90)))])
        known = remembers.recall("pool_a", at, NO_CONNECTION).series
    again = Memory(demand).recall("pool_a", at, NO_CONNECTION).series
    assert len(known) == len(again) == 130 // 6 + 1
    for name in ("times_us", "capacity", "in_use", "pending"):
        assert getattr(known, name).tolist() == getattr(again, name).tolist()


@given(
    st.lists(
        st.tuples(st.sampled_from([1, 20, 60, 600, 3400, 3580, 3600, 9000, 40_000]), st.integers(0, 9), st.booleans()),
        min_size=2,
        max_size=60,
    ),
    st.sampled_from([0, 3590, 1700]),
)
def test_hours_that_are_told_as_samples_come_are_those_of_all_of_them(
    steps: list[tuple[int, int, bool]], offset: int
) -> None:
    """Each step: seconds since the sample before, what it says, and whether somebody asks then."""
    at_us = to_micros(SERIES.start) + offset * 1_000_000
    times, values = [], []
    known: Hours | None = None
    fresh = 0
    for seconds, value, asked in [*steps, (3600, 0, True)]:
        at_us += seconds * 1_000_000
        times.append(at_us)
        values.append(float(value))
        if not asked:
            continue
        column = np.array(values)
        every = Series("pool_a", np.array(times), column + 9, column, column, 60)
        at = from_micros(at_us)
        whole = hours_of(every, at)
        if known is not None:
            changed = min(known.next_hour, int(every.times_us[fresh]) // HOUR_US)
            told = memory._hours_again(known, changed, every, at)
            assert told.first_hour == whole.first_hour
            np.testing.assert_array_equal(told.in_use, whole.in_use)
            np.testing.assert_array_equal(told.capacity, whole.capacity)
        known, fresh = whole, len(times)


def test_a_sample_that_comes_after_its_hour_makes_nothing_be_learned_again(store: Store, lived: list[int]) -> None:
    demand = Demand(store)
    remembers = Memory(demand)
    keep(demand, 0, 20 * 24)
    odds(remembers.recall("pool_a", hour(20 * 24), NO_CONNECTION).hours)
    lived.clear()
    for place in range(20 * 24, 22 * 24):
        at = hour(place + 1) + timedelta(minutes=40)
        waiting = remembers.recall("pool_a", at, NO_CONNECTION).hours
        odds(waiting)
        assert np.isnan(waiting.in_use[-1])
        keep(demand, place, place + 1)
        known = remembers.recall("pool_a", at + timedelta(minutes=1), NO_CONNECTION).hours
        odds(known)
        assert known.in_use[-1] == SERIES.in_use[place]
    assert len(lived) == 4 * 2 * 24
    assert odds(known) == odds(Memory(demand, lambda *_: known.as_state()).recall("pool_a", at, NO_CONNECTION).hours)


def test_an_import_is_seen_at_the_next_question_and_so_is_that_it_was_undone(
    store: Store, clock: SimulatedClock
) -> None:
    demand, elsewhere = Demand(store), Demand(store)
    remembers = Memory(demand)
    start = clock.now()
    demand.record_samples("pool_a", [Sample(start - timedelta(seconds=10 * ago), 4, 1.0) for ago in range(5)])

    def known() -> int:
        clock.advance(0.01)
        with store.read() as connection:
            return len(remembers.recall("pool_a", clock.now(), connection).series)

    before = known()
    rows = [f"{(start - timedelta(hours=hour)).isoformat()},4,1" for hour in range(48, 1, -1)]
    elsewhere.import_history("pool_a", "\n".join(["time,capacity,in_use", *rows]).encode())
    assert known() == before + len(rows)
    elsewhere.undo_import(elsewhere.import_page("pool_a", PageRequest()).items[0].id)
    assert known() == before
