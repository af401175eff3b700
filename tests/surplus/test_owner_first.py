"""What the owner keeps, by a claim, a reclaim, a reserve or a smaller block, never puts more on sale, by a window or by a deadline;
and more risk never promises less."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from functools import cache

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.surplus.test_service import CLASSES, END, POLICIES, SERIES, claim, view

from sublet.demand.model import Claim
from sublet.surplus.budget import Pace, Passed, Standing
from sublet.surplus.deadlines.book import idle_of, on_sale, orders_of
from sublet.surplus.deadlines.kinds import Idle, Kind
from sublet.surplus.deadlines.orders import Order, kept_share
from sublet.surplus.model import PoolFacts, Promised, Sold, StandingBlock, Stood
from sublet.surplus.rule import ladder as rule
from sublet.surplus.rule.blocks import at_least, guaranteed
from sublet.surplus.rule.view import View
from sublet.values.service_classes import ServiceClass, TakeBack
from sublet.values.windows import Window

ORDERS = ((1, 8), (4, 24))
BY_DEADLINE = ServiceClass("deadline", TakeBack.PAUSE, 600, 10, 0, orders=ORDERS)
AT = END - timedelta(hours=15)


@cache
def standings() -> dict[tuple[str, int, int], Stood]:
    found = {}
    for hours, within in ORDERS:
        kind = Kind(hours, within)
        hour = int(AT.timestamp()) // 3600
        standing = Standing(earned=90.0, rate=5.0)
        found["deadline", hours, within] = Stood("deadline", hours, within, hour, kind.pace(0.01), standing)
    return found


def pool(claims: list[Claim], reserve: int = 0, block: int = 0, reclaimed: int = 0) -> View:
    blocks = (StandingBlock("blk", block, Window.starting(AT - timedelta(days=2), 20 * 86_400)),) if block else ()
    reclaims = (claim(reclaimed, AT, 30, 90),) if reclaimed else ()
    facts = PoolFacts("pool_a", "made", 100, reserve, blocks=blocks, reclaims=reclaims)
    return replace(view(claims, facts, SERIES.until(AT), AT), standings=standings())


def by_deadline(known: View, promised: list[Promised]) -> list[int]:
    idle = idle_of(known, (), {**POLICIES, "deadline": BY_DEADLINE})
    return [item.count for item in on_sale(known, idle, BY_DEADLINE, promised)]


def by_window(known: View, policy: ServiceClass, hours: int) -> int:
    window = Window.starting(AT, hours * 3600)
    found = rule.sellable(known, policy, window, (), POLICIES)
    return at_least(found, guaranteed(known, policy, window, (), POLICIES)).count


kept = st.tuples(st.integers(1, 120), st.integers(-5, 20), st.integers(1, 40))


@settings(max_examples=15, deadline=None)
@given(st.lists(kept, max_size=2), kept, st.integers(0, 30), st.integers(0, 40))
def test_what_the_owner_keeps_never_puts_more_on_sale_by_a_deadline(
    others: list[tuple[int, int, int]], added: tuple[int, int, int], reserve: int, reclaimed: int
) -> None:
    def claims(items: list[tuple[int, int, int]]) -> list[Claim]:
        return [
            claim(count, AT + timedelta(hours=begin), hours, place) for place, (count, begin, hours) in enumerate(items)
        ]

    promised = [Promised("o", 2, 3600, AT + timedelta(hours=20))]
    before = by_deadline(pool(claims(others)), promised)
    assert len(before) == len(ORDERS)
    for fewer in (
        by_deadline(pool(claims([*others, added])), promised),
        by_deadline(pool(claims(others), reserve=reserve), promised),
        by_deadline(pool(claims(others), reclaimed=reclaimed), promised),
    ):
        assert all(after <= count for after, count in zip(fewer, before, strict=True))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 100), st.integers(0, 100), st.sampled_from(CLASSES), st.sampled_from([1, 4, 24, 96]))
def test_a_block_that_gives_some_back_to_its_owner_never_puts_more_on_sale(
    one: int, other: int, policy: ServiceClass, hours: int
) -> None:
    small, large = (pool([], block=count) for count in sorted((one, other)))
    assert by_window(small, policy, hours) <= by_window(large, policy, hours)
    # Idle accelerators that are kept off the owner are sold from the block, and others by the forecast: an order has either.
    certain = [idle_of(known, (), POLICIES).certain for known in (small, large)]
    orders = [Order("o", max(1, min(one, other)), 4, 24)]
    assert kept_share(orders, certain[0]) <= kept_share(orders, certain[1])


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 60), st.integers(0, 9), st.integers(1, 200), st.integers(0, 2)),
        min_size=1,
        max_size=120,
    ),
    st.tuples(st.floats(0.0005, 0.2), st.floats(0.0005, 0.2)),
    st.sampled_from([(1, 1.5, 1.0), (4, 2.0, 0.5), (4, 1.0, 1.0), (24, 1.0, 0.5)]),
)
def test_more_risk_never_supports_fewer_promises_while_no_monitor_has_spoken(
    hours: list[tuple[int, int, int, int]], risks: tuple[float, float], terms: tuple[int, float, float]
) -> None:
    paces = [Pace(risk, *terms) for risk in sorted(risks)]
    low, high = Standing(), Standing()
    for hour, (sold, broken, running, near) in enumerate(hours):
        for standing, pace in ((low, paces[0]), (high, paces[1])):
            standing.pass_hour(pace, hour, Passed(sold, min(broken, running), running, near))
        if low.alarms or high.alarms:
            return
        assert low.most(paces[0]) <= high.most(paces[1])


def test_a_pool_that_is_all_block_shows_what_can_be_ordered_of_it_without_a_record() -> None:
    known = replace(pool([], block=100), standings={})
    policies = {**POLICIES, "deadline": BY_DEADLINE}
    sold = [Sold(40, "firm", Window.starting(AT, 400 * 3600), "blk")]
    idle = idle_of(known, [replace(item, class_name="block") for item in sold], policies)
    shown = {str(item.kind): (item.count, item.sentence) for item in on_sale(known, idle, BY_DEADLINE, [])}
    assert set(shown) == {"1 h within 8 h", "4 h within 24 h"}
    assert all(count > 0 and "no forecast stands behind them" in why for count, why in shown.values())
    assert orders_of([], AT) == [] and isinstance(idle, Idle) and np.all(idle.floor >= 0)
