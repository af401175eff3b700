"""Copies and snapshots in the books: one use of a volume at a time, quotas, bills, and what a reclaim leaves."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection
from tests.leases.volumes.test_volumes import leased, made
from tests.leases.world import CUSTOMER, World

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.volume import VolumeWork, WorkKind, WorkResult, WorkState
from sublet.leases.projects import OtherProjectError
from sublet.leases.volumes.copies import NewCopy, Part
from sublet.leases.volumes.files import CopyState, Snapshot
from sublet.leases.volumes.model import (
    StorageHour,
    VolumeBusyError,
    VolumeInUseError,
    VolumeLimits,
    VolumeQuotaError,
)
from sublet.leases.volumes.service import NewVolume, Volumes
from sublet.store.paging import PageRequest
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError, NotFoundError

CONTENT = b"a tar, as far as the books know"


class Files:
    """A volume, and a backend whose work takes as long as the test says."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        self.world, self.hours = world, list[StorageHour]()
        limits = VolumeLimits(mib_max=1000, count_max=5, reclaim_snapshot_s=86_400)

        def emit(connection: Connection, hour: StorageHour) -> None:
            self.hours.append(hour)

        self.ports = replace(world.leases._ports, emit_storage=emit, volumes=limits)
        self.volumes = world.leases.volumes = Volumes(world.store, world.leases._backends, self.ports)
        world.leases._transitions._ports = replace(world.leases._transitions._ports, volumes=limits)
        self.result: WorkResult | Exception = WorkResult(WorkState.DONE, 5 << 20)
        self.work: list[VolumeWork] = []
        monkeypatch.setattr(world.backend, "work_on", self.carry_out)
        self.volume = made(world)

    def carry_out(self, work: VolumeWork) -> WorkResult:
        self.work.append(work)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def announce(self, path: str = "x", **more: bool) -> str:
        wanted = NewCopy(path, len(CONTENT), hashlib.sha256(CONTENT).hexdigest(), **more)
        return self.volumes.copies.create("data", CUSTOMER, wanted).id

    def send(self, copy_id: str) -> CopyState:
        return self.volumes.copies.append("data", copy_id, CUSTOMER, Part(0, CONTENT)).state

    def state(self, copy_id: str) -> CopyState:
        return self.volumes.copies.copy("data", copy_id, CUSTOMER).state

    def snapshots(self) -> list[Snapshot]:
        return self.volumes.snapshots.page("data", CUSTOMER, PageRequest()).items


@pytest.fixture
def files(world: World, monkeypatch: pytest.MonkeyPatch) -> Files:
    return Files(world, monkeypatch)


def test_a_copy_arrives_in_parts_and_no_lease_gets_the_volume_while_it_is_unpacked(files: Files) -> None:
    world, copies = files.world, files.volumes.copies
    one = files.announce()
    assert files.announce() == one, "the same again continues it"
    assert copies.append("data", one, CUSTOMER, Part(0, CONTENT[:9])).received_bytes == 9
    assert leased(world, "data", seconds=60).volumes, "an upload alone holds nobody up"
    world.run(70)
    files.result = WorkResult(WorkState.RUNNING)
    assert copies.append("data", one, CUSTOMER, Part(9, CONTENT[9:])).state is CopyState.UNPACKING
    world.leases.tick()
    assert files.volumes.volume("data", CUSTOMER).busy(world.clock.now()) == "copying"
    with pytest.raises(VolumeBusyError):
        leased(world, "data")
    with pytest.raises(VolumeBusyError):
        files.volumes.remove("data", CUSTOMER)
    files.result = WorkResult(WorkState.DONE)
    world.leases.tick()
    assert files.state(one) is CopyState.DONE and files.work[-1].kind is WorkKind.UNPACK
    assert leased(world, "data").volumes
    with pytest.raises(VolumeInUseError, match="as with `scp`"):
        files.announce("y")
    with pytest.raises(VolumeInUseError):
        copies.content("data", CUSTOMER, "")


def test_what_broke_or_was_abandoned_is_told_and_the_volume_is_free_again(files: Files) -> None:
    world = files.world
    one = files.announce()
    files.send(one)
    files.result = BackendFailedError("it did not answer")
    world.leases.tick()
    assert files.state(one) is CopyState.UNPACKING, "the next round tries again"
    assert files.volumes.volume("data", CUSTOMER).busy(world.clock.now()) is None, "until then the volume is free"
    files.result = WorkResult(WorkState.FAILED, error="there already is a x in the volume at /srv/secret/x")
    world.leases.tick()
    failed = files.volumes.copies.copy("data", one, CUSTOMER)
    assert failed.state is CopyState.FAILED and "/srv" not in str(failed.last_error)
    with pytest.raises(ConflictError, match="takes no more parts"):
        files.send(one)
    two = files.announce()
    assert two != one
    world.clock.advance(86_400 + 60)
    world.leases.tick()
    assert files.state(two) is CopyState.FAILED
    with pytest.raises(NotFoundError):
        files.state(one)
    assert files.volumes.volume("data", CUSTOMER).busy(world.clock.now()) is None


