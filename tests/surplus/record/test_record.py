"""The shadow lives through what was recorded, once, by the rule of the service, and goes on where it stood."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from tests.classes import a_class
from tests.surplus import series as made
from tests.surplus.series import remember

from sublet.demand.forecast.forecaster import Forecaster
from sublet.demand.model import Floats, Sample, Series
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.surplus.backtest.scoring import Trace, bound
from sublet.surplus.model import HOUR_S, PoolFacts
from sublet.surplus.record import store as sql
from sublet.surplus.record.calibration import Figures, PoolRecord, Promise
from sublet.surplus.record.service import Record
from sublet.surplus.record.shadow_book import Bound, ShadowBook, Turn
from sublet.surplus.rule import memory
from sublet.surplus.rule.memory import Memory
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

CLASSES = (
    a_class("firm", None, 50, windows_s=(HOUR_S, 4 * HOUR_S)),
    a_class("notice", 300, 10, windows_s=(4 * HOUR_S,)),
    a_class("spot", 120, 1000, windows_s=(4 * HOUR_S,)),
)
SERIES = made.series(21, seed=7, pool="pool_a")
FACTS = PoolFacts("pool_a", "made", 100, never_sell=3)
END = SERIES.end
MINUTE = timedelta(minutes=1)


class Watch:
    """A record over one pool, and what was given to it as leases."""

    def __init__(self, store: Store, facts: PoolFacts = FACTS, classes: Sequence[ServiceClass] = CLASSES) -> None:
        self.store = store
        self.promises: list[Promise] = []
        self.demand = Demand(store)
        self.record = Record(store, self.demand, lambda _: facts, lambda *_: self.promises, classes)

    def keep(self, series: Series) -> None:
        remember(self.demand, series)

    def show(self, days: int = 90) -> PoolRecord:
        return self.record.of("pool_a", "made", days)

    def cell(self, name: str, hours: int) -> Figures:
        found = [item for item in self.show().shadow if (item.class_name, item.window_s) == (name, hours * HOUR_S)]
        assert len(found) == 1
        return found[0]


@pytest.fixture
def watch(store: Store, clock: SimulatedClock) -> Watch:
    clock.set(END + timedelta(minutes=10))
    return Watch(store)


def everything(watch: Watch) -> str:
    """All that the record says, but the moment at which it is asked."""
    return json.dumps({**watch.show().as_dict(), "at": None}, sort_keys=True)


def test_nothing_is_recorded_where_nothing_was_seen(watch: Watch) -> None:
    assert watch.record.advance(["pool_a"]) == 0
    shown = watch.show()
    assert (shown.shadow, shown.leases, shown.tunings, shown.lived.since) == ((), (), (), None)


def test_every_recorded_hour_is_lived_once(watch: Watch) -> None:
    watch.keep(SERIES)
    assert watch.record.advance(["pool_a"]) == 21 * 24 - 1
    assert watch.record.advance(["pool_a"]) == 0
    shown = watch.show()
    assert (shown.lived.hours, shown.lived.unseen, shown.lived.behind) == (21 * 24 - 1, 0, 0)
    assert shown.lived.until == END
    for item in shown.shadow:
        assert item.windows == item.kept + item.broken
        assert item.hours_sold == item.windows * item.window_s / HOUR_S
        assert item.share_of_bound is None or 0 <= item.share_of_bound <= 1.01
    spot, firm = watch.cell("spot", 4), watch.cell("firm", 4)
    assert spot.windows > firm.windows > 0
    assert (spot.broken_per_1000 or 0) > (firm.broken_per_1000 or 0)
    assert [item.window_s for item in shown.tunings] == [4 * HOUR_S, HOUR_S]


def test_in_slices_and_through_restarts_it_is_the_same_record(watch: Watch) -> None:
    watch.keep(SERIES)
    watch.record.advance(["pool_a"])
    at_once = everything(watch)
    watch.store.write(lambda connection: sql.forget(connection, "pool_a"))
    slices = 0
    again = Watch(watch.store)
    while again.show().lived.behind or not slices:
        slices += 1
        if slices % 20 == 0:
            again = Watch(watch.store)
        assert 1 <= again.record.advance(["pool_a"], hours_max=7) <= 7
        assert slices < 600, "it never arrives"
    assert json.loads(everything(again)) == json.loads(at_once)


def test_it_lives_on_as_samples_come_and_needs_them_all_only_once(watch: Watch, clock: SimulatedClock) -> None:
    watch.keep(SERIES)
    watch.record.advance(["pool_a"])
    at_once = everything(watch)
    watch.store.write(lambda connection: sql.forget(connection, "pool_a"))
    stepped = Watch(watch.store)
    for hours in range(12, 21 * 24 + 1, 12):
        clock.set(SERIES.start + timedelta(hours=hours, minutes=10))
        stepped.record.advance(["pool_a"])
    clock.set(END + timedelta(minutes=10))
    assert everything(stepped) == at_once


def test_the_future_is_not_used(watch: Watch, clock: SimulatedClock) -> None:
    """Whatever demand does from an hour on, what was sold and what became of it before that hour is the same."""
    cut = END - timedelta(days=3)
    other = replace(SERIES, in_use=np.where(SERIES.times_us >= cut.timestamp() * 1e6, 0.0, SERIES.in_use))
    told = []
    for series in (SERIES, other):
        watch.store.write(lambda connection: sql.forget(connection, "pool_a"))
        fresh = Watch(watch.store)
        fresh.demand._store.write(lambda connection: connection.exec_driver_sql("DELETE FROM demand_samples"))
        fresh.keep(series)
        clock.set(cut + timedelta(minutes=10))
        fresh.record.advance(["pool_a"])
        told.append(everything(fresh))
    assert told[0] == told[1]


def test_two_at_once_count_nothing_twice(watch: Watch) -> None:
    watch.keep(SERIES)
    other = Watch(watch.store)
    for _ in range(3):
        watch.record.advance(["pool_a"], hours_max=1)
        other.record.advance(["pool_a"], hours_max=1)
    watch.record.advance(["pool_a"])
    other.record.advance(["pool_a"])
    watch.record.advance(["pool_a"])
    together = everything(watch)
    watch.store.write(lambda connection: sql.forget(connection, "pool_a"))
    alone = Watch(watch.store)
    alone.record.advance(["pool_a"])
    assert everything(alone) == together


def test_hours_without_samples_break_nothing_and_are_counted(watch: Watch) -> None:
    gap = (SERIES.times_us < SERIES.times_us[300]) | (SERIES.times_us >= SERIES.times_us[310])
    holes = Series(
        "pool_a", SERIES.times_us[gap], SERIES.capacity[gap], SERIES.in_use[gap], SERIES.pending[gap], SERIES.step_s
    )
    watch.keep(holes)
    watch.record.advance(["pool_a"])
    assert watch.show().lived.unseen == 10


def test_an_older_history_that_comes_in_later_rebuilds_the_record(watch: Watch) -> None:
    late = SERIES.times_us >= SERIES.times_us[200]
    watch.keep(
        Series(
            "pool_a",
            SERIES.times_us[late],
            SERIES.capacity[late],
            SERIES.in_use[late],
            SERIES.pending[late],
            SERIES.step_s,
        )
    )
    watch.record.advance(["pool_a"])
    assert watch.show().lived.hours == 21 * 24 - 201
    watch.keep(SERIES)
    watch.record.advance(["pool_a"])
    assert watch.show().lived.hours == 21 * 24 - 1


@pytest.mark.parametrize("came", ["none", "some"])
def test_samples_that_come_in_late_are_what_the_record_learns_from(
    watch: Watch, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch, came: str
) -> None:
    """What it keeps is then what a service that begins knows, too; also where later samples came before the late ones."""
    monkeypatch.setattr(memory, "SHADOW_HOURS_MAX", 3 * 24)
    n = 15 * 24
    pieces = [(0, n), (n, n)] if came == "none" else [(0, n), (n + 2, n + 3)]
    for (first, stop), hours in zip([*pieces, (n, n + 4), (n + 4, n + 12)], (n, n + 3, n + 4, n + 12), strict=True):
        watch.keep(SERIES.part(first, stop))
        clock.set(SERIES.start + timedelta(hours=hours, minutes=10))
        watch.record.advance(["pool_a"])
    kept = watch.record._lives["pool_a"].hours
    assert kept is not None
    assert not np.isnan(kept.in_use).any()
    assert resumed(watch, clock.now())


def test_a_corrected_sample_is_what_the_record_learns_from(watch: Watch, clock: SimulatedClock) -> None:
    n = 15 * 24
    for first, stop in ((0, n), (n, n + 1), (n + 1, n + 2)):
        watch.keep(SERIES.part(first, stop))
        clock.set(SERIES.start + timedelta(hours=stop, minutes=10))
        if first > n:
            watch.demand.record_samples("pool_a", [Sample(SERIES.start + timedelta(hours=n - 20), 100, 99.0)])
        watch.record.advance(["pool_a"])
    kept = watch.record._lives["pool_a"].hours
    assert kept is not None
    assert kept.in_use[n - 20] == 99
    assert resumed(watch, clock.now())


def test_where_the_oldest_samples_are_dropped_a_start_goes_on_from_what_was_kept(
    watch: Watch, clock: SimulatedClock
) -> None:
    watch.demand = Demand(watch.store, history_days=10)
    watch.record = Record(watch.store, watch.demand, lambda _: FACTS, lambda *_: [], CLASSES)
    watch.keep(SERIES.part(0, 15 * 24))
    reads: list[timedelta] = []
    history = watch.demand.history

    def noted(pool_id: str, since: datetime, until: datetime, connection: Connection | None = None) -> Series:
        reads.append(until - since)
        return history(pool_id, since, until, connection)

    for hours in range(15 * 24, 18 * 24):
        watch.keep(SERIES.part(hours, hours + 1))
        clock.set(SERIES.start + timedelta(hours=hours + 1, minutes=10))
        watch.demand.history = noted  # type: ignore[method-assign]
        watch.record.advance(["pool_a"])
        watch.demand.history = history  # type: ignore[method-assign]
        assert resumed(watch, clock.now() + timedelta(minutes=50))
    assert sum(read > timedelta(days=2) for read in reads) <= 3 * 24 // 16 + 2


def resumed(watch: Watch, at: datetime) -> bool:
    """Whether a service that begins at `at` goes on from what the record kept."""

    def learned(pool_id: str, connection: Connection | None) -> Mapping[str, Any] | None:
        with watch.store.read() as reading:
            return sql.learned(reading, pool_id)

    return Memory(watch.demand, learned).recall("pool_a", at, cast(Connection, None)).hours.learned is not None


def test_a_record_may_be_shown_while_another_is_saved(watch: Watch) -> None:
    class Looked(dict[tuple[str, int], PoolRecord]):
        """While somebody looks through it another thread shows a record."""

        def __iter__(self) -> Iterator[tuple[str, int]]:
            for key in super().__iter__():
                shows.start()
                # It has to wait for who looks through: anyone who does not wait is done at once.
                shows.join(0.2)
                yield key

        def items(self) -> Any:
            return [(key, self[key]) for key in self]

    watch.keep(SERIES)
    shows = threading.Thread(target=lambda: watch.show(7))
    watch.record._shown = Looked({("pool_a", 90): watch.show()})
    watch.record.advance(["pool_a"], hours_max=1)
    shows.join()
    assert watch.show().lived.hours == 1


def test_finer_samples_are_lived_by_the_hour(watch: Watch, clock: SimulatedClock) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    samples = [Sample(start + timedelta(minutes=n), 10, 2 + (n // 60 % 5)) for n in range(60 * 60)]
    watch.demand.record_samples("pool_a", samples)
    clock.set(start + timedelta(hours=60, minutes=10))
    assert watch.record.advance(["pool_a"]) == 59
    assert watch.cell("spot", 4).windows > 0


def test_a_pool_that_fails_does_not_keep_the_others(store: Store, clock: SimulatedClock) -> None:
    clock.set(END + timedelta(minutes=10))

    def facts(pool_id: str) -> PoolFacts:
        if pool_id == "pool_b":
            raise InvalidInputError("no such pool")
        return FACTS

    demand = Demand(store)
    both = Record(store, demand, facts, lambda *_: [], CLASSES)
    for name in ("pool_b", "pool_a"):
        remember(demand, replace(SERIES, pool=name))
    with pytest.raises(InvalidInputError):
        both.advance(["pool_b", "pool_a"])
    assert both.of("pool_a", "a").lived.hours == 21 * 24 - 1


def test_what_was_learned_is_kept_while_the_history_moves_on(watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    rebuilt: list[int] = []
    candidates = vars(memory)["candidates"]

    def counted(in_use: Floats, first_hour: int, *others: Any) -> dict[str, Forecaster]:
        rebuilt.append(first_hour)
        return candidates(in_use, first_hour, *others)

    monkeypatch.setattr(memory, "candidates", counted)
    monkeypatch.setattr(memory, "HISTORY", timedelta(days=5))
    watch.keep(SERIES)
    watch.record.advance(["pool_a"])
    assert len(set(rebuilt)) <= 5, "learned again each hour"


@pytest.mark.parametrize("days", [0, 401])
def test_only_so_many_days_are_kept(watch: Watch, days: int) -> None:
    with pytest.raises(InvalidInputError, match="days"):
        watch.show(days)


def test_the_last_days_alone_are_shown_where_only_these_are_asked_for(watch: Watch) -> None:
    watch.keep(SERIES)
    watch.record.advance(["pool_a"])
    few, all_of_it = watch.show(3).shadow[0], watch.show(90).shadow[0]
    assert 0 < few.windows < all_of_it.windows


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.sampled_from([1, 2, 4, 7]))
def test_the_bound_hour_by_hour_is_the_benchmarks(idle: list[int], window: int) -> None:
    trace = Trace("t", 0, np.array(idle, dtype=float), np.zeros(len(idle)), 0)
    kept = Bound([], [])
    assert sum(kept.add(free, window) for free in idle) == bound(trace, window)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 12) | st.none()), min_size=1, max_size=40),
    st.sampled_from([1, 3, 5]),
)
def test_a_book_loses_no_window_and_holds_no_more_than_is_idle(
    hours: list[tuple[int, int | None]], window: int
) -> None:
    book = ShadowBook(0, 0)
    book.cells["spot", window] = [0] * window
    started = 0
    for start, idle in hours:
        book.cells["spot", window][-1] += start
        started += start
        held = book.running("spot", window)
        book.happen(idle, 6)
        if idle is not None:
            assert book.running("spot", window) <= min(held, idle)
        again = ShadowBook.of_state(
            book.since_hour, book.next_hour, book.hours, book.unseen, json.loads(json.dumps(book.as_state()))
        )
        assert (again.cells, again.bounds, again.turns) == (book.cells, book.bounds, book.turns)
    days = [day for _, _, day in book.take_days()]
    assert sum(day.kept for day in days) * window <= sum(day.bound_hours for day in days), "beyond perfect knowledge"
    assert sum(day.kept + day.broken for day in days) + book.running("spot", window) == started
    assert sum(sum(day.broken_after.values()) for day in days) == sum(day.broken for day in days)


def test_a_turn_remembers_since_when() -> None:
    class Told:
        ratio = 1.0

    turn, told = Turn(), Told()
    for hour, ratio in enumerate((1.0, 1.3, 1.4, 1.6, 1.2, 1.0, 0.8)):
        told.ratio = ratio
        turn.note(told, hour)  # type: ignore[arg-type]
        if hour == 3:
            assert (turn.side, turn.since_hour, turn.regime_hour) == (-1, 1, 3)
        if hour == 5:
            assert (turn.side, turn.since_hour, turn.regime_hour) == (0, None, None)
    assert (turn.side, turn.since_hour) == (1, 6)


def test_the_record_holds_on_both_databases(any_store: Store, clock: SimulatedClock) -> None:
    clock.set(END + timedelta(minutes=10))
    watch = Watch(any_store)
    watch.keep(SERIES.until(SERIES.start + timedelta(days=9)))
    clock.set(SERIES.start + timedelta(days=9, minutes=10))
    watch.record.advance(["pool_a"], hours_max=1)
    watch.record.advance(["pool_a"])
    assert watch.show().lived.hours == 9 * 24 - 1
    assert sum(item.windows for item in watch.show().shadow) > 0
    assert Window(watch.show().lived.since or END, END).seconds > 0
