"""What one decision finds out for the next is what that one would have found out by itself, to the last bit and word."""

from __future__ import annotations

import gc
import math
import weakref
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from tests.classes import a_class
from tests.surplus import series as made

from sublet.surplus.deadlines.kinds import Idle, Kind, OpenOrders
from sublet.surplus.deadlines.paths import idle_paths
from sublet.surplus.deadlines.replay import last_admitted
from sublet.surplus.model import PoolFacts, Sellable, Sold
from sublet.surplus.rule import ladder as rule
from sublet.surplus.rule.memory import hours_of
from sublet.surplus.rule.view import View
from sublet.surplus.service import view_of
from sublet.values.windows import Window

CLASSES = (a_class("firm", None, 10), a_class("notice", 300, 10), a_class("spot", 120, 1000))
POLICIES = {policy.name: policy for policy in CLASSES}
SERIES = made.series(30, seed=7, pool="known")


def _views() -> list[View]:
    facts = PoolFacts("pool_a", "known", 100, never_sell=2)
    moments = [SERIES.end - timedelta(hours=hours, minutes=minutes) for hours, minutes in ((0, 0), (9, 20), (21, 0))]
    return [view_of(SERIES.until(at), hours_of(SERIES.until(at), at), facts, (), at) for at in moments]


def _all_offers() -> list[Sellable]:
    found = []
    for view in _views():
        for count in (0, 5):
            sold = [Sold(count, "firm", Window.starting(view.at, 5400))] if count else []
            for policy in CLASSES:
                found += rule.offers(view, policy, sold, POLICIES)
                found += [
                    rule.sellable(view, policy, Window.starting(view.at + timedelta(hours=1), length), sold, POLICIES)
                    for length in (*policy.windows_s, 7200)
                ]
    return found


def test_classes_that_share_a_horizon_decide_as_each_would_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = _all_offers()
    monkeypatch.setattr(rule, "_by_horizon", rule._by_itself)
    alone = _all_offers()
    assert shared == alone
    assert any(item.count for item in shared) and {item.window_s for item in shared} >= {3600, 7200, 86400}


@pytest.mark.parametrize("seed", [2, 5])
def test_kinds_of_orders_that_share_their_paths_admit_as_each_would_alone(seed: int) -> None:
    random = np.random.default_rng(seed)
    hours = np.arange(40 * 24)
    hourly = np.floor(np.clip(30 + 12 * np.sin(hours / 7) + random.normal(0, 5, hours.size), 0, 60))
    kinds = [Kind(1, 8), Kind(1, 24), Kind(4, 24), Kind(12, 24)]
    books = [OpenOrders(kind) for kind in kinds]
    admitted = 0
    for t in range(hourly.size - 30, hourly.size):
        idle = Idle(hourly[:t], float(hourly[t - 1]), 60.0)
        for book in books:
            room = book.room(idle, last_admitted)
            assert room == _room_alone(book, hourly[:t])
            admitted += room
            book.add(room)
            book.pass_hour(float(hourly[t]))
    assert admitted > 100


def _room_alone(book: OpenOrders, hourly: np.ndarray[tuple[int], np.dtype[np.float64]]) -> int:
    """What may be admitted, with paths of its own that are ordered after those that matter were picked."""
    kind, now = book.kind, float(hourly[-1])
    most = math.floor(kind.ahead * now - book.count)
    if most < 1:
        return 0
    paths = idle_paths(hourly, now, 60.0, kind.within)
    most = min(most, math.floor((float(paths.sum(axis=1).min()) - book.work) / kind.hours))
    if most < 1:
        return 0
    tight = paths[paths[:, : kind.hours].min(axis=1) < book.count + most]
    tight = tight[np.argsort(tight.sum(axis=1), kind="stable")]
    return int(last_admitted(tight, book.grid, float(most)))


def test_what_decisions_keep_of_a_view_is_freed_with_it() -> None:
    gc.collect()
    gc.disable()
    try:
        views = _views()
        for view in views:
            for policy in CLASSES:
                rule.offers(view, policy, [Sold(5, "firm", Window.starting(view.at, 5400))], POLICIES)
                rule.offers(view, policy, (), POLICIES)
        held = [weakref.ref(view) for view in views]
        del view, views
        assert [reference() for reference in held] == [None] * len(held)
    finally:
        gc.enable()


def test_windows_too_long_for_a_forecast_ask_for_none() -> None:
    view = replace(_views()[0], standings={})
    window = Window.starting(view.at, 24 * 3600)
    found = rule.sellable(view, CLASSES[0], window, (), {"firm": CLASSES[0]})
    assert found.count == 0 and "long_window" in [item.reason_code for item in found.withheld]
    assert not view.hours.sellers and not view.hours.methods