def test_a_copy_that_can_never_be_unpacked_is_given_up_and_its_volume_can_be_removed(files: Files) -> None:
    one = files.announce()
    files.send(one)
    files.result = BackendFailedError("the disk at /srv/secret can't be read")
    files.world.leases.tick()
    files.world.clock.advance(7 * 3600)
    files.world.leases.tick()
    failed = files.volumes.copies.copy("data", one, CUSTOMER)
    assert failed.state is CopyState.FAILED and "/srv" not in str(failed.last_error)
    assert files.volumes.remove("data", CUSTOMER).state == "removing"


def test_snapshots_that_are_being_made_count_for_the_quota(files: Files) -> None:
    """Snapshots of several volumes at once: each may come to occupy its whole volume."""
    files.volumes.create(CUSTOMER, NewVolume("more", 300, files.world.pool.name))
    files.world.leases.tick()
    files.result = WorkResult(WorkState.RUNNING)
    files.volumes.snapshots.create("more", CUSTOMER)
    for _ in range(2):
        files.world.leases.tick()
    size = files.volume.size_mib
    with pytest.raises(VolumeQuotaError):
        files.volumes.create(CUSTOMER, NewVolume("big", 1000 - 300 - 300 - size + 1, files.world.pool.name))
    assert files.volumes.create(CUSTOMER, NewVolume("big", 1000 - 300 - 300 - size, files.world.pool.name))


def test_limits_paths_projects_and_other_organizations(files: Files) -> None:
    for path in ("", "/", "..", "a/../b", "a\0"):
        with pytest.raises(InvalidInputError):
            files.announce(path)
    with pytest.raises(InvalidInputError, match="do not fit"):
        files.volumes.copies.create("data", CUSTOMER, NewCopy("x", 1 << 40, "0" * 64))
    with pytest.raises(InvalidInputError, match="sha256"):
        files.volumes.copies.create("data", CUSTOMER, NewCopy("x", 5, "A" * 64))
    for number in range(4):
        files.announce(f"p{number}")
    with pytest.raises(LimitExceededError):
        files.announce("p4")
    one = files.announce("p0")
    with pytest.raises(InvalidInputError, match="beyond"):
        files.volumes.copies.append("data", one, CUSTOMER, Part(5, CONTENT))
    for act in (
        lambda: files.volumes.copies.create("data", "org_other", NewCopy("x", 5, "0" * 64)),
        lambda: files.volumes.copies.copy(files.volume.id, one, "org_other"),
        lambda: files.volumes.copies.content(files.volume.id, "org_other", ""),
        lambda: files.volumes.snapshots.create(files.volume.id, "org_other"),
        lambda: files.volumes.snapshots.page(files.volume.id, "org_other", PageRequest()),
    ):
        with pytest.raises(NotFoundError):
            act()
    files.volumes.create(CUSTOMER, NewVolume("reds", 16, files.world.pool.name, "red"))
    files.world.leases.tick()
    two = files.volumes.copies.create("reds", CUSTOMER, NewCopy("x", 5, "0" * 64), "red").id
    for act in (
        lambda: files.volumes.copies.create("reds", CUSTOMER, NewCopy("x", 5, "0" * 64), "blue"),
        lambda: files.volumes.copies.append("reds", two, CUSTOMER, Part(0, b"x"), "blue"),
        lambda: files.volumes.snapshots.create("reds", CUSTOMER, "", "blue"),
    ):
        with pytest.raises(OtherProjectError):
            act()


def test_a_reader_keeps_the_volume_until_it_is_done_or_gone(files: Files) -> None:
    parts = files.volumes.copies.content("data", CUSTOMER, "")
    assert next(parts)
    with pytest.raises(VolumeBusyError):
        leased(files.world, "data")
    with pytest.raises(VolumeBusyError):
        files.volumes.copies.content("data", CUSTOMER, "")
    list(parts)
    left = files.volumes.copies.content("data", CUSTOMER, "")
    next(left)
    files.world.clock.advance(121)
    assert leased(files.world, "data").volumes, "who left without a word holds it for two minutes"
    left.close()  # type: ignore[attr-defined]


