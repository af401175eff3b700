"""What the latest samples change: an hour that was not seen, samples by the minute, accelerators that don't work."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from tests.classes import a_class
from tests.surplus import series as made

from sublet.demand.forecast.forecaster import Futures
from sublet.demand.model import Floats, Series, assemble
from sublet.surplus.model import PoolFacts
from sublet.surplus.rule import ladder as rule
from sublet.surplus.rule.memory import Hours, hours_of
from sublet.surplus.rule.seller import Depth, HighLevel, deepest
from sublet.surplus.rule.view import View
from sublet.surplus.service import view_of
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

HOUR_US = 3_600_000_000
CLASSES = (a_class("firm", None, 10), a_class("notice", 300, 10), a_class("spot", 120, 1000))
POLICIES = {policy.name: policy for policy in CLASSES}
FIRM, NOTICE, SPOT = CLASSES
WHOLE = made.series(60, seed=7, pool="known")
FACTS = PoolFacts("pool_a", "made", 100)


def series(times_us: Floats, in_use: Floats, capacity: float = 100) -> Series:
    return assemble(
        "known", times_us.astype(np.int64), np.full(times_us.size, capacity), in_use, np.zeros(times_us.size)
    )


def by_minute(hours: int) -> Series:
    """WHOLE, the last `hours` of it by the minute."""
    last = WHOLE.times_us[-1] + HOUR_US
    fine = np.arange(last - hours * HOUR_US, last, HOUR_US // 60)
    known = WHOLE.times_us < last - hours * HOUR_US
    place = np.searchsorted(WHOLE.times_us, fine, side="right") - 1
    return series(np.r_[WHOLE.times_us[known], fine], np.r_[WHOLE.in_use[known], WHOLE.in_use[place]])


def view(history: Series, facts: PoolFacts = FACTS) -> View:
    at = WHOLE.end + timedelta(seconds=1)
    return view_of(history, hours_of(history, at), facts, (), at)


def on_sale(seen: View, policy: ServiceClass, hours: float) -> int:
    return rule.sellable(seen, policy, Window.starting(seen.at, round(hours * 3600)), (), POLICIES).count


@pytest.mark.parametrize("unseen", [1, 2, 3])
def test_an_hour_that_was_not_seen_is_no_reason_to_sell_more(unseen: int) -> None:
    whole = by_minute(6)
    hole = (whole.times_us >= whole.times_us[-1] + HOUR_US // 60 - unseen * HOUR_US) & (
        whole.times_us < whole.times_us[-1]
    )
    holed = series(whole.times_us[~hole], whole.in_use[~hole])
    seen, gap = view(whole), view(holed)
    assert np.isnan(gap.hours.in_use[-unseen:-1]).all() and not gap.stale
    for policy in (FIRM, NOTICE):
        for length in (1, 4, 12, 24):
            assert on_sale(gap, policy, length) <= on_sale(seen, policy, length) + 2
    # Where it is the newest hour of all.
    known = gap.hours
    silent = replace(gap, hours=Hours(known.first_hour, known.capacity, np.r_[known.in_use[:-1], np.nan], known.phase))
    for length in (1, 4, 12, 24):
        assert on_sale(silent, FIRM, length) <= on_sale(seen, FIRM, length) + 2


def test_what_is_not_a_number_is_no_evidence() -> None:
    unknown, says = np.full((50, 4), np.nan, dtype=np.float32), np.ones(50, dtype=np.float32)
    assert deepest(Futures(unknown, says, "test"), 100.0, 5.0) == Depth(0, 0.0)
    known = np.zeros((50, 4), dtype=np.float32)
    assert deepest(Futures(known, says, "test"), 100.0, 5.0).count == 100
    assert deepest(Futures(known, says * np.nan, "test"), 100.0, float("nan")) == Depth(0, 0.0)


@pytest.mark.parametrize("per_1000", [1, 10, 50])
def test_what_can_not_be_taken_back_is_promised_on_whole_hours_however_fine_the_samples(per_1000: float) -> None:
    firm = a_class("firm", None, per_1000)
    fine, coarse = view(by_minute(6)), view(by_minute(0))
    for minutes in (10, 30, 59, 60):
        # A promise that ends in the present hour or the next needs both: one of 61 minutes does too.
        window = minutes / 60
        assert on_sale(fine, firm, window) <= on_sale(fine, firm, 1 / 60)
        assert abs(on_sale(fine, firm, window) - on_sale(coarse, firm, window)) <= 2
    assert fine.fine is not None and coarse.fine is None


@pytest.mark.parametrize(("reserve", "kept"), [(0, 0), (2, 0), (10, 5)])
def test_accelerators_that_do_not_work_are_not_sold(reserve: int, kept: int) -> None:
    facts = PoolFacts("pool_a", "made", 100, never_sell=kept, failure_reserve=reserve)
    whole, last = by_minute(6), np.arange(WHOLE.times_us.size + 6 * 59)
    for working in (0.0, 95.0, 250.0):
        capacity = np.where(last < last[-1], 100.0, working)
        seen = replace(whole, capacity=capacity)
        told = {
            policy.name: rule.sellable(view(seen, facts), policy, Window.starting(WHOLE.end, 3600), (), POLICIES)
            for policy in CLASSES
        }
        for sellable in told.values():
            assert sellable.count + sum(item.count for item in sellable.withheld) == 100
        left = max(0, min(100 - kept - reserve, working - kept) - seen.in_use[-1])
        assert told["spot"].count == left
        failed = {item.reason_code: item.count for item in told["spot"].withheld}.get("not_working", 0)
        assert failed == max(0, min(100, 100 - working - reserve, 100 - kept - reserve))


def test_the_high_level_is_the_same_after_a_restart() -> None:
    long_ago, lately = np.full(2000, 900.0), np.full(120 * 24, 300.0)
    running, restarted = np.r_[long_ago, lately], lately
    for slots in (12, 24):
        assert HighLevel().before(running, running.size, slots) == 300
        assert HighLevel().before(restarted, restarted.size, slots) == 300
    assert HighLevel().before(restarted, restarted.size, 11) == -np.inf


def test_longer_promises_leave_room_for_a_higher_level() -> None:
    demand = np.random.default_rng(3).permutation(np.arange(1001.0))
    assert [HighLevel().before(demand, 1001, slots) for slots in (12, 20, 24, 100)] == [800, 800, 950, 950]
    holes = np.r_[demand, np.nan, np.nan]
    assert HighLevel().before(holes, holes.size, 24) == 950
    assert HighLevel().before(np.full(9, np.nan), 9, 12) == np.inf
