"""What no transaction shows is told all the same, once for as long as it lasts."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.store.events import kinds, payloads

from sublet.config.data_dir import note_backup
from sublet.control.loops import Loop
from sublet.control.plane import LED, ControlPlane
from sublet.control.watching import LOOP_FAILURES, Watching
from sublet.demand.model import Sample
from sublet.simulation.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w")
    yield made
    made.close()


def fails() -> None:
    raise RuntimeError("no route")


def test_a_loop_that_fails_is_told_until_it_recovers(world: World) -> None:
    loop = Loop("rating", 1.0, fails, world.clock)
    watching = Watching(world.system, [loop])
    for _ in range(LOOP_FAILURES - 1):
        loop.once()
    watching.own_round()
    assert kinds(world.system.store) == []
    for _ in range(3):
        loop.once()
        world.clock.advance(10)
        watching.own_round()
    assert [(item["loop"], item["error"]) for item in payloads(world.system.store)] == [("rating", "no route")]
    loop.round = lambda: None
    loop.once()
    loop.round = fails
    world.clock.advance(10)
    for _ in range(LOOP_FAILURES + 2):
        loop.once()
        watching.own_round()
    assert kinds(world.system.store) == ["loop.stuck", "loop.stuck"]


def test_a_loop_that_stands_is_told_once_a_round(world: World) -> None:
    loop = Loop("leases", 1.0, lambda: None, world.clock)
    watching = Watching(world.system, [loop])
    for _ in range(2):
        loop.once()
        loop.ended_s = time.monotonic() - 100
        for _ in range(3):
            watching.own_round()
            world.clock.advance(10)
    assert kinds(world.system.store) == ["loop.stuck", "loop.stuck"]


def test_an_old_backup(world: World) -> None:
    world.system.settings = world.settings.model_copy(
        update={"notifications": world.settings.notifications.model_copy(update={"backup_max_age_hours": 24})}
    )
    watching = Watching(world.system, [])
    watching.own_round()
    watching.own_round()
    note_backup(world.settings.data_dir, world.clock.now())
    watching.own_round()
    assert [item["made_at"] for item in payloads(world.system.store)] == [None]
    world.clock.advance(24 * 3600 + 1)
    watching.own_round()
    watching.own_round()
    assert [item["made_at"] for item in payloads(world.system.store)] == [None, "2026-01-05T00:00:00Z"]


def test_a_pool_that_is_measured_and_silent(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = world.pool
    world.system.demand.record_samples(pool.id, [Sample(world.clock.now(), 16.0, 1.0)])
    watching = Watching(world.system, [])
    world.clock.advance(3600)
    watching.led_round()
    assert kinds(world.system.store, "feed.") == [], "what is only imported is no feed"
    local = [type("Local", (), {"id": pool.id, "name": pool.name, "offline_at": None, "backend": "local"})()]
    monkeypatch.setattr(world.system.fleet, "pools", lambda: local)
    watching.led_round()
    watching.led_round()
    [told] = payloads(world.system.store, "feed.")
    assert told["last_sample_at"] == "2026-01-05T00:00:00Z"
    world.system.demand.record_samples(pool.id, [Sample(world.clock.now(), 16.0, 1.0)])
    world.clock.advance(timedelta(minutes=6).total_seconds())
    watching.led_round()
    assert len(payloads(world.system.store, "feed.")) == 2


def test_every_control_plane_watches_and_one_watches_for_all(world: World) -> None:
    plane = ControlPlane(world.system)
    assert {"watching", "watching-all", "outbox"} <= {loop.name for loop in plane.loops}
    assert {"watching-all", "outbox"} <= set(LED)
    for loop in plane.loops:
        if loop.name.startswith("watching"):
            assert loop.once(), loop.last_error