def test_a_snapshot_is_billed_by_what_it_occupies_and_counts_for_the_quota(files: Files) -> None:
    world, snapshots = files.world, files.volumes.snapshots
    files.result = WorkResult(WorkState.RUNNING)
    one = snapshots.create("data", CUSTOMER, "before")
    world.leases.tick()
    with pytest.raises(VolumeBusyError):
        leased(world, "data")
    files.result = WorkResult(WorkState.DONE, (5 << 20) + 1)
    world.leases.tick()
    world.leases.tick()
    (found,) = files.snapshots()
    assert (found.name, found.state, found.mib) == ("before", "ready", 6)
    assert [(hour.volume_id, hour.size_mib) for hour in files.hours if hour.volume_id == one.id] == [(one.id, 6)]
    world.clock.advance(2 * 3600)
    world.leases.tick()
    assert sum(hour.volume_id == one.id for hour in files.hours) == 3
    with pytest.raises(VolumeQuotaError):
        files.volumes.create(CUSTOMER, NewVolume("big", 895, world.pool.name))
    restoring = snapshots.restore("data", CUSTOMER, "before")
    assert restoring.busy(world.clock.now()) == "restoring"
    assert snapshots.restore("data", CUSTOMER, "before").restoring == one.id
    with pytest.raises(ConflictError, match="being restored"):
        snapshots.remove("data", CUSTOMER, "before")
    world.clock.advance(86_400)
    with pytest.raises(VolumeBusyError):
        leased(world, "data")
    world.leases.tick()
    assert files.work[-1].kind is WorkKind.RESTORE and leased(world, "data").volumes
    assert snapshots.remove("data", CUSTOMER, one.id).state == "removing"
    world.leases.tick()
    billed = sum(hour.volume_id == one.id for hour in files.hours)
    world.clock.advance(86_400)
    world.leases.tick()
    assert files.snapshots() == [] and sum(hour.volume_id == one.id for hour in files.hours) == billed


def test_a_snapshot_that_fails_is_told_and_one_that_never_can_be_made_is_given_up(files: Files) -> None:
    files.result = WorkResult(WorkState.FAILED, error="the disk that holds /srv has no room")
    files.volumes.snapshots.create("data", CUSTOMER)
    files.world.leases.tick()
    (failed,) = files.snapshots()
    assert failed.state == "failed" and "/srv" not in str(failed.last_error)
    with pytest.raises(ConflictError, match="can't be restored"):
        files.volumes.snapshots.restore("data", CUSTOMER, failed.id)
    files.result = BackendFailedError("it does not answer")
    files.volumes.snapshots.create("data", CUSTOMER, "later")
    files.world.leases.tick()
    states = {found.id == failed.id: found.state for found in files.snapshots()}
    assert states == {True: "failed", False: "making"}
    files.world.clock.advance(7 * 3600)
    files.world.leases.tick()
    assert [found.state for found in files.snapshots()] == ["failed", "failed"]
    assert leased(files.world, "data").volumes


def test_f24_a_reclaim_leaves_a_snapshot_that_is_free_and_goes_after_a_day(files: Files) -> None:
    """F24: what a tenant had on its volumes when the owner took the lease back is kept, whatever the next lease does."""
    world = files.world

    def reclaimed() -> None:
        lease = leased(world, "data", seconds=3600)
        world.run(3)
        world.stay = 0
        world.run(700, 5)
        world.stay = 4
        assert world.lease(lease).end_reason == "reclaimed"

    reclaimed()
    (first,) = files.snapshots()
    assert (first.origin, first.state, first.name[:11]) == ("reclaim", "ready", "reclaim of ")
    assert first.expires_at == first.created_at + timedelta(days=1)
    world.run(4 * 3600, 600)
    reclaimed()
    (second,) = files.snapshots()
    assert second.id != first.id and second.name != first.name
    assert not any(hour.volume_id in (first.id, second.id) for hour in files.hours)
    world.clock.advance(86_400)
    for _ in range(3):
        world.leases.tick()
    assert files.snapshots() == []
    given_back = leased(world, "data")
    world.run(3)
    world.leases.end(given_back.id, CUSTOMER)
    world.run(3)
    assert files.snapshots() == [], "a lease that its tenant ended leaves none"


def test_the_snapshots_of_a_volume_go_with_it(files: Files) -> None:
    files.volumes.snapshots.create("data", CUSTOMER)
    files.world.leases.tick()
    files.announce()
    files.volumes.remove("data", CUSTOMER)
    files.world.leases.tick()
    files.world.leases.tick()
    with pytest.raises(NotFoundError):
        files.snapshots()
    before = len(files.hours)
    files.world.clock.advance(86_400)
    files.world.leases.tick()
    assert len(files.hours) == before
