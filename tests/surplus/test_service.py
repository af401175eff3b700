"""The ladder: within the capacity, with a reason for each accelerator withheld, and never bolder for more need."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.classes import a_class
from tests.surplus import series as made

from sublet.demand.model import Claim, Sample, Series, assemble
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.surplus.model import Absence, Ladder, PoolFacts, Sold
from sublet.surplus.rule import ladder as rule
from sublet.surplus.rule.memory import Hours, hours_of
from sublet.surplus.rule.seller import Seller, phase_of
from sublet.surplus.rule.view import View, claims_met
from sublet.surplus.service import Surplus, view_of
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import ServiceClass, UnknownClassError
from sublet.values.windows import Window

FIRM, NOTICE, SPOT = a_class("firm", None, 10), a_class("notice", 300, 10), a_class("spot", 120, 1000)
CLASSES = (FIRM, NOTICE, SPOT)
POLICIES = {policy.name: policy for policy in CLASSES}
SERIES = made.series(30, seed=7, pool="known")
END = SERIES.end


_HOURS: dict[datetime, Hours] = {}


def hours(history: Series, at: datetime) -> Hours:
    """The hours of SERIES are learned from once for each hour; other series each time, as if they were the same pool."""
    if history.pool != SERIES.pool:
        found = hours_of(history, at)
        found.phase = phase_of(SERIES.pool)
        return found
    whole = at.replace(minute=0, second=0, microsecond=0)
    return _HOURS.setdefault(whole, hours_of(history, at))


def view(
    claims: Sequence[Claim] = (), facts: PoolFacts | None = None, history: Series = SERIES, at: datetime = END
) -> View:
    return view_of(history, hours(history, at), facts or PoolFacts("pool_a", "made", 100), claims, at)


def claim(count: int, start: datetime, hours: float, created: int = 0) -> Claim:
    return Claim(
        f"clm_{created}", "pool_a", count, Window.starting(start, hours * 3600), "", END - timedelta(days=30 - created)
    )


def surplus(store: Store, clock: SimulatedClock, facts: PoolFacts, book: Sequence[Sold] = ()) -> Surplus:
    return Surplus(Demand(store), lambda _, __: facts, lambda _, __: book, CLASSES, clock)


def assert_whole(ladder: Ladder) -> None:
    for rung in (*ladder.rungs, *ladder.alone):
        assert rung.count >= 0
        assert rung.count + sum(item.count for item in rung.withheld) == ladder.capacity
        assert all(item.count > 0 and item.sentence for item in rung.withheld)


def test_a_known_pool_sells_each_class_and_says_why_not_more(store: Store, clock: SimulatedClock) -> None:
    # The small hours, when the made series is low.
    clock.set(END - timedelta(hours=21))
    demand = Demand(store)
    known = SERIES.until(clock.now())
    demand.record_samples(
        "pool_a",
        [
            Sample(datetime.fromtimestamp(at / 1e6, END.tzinfo), capacity, need)
            for at, capacity, need in zip(known.times_us, known.capacity, known.in_use, strict=True)
        ],
    )
    facts = PoolFacts("pool_a", "made", 100, never_sell=3, failure_reserve=2)
    ladder = surplus(store, clock, facts).ladder("pool_a")
    assert_whole(ladder)
    assert ladder.total <= 95 - ladder.evidence.in_use
    assert ladder.count("spot") >= ladder.count("notice") >= ladder.count("firm", 3600) > 0
    assert ladder.count("firm", 3600) >= ladder.count("firm", 4 * 3600) >= ladder.count("firm", 24 * 3600)
    reasons = {item.reason_code for rung in ladder.rungs for item in rung.withheld}
    assert {"never_sell", "failure_reserve", "in_use", "demand_quantile", "sold_deeper"} <= reasons
    assert ladder.as_dict()["on_sale"] == ladder.total


def test_with_no_history_nothing_firm_and_half_of_the_rest(store: Store, clock: SimulatedClock) -> None:
    Demand(store).record_samples("pool_a", [Sample(clock.now(), 8, 1)])
    ladder = surplus(store, clock, PoolFacts("pool_a", "new", 8)).ladder("pool_a")
    assert_whole(ladder)
    assert ladder.count("firm") == 0
    assert ladder.count("notice") == ladder.count("spot") == 4
    assert ladder.total == 4
    assert "cold_start" in {item.reason_code for rung in ladder.rungs for item in rung.withheld}


def test_a_leased_in_pool_that_may_not_be_relet_sells_nothing_and_says_so(store: Store, clock: SimulatedClock) -> None:
    Demand(store).record_samples("pool_a", [Sample(clock.now(), 8, 0)])
    facts = PoolFacts("pool_a", "leased", 8, never_sell=8, relet=False)
    ladder = surplus(store, clock, facts).ladder("pool_a")
    assert_whole(ladder)
    assert ladder.total == 0
    for rung in ladder.rungs:
        assert [(item.count, item.reason_code) for item in rung.withheld] == [(8, "not_relet")]


def test_without_a_fresh_sample_nothing_is_sold(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    service = surplus(store, clock, PoolFacts("pool_a", "made", 8))
    assert service.ladder("pool_a").total == 0
    demand.record_samples("pool_a", [Sample(clock.now() - timedelta(minutes=minute), 8, 1) for minute in range(30)])
    assert service.ladder("pool_a").total > 0
    clock.advance(3600)
    stale = service.ladder("pool_a")
    assert stale.total == 0
    assert "stale_demand" in {item.reason_code for item in stale.rungs[-1].withheld}


def test_what_is_sold_is_not_sold_again(store: Store, clock: SimulatedClock) -> None:
    Demand(store).record_samples("pool_a", [Sample(clock.now(), 8, 1)])
    book = [Sold(3, "notice", Window.starting(clock.now(), 7200))]
    service = surplus(store, clock, PoolFacts("pool_a", "new", 8), book)
    assert service.ladder("pool_a").total == 1
    assert service.sellable("pool_a", "spot", Window.starting(clock.now(), 3600)).count == 1
    with pytest.raises(UnknownClassError, match="firm, notice, spot"):
        service.sellable("pool_a", "gold", Window.starting(clock.now(), 3600))


def test_a_window_that_is_over_or_too_far_ahead_is_refused(store: Store, clock: SimulatedClock) -> None:
    Demand(store).record_samples("pool_a", [Sample(clock.now(), 8, 1)])
    service = surplus(store, clock, PoolFacts("pool_a", "new", 8))
    now, day = clock.now(), timedelta(days=1)
    assert service.sellable("pool_a", "spot", Window(now - day, now + day)).count == 4
    for start in (now, now + 88 * day, now + 89 * day):
        for class_name in ("firm", "notice", "spot"):
            service.sellable("pool_a", class_name, Window(start, start + day))
    service.sellable("pool_a", "firm", Window(now, now + 90 * day))
    with pytest.raises(InvalidInputError, match="in the past"):
        service.sellable("pool_a", "spot", Window(now - 2 * day, now))
    for start in (now + 89.1 * day, now + 300 * day, now + 9_000 * day):
        with pytest.raises(InvalidInputError, match="further than 90 days ahead"):
            service.sellable("pool_a", "spot", Window(start, start + day / 24))


def test_a_pool_is_the_same_by_its_name(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    demand.record_samples("pool_a", [Sample(clock.now(), 8, 1)])
    service = surplus(store, clock, PoolFacts("pool_a", "new", 8))
    assert service.ladder("new").as_dict() == service.ladder("pool_a").as_dict()


def test_a_new_sample_and_a_late_import_are_seen(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    service = surplus(store, clock, PoolFacts("pool_a", "new", 8))
    demand.record_samples("pool_a", [Sample(clock.now(), 8, 1)])
    assert service.view("pool_a").in_use == 1
    clock.advance(10)
    demand.record_samples("pool_a", [Sample(clock.now(), 8, 5)])
    assert service.view("pool_a").in_use == 5
    demand.record_samples("pool_a", [Sample(clock.now() - timedelta(hours=hour), 8, 2) for hour in range(1, 100)])
    clock.advance(60)
    demand.record_samples("pool_a", [Sample(clock.now(), 8, 5)])
    assert service.view("pool_a").history_s > 90 * 3600


def test_memory_and_a_fresh_start_decide_alike(store: Store, clock: SimulatedClock) -> None:
    clock.set(SERIES.start + timedelta(days=12))
    demand = Demand(store)
    facts = PoolFacts("pool_a", "made", 100)
    running = surplus(store, clock, facts)
    for hour in range(12 * 24, 12 * 24 + 6):
        before = 0 if hour == 12 * 24 else hour - 1
        demand.record_samples(
            "pool_a",
            [
                Sample(SERIES.start + timedelta(hours=index), SERIES.capacity[index], SERIES.in_use[index])
                for index in range(before, hour)
            ],
        )
        clock.set(SERIES.start + timedelta(hours=hour))
        ladder = running.ladder("pool_a")
    assert ladder.as_dict() == surplus(store, clock, facts).ladder("pool_a").as_dict()


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 120),
    start_h=st.integers(-5, 30),
    hours=st.integers(1, 60),
    window_h=st.sampled_from([1, 3, 4, 12, 24]),
    policy=st.sampled_from(CLASSES),
    others=st.lists(st.tuples(st.integers(1, 40), st.integers(-5, 20)), max_size=3),
    minute=st.integers(0, 59),
)
def test_adding_a_claim_never_sells_more(
    count: int,
    start_h: int,
    hours: int,
    window_h: int,
    policy: ServiceClass,
    others: list[tuple[int, int]],
    minute: int,
) -> None:
    at = END - timedelta(hours=15, minutes=minute)
    history = SERIES.until(at)
    standing = [claim(many, at + timedelta(hours=begin), 6, index) for index, (many, begin) in enumerate(others)]
    added = [*standing, claim(count, at + timedelta(hours=start_h), hours, 20)]
    window = Window.starting(at, window_h * 3600)
    before = rule.sellable(view(standing, history=history, at=at), policy, window, (), POLICIES)
    after = rule.sellable(view(added, history=history, at=at), policy, window, (), POLICIES)
    assert after.count <= before.count


@settings(max_examples=15, deadline=None)
@given(
    low=st.floats(0.1, 1000),
    high=st.floats(0.1, 1000),
    window_h=st.sampled_from([1, 2, 4, 12, 24]),
    notice_s=st.sampled_from([None, 0, 300, 7200]),
    back_h=st.sampled_from([0, 7, 15]),
    sold=st.integers(0, 60),
)
def test_more_risk_never_sells_less(
    low: float, high: float, window_h: int, notice_s: int | None, back_h: int, sold: int
) -> None:
    at = END - timedelta(hours=back_h)
    known = view(history=SERIES.until(at), at=at)
    window = Window.starting(at, window_h * 3600)
    book = [Sold(sold, "firm", Window.starting(at - timedelta(hours=1), 3 * 3600))] if sold else []
    counts = [
        rule.sellable(known, a_class("firm", notice_s, risk), window, book, POLICIES).count
        for risk in sorted((low, high))
    ]
    assert counts[0] <= counts[1]


@settings(max_examples=15, deadline=None)
@given(
    shares=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    window_h=st.sampled_from([2, 4, 12, 24]),
    booked=st.lists(st.tuples(st.integers(1, 30), st.sampled_from([1, 5, 30])), max_size=3),
    back_h=st.sampled_from([0, 7, 15]),
)
def test_long_promises_leave_room_for_short_ones(
    shares: tuple[float, float], window_h: int, booked: list[tuple[int, int]], back_h: int
) -> None:
    at = END - timedelta(hours=back_h)
    known = view(history=SERIES.until(at), at=at)
    book = [Sold(many, "firm", Window.starting(at - timedelta(minutes=30), 3600 * length)) for many, length in booked]
    fewer, more = (a_class("firm", None, 30, long_share_max=share) for share in sorted(shares))
    hour, longer = (Window.starting(at, 3600 * length) for length in (1, window_h))
    found = rule.sellable(known, fewer, longer, book, POLICIES)
    assert found.count + sum(item.count for item in found.withheld) == 100
    assert found.count <= rule.sellable(known, more, longer, book, POLICIES).count
    assert (
        rule.sellable(known, fewer, hour, book, POLICIES).count
        >= rule.sellable(known, more, hour, book, POLICIES).count
    )
    short = rule.short_count(known, fewer, POLICIES)
    short = rule.sellable(known, fewer, hour, (), POLICIES).count if short is None else short
    running = sum(many for many, length in booked if length > 1)
    assert found.count <= max(0, max(1, fewer.long_share_max * short) - running)


def test_a_pool_without_room_asks_for_no_forecast(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Seller, t: int) -> None:
        raise AssertionError

    monkeypatch.setattr(Seller, "voices", never)
    full = view(facts=PoolFacts("pool_a", "made", int(SERIES.in_use[-1])))
    day = Window.starting(END, 24 * 3600)
    for policy in CLASSES:
        assert rule.sellable(full, policy, day, (), POLICIES).count == 0
    high = view(facts=PoolFacts("pool_a", "made", int(SERIES.in_use[-1]) + 1))
    (told,) = (item for item in rule.sellable(high, FIRM, day, (), POLICIES).withheld if "high level" in item.sentence)
    assert (told.count, told.reason_code) == (1, "demand_quantile")


def test_what_is_kept_for_short_promises_says_so() -> None:
    at = END - timedelta(hours=21)
    known = view(history=SERIES.until(at), at=at)
    window = Window.starting(at, 4 * 3600)
    many = rule.sellable(known, a_class("firm", None, 30, long_share_max=1), window, (), POLICIES)
    few = rule.sellable(known, a_class("firm", None, 30), window, (), POLICIES)
    assert many.count > few.count > 0
    assert all(item.reason_code != "kept_short" for item in many.withheld)
    told = next(item for item in few.withheld if item.reason_code == "kept_short")
    assert told.count == many.count - few.count
    assert "at most 15%" in told.sentence
    assert "classes.firm.long_share_max" in told.sentence
    alone = rule.offers(known, a_class("firm", None, 30), (), POLICIES)
    assert [item.count for item in alone if item.window_s == 4 * 3600] == [few.count]


@settings(max_examples=15, deadline=None)
@given(
    capacity=st.integers(0, 150),
    never=st.integers(0, 20),
    reserve=st.integers(0, 20),
    away=st.integers(0, 40),
    sold=st.integers(0, 80),
    back_h=st.sampled_from([0, 7, 15]),
    policy=st.sampled_from(CLASSES),
    ahead_h=st.integers(0, 30),
)
def test_never_more_than_the_capacity_and_every_unit_accounted_for(
    capacity: int, never: int, reserve: int, away: int, sold: int, back_h: int, policy: ServiceClass, ahead_h: int
) -> None:
    at = END - timedelta(hours=back_h)
    absence = Absence(away, Window.starting(at + timedelta(hours=2), 7200))
    facts = PoolFacts("pool_a", "made", capacity, never, reserve, (absence,) if away else ())
    known = view(facts=facts, history=SERIES.until(at), at=at)
    window = Window.starting(at + timedelta(hours=ahead_h), 4 * 3600)
    book = [Sold(sold, "notice", Window.starting(at, 3600))] if sold else []
    found = rule.sellable(known, policy, window, book, POLICIES)
    assert found.count + sum(item.count for item in found.withheld) == capacity
    if ahead_h == 0:
        assert found.count <= max(0, capacity - never - reserve - sold - known.in_use)


@settings(max_examples=2, deadline=None)
@given(back_h=st.integers(1, 100), later=st.integers(0, 300))
def test_what_comes_later_is_not_looked_at(back_h: int, later: int) -> None:
    at = END - timedelta(hours=back_h)
    changed = SERIES.in_use.copy()
    changed[SERIES.times_us > int(at.timestamp()) * 1_000_000] = later
    other = Series("changed", SERIES.times_us, SERIES.capacity, changed, SERIES.pending, SERIES.step_s)
    moment = timedelta(microseconds=1)
    known = view(history=SERIES.until(at + moment), at=at)
    unknown = view(history=other.until(at + moment), at=at)
    for policy in CLASSES:
        window = Window.starting(at, 4 * 3600)
        one = rule.sellable(known, policy, window, (), POLICIES)
        two = rule.sellable(unknown, policy, window, (), POLICIES)
        assert one == two


def test_a_claim_that_runs_is_not_counted_twice() -> None:
    at = END
    running = claim(30, at - timedelta(hours=1), 48)
    assert claims_met([running], at, 60, {running.id: 40}) == {running.id: 20}
    second = claim(30, at - timedelta(hours=1), 48, created=5)
    assert claims_met([running, second], at, 60, {running.id: 40, second.id: 40}) == {running.id: 20, second.id: 0}


def test_minutes_decide_on_the_next_minutes(store: Store, clock: SimulatedClock) -> None:
    demand = Demand(store)
    now = clock.now()
    # Quiet, but for a jump of four in one minute of each hour.
    samples = [Sample(now - timedelta(minutes=m), 16, 6.0 if m % 60 == 30 else 2.0) for m in range(3 * 24 * 60)]
    demand.record_samples("pool_a", samples)
    ladder = surplus(store, clock, PoolFacts("pool_a", "fine", 16)).ladder("pool_a")
    assert ladder.count("notice") == 10
    assert ladder.count("spot") == 14


@pytest.mark.parametrize("arguments", [{"broken_per_1000_max": 0}, {"broken_per_1000_max": 1001}, {"windows_s": ()}])
def test_a_class_that_makes_no_sense_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        a_class(**{"name": "x", "notice_s": 0, "broken_per_1000_max": 1, **arguments})  # type: ignore[arg-type]


def test_a_regime_that_changed_is_noticed_and_sold_less() -> None:
    calm = made.series(40, seed=11)
    wild = calm.in_use.copy()
    random = np.random.default_rng(3)
    late = slice(28 * 24, None)
    wild[late] = np.clip(wild[late] + np.where(random.random(wild[late].size) < 0.15, 40, 0), 0, 120)
    other = Series(calm.pool, calm.times_us, calm.capacity, wild, calm.pending, calm.step_s)
    at = calm.end
    one, two = (view(history=item, at=at).hours.seller(4) for item in (calm, other))
    assert two.ratio > 1.5 > one.ratio
    futures = two.forecaster.futures(view(history=other, at=at).hours.t, 4)
    assert two.tail(futures, 0.01) < one.tail(futures, 0.01)


@given(st.integers(0, 20), st.sampled_from([2, 5, 10, 30]), st.integers(0, 30))
@settings(max_examples=6, deadline=None)
def test_a_shorter_promise_may_go_as_deep_as_a_longer_one(seed: int, per_1000: int, taken: int) -> None:
    firm = a_class("firm", None, per_1000)
    history = made.series(45, seed=seed, pool="other")
    at = history.end - timedelta(hours=seed % 24)
    seen = view_of(history.until(at), hours_of(history.until(at), at), PoolFacts("pool_a", "made", 100), (), at)
    sold = [Sold(taken, "firm", Window.starting(at, 6 * 3600))] if taken else []
    counts = [offer.count for offer in rule.offers(seen, firm, sold, {"firm": firm})]
    assert counts == sorted(counts)
    alone = [
        rule.sellable(seen, firm, Window.starting(at, window_s), sold, {"firm": firm}).count
        for window_s in firm.windows_s
    ]
    assert alone == counts


LATER = END + timedelta(minutes=20)


def spiky(days: int, spikes: Sequence[tuple[int, int, float]], step_s: int = 60, level: float = 2.0) -> Series:
    """Samples every `step_s` seconds of a calm pool of 16, with `spikes` of (seconds before the end, length, height)."""
    count = days * 86_400 // step_s
    seconds = np.arange(count)[::-1] * step_s
    in_use = np.full(count, level)
    for before, length, height in spikes:
        in_use[(seconds <= before) & (seconds > before - length)] = height
    times = int(LATER.timestamp()) * 1_000_000 - seconds * 1_000_000
    return assemble("spiky", times.astype(np.int64), np.full(count, 16.0), in_use, np.zeros(count))


@settings(max_examples=25, deadline=None)
@given(
    spikes=st.lists(st.tuples(st.integers(0, 7200), st.integers(60, 600), st.floats(0, 16)), max_size=3),
    window_s=st.integers(60, 48 * 3600),
    ahead_s=st.sampled_from([0, 30, 600, 7200]),
    booked=st.lists(
        st.tuples(st.integers(1, 6), st.sampled_from(["firm", "notice", "spot"]), st.integers(60, 90_000)), max_size=3
    ),
    risks=st.tuples(st.floats(0.5, 1000), st.floats(0.5, 1000), st.floats(0.5, 1000)),
    cold=st.booleans(),
)
def test_what_is_firmer_is_never_sold_further(
    spikes: list[tuple[int, int, float]],
    window_s: int,
    ahead_s: int,
    booked: list[tuple[int, str, int]],
    risks: tuple[float, float, float],
    cold: bool,
) -> None:
    at = LATER + timedelta(seconds=7)
    history = spiky(2 if cold else 9, spikes)
    classes = [a_class(name, notice_s, risk) for (name, notice_s), risk in zip(FIRMEST_FIRST, risks, strict=True)]
    policies = {policy.name: policy for policy in classes}
    known = view_of(history, hours_of(history, at), PoolFacts("pool_a", "spiky", 16), (), at)
    book = [Sold(count, name, Window.starting(at - timedelta(seconds=30), long_s)) for count, name, long_s in booked]
    window = Window.starting(at + timedelta(seconds=ahead_s), window_s)
    found = [rule.sellable(known, policy, window, book, policies) for policy in classes]
    counts = [item.count for item in found]
    assert counts == sorted(counts), found
    assert all(item.count + sum(part.count for part in item.withheld) == 16 for item in found)


FIRMEST_FIRST = (("firm", None), ("notice", 300), ("spot", 120))


def test_right_after_a_spike_nothing_firm_is_sold_where_notice_is_refused() -> None:
    history = spiky(9, [(30, 30, 16.0)], step_s=15)
    at = LATER + timedelta(seconds=1)
    known = view_of(history, hours_of(history, at), PoolFacts("pool_a", "spiky", 16), (), at)
    ten = Window.starting(at, 600)
    loose = {policy.name: policy for policy in (a_class("firm", None, 100), a_class("notice", 300, 1), SPOT)}
    firm, notice, spot = (rule.sellable(known, loose[name], ten, (), loose) for name in ("firm", "notice", "spot"))
    assert firm.count <= notice.count <= spot.count
    alone = rule.sellable(known, loose["firm"], ten, (), {"firm": loose["firm"]})
    assert alone.count > notice.count
    assert "looser_class" in {item.reason_code for item in firm.withheld}


@pytest.mark.parametrize("minute", [0, 1, 17, 30, 59])
def test_after_calm_months_an_hour_is_promised_at_any_minute(minute: int) -> None:
    """A promise from the middle of an hour touches two hours and is exposed for one."""
    hours_seen = 120 * 24
    times = int(END.timestamp()) * 1_000_000 - np.arange(hours_seen, dtype=np.int64)[::-1] * 3_600_000_000
    flat = assemble("flat", times, np.full(hours_seen, 8.0), np.zeros(hours_seen), np.zeros(hours_seen))
    at = END + timedelta(minutes=minute)
    known = view_of(flat, hours_of(flat, at), PoolFacts("pool_a", "flat", 8), (), at)
    default = {policy.name: policy for policy in (a_class("firm", None, 1), NOTICE, SPOT)}
    assert rule.sellable(known, default["firm"], Window.starting(at, 3600), (), default).count == 8
