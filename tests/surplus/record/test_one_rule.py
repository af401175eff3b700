"""The running service, its record and the backtest are one rule: on the same recorded hours they sell, break and earn the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import numpy as np
import pytest
from sqlalchemy import Connection
from tests.surplus import series as made
from tests.surplus.series import remember

from sublet.demand import store as demand_sql
from sublet.demand.jobs import Known
from sublet.demand.model import Series, assemble
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.surplus.backtest.promises import deadlines, depth_of, sell
from sublet.surplus.backtest.queued import queued
from sublet.surplus.backtest.scoring import Trace
from sublet.surplus.budget import Standing
from sublet.surplus.deadlines.kinds import Kind
from sublet.surplus.model import HOUR_S, PoolFacts, Sold, Standings
from sublet.surplus.record import store as sql
from sublet.surplus.record.service import Record
from sublet.surplus.record.shadow_book import moment_of
from sublet.surplus.service import Surplus
from sublet.surplus.terms import Shortage, firm_pace
from sublet.values.clock import SimulatedClock
from sublet.values.service_classes import ServiceClass, TakeBack
from sublet.values.windows import Window

DAYS, WARMUP_DAYS, RISK = 8, 5, 0.05
POOL = "pool_a"
TRACE = replace(made.trace(DAYS, capacity=60, seed=11, warmup_days=WARMUP_DAYS), name=POOL)
QUEUED = replace(queued(3, DAYS, WARMUP_DAYS * 24), name=POOL, first_hour=made.START_HOUR)


@dataclass
class Running:
    """The service on one pool that sells all it may in every hour, as the benchmark's endless buyers have it."""

    record: Record
    demand: Demand
    surplus: Surplus
    clock: SimulatedClock
    window: int
    patience_hours: int
    store: Store

    def lives(self, trace: Trace) -> tuple[list[int], list[float]]:
        """What was sold and what broke, by slot after the warm-up."""
        book: list[Sold] = []
        short = Shortage(self.patience_hours)
        sold, lost = [], []
        remember(self.demand, _part(trace, 0, trace.warmup))
        self.store.write(partial(_keep_known, trace, range(1, trace.warmup)))
        for t in range(trace.warmup, len(trace) - self.window + 1):
            at = moment_of(trace.first_hour + t)
            # An hour counts once its last samples had time to come in.
            self.clock.advance((at + timedelta(minutes=5) - self.clock.now()).total_seconds())
            self.store.write(partial(_keep_known, trace, range(t, t + 1)))
            self.record.advance([POOL])
            book = [item for item in book if item.window.end > at]
            wanted = Window.starting(at, self.window * HOUR_S)
            count = self.surplus.sellable(POOL, "firm", wanted, at, book).count
            book.append(Sold(count, "firm", wanted))
            over = max(0.0, sum(item.count for item in book) - float(trace.idle[t]))
            broken = short.breaks(over)
            sold.append(count)
            lost.append(broken)
            book = _youngest_broken(book, int(broken))
            remember(self.demand, _part(trace, t, t + 1))
        return sold, lost


def _part(trace: Trace, first: int, stop: int) -> Series:
    times = (trace.first_hour + np.arange(first, stop, dtype=np.int64)) * HOUR_S * 1_000_000
    return assemble(POOL, times, trace.capacity[first:stop], trace.in_use[first:stop], np.zeros(stop - first))


def _keep_known(trace: Trace, slots: range, connection: Connection) -> None:
    """What is known of jobs when each slot begins, told in the last second before it."""
    if trace.known is None:
        return
    for t in slots:
        at = moment_of(trace.first_hour + t) - timedelta(seconds=1)
        # Nobody asks any more for the need of the hour in which it was told.
        demand_sql.keep_known(connection, POOL, Known(at, np.append(0.0, trace.known[t, :-1])))


def _youngest_broken(book: Sequence[Sold], count: int) -> list[Sold]:
    left = []
    for item in sorted(book, key=lambda item: item.window.start, reverse=True):
        broken = min(count, item.count)
        count -= broken
        if item.count > broken:
            left.append(replace(item, count=item.count - broken))
    return left


def _service(
    store: Store, clock: SimulatedClock, trace: Trace, window: int, patience_hours: int
) -> tuple[Running, list[ServiceClass]]:
    classes = [
        ServiceClass("firm", TakeBack.NEVER, None, 1000 * RISK, 300, windows_s=(window * HOUR_S,)),
        ServiceClass("deadline", TakeBack.PAUSE, 300, 1000 * RISK, 150, orders=((1, 8),)),
    ]
    facts = PoolFacts(POOL, "made", int(trace.capacity[0]), patience_s=patience_hours * HOUR_S)
    demand = Demand(store)

    def standings(pool_id: str, policies: Sequence[ServiceClass], hours: int, connection: Connection) -> Standings:
        return sql.standings(connection, pool_id, policies, hours)

    record = Record(store, demand, lambda _: facts, lambda *_: [], classes)
    surplus = Surplus(demand, lambda *_: facts, lambda *_: [], classes, clock, standings=standings)
    return Running(record, demand, surplus, clock, window, patience_hours, store), classes


@pytest.mark.parametrize(
    ("window", "patience_hours", "trace"),
    [(1, 0, QUEUED), (4, 0, TRACE), (4, 1, TRACE)],
    ids=["queue", "4 h", "patient"],
)
def test_the_service_sells_hour_by_hour_what_the_backtest_sells(
    store: Store, clock: SimulatedClock, window: int, patience_hours: int, trace: Trace
) -> None:
    patient = patience_hours > 0
    pace = firm_pace(window, RISK)
    expected, _ = sell(trace, window, depth_of(trace, window, RISK, patient=patient), pace, patient=patient)
    service, classes = _service(store, clock, trace, window, patience_hours)
    sold, lost = service.lives(trace)
    span = slice(trace.warmup, trace.warmup + len(sold))
    assert np.array_equal(expected.sold[span], sold)
    assert np.array_equal(expected.lost[span], lost)
    assert sum(sold) > 0
    with store.read() as connection:
        stood = sql.standings(connection, POOL, classes, patience_hours)
    # The record has lived through all but the last hour that was sold in.
    lived = trace.until(trace.warmup + len(sold) - 1)
    alone, _ = sell(lived, window, depth_of(lived, window, RISK, patient=patient), pace, patient=patient)
    assert _earned(stood["firm", window, 0].standing) == pytest.approx(_earned(alone.standing))
    orders = deadlines(lived, Kind(1, 8), RISK).standing
    assert _earned(stood["deadline", 1, 8].standing) == pytest.approx(_earned(orders))
    assert orders.sold > 0


def _earned(standing: Standing) -> tuple[float, float, float]:
    return standing.earned, standing.sold, standing.broken
