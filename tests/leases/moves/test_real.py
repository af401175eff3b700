"""For real: a lease moves between two local pools of one machine with its home, its door and its keys, and is billed as one."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.leases.machine import Tenant, client_key, kill_shim
from tests.leases.test_whole_way import House
from tests.leases.world import pool_spec

from sublet.fleet.service import Fleet
from sublet.leases.model import Lease, LeaseState, OnReclaim
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.values.windows import Window

pytestmark = pytest.mark.real


@pytest.mark.parametrize("killed", [False, True], ids=["calm", "killed"])
def test_it_moves_with_its_home_and_its_door(tmp_path: Path, *, killed: bool) -> None:
    house, key = House(tmp_path), client_key(tmp_path)
    specs = [pool_spec("this-machine", 2, backend="local"), pool_spec("beside", 2, backend="local")]
    specs[1] = replace(specs[1], devices=("cpu:2", "cpu:3"))
    pools = {pool.name: pool.id for pool in Fleet(house.store).sync(specs)}
    end = house.store.clock.now() + timedelta(minutes=10)
    request = QuoteRequest(1, "notice", end, None, house.pool.name, on_reclaim=OnReclaim.MOVE)
    quote = house.leases.quote("org_a", request)
    lease = house.leases.accept("org_a", quote.id, [key.with_name("client_key.pub").read_text()])
    active = house.until(lease, lambda item: item.state is LeaseState.ACTIVE)
    tenant = Tenant(house.backend, lease.id, key, tmp_path)
    assert tenant.run("echo kept > ~/file")[0] == 0
    window = Window.starting(house.store.clock.now(), 3600)
    plan = house.leases.reclaim(ReclaimOrder(house.pool.name, 2, window, "training run"), "team")
    assert [victim["move_to"] for victim in plan["victims"]] == [pools["beside"]]
    house.until(lease, lambda item: tenant.seen.reclaim_at is not None)
    told = json.loads(tenant.run("cat /run/sublet/lease.json")[1])
    assert told["reclaim_at"] and told["action"] == "pause"
    if killed:
        # The control plane is gone when the moment comes, and so is the shim: what is there afterward decides.
        kill_shim(tmp_path / "leases", lease.id)
        time.sleep(7)
        house.restart()
        tenant = Tenant(house.backend, lease.id, key, tmp_path)

    def there(item: Lease) -> bool:
        return item.pool_id == pools["beside"] and item.state is LeaseState.ACTIVE and tenant.seen.endpoint is not None

    moved = house.until(lease, there)
    assert tenant.run("cat ~/file")[1] == "kept"
    assert set(moved.devices) <= {"cpu:2", "cpu:3"} and moved.endpoint == active.endpoint
    assert (moved.price_nano, moved.window.end, moved.reclaim_at) == (lease.price_nano, lease.window.end, None)
    told = json.loads(tenant.run("cat /run/sublet/lease.json")[1])
    assert told["reclaim_at"] is None and told["devices"] == list(moved.devices)
    assert tenant.run("sleep 2")[0] == 0, "there is something to bill"
    house.leases.end(lease.id)
    ended = house.until(lease, lambda item: item.state is LeaseState.ENDED)
    assert house.credits == [] and sum(item.accelerator_s for item in house.billed.values()) == ended.metered_s > 0
    house.until(lease, lambda item: house.backend.observe_all() == {})
    assert house.leases.quarantined() == []
    assert [house.leases.book(pool) for pool in pools.values()] == [[], []]
    house.store.close()
