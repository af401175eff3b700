"""The desk's records as the running system fills them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sublet.desk.actuals import forecast_scores, pool_lines
from sublet.ledger import figures
from sublet.reporting.actuals import actuals
from sublet.simulation.story import play
from sublet.simulation.world import World
from sublet.values.windows import Window


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w", seed=5)
    yield made
    made.close()


def test_what_was_spare_and_what_was_foreseen_are_told_from_the_demand_that_was_seen(world: World) -> None:
    play(world)
    now = world.clock.now()
    seen = actuals(world.system, Window(now - timedelta(days=10), now))
    offered = seen.pools["simulated"].offered_hours
    # A quarter of 16 accelerators was in use: some 12 were idle in each of 240 hours.
    assert 0.65 * 16 * 240 < offered < 0.85 * 16 * 240
    (line,) = [line for line in pool_lines(seen) if line.channel == "raw"]
    assert line.utilization == pytest.approx(line.accelerator_hours / offered)
    # The lease was taken back: what was credited is what the books were charged with, in the pool that it was of.
    with world.system.store.read() as connection:
        charged = sum(figures.balance(connection, "penalties").values())
    assert charged > 0
    assert seen.by_pool_channel["simulated", "raw"].credits_nano == seen.total.credits_nano == charged
    (score,) = forecast_scores(seen)
    assert score.pool == "simulated"
    # Nine of ten hours should lie between the 5 % and the 95 % quantile.
    assert score.coverage > 0.75
    assert abs(score.bias) < 1.0


def test_a_forecast_knows_nothing_later(world: World) -> None:
    world.remember(days=20, need=0.3, spread=0.05)
    now = world.clock.now()
    early = actuals(world.system, Window(now - timedelta(days=3), now - timedelta(days=2)))
    late = actuals(world.system, Window(now - timedelta(days=3), now))
    shared = [record for record in late.forecasts if record.at < now - timedelta(days=2)]
    assert shared == list(early.forecasts) and shared
