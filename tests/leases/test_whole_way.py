"""The whole way of a lease for real: sold, started, logged in to, killed, noticed, taken back, billed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Connection
from tests.classes import a_class
from tests.leases.machine import WAIT_S, Tenant, client_key, kill_shim, local_settings
from tests.leases.world import PRICE_NANO, pool_spec

from sublet.fleet.service import Fleet
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.lifecycle.metering import UsageInterval
from sublet.leases.model import Lease, LeaseState, credit_nano
from sublet.leases.ports import CreditNote, LeasePorts
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.leases.service import Leases
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.values.service_classes import ServiceClasses
from sublet.values.windows import Window

pytestmark = pytest.mark.real
NOTICE_S = 6


class House:
    """The service on the local backend and the machine's clock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.store = Store(f"sqlite:///{path}/x.db")
        metadata.create_all(self.store.engine)
        self.pool = Fleet(self.store).sync([pool_spec("this-machine", 2, backend="local")])[0]
        self.billed: dict[str, UsageInterval] = {}
        self.credits: list[CreditNote] = []
        self.restart()

    def restart(self) -> None:
        self.backend = LocalBackend(local_settings(self.path / "leases"))
        ports = LeasePorts(
            sellable=lambda connection, pool, name, window: 10,
            price=lambda connection, pool, name, window, organization: (PRICE_NANO, "USD"),
            may_stay=lambda connection, pool, window, calm_s: self.pool.accelerators,
            emit=self.emit,
            post_credit=lambda connection, note: self.credits.append(note),
            classes=ServiceClasses([a_class("notice", NOTICE_S, 10, credit_ratio=Decimal("0.10"))]),
        )
        self.leases = Leases(self.store, {"local": self.backend}, ports, workers=4)

    def emit(self, connection: Connection, interval: UsageInterval) -> None:
        assert self.billed.setdefault(interval.id, interval) == interval

    def until(self, lease: Lease, wanted: Callable[[Lease], bool], seconds: float = WAIT_S) -> Lease:
        deadline = time.monotonic() + seconds
        while True:
            self.leases.tick()
            found = self.leases.lease(lease.id)
            if wanted(found):
                return found
            assert time.monotonic() < deadline, found
            time.sleep(0.1)


def test_the_whole_way(tmp_path: Path) -> None:
    house, key = House(tmp_path), client_key(tmp_path)
    now = house.store.clock.now()
    quote = house.leases.quote("org_a", QuoteRequest(1, "notice", now + timedelta(minutes=10), None, house.pool.name))
    lease = house.leases.accept("org_a", quote.id, [key.with_name("client_key.pub").read_text()])
    active = house.until(lease, lambda item: item.state is LeaseState.ACTIVE)
    assert active.endpoint is not None
    tenant = Tenant(house.backend, lease.id, key, tmp_path)
    assert tenant.run("echo $SUBLET_LEASE; echo kept > ~/file")[1] == lease.id
    assert active.guarantees["network"]["level"] == "hard"

    time.sleep(2)
    kill_shim(tmp_path / "leases", lease.id)
    house.restart()
    house.until(
        lease, lambda item: item.state is LeaseState.ACTIVE and tenant.seen.state.live and bool(tenant.seen.endpoint)
    )
    assert tenant.run("cat ~/file")[1] == "kept"

    window = Window.starting(house.store.clock.now(), 3600)
    plan = house.leases.reclaim(ReclaimOrder(house.pool.name, 2, window, "training run"), "team")
    assert [victim["lease_id"] for victim in plan["victims"]] == [lease.id]
    noticed = house.until(lease, lambda item: item.state is LeaseState.NOTICE)
    house.until(lease, lambda item: tenant.seen.reclaim_at is not None)
    told = json.loads(tenant.run("cat /run/sublet/lease.json")[1])
    assert told["reclaim_at"] and told["action"] == "terminate"

    ended = house.until(lease, lambda item: item.state is LeaseState.ENDED)
    assert noticed.reclaim_at is not None and ended.ended_at is not None
    assert noticed.reclaim_at <= ended.ended_at < noticed.reclaim_at + timedelta(seconds=WAIT_S)
    assert ended.end_reason == "reclaimed"
    assert [note.amount_nano for note in house.credits] == [credit_nano(active, noticed.reclaim_at)]
    assert active.active_at is not None
    lived_s = (noticed.reclaim_at - active.active_at).total_seconds()
    billed_s = sum(interval.accelerator_s for interval in house.billed.values())
    assert billed_s == ended.metered_s and 0 < billed_s <= lived_s
    house.until(lease, lambda item: house.backend.observe_all() == {})
    assert house.leases.quarantined() == [] and house.leases.book(house.pool.id) == []
    house.store.close()


def test_many_leases_are_started_and_ended_side_by_side(tmp_path: Path) -> None:
    house, key = House(tmp_path), client_key(tmp_path)
    line, now = key.with_name("client_key.pub").read_text(), house.store.clock.now()
    house.pool = Fleet(house.store).sync([pool_spec("this-machine", 10, backend="local")])[0]
    sold = []
    for number in range(8):
        request = QuoteRequest(1, "notice", now + timedelta(minutes=10), None, house.pool.name)
        quote = house.leases.quote(f"org_{number}", request)
        sold.append(house.leases.accept(f"org_{number}", quote.id, [line]))
    for lease in sold:
        house.until(lease, lambda item: item.state is LeaseState.ACTIVE)
    for lease in sold:
        house.leases.end(lease.id)
    for lease in sold:
        house.until(lease, lambda item: item.state is LeaseState.ENDED)
    assert house.leases.quarantined() == []
    house.store.close()
