"""Volumes outlive leases: one lease at a time, within the quota, billed by the hour, and gone when they are removed."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.leases.test_api import Site
from tests.leases.world import CUSTOMER, KEY, World

from sublet.leases.backends.base import BackendFailedError, StartOrder
from sublet.leases.model import Lease
from sublet.leases.volumes.api import router
from sublet.leases.volumes.model import StorageHour, Volume, VolumeInUseError, VolumeLimits, VolumeQuotaError
from sublet.leases.volumes.service import NewVolume, Volumes
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError, StorageFullError


@pytest.fixture
def hours(world: World) -> list[StorageHour]:
    """What is billed of volumes."""
    told: list[StorageHour] = []

    def emit(connection: Connection, hour: StorageHour) -> None:
        told.append(hour)

    ports = replace(world.leases._ports, emit_storage=emit, volumes=VolumeLimits(mib_max=1000, count_max=3))
    world.leases.volumes = Volumes(world.store, world.leases._backends, ports)
    return told


def made(world: World, name: str = "data", size_mib: int = 100, who: str = CUSTOMER) -> Volume:
    world.leases.volumes.create(who, NewVolume(name, size_mib, world.pool.name))
    world.leases.tick()
    return world.leases.volumes.volume(name, who)


def leased(world: World, *volumes: str, seconds: int = 600) -> Lease:
    asked = replace(world.request(seconds=seconds), volumes=volumes)
    return world.leases.accept(CUSTOMER, world.leases.quote(CUSTOMER, asked).id, [KEY])


def test_a_volume_has_one_lease_at_a_time_and_is_there_for_the_next(
    world: World, hours: list[StorageHour], monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[StartOrder] = []
    start = world.backend.start
    monkeypatch.setattr(world.backend, "start", lambda order: orders.append(order) or start(order))
    volume = made(world)
    assert volume.state == "ready"
    first = leased(world, "data")
    assert first.volumes == ((volume.id, "data"),)
    with pytest.raises(VolumeInUseError, match=f"is attached to lease {first.id}"):
        leased(world, volume.id)
    with pytest.raises(VolumeInUseError):
        world.leases.volumes.remove("data", CUSTOMER)
    world.run(3)
    assert orders[0].volumes == ((volume.id, "data"),)
    world.leases.end(first.id, CUSTOMER)
    world.run(3)
    assert world.leases.volumes.volume("data", CUSTOMER).lease_id is None
    second = leased(world, volume.id)
    assert second.as_dict()["volumes"] == [{"id": volume.id, "name": "data"}]


def test_f24_a_lease_that_is_taken_back_leaves_its_volume_to_the_tenant(world: World, hours: list[StorageHour]) -> None:
    volume = made(world)
    lease = leased(world, "data")
    world.run(3)
    world.stay = 0
    world.run(700, 5)
    assert world.lease(lease).state.terminal and world.lease(lease).end_reason == "reclaimed"
    kept = world.leases.volumes.volume(volume.id, CUSTOMER)
    assert (kept.state, kept.lease_id) == ("ready", None)


def test_of_two_quotes_with_the_same_volume_one_becomes_a_lease_and_the_other_costs_nothing(
    world: World, hours: list[StorageHour]
) -> None:
    made(world)
    asked = replace(world.request(), volumes=("data",))
    one, other = world.leases.quote(CUSTOMER, asked), world.leases.quote(CUSTOMER, asked)
    lease = world.leases.accept(CUSTOMER, one.id, [KEY])
    with pytest.raises(VolumeInUseError):
        world.leases.accept(CUSTOMER, other.id, [KEY])
    assert [item.id for item in world.leases.leases()] == [lease.id]
    world.leases.end(lease.id, CUSTOMER)
    assert world.leases.volumes.volume("data", CUSTOMER).lease_id is None


def test_every_hour_that_has_begun_is_billed_once_whatever_is_missed_or_repeated(
    world: World, hours: list[StorageHour]
) -> None:
    volume = made(world)
    world.leases.tick()
    world.leases.tick()
    assert [(hour.volume_id, hour.size_mib) for hour in hours] == [(volume.id, 100)]
    world.clock.advance(3 * 3600 + 10)
    for _ in range(3):
        world.leases.tick()
    starts = [hour.start for hour in hours]
    assert starts == [starts[0] + timedelta(hours=number) for number in range(4)]
    assert len({hour.id for hour in hours}) == 4
    world.leases.volumes.remove("data", CUSTOMER)
    world.leases.tick()
    world.clock.advance(86_400)
    world.leases.tick()
    assert len(hours) == 4
    with pytest.raises(NotFoundError):
        world.leases.volumes.volume(volume.id, CUSTOMER)


def test_a_crash_between_the_disk_and_the_book_is_repeated_and_a_failure_is_told(
    world: World, hours: list[StorageHour], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[str] = []

    def fails(volume_id: str, size_mib: int) -> None:
        tried.append(volume_id)
        raise BackendFailedError("it broke at /var/lib/sublet/volumes/x")

    with monkeypatch.context() as patch:
        patch.setattr(world.backend, "make_volume", fails)
        volume = made(world)
        world.leases.tick()
    assert volume.state == "making" and volume.last_error == "it broke at a path of the host" and len(tried) == 2
    assert hours == [], "what was never made is not billed"
    with pytest.raises(ConflictError, match="is making"):
        leased(world, "data")
    world.leases.tick()
    assert world.leases.volumes.volume("data", CUSTOMER).state == "ready"
    with monkeypatch.context() as patch:
        patch.setattr(world.backend, "remove_volume", lambda volume_id: fails(volume_id, 0))
        world.leases.volumes.remove("data", CUSTOMER)
        world.leases.tick()
        assert world.leases.volumes.volume("data", CUSTOMER).state == "removing"
    world.leases.tick()
    assert world.leases.volumes.page(CUSTOMER, _page()).items == []


def test_without_room_the_volume_has_failed_and_can_be_removed(
    world: World, hours: list[StorageHour], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(volume_id: str, size_mib: int) -> None:
        raise StorageFullError("the disk that holds /srv has room for 3 MiB")

    monkeypatch.setattr(world.backend, "make_volume", full)
    volume = made(world)
    assert volume.state == "failed" and "/srv" not in (volume.last_error or "/srv")
    world.leases.volumes.remove("data", CUSTOMER)
    world.leases.tick()
    assert hours == [] and world.leases.volumes.page(CUSTOMER, _page()).items == []


def _page() -> Any:
    from sublet.store.paging import PageRequest

    return PageRequest()


def test_quotas_names_and_sizes_are_kept(world: World, hours: list[StorageHour]) -> None:
    volume = made(world, "a", 600)
    assert world.leases.volumes.create(CUSTOMER, NewVolume("a", 600, world.pool.id)).id == volume.id
    with pytest.raises(ConflictError, match="you have a volume a of 600 MiB"):
        world.leases.volumes.create(CUSTOMER, NewVolume("a", 601, world.pool.id))
    with pytest.raises(VolumeQuotaError):
        world.leases.volumes.create(CUSTOMER, NewVolume("b", 401, world.pool.id))
    for name in ("b", "c"):
        made(world, name, 100)
    with pytest.raises(VolumeQuotaError):
        world.leases.volumes.create(CUSTOMER, NewVolume("d", 16, world.pool.id))
    assert made(world, "a", 1000, "org_other").state == "ready"
    for name in ("", "A", "a/b", "..", "-a", "a-", "a b", "a" * 41, "a\n"):
        with pytest.raises(InvalidInputError):
            world.leases.volumes.create("org_third", NewVolume(name, 100, world.pool.id))
    for size in (0, 15, -1, (16 << 20) + 1):
        with pytest.raises(InvalidInputError):
            world.leases.volumes.create("org_third", NewVolume("a", size, world.pool.id))


def test_another_organization_sees_and_uses_none_of_it(world: World) -> None:
    site = Site(world)
    from sublet.accounts.service import Accounts
    from sublet.api.http import requirement

    site.client.app.include_router(router(world.leases.volumes, requirement(Accounts(world.store))))  # type: ignore[attr-defined]
    body = {"name": "data", "size_mib": 64, "pool": world.pool.name}
    code, volume = site.call("alice", "POST", "/v1/volumes", body)
    assert code == 201 and volume["state"] == "making"
    world.leases.tick()
    for path in (volume["id"], "data"):
        assert site.call("bob", "GET", f"/v1/volumes/{path}")[0] == 404
        assert site.call("bob", "DELETE", f"/v1/volumes/{path}")[0] == 404
    asked = {"pool": world.pool.name, "class": "spot", "duration_s": 600, "volumes": [volume["id"]]}
    assert site.call("bob", "POST", "/v1/quotes", asked)[0] == 404
    assert site.call("bob", "GET", "/v1/volumes")[1]["volumes"] == []
    assert site.call("operator", "GET", "/v1/volumes")[1]["volumes"][0]["id"] == volume["id"]
    assert site.call("alice", "POST", "/v1/quotes", asked)[0] == 201
    assert site.call("alice", "DELETE", "/v1/volumes/data")[1]["state"] == "removing"
