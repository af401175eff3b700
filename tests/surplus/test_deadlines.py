"""Orders with a deadline: what is admitted ends in time on every path that the forecast called possible."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.surplus.series import daily

from sublet.demand.forecast.lookback import MEMORY_HOURS
from sublet.demand.model import Floats
from sublet.surplus.budget import Standing
from sublet.surplus.deadlines import orders as module
from sublet.surplus.deadlines.admission import answer
from sublet.surplus.deadlines.kinds import Idle, Kind, OpenOrders, covering, used
from sublet.surplus.deadlines.orders import (
    ORDERS_MAX,
    Order,
    can_admit,
    earliest_due,
    kept_orders,
    kept_share,
    most_accelerators,
    run_next,
)
from sublet.surplus.deadlines.paths import STEP_HOURS, comparable_idle, idle_paths
from sublet.surplus.deadlines.replay import (
    _kept_loop,
    _last_admitted_loop,
    hour_of_service,
    kept,
    last_admitted,
)
from sublet.values.errors import InvalidInputError

KINDS = (Kind(1, 2), Kind(1, 8), Kind(4, 8), Kind(4, 24))


def _idle(seed: int, days: int = 20, capacity: int = 60) -> Floats:
    return np.floor(np.maximum(capacity - daily(days, capacity, seed), 0))


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_is_admitted_ends_in_time_on_every_path_that_was_possible(kind: Kind, seed: int) -> None:
    hourly = _idle(seed)
    book, admitted = OpenOrders(kind), 0
    for t in range(hourly.size - 72, hourly.size):
        idle = Idle(hourly[:t], float(hourly[t - 1]), 60)
        count = book.room(idle)
        book.add(count)
        admitted += count
        for path in idle.paths(kind.within) if count else ():
            grid = book.grid
            for free in path:
                grid, _, late, _ = hour_of_service(grid, float(free))
                assert late == 0
            assert grid.sum() == 0
        book.pass_hour(float(hourly[t]))
    assert admitted > 0


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_loops_for_the_compiler_decide_as_numpy_does(kind: Kind) -> None:
    hourly = _idle(5, days=8, capacity=12)
    grid = np.zeros((kind.within - kind.hours + 1, kind.hours))
    for t in range(hourly.size - 24, hourly.size):
        paths = idle_paths(hourly[:t], float(hourly[t - 1]), 12, kind.within)
        count = last_admitted(paths, grid, 12.0)
        assert _last_admitted_loop(paths, grid, 12.0, _kept_loop) == count
        assert [_kept_loop(path, grid, 3.0) for path in paths] == kept(paths, grid, 3.0).tolist()
        grid[-1, -1] += count
        grid, _, _, _ = hour_of_service(grid, float(hourly[t]))


def test_what_is_late_on_a_path_already_lets_nothing_new_in() -> None:
    grid = np.zeros((5, 4))
    grid[0, 3] = 5.0
    assert last_admitted(np.full((20, 8), 4.0), grid, 10.0) == 0
    assert last_admitted(np.full((20, 8), 9.0), grid, 10.0) > 0


def test_no_more_are_open_than_will_start_soon() -> None:
    hourly = np.full(300, 40.0)
    book = OpenOrders(Kind(1, 24))
    book.add(book.room(Idle(hourly, 40.0, 60)))
    assert book.count == 48
    assert book.room(Idle(hourly, 40.0, 60)) == 0


def test_paths_are_the_own_past_moved_towards_now_and_know_nothing_later() -> None:
    hourly = np.arange(100, dtype=np.float64) % 24
    paths = idle_paths(hourly, now=hourly[-1] + 10, capacity=30, hours=8)
    before = hourly[91]
    assert paths[0, 0] == np.floor(hourly[92] + 0.8 * (hourly[-1] + 10 - before))
    assert len(paths) == (100 - 8 - 1) // STEP_HOURS + 1
    assert paths.min() >= 0 and paths.max() <= 30


def test_hours_that_were_not_seen_make_no_path() -> None:
    hourly = np.full(100, 10.0)
    whole = len(idle_paths(hourly, 10, 20, 8))
    hourly[50] = np.nan
    some = idle_paths(hourly, 10, 20, 8)
    assert 0 < len(some) < whole
    assert np.isfinite(some).all()


def test_a_resized_pool_compares_its_past_with_what_it_has_now() -> None:
    capacity = np.array([100.0, 100, 50, 0, np.nan, 80])
    in_use = np.array([60.0, 90, 50, 0, np.nan, 20])
    # Shrunk since: demand as it was. Grown since: demand grows with it. An outage is not idle.
    assert comparable_idle(capacity, in_use)[[0, 1, 2, 3, 5]].tolist() == [20, 0, 0, 0, 60]
    assert np.isnan(comparable_idle(capacity, in_use)[4])


def test_orders_that_used_half_of_their_slack_are_told_as_near_misses() -> None:
    # 4 h within 8 h have 4 h of slack: those that wait for 2 h or more come near.
    for waits, expected in ((1, 0.0), (2, 3.0), (4, 3.0)):
        book = OpenOrders(Kind(4, 8))
        book.add(3)
        told = [book.pass_hour(free) for free in (*([0.0] * waits), *([3.0] * 4))]
        assert sum(near for _, _, near in told) == expected and sum(late for _, late, _ in told) == 0
    late = OpenOrders(Kind(4, 8))
    late.add(3)
    assert [late.pass_hour(0.0) for _ in range(5)][-1] == (0.0, 3.0, 3.0)
    for kind, expected in ((Kind(12, 24), 3.0), (Kind(24, 48), 0.0)):
        long = OpenOrders(kind)
        long.add(3)
        told = [long.pass_hour(free) for free in (*([0.0] * 12), *([3.0] * kind.hours))]
        assert sum(near for _, _, near in told) == expected and sum(late for _, late, _ in told) == 0
    tight = OpenOrders(Kind(4, 4))
    tight.add(3)
    assert [tight.pass_hour(3.0) for _ in range(4)][-1] == (3.0, 0.0, 0.0)


def test_orders_run_least_slack_first_whole_or_not_at_all() -> None:
    orders = [Order("late", 8, 2, 20), Order("soon", 6, 3, 4), Order("small", 2, 1, 30)]
    assert run_next(orders, 9) == ("soon", "small")
    assert run_next(orders, 14) == ("soon", "late")
    assert run_next(orders, 1) == ()


@pytest.mark.parametrize("seed", [3, 4])
def test_admitted_orders_of_any_size_end_in_time_on_every_path(seed: int) -> None:
    random = np.random.default_rng(seed)
    hourly = _idle(seed, days=15)
    idle = Idle(hourly, float(hourly[-1]), 60)
    orders: list[Order] = []
    for number in range(25):
        left = int(random.integers(1, 6))
        new = Order(f"o{number}", int(random.integers(1, 12)), left, left + int(random.integers(0, 20)))
        if can_admit(orders, new, idle):
            orders.append(new)
    assert len(orders) > 3
    assert kept_share(orders, idle) == 1.0
    for path in idle.paths(max(order.due_hours for order in orders)):
        open_ = list(orders)
        for free in path:
            running = run_next(open_, float(free))
            open_ = [
                replace(one, left_hours=one.left_hours - 1) if one.id in running else one
                for one in open_
                if one.left_hours > (one.id in running)
            ]
            open_ = [replace(one, due_hours=one.due_hours - 1) for one in open_]
            assert all(one.due_hours >= one.left_hours for one in open_)


def test_order_loops_for_the_compiler_decide_as_numpy_does() -> None:
    random = np.random.default_rng(7)
    paths = np.floor(random.random((15, 20)) * 30)
    for _ in range(10):
        sizes, left = random.integers(1, 9, 8), random.integers(1, 5, 8)
        due = left + random.integers(0, 12, 8)
        found = module._kept_orders_loop(paths, sizes, left, due, module._DUE)
        assert found.tolist() == kept_orders(paths, sizes, left, due).tolist()


def test_a_refused_order_is_told_the_earliest_deadline_that_can_be_promised() -> None:
    hourly = np.tile(np.r_[np.zeros(16), np.full(8, 20.0)], 20)
    idle = Idle(hourly, 0.0, 20)
    new = Order("night", 16, 4, 6)
    assert not can_admit([], new, idle)
    due = earliest_due([], new, idle)
    assert due is not None and can_admit([], replace(new, due_hours=due), idle)
    assert most_accelerators([], replace(new, accelerators=30, due_hours=due), idle) >= 16
    assert earliest_due([], replace(new, accelerators=21), idle) is None


def test_too_little_history_promises_nothing() -> None:
    idle = Idle(np.full(20, 50.0), 50.0, 50)
    assert OpenOrders(Kind(4, 24)).room(idle) == 0
    assert not can_admit([], Order("o", 1, 1, 24), idle)


def test_the_record_that_speaks_for_an_order_is_at_least_as_hard() -> None:
    kinds = [Kind(1, 8), Kind(4, 24), Kind(1, 24), Kind(24, 48)]
    assert covering(kinds, 1, 30) == Kind(1, 24)
    assert covering(kinds, 3, 40) == Kind(4, 24)
    assert covering(kinds, 1, 10) == Kind(1, 8)
    assert covering(kinds, 30, 48) is None
    assert covering(kinds, 4, 12) is None


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Kind(0, 4),
        lambda: Kind(5, 4),
        lambda: Kind(1, 10_000),
        lambda: Order("o", 0, 1, 2),
        lambda: Order("o", 1, 0, 2),
    ],
)
def test_what_no_path_can_meet_is_refused(bad: object) -> None:
    with pytest.raises(InvalidInputError):
        bad()  # type: ignore[operator]


class TestAnswer:
    """What a customer is told."""

    RISK = 0.01

    def _standing(self, earned: float) -> dict[Kind, Standing]:
        return {Kind(4, 24): Standing(earned=earned, rate=10.0)}

    def test_what_can_be_kept_and_was_earned_is_promised(self) -> None:
        idle = Idle(np.full(200, 40.0), 40.0, 60)
        found = answer(Order("o", 8, 4, 30), [], idle, self._standing(100), self.RISK)
        assert (found.admitted, found.most, found.latest_start_hours) == (True, 8, 26)

    def test_more_than_the_record_earned_waits_for_hours_that_are_told(self) -> None:
        idle = Idle(np.full(200, 40.0), 40.0, 60)
        found = answer(Order("o", 8, 4, 30), [], idle, self._standing(5), self.RISK)
        assert (found.admitted, found.reason, found.most) == (False, "budget", 5)
        assert found.hours_to_open is not None and f"{found.hours_to_open} more hours" in found.sentence

    def test_what_could_not_start_soon_is_refused_whatever_comes_later(self) -> None:
        idle = Idle(np.full(200, 40.0), 4.0, 60)
        found = answer(Order("o", 8, 4, 30), [], idle, self._standing(100), self.RISK)
        assert (found.reason, found.most) == ("idle_now", 4)

    def test_a_deadline_that_no_path_can_meet_is_answered_with_the_earliest_that_can(self) -> None:
        nights = np.tile(np.r_[np.zeros(16), np.full(8, 20.0)], 20)
        idle = Idle(nights, 16.0, 20)
        found = answer(Order("o", 10, 4, 3), [], idle, self._standing(100), self.RISK)
        assert found.reason == "deadline" and found.earliest_due_hours is not None
        assert f"in {found.earliest_due_hours} h" in found.sentence

    def test_an_order_that_no_record_covers_is_not_sold_on_the_pool(self) -> None:
        idle = Idle(np.full(200, 40.0), 40.0, 60)
        found = answer(Order("o", 1, 30, 48), [], idle, self._standing(100), self.RISK)
        assert found.reason == "kind" and "4 h within 24 h" in found.sentence

    def test_a_long_order_says_that_the_owner_has_never_used_the_pool(self) -> None:
        idle = Idle(np.full(200, 40.0), 40.0, 60)
        found = answer(Order("o", 1, 12, 30), [], idle, {Kind(12, 24): Standing(unused=True, near=True)}, self.RISK)
        assert found.reason == "budget" and found.hours_to_open is None
        assert "has not used half of it" in found.sentence

    def test_open_orders_count_and_too_many_are_too_many(self) -> None:
        idle = Idle(np.full(200, 40.0), 40.0, 60)
        orders = [Order(str(place), 10, 4, 30) for place in range(4)]
        assert answer(Order("o", 9, 4, 30), orders, idle, self._standing(100), self.RISK).most == 8
        many = [Order(str(place), 1, 1, 1) for place in range(ORDERS_MAX)]
        assert answer(Order("o", 1, 4, 30), many, idle, self._standing(1e6), self.RISK).reason == "orders"


def test_a_pool_counts_as_used_once_half_of_it_was_needed_lately() -> None:
    capacity, in_use = np.full(200, 10.0), np.full(200, 4.0)
    assert not used(capacity, in_use)
    in_use[20] = 5.0
    assert used(capacity, in_use)
    assert not used(np.r_[capacity, np.full(MEMORY_HOURS, 10.0)], np.r_[in_use, np.full(MEMORY_HOURS, 4.0)])
    assert not used(np.array([0.0, math.nan, 10.0]), np.array([0.0, 9.0, math.nan])), (
        "neither an outage nor a gap is use"
    )
