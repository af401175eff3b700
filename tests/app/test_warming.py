"""After a start, what a forecast stands on is learned in the background, so that the first quote learns next to nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sublet.control import plane as control
from sublet.control.plane import ControlPlane
from sublet.simulation.world import World
from sublet.surplus.rule import seller

DAYS = 12
HOURS_MAX = 6
"""Slots that the first question may live through: the newest hour, by each way of forecasting."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A pool whose history was just imported, after a restart: no record has lived through it yet."""
    world = World(tmp_path / "w", accelerators=8)
    world.remember(days=DAYS, need=0.3, spread=0.2)
    world.observe()
    world.crash()
    yield world
    world.close()


@pytest.fixture
def lived(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The slots that shadows lived through."""
    slots: list[int] = []
    live = seller.Record.live

    def counted(self: seller.Record, forecaster: object, in_use: object, capacity: object, t: int) -> None:
        slots.append(t)
        live(self, forecaster, in_use, capacity, t)  # type: ignore[arg-type]

    monkeypatch.setattr(seller.Record, "live", counted)
    return slots


def test_the_first_question_after_a_start_learns_no_more_than_the_newest_hour(world: World, lived: list[int]) -> None:
    plane = ControlPlane(world.system)
    loop = {loop.name: loop for loop in plane.loops}["warming"]
    for _ in range(200):
        assert loop.once()
        if world.pool.id in plane._warm_at:
            break
    learned, before = len(lived), set(lived)
    assert learned > 100, "there was something to learn"
    warm = world.system.surplus.ladder(world.pool.id)
    assert len(set(lived[learned:]) - before) <= 1 and len(lived) - learned <= HOURS_MAX
    world.crash()
    assert world.system.surplus.ladder(world.pool.id).as_dict() == warm.as_dict(), "no answer depends on it"


def test_it_takes_its_time_and_looks_again(world: World, lived: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "WARM_BUDGET_S", 1e-9)
    plane = ControlPlane(world.system)
    plane._warm()
    some = len(lived)
    assert world.pool.id not in plane._warm_at
    plane._warm()
    assert len(lived) >= some
    monkeypatch.setattr(control, "WARM_BUDGET_S", 600.0)
    plane._warm()
    assert world.pool.id in plane._warm_at
    done = len(lived)
    plane._warm()
    assert len(lived) == done
    world.clock.advance(control.WARM_AGAIN_S + 7200)
    world.observe()
    plane._warm()
    assert len(lived) > done
