"""Promises on made and hostile pools: what is sold is kept as promised, and nothing later than a decision is looked at."""

from __future__ import annotations

import numpy as np
import pytest
from tests.surplus import series as made

from sublet.surplus.backtest.hostile import CHANGES, hostile
from sublet.surplus.backtest.promises import deadlines, depth_of, everything, firm, live, sell
from sublet.surplus.backtest.scoring import Trace
from sublet.surplus.deadlines.kinds import Kind
from sublet.surplus.deadlines.replay import last_admitted
from sublet.surplus.terms import SHADOW_HOURS_MIN, Shortage, firm_pace

DAYS = 45
SEEDS = range(len(CHANGES) + 1)


@pytest.mark.parametrize("seed", SEEDS)
def test_on_hostile_pools_promises_are_kept_but_for_one_event(seed: int) -> None:
    trace = hostile(seed, DAYS, warmup=14 * 24)
    hour, orders = firm(trace, 1), deadlines(trace, Kind(1, 8))
    for verdict in (hour, orders):
        told = f"{verdict.pool}: {verdict.broken:g} of {verdict.promised:g}, {verdict.worst:g} in one hour"
        assert not verdict.above(20), told
        assert (verdict.held <= trace.idle).all(), told


def test_hostile_pools_follow_from_their_seed() -> None:
    one, other = hostile(3), hostile(3)
    assert one.name == other.name and np.array_equal(one.in_use, other.in_use)
    assert len({hostile(seed, 30).name.split("-")[0] for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("seed", [1, 4])
def test_nothing_later_than_a_decision_is_looked_at(seed: int) -> None:
    trace = hostile(seed, 40, warmup=14 * 24)
    end = 30 * 24
    changed = trace.in_use.copy()
    changed[end:] = trace.capacity[end:] - changed[end:]
    other = Trace(trace.name, trace.first_hour, trace.capacity, changed, trace.warmup)
    for one, two in (
        (firm(trace, 1), firm(other, 1)),
        (deadlines(trace, Kind(1, 8)), deadlines(other, Kind(1, 8))),
    ):
        assert np.array_equal(one.sold[: end + 1], two.sold[: end + 1])
        assert one.sold[:end].any()


def test_what_an_hour_sells_does_not_depend_on_when_its_shadow_began() -> None:
    trace = made.trace(30, seed=3)
    depth = depth_of(trace, 1)
    early, late = live(trace, 1, depth), live(trace, 1, depth_of(trace, 1), begin=224)
    assert np.array_equal(early.started[225:], late.started[225:])
    assert early.started[225:].any()
    assert SHADOW_HOURS_MIN == 96


def test_what_four_hours_sell_hardly_depends_on_when_the_book_began() -> None:
    trace = made.trace(30, seed=3)
    early, late = live(trace, 4, depth_of(trace, 4)), live(trace, 4, depth_of(trace, 4), begin=224)
    sold = [shadow.started[240:].sum() for shadow in (early, late)]
    assert sold[0] > 0
    assert abs(sold[0] - sold[1]) <= 0.01 * sold[0]


def test_more_is_never_promised_than_was_earned() -> None:
    trace = made.trace(30, seed=5)
    pace = firm_pace(1, 0.05)
    verdict, shadow = sell(trace, 1, depth_of(trace, 1, 0.05), pace)
    earned = np.cumsum(pace.earning * pace.risk * shadow.started - shadow.broken)
    for t in np.flatnonzero(verdict.sold):
        # Fading only takes from what is positive, and what was lost once may fade, too.
        assert verdict.sold[t] <= max(0.0, earned[t - 1] - np.minimum.accumulate(earned)[t - 1]) / pace.loss + 1e-9
    assert verdict.sold.any()


def test_everything_together_sells_no_more_than_is_idle() -> None:
    trace = made.trace(30, seed=6)
    one, two = everything(trace, 1, Kind(1, 8))
    assert (one.held + two.held <= trace.idle).all()
    assert one.kept_hours == two.kept_hours <= one.bound_hours


def test_deadlines_decide_the_same_in_numpy_as_compiled() -> None:
    trace = made.trace(20, capacity=40, seed=8, warmup_days=7)
    assert np.array_equal(
        deadlines(trace, Kind(4, 24)).sold, deadlines(trace, Kind(4, 24), admitted=last_admitted).sold
    )


def test_a_shortage_within_the_patience_breaks_nothing() -> None:
    short = Shortage(1)
    assert [short.breaks(over) for over in (3, 0, 2, 5, 3, 0)] == [0, 0, 0, 2, 3, 0]
    two = Shortage(2)
    assert [two.breaks(over) for over in (3, 3, 3, 0)] == [0, 0, 3, 0]
    assert [Shortage(0).breaks(over) for over in (3, 0)] == [3, 0]
