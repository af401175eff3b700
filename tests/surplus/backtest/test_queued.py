"""Pools whose demand is a batch queue: knowing the jobs sells what no forecast can, and never into what they need."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sublet.surplus.backtest.promises import deadlines, depth_of, firm
from sublet.surplus.backtest.queued import queued
from sublet.surplus.backtest.scoring import Trace
from sublet.surplus.deadlines.kinds import Kind

SEEDS = (0,)


@pytest.mark.parametrize("seed", SEEDS)
def test_known_jobs_are_never_sold_into(seed: int) -> None:
    trace = queued(seed, 20, 10 * 24)
    found = firm(trace, 1)
    for t in np.flatnonzero(found.sold).tolist():
        assert found.sold[t] <= trace.capacity[t] - trace.need(t)[0]
    assert found.sold.any() and not found.above(20)
    assert not deadlines(trace, Kind(1, 8)).above(20)


@pytest.mark.parametrize("window", [1, 4])
def test_knowing_the_jobs_never_sells_deeper_at_the_same_moment(window: int) -> None:
    trace = queued(1, 12)
    blind, knowing = depth_of(replace(trace, known=None), window, 0.05), depth_of(trace, window, 0.05)
    depths = []
    for t in range(8 * 24, 12 * 24):
        room = np.full(window, trace.capacity[t - 1] - trace.in_use[t - 1])
        depths.append((blind(t, room, 0.0), knowing(t, room, 0.0)))
    assert all(known <= unknown for unknown, known in depths)
    assert any(known < unknown for unknown, known in depths)


def test_what_is_known_of_jobs_is_no_look_ahead() -> None:
    trace = queued(3, 16, 8 * 24)
    end = 14 * 24
    assert trace.known is not None
    changed, known = trace.in_use.copy(), trace.known.copy()
    changed[end:], known[end + 1 :] = trace.capacity[end:] - changed[end:], 0
    other = Trace(trace.name, 0, trace.capacity, changed, trace.warmup, known=known)
    one, two = firm(trace, 1), firm(other, 1)
    assert np.array_equal(one.sold[: end + 1], two.sold[: end + 1]) and one.sold[:end].any()
