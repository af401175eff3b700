"""Long orders earn nothing while the owner has hardly used the pool, and shorter ones earn as ever."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from tests.surplus.test_service import END, SERIES

from sublet.surplus.backtest.promises import deadlines
from sublet.surplus.backtest.scoring import Trace
from sublet.surplus.deadlines.kinds import Kind, OpenOrders
from sublet.surplus.model import PoolFacts
from sublet.surplus.record.shadow_book import ShadowBook, hour_of
from sublet.surplus.rule.memory import hours_of
from sublet.surplus.service import view_of
from sublet.values.service_classes import ServiceClass, TakeBack

AT = END - timedelta(hours=15)
LONG, SHORT = Kind(12, 24), Kind(4, 24)
POLICY = ServiceClass("deadline", TakeBack.PAUSE, 600, 10, 0, orders=((12, 24), (4, 24)))


@pytest.mark.parametrize("quiet", [True, False])
def test_the_shadow_of_the_service_knows_whether_the_owner_used_half_of_the_pool(quiet: bool) -> None:
    series = SERIES.until(AT)
    highest = float((series.in_use / series.capacity).max())
    series = replace(series, in_use=np.floor(series.in_use * (0.45 if quiet else 0.9) / highest))
    book = ShadowBook(hour_of(AT), hour_of(AT))
    for kind in (LONG, SHORT):
        orders = OpenOrders(kind)
        orders.grid[-1, 0] = 5
        book.orders["deadline", kind.hours, kind.within] = orders
    view = view_of(series, hours_of(series, AT), PoolFacts("pool_a", "made", 100), (), AT)
    book.sell(view, {"deadline": POLICY})
    book.happen(100, 100)
    long, short = (book.standings["deadline", kind.hours, kind.within] for kind in (LONG, SHORT))
    assert long.sold == short.sold == 5
    assert (long.unused, long.wary, short.unused) == (quiet, quiet, False)
    assert (long.earned > 0) is not quiet and short.earned > 0


def test_the_backtest_sells_no_long_order_before_the_owner_has_used_half_of_the_pool() -> None:
    in_use = np.full(30 * 24, 2.0)
    trace = Trace("late", 0, np.full(in_use.size, 20.0), in_use, 4 * 24)
    quiet = deadlines(trace, LONG)
    assert quiet.promised == 0 and quiet.standing.unused and quiet.standing.sold > 0
    in_use[0] = 10.0
    assert deadlines(trace, LONG).promised > 0
