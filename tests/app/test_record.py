"""The record in the running service: the loop lives through demand, the API and the console show it, leases count in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from sublet.control.plane import ControlPlane, build_api
from sublet.leases.model import Lease
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.world import SSH_KEY, World
from sublet.values.windows import Window


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w", accelerators=16)
    made.remember(days=10, need=0.25, spread=0.03)
    yield made
    made.close()


def take(world: World, name: str, seconds: int, organization: str, count: int = 1) -> Lease:
    end = world.clock.now() + timedelta(seconds=seconds)
    quote = world.system.leases.quote(organization, QuoteRequest(count, name, end, pool=world.pool.id))
    return world.system.leases.accept(organization, quote.id, [SSH_KEY])


def test_the_loop_lives_through_what_was_recorded_and_then_rests(world: World) -> None:
    loop = {loop.name: loop for loop in ControlPlane(world.system).loops}["record"]
    world.clock.advance(3600)
    for _ in range(400):
        assert loop.once(), loop.last_error
        if world.system.record.of(world.pool.id, "p").lived.behind == 0:
            break
        world.clock.advance(16)
    shown = world.system.record.of(world.pool.id, "p")
    assert shown.lived.hours >= 10 * 24 - 1 and shown.lived.behind == 0
    assert {item.class_name for item in shown.shadow if item.windows} >= {"spot", "notice"}
    kinds = {(item.class_name, item.window_s) for item in shown.shadow}
    # Uninterrupted windows of 12 h and more are not sold from a forecast, so nothing is recorded of them.
    assert len(kinds) == len(shown.shadow) == 10 and max(window for name, window in kinds if name == "firm") == 4 * 3600


def test_leases_that_are_over_count_as_what_became_of_them(world: World) -> None:
    world.pass_time(600)
    system = world.system
    customer = system.accounts.create_organization("Aurora").id
    kept = take(world, "notice", 1200, customer)
    left = take(world, "notice", 3600, customer)
    broken = take(world, "notice", 3600, customer, count=2)
    canceled = take(world, "spot", 3600, customer)
    system.leases.end(canceled.id, customer)
    world.pass_time(700)
    system.leases.end(left.id, customer)
    now = world.clock.now()
    system.demand.add_claim(
        world.pool.id, world.pool.accelerators, Window(now, now + timedelta(hours=6)), "training run"
    )
    # The others' windows are over before the notice of the one that goes on.
    world.pass_time(900)
    shown = {item.class_name: item for item in system.record.of(world.pool.id, "p").leases}
    assert [lease.state.value for lease in system.leases.leases()].count("ended") >= 3
    told = shown["notice"]
    assert (told.windows, told.released, told.kept + told.broken) == (3, 1, 2)
    assert told.broken >= 1 and told.short_notices == 0
    assert system.leases.lease(broken.id).end_reason == "reclaimed"
    assert system.leases.lease(kept.id).end_reason in ("window_over", "reclaimed")


def test_the_api_and_the_console_show_it_to_the_operator_alone(world: World) -> None:
    system = world.system
    world.clock.advance(3600)
    system.record.advance([world.pool.id])
    plane = ControlPlane(system)
    client = TestClient(build_api(system, plane), base_url="http://console.test", follow_redirects=False)
    operator = system.accounts.create_organization("owner", "operator")
    customer = system.accounts.create_organization("Aurora")
    keys = [system.accounts.create_key(item.id)[1] for item in (operator, customer)]
    owner, other = ({"Authorization": f"Bearer {key}"} for key in keys)
    (told,) = client.get("/v1/record", headers=owner).json()["pools"]
    assert told["pool"] == world.pool.name and told["shadow"]["hours"] == 10 * 24 - 1
    assert len(told["shadow"]["figures"]) == 10 and told["leases"]["figures"] == []
    assert client.get("/v1/record", headers=other).status_code == 403
    assert client.get("/v1/record", headers=owner, params={"pool": "nowhere"}).status_code == 404
    assert client.get("/v1/record", headers=owner, params={"days": 0}).status_code in (400, 422)
    assert client.post("/login", data={"key": keys[0]}).status_code == 303
    page = client.get("/record", params={"pool": world.pool.name})
    assert page.status_code == 200 and "simulates sales with the same rule" in page.text
