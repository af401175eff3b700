"""The budget and the monitor: what they guarantee on any series, and when selling opens again."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.surplus.budget import ALARM_HOURS, Pace, Passed, Standing, stops_with

HOURLY = Pace(risk=0.01, hours=1, earning=1.5, half_life_hours=math.inf)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 200), st.integers(0, 200)), min_size=1, max_size=200))
def test_on_any_series_what_broke_for_real_was_paid_for_by_the_shadow(hours: list[tuple[int, int]]) -> None:
    standing, real_broken = Standing(), 0.0
    for hour, (shadow, idle) in enumerate(hours):
        real = min(shadow, math.floor(standing.most(HOURLY)))
        real_broken += max(0, real - idle)
        standing.pass_hour(HOURLY, hour, Passed(sold=shadow, broken=max(0, shadow - idle), running=shadow))
        assert real_broken <= HOURLY.earning * HOURLY.risk * standing.sold + 1e-6


@pytest.mark.parametrize(("hours", "earning", "full"), [(1, 1.5, 67), (4, 2.0, 200), (24, 2.0, 1200)])
def test_a_pool_that_never_broke_holds_a_full_book_after_its_length_over_what_it_earns(
    hours: int, earning: float, full: int
) -> None:
    standing, unfaded = Standing(), Pace(0.01, hours, earning, half_life_hours=math.inf)
    for hour in range(full):
        standing.pass_hour(unfaded, hour, Passed(sold=100 / hours, broken=0, running=100))
    assert standing.most(unfaded) >= 100 - 1e-6


def test_the_monitor_is_quiet_for_years_at_the_promised_rate_and_speaks_soon_at_seven_times_it() -> None:
    random = np.random.default_rng(3)
    pace = Pace(0.01, 4, 2.0)
    quiet = Standing()
    for hour in range(3 * ALARM_HOURS):
        quiet.pass_hour(pace, hour, Passed(25, float(random.binomial(100, 0.01 / 4)), 100))
    assert quiet.alarms == 0
    loud, hour = Standing(), 0
    while not loud.pass_hour(pace, hour, Passed(25, float(random.binomial(100, 0.07 / 4)), 100)):
        hour += 1
    assert hour < 60 * 24
    assert loud.alarm_hour == hour
    assert loud.earned <= 0


def test_after_an_alarm_selling_opens_by_the_budget_alone_and_when_is_told() -> None:
    pace = Pace(0.01, 4, 2.0)
    standing = Standing()
    for hour in range(500):
        standing.pass_hour(pace, hour, Passed(25, 0, 100))
    hour = 500
    while not standing.pass_hour(pace, hour, Passed(25, 100, 100)):
        hour += 1
    assert hour < 510
    told = standing.hours_until(pace, 1)
    assert told is not None and told > 0
    waited = 0
    while standing.most(pace) < 1:
        standing.pass_hour(pace, hour + waited, Passed(25, 0, 100))
        waited += 1
    assert waited == told


def test_after_a_near_miss_all_that_the_shadow_holds_must_be_earned_once() -> None:
    pace = Pace(0.01, 4, 1.0)
    calm, wary = Standing(), Standing()
    for hour in range(200):
        calm.pass_hour(pace, hour, Passed(25, 0, 100))
        wary.pass_hour(pace, hour, Passed(25, 0, 100, near=5 if hour == 20 else 0))
    assert calm.most(pace) > 30 and not calm.wary
    assert wary.most(pace) == 0 and wary.wary
    told = wary.hours_until(pace, 1)
    assert told is not None and told > 100
    waited = 0
    while wary.most(pace) == 0:
        wary.pass_hour(pace, 200 + waited, Passed(25, 0, 100))
        waited += 1
    assert waited == pytest.approx(told, abs=3) and wary.most(pace) >= 99
    # A loss of a part leaves it open, a loss of all that was earned closes it.
    wary.pass_hour(pace, 1000, Passed(25, 50, 100))
    assert 0 < wary.most(pace) < 60
    wary.pass_hour(pace, 1001, Passed(25, 100, 100))
    assert wary.most(pace) == 0
    for hour in range(200):
        wary.pass_hour(pace, 1002 + hour, Passed(25, 0, 100))
    assert wary.earned > 0 and wary.most(pace) == 0


def test_what_is_kept_while_the_owner_hardly_uses_the_pool_earns_nothing() -> None:
    pace, idle, used = Pace(0.01, 24, 1.0, 0.5), Passed(4, 0, 100, unused=True), Passed(4, 0, 100)
    early, late = Standing(), Standing()
    for hour in range(1000):
        early.pass_hour(pace, hour, used)
        late.pass_hour(pace, hour, idle)
    assert early.most(pace) > 50
    assert (late.earned, late.most(pace), late.hours_until(pace, 1)) == (0, 0, None)
    assert (late.sold, late.unused, late.unused_hours) == (early.sold, True, 1000)
    # From the first such hour on it earns, and sells once all that the shadow holds is earned: what it held says little.
    waited = 0
    while late.most(pace) == 0:
        late.pass_hour(pace, 1000 + waited, used)
        waited += 1
    told = late.hours_until(pace, 1)
    assert told == 0 and late.most(pace) >= 100 - 1e-6
    assert 1200 < waited < 3000


def test_a_shadow_that_sells_too_little_is_told_never_to_get_there() -> None:
    standing = Standing()
    standing.pass_hour(Pace(0.001, 24, 2.0), 0, Passed(0, 0, 0))
    assert standing.hours_until(Pace(0.001, 24, 2.0), 1) is None


def test_a_standing_goes_on_from_its_document() -> None:
    pace, one = Pace(0.01, 4, 2.0), Standing()
    for hour in range(30):
        one.pass_hour(pace, hour, Passed(5, hour == 7, 20))
    other = Standing.of_state(one.as_state())
    for each in (one, other):
        each.pass_hour(pace, 30, Passed(5, 1, 20))
    assert one == other


def test_a_risk_near_one_never_makes_the_monitor_bet_more_than_it_holds() -> None:
    pace, standing = Pace(0.9, 1, 2.0), Standing()
    for hour in range(1000):
        standing.pass_hour(pace, hour, Passed(100, 80, 100))
        assert min(standing.wealth) >= 0
    assert standing.alarms == 0


def test_a_stop_takes_what_is_as_strict_and_as_long_with_it() -> None:
    firm, deadline = 2.0, 1.0
    kinds = [(firm, 1), (firm, 4), (firm, 12), (deadline, 4)]
    assert stops_with((firm, 4), kinds) == [1, 2]
    assert stops_with((deadline, 4), kinds) == [1, 2, 3]
