"""The depth of a promise: monotone, counted, and modest where little is known."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.surplus import series as made

from sublet.demand.forecast.fits import PHASE_STEP, SHARED_SLOTS, Fits
from sublet.demand.forecast.forecaster import Alike, Futures, PlainRises, candidates
from sublet.demand.forecast.lookback import Grid, Lookback
from sublet.demand.model import Floats
from sublet.surplus.rule.seller import (
    Depth,
    Seller,
    Voice,
    agreed_depth,
    deepest,
    jump_caution,
    largest_jobs,
    margin,
    phase_of,
    sellers,
)

paths = st.integers(1, 30).flatmap(
    lambda rows: st.lists(st.lists(st.integers(-50, 50), min_size=3, max_size=3), min_size=rows, max_size=rows)
)


def futures(rows: list[list[int]], weights: list[float] | None = None) -> Futures:
    says = np.array(weights, dtype=np.float32) if weights else np.ones(len(rows), dtype=np.float32)
    return Futures(np.array(rows, dtype=np.float32), says, "test")


@given(paths, st.lists(st.integers(0, 80), min_size=3, max_size=3), st.floats(0, 1))
def test_the_depth_breaks_on_no_more_than_the_tail(rows: list[list[int]], room: list[int], share: float) -> None:
    known, left = futures(rows), np.array(room, dtype=np.float64)
    depth = deepest(known, left, share * len(rows), expect=True)
    broken = sum(any(rise + depth.count > free for rise, free in zip(row, room, strict=True)) for row in rows)
    if depth.count:
        assert broken <= share * len(rows) + 1e-6
        one_more = depth.count + 1
        breaks = sum(any(rise + one_more > free for rise, free in zip(row, room, strict=True)) for row in rows)
        assert breaks > share * len(rows) - 1e-6 or one_more > min(room)
    expected = np.mean(
        [min(depth.count, max(0, max(r + depth.count - f for r, f in zip(row, room, strict=True)))) for row in rows]
    )
    assert depth.broken == pytest.approx(expected, abs=1e-3)


@given(
    paths, st.lists(st.integers(0, 80), min_size=3, max_size=3), st.floats(0, 10), st.floats(0, 10), st.integers(0, 9)
)
def test_more_tail_is_never_shallower_and_less_room_never_deeper(
    rows: list[list[int]], room: list[int], one: float, other: float, taken: int
) -> None:
    known, left = futures(rows), np.array(room, dtype=np.float64)
    low, high = sorted((one, other))
    assert deepest(known, left, low).count <= deepest(known, left, high).count
    assert deepest(known, left - taken, low).count <= deepest(known, left, low).count


def test_too_little_evidence_sells_nothing() -> None:
    assert deepest(futures([[0, 0, 0]]), np.array([9.0, 9.0, 9.0]), -0.1).count == 0
    demand = made.daily(6)
    seller = Seller(24, {"hours": candidates(demand)["hours"]}, 96)
    assert seller.tail(seller.forecaster.futures(demand.size, 24), 0.01) < 0


def test_the_forecast_knows_the_hour_of_the_day() -> None:
    hours = np.arange(60 * 24)
    demand = np.where(hours % 24 >= 10, 80.0, 20.0)
    known = candidates(demand)["hours"]
    evening, morning = known.futures(59 * 24 + 22, 2), known.futures(59 * 24 + 9, 2)
    assert float(np.average(evening.paths.max(axis=1), weights=evening.weights)) < 5
    assert float(np.average(morning.paths.max(axis=1), weights=morning.weights)) > 45
    assert PlainRises(demand).futures(59 * 24, 2).paths.max() == 60


def test_unseen_hours_are_no_evidence() -> None:
    demand = made.daily(30)
    demand[200:260] = np.nan
    for forecaster in (candidates(demand)["hours"], PlainRises(demand)):
        found = forecaster.futures(demand.size, 4)
        assert np.isfinite(found.paths).all()
        assert found.weights.size > 0


def test_margins_lie_between_the_measured_points() -> None:
    assert margin(1) == 6
    assert margin(4) == pytest.approx(4.3)
    assert 4.3 < margin(2) < 6
    assert margin(1000) == margin(24)


def test_large_jobs_lower_the_tail() -> None:
    for slots, least in ((1, 0.25), (4, 0.385), (24, 0.385)):
        cautions = [jump_caution(jump, slots) for jump in (0.0, 0.05, 0.06, 0.2)]
        assert cautions == sorted(cautions, reverse=True)
        assert (cautions[0], cautions[1], cautions[3]) == (1.0, 1.0, least)


@given(
    st.lists(st.tuples(st.integers(-30, 30), st.integers(1, 9)), min_size=1, max_size=400),
    st.floats(0, 1.2),
    st.integers(0, 40),
)
def test_a_part_of_the_paths_decides_as_all_of_them_do(told: list[tuple[int, int]], share: float, room: int) -> None:
    rises, weights = [[rise] for rise, _ in told], [float(weight) for _, weight in told]
    tail = share * sum(weights)
    found = deepest(futures(rises, weights), np.array([float(room)]), tail).count
    worst = sorted(told, reverse=True)
    past = 0.0
    limit = room
    for rise, weight in worst:
        past += weight
        if past > tail + 1e-6:
            limit = min(room, room - rise)
            break
    assert found == max(0, limit)


def test_origins_towards_the_high_of_the_day_expect_it_back() -> None:
    demand = made.daily(40)
    dip = demand.copy()
    dip[-1] = dip[-24:].max() - 60
    methods = candidates(dip)
    plain, high = (methods[name].futures(dip.size, 4) for name in ("hours", "day_high"))
    assert float(np.median(high.paths.max(axis=1))) > float(np.median(plain.paths.max(axis=1))) + 10


def test_a_sign_beside_demand_weighs_moments_by_likeness() -> None:
    demand = made.daily(30)
    sign = np.where(np.arange(demand.size + 1) % 48 < 24, 0.0, 1.0)
    alike = Alike(Fits(demand), "queue", sign).futures(demand.size, 4)
    plain = candidates(demand)["hours"].futures(demand.size, 4)
    np.testing.assert_array_equal(alike.paths, plain.paths)
    shares = alike.weights / plain.weights
    assert sorted(set(np.round(shares, 3))) == pytest.approx([0.2 + np.exp(-2), 1.2], abs=0.01)
    same = Alike(Fits(demand), "queue", np.ones(demand.size + 1)).futures(demand.size, 4)
    np.testing.assert_array_equal(same.weights, plain.weights)


def test_the_methods_agree_with_a_look_at_each_path() -> None:
    demand = made.daily(20)
    demand[100:104] = np.nan
    known = candidates(demand, 5)
    t, slots = demand.size, 3
    anytime = known["anytime"].futures(t, slots)
    rows = [demand[u : u + slots] - demand[u - 1] for u in range(1, t - slots + 1)]
    rows = [row for row in rows if np.isfinite(row).all()]
    np.testing.assert_allclose(anytime.paths, rows, atol=1e-4)
    hours = known["hours"].futures(t, slots)
    assert hours.paths.shape[1] == slots
    assert 0 < hours.weights.size < anytime.weights.size
    assert hours.jump == anytime.jump > 0


def test_the_record_chooses_the_method_and_says_since_when() -> None:
    random = np.random.default_rng(2)
    # No day's shape, and calm, but for a job of a third of the pool that starts and ends at any hour.
    demand = np.round(40 + 30 * (np.cumsum(random.random(70 * 24) < 0.08) % 2) + random.normal(0, 1, 70 * 24))
    capacity = np.full(demand.size, 100.0)
    chooser = sellers(demand, 0, 96, (4,))[4]
    chooser.learn(demand, capacity, demand.size)
    present = chooser.records[chooser.method]
    assert all(record.worth <= present.worth + 0.2 * present.sold for record in chooser.records.values())
    assert chooser.since is not None
    again = sellers(demand, 0, 96, (4,))[4]
    for t in range(96, demand.size + 1, 7):
        again.learn(demand[:t], capacity[:t], t)
        again.extend(demand)
    again.learn(demand, capacity, demand.size)
    assert (again.method, again.since, again.ratio) == (chooser.method, chooser.since, chooser.ratio)


def test_the_fits_of_a_pool_are_renewed_at_hours_of_their_own() -> None:
    assert len({phase_of(f"pool_{number}") % 24 for number in range(200)}) == 24
    demand = made.daily(30)
    renewed = {
        slots: [t for t in range(600, 648) if Fits(demand, 0, 3).at(t, slots).at == t] for slots in (1, 4, 12, 48)
    }
    assert all(len(times) == 2 and times[1] - times[0] == 24 for times in renewed.values())
    assert len({times[0] for times in renewed.values()}) == 3


def test_depths_of_middle_lengths_are_averaged_by_what_the_records_are_worth() -> None:
    demand, capacity = made.daily(40), np.full(40 * 24, 150.0)
    t = demand.size
    methods = sellers(demand, 0, 96, (1, 4, 12))
    for slots, seller in methods.items():
        seller.learn(demand, capacity, t)
        assert sum(seller.shares(t).values()) == pytest.approx(1)
        assert len(seller.shares(t)) == (3 if slots == 4 else 1)
        assert [voice.share for voice in seller.voices(t)] == list(seller.shares(t).values())
    middle = methods[4]
    worths = {name: middle.records[name].worth for name in middle.shares(t)}
    assert max(worths, key=lambda name: worths[name]) == max(middle.shares(t), key=lambda name: middle.shares(t)[name])
    told = {0.5: 3, 0.25: 8, 0.125: 1}
    voices = [Voice(share, futures([[0, 0, 0]]), 1.0) for share in told]
    assert agreed_depth(voices, lambda voice: Depth(told[voice.share], 0.0)) == 3
    middle.records["hours"].broken = 1e9
    assert set(middle.shares(t)) == {"day_high", "levels"}
    for record in middle.records.values():
        record.broken = 1e9
    assert middle.shares(t) == {middle.method: 1.0}
    random = np.random.default_rng(5)
    jumps = np.repeat(random.choice([10.0, 40.0, 70.0, 100.0], 40 * 12), 2)
    jumpy = sellers(jumps, 0, 700, (4,))[4]
    jumpy.learn(jumps, capacity, jumps.size)
    assert jumpy.shares(jumps.size) == {jumpy.method: 1.0}


def test_what_was_learned_goes_on_where_it_stood() -> None:
    demand, capacity = made.daily(30), np.full(30 * 24, 150.0)
    whole = sellers(demand, 100, 96, (4,))[4]
    whole.learn(demand, capacity, demand.size)
    half = sellers(demand, 100, 96, (4,))[4]
    half.learn(demand, capacity, 300)
    state = json.loads(json.dumps(half.as_state(100)))
    # A caller that goes on sees a later part of the history: slots are counted from another hour.
    again = sellers(demand[48:], 148, 96, (4,))[4]
    again.resume(state, 148)
    assert (again.next, again.method) == (300 - 48, half.method)
    assert again.as_state(148) == half.as_state(100)
    other = sellers(demand, 100, 96, (4,))[4]
    other.resume({**state, "records": {"else": [0, 0, 0, 0, [0]]}}, 100)
    assert other.next == 96


def test_what_is_prepared_for_the_next_hour_tells_the_same() -> None:
    demand = made.daily(32)
    for t in range(30 * 24, 31 * 24):
        ready, late = candidates(demand[:t], 7, 3), candidates(demand, 7, 3)
        for method in ready.values():
            for slots in (1, 4, 12):
                method.futures(t, slots)
                method.prepare(t + 1, slots)
        for name, method in ready.items():
            method.extend(demand)
            for slots in (1, 4, 12):
                told, again = method.futures(t + 1, slots), late[name].futures(t + 1, slots)
                np.testing.assert_array_equal(told.paths, again.paths)
                np.testing.assert_array_equal(told.weights, again.weights)


def _paths_after(past: Floats, since: Floats) -> Grid:
    """What may come after `since`, by a fit that knows only the `past` and is in force since then."""
    demand = np.concatenate([past, since])
    fits = Fits(past, -past.size + PHASE_STEP * SHARED_SLOTS[0])
    assert fits.at(past.size, 4).at == past.size
    fits.extend(demand)
    assert fits.at(demand.size, 4).at == past.size
    return fits.set_at(demand.size, 4).rises(4)


def _widths(paths: Grid) -> Floats:
    """By slot; the middle of the moments does not count."""
    return np.quantile(paths, 0.95, axis=0) - np.quantile(paths, 0.05, axis=0)


def test_paths_are_wider_after_hours_in_which_demand_swung() -> None:
    past = made.daily(40, capacity=200)
    calm, swung = (past[-1] + size * (-1.0) ** np.arange(23) for size in (0.5, 12.0))
    after_calm, after_swings = _paths_after(past, calm), _paths_after(past, swung)
    wider = _widths(after_swings) / _widths(after_calm)
    assert wider.min() > 1.5
    # All of them by as much: what is usual at this hour stays where it is.
    np.testing.assert_allclose(wider, wider[0], rtol=1e-3)

    # Hours that nobody saw are neither calm nor swings.
    for unseen in (slice(8, 12), slice(0, 3), slice(20, 22)):
        gaps = swung.copy()
        gaps[unseen] = np.nan
        np.testing.assert_allclose(_widths(_paths_after(past, gaps)) / _widths(after_swings), 1, atol=0.05)
    blind = _paths_after(past, np.full(23, np.nan))
    assert np.isfinite(blind).all()
    assert (_widths(blind) < _widths(after_swings)).all()
    holes = past.copy()
    holes[300:340] = np.nan
    assert np.isfinite(_paths_after(holes, swung)).all()

    # Where jobs are large, a job that came says nothing of those to come.
    jumpy = np.repeat(np.random.default_rng(5).choice([10.0, 40.0, 70.0, 100.0], 40 * 12), 2)
    calm, swung = (jumpy[-1] + size * (-1.0) ** np.arange(23) for size in (0.5, 12.0))
    np.testing.assert_array_equal(_paths_after(jumpy, calm), _paths_after(jumpy, swung))


def test_for_long_promises_the_largest_rises_count_however_calm_the_others_are() -> None:
    calm = Futures(np.zeros((1, 1), dtype=np.float32), np.ones(1, dtype=np.float32), "made", jump=0.02, burst=0.03)
    rare = replace(calm, burst=0.5)
    assert largest_jobs(calm, 4) == largest_jobs(calm, 1) == largest_jobs(rare, 1) == 0.02
    assert largest_jobs(rare, 4) > 0.085
    assert jump_caution(largest_jobs(rare, 4), 4) < jump_caution(largest_jobs(calm, 4), 4) == 1


def test_rises_at_p99_to_max_are_measured_apart_from_p95() -> None:
    demand = np.full(60 * 24, 50.0)
    # Once in a week half of the pool is needed for an hour.
    demand[100 :: 7 * 24] = 100.0
    past = Lookback.of(demand, demand.size, 4)
    assert past.jump == 0
    assert past.burst == pytest.approx(0.5 * 8 / 13, abs=0.05)
