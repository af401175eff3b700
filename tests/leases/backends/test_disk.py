"""Disks that run full: what is promised is there, nobody is hurt by a neighbor who uses his, and ending a lease frees."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.leases.machine import Tenant, client_key, kill_shim, local_settings, tenant
from tests.leases.world import KEY

from sublet.leases.backends.base import RunState, StartOrder
from sublet.leases.backends.local import disk
from sublet.leases.backends.local.backend import MIB, LocalBackend
from sublet.leases.backends.local.files import LeaseFiles
from sublet.store import Store
from sublet.store.ballast import Ballast
from sublet.values.clock import SimulatedClock
from sublet.values.errors import StorageFullError
from sublet.values.ids import new_id

DISK_MIB = 868
HOME_BYTES = 256 * MIB

pytestmark = pytest.mark.real


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 868 MiB, where the leases and the database lie."""
    if os.geteuid() != 0 or not Path("/dev/loop-control").exists():
        pytest.skip("only root with loop devices can mount a small disk")
    image, place = tmp_path / "disk.img", tmp_path / "disk"
    image.touch()
    os.truncate(image, DISK_MIB * MIB)
    place.mkdir()
    run("mkfs.ext4", "-q", "-F", str(image))
    run("mount", "-o", "loop", str(image), str(place))
    yield place
    # What was killed a moment ago, or a database that this process has open, may still hold it: it goes with its holder.
    run("umount", "--lazy", str(place))


@pytest.fixture
def backend(small: Path) -> Iterator[LocalBackend]:
    made = LocalBackend(local_settings(small / "leases", disk_bytes=HOME_BYTES, home_keep_s=3600))
    yield made
    for lease_id in made.observe_all():
        assert made.stop(lease_id, "test", 0.0).clean


def order(device: str = "cpu:0") -> StartOrder:
    return StartOrder(new_id("lse"), "org_a", (device,), (KEY,), datetime.now(UTC) + timedelta(seconds=300))


def free(place: Path) -> int:
    return shutil.disk_usage(place).free


def fill(place: Path) -> Path:
    """Take every block that root can get."""
    filler = place / "filler"
    descriptor, end = os.open(filler, os.O_RDWR | os.O_CREAT), 0
    for size in (64 * MIB, MIB, 4096):
        with contextlib.suppress(OSError):
            while True:
                os.posix_fallocate(descriptor, end, size)
                end += size
    os.close(descriptor)
    return filler


def image_of(one: Tenant) -> Path:
    return LeaseFiles(one.base, one.lease_id).image


def test_f29_no_more_is_promised_than_the_disk_holds(backend: LocalBackend, small: Path) -> None:
    admitted, refused = [], []
    for _ in range(8):
        wanted = order()
        try:
            backend.start(wanted)
            admitted.append(wanted.lease_id)
        except StorageFullError as error:
            assert "MiB" in error.message
            refused.append(wanted.lease_id)
    assert len(admitted) == 2 and len(refused) == 6
    for lease_id in admitted:
        assert disk.allocated_bytes(LeaseFiles(small / "leases", lease_id).image) >= HOME_BYTES
    assert not any((small / "leases" / lease_id).exists() for lease_id in refused)
    assert free(small) >= disk.keep_free_bytes(shutil.disk_usage(small).total)


def test_f29_tenants_who_fill_their_homes_hurt_nobody(backend: LocalBackend, small: Path, tmp_path: Path) -> None:
    key, base = client_key(tmp_path), small / "leases"
    both = [tenant(backend, base, key, device, who=who) for device, who in (("cpu:0", "org_a"), ("cpu:1", "org_b"))]
    store = Store(f"sqlite:///{small}/sublet.db", SimulatedClock())
    before = free(small)
    for one in both:
        _, said = one.run("dd if=/dev/zero of=~/big bs=1M count=400 2>&1; sync; echo kept > /tmp/x && cat /tmp/x")
        assert "No space left" in said and said.endswith("kept")
    assert before - free(small) < 4 * MIB, "what they wrote was theirs already"
    store.write(lambda connection: connection.execute(text("CREATE TABLE books (entry TEXT)")))
    store.close()
    for one in both:
        assert one.run("echo open") == (0, "open") and one.stop().clean
    assert sorted(path.name for path in (base / "archive").iterdir()) == sorted(one.lease_id for one in both)


def test_f29_f5_a_disk_that_others_fill_ends_no_lease_and_heals_by_itself(
    backend: LocalBackend, small: Path, tmp_path: Path
) -> None:
    one = tenant(backend, small / "leases", client_key(tmp_path))
    one.run("echo precious > ~/file; sync")
    filler = fill(small)
    wanted = order("cpu:1")
    with pytest.raises(StorageFullError):
        backend.start(wanted)
    assert not (small / "leases" / wanted.lease_id).exists()
    until = (datetime.now(UTC) + timedelta(seconds=250)).replace(microsecond=0)
    # It can't be written down, so it is told again each round; access and work go on.
    with pytest.raises(OSError):
        backend.notice(one.lease_id, until, "*** NOTICE ***")
    assert one.run("dd if=/dev/zero of=~/big bs=1M count=100 2>/dev/null; sync; stat -c %s ~/big") == (
        0,
        str(100 * MIB),
    )
    assert one.seen.state is RunState.RUNNING
    seen = one.stop()
    assert seen.clean and seen.error is None, seen
    assert free(small) > 64 * MIB, "ending it freed what it did not use"
    kept = small / "leases" / "archive" / one.lease_id / "home.img"
    assert disk.allocated_bytes(kept) < HOME_BYTES
    assert (
        b"precious" in subprocess.run(["debugfs", "-R", "cat file", str(kept)], capture_output=True, check=False).stdout
    )
    filler.unlink()
    shutil.rmtree(kept.parent)
    again = order("cpu:1")
    backend.start(again)
    assert Tenant(backend, again.lease_id, one.key, one.base).wait(RunState.RUNNING).state is RunState.RUNNING


def test_f5_a_home_that_cannot_be_kept_is_freed_and_said(
    backend: LocalBackend, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = tenant(backend, small / "leases", client_key(tmp_path))
    kill_shim(one.base, one.lease_id)
    fill(small)
    monkeypatch.setattr("sublet.leases.backends.local.archive.shrink", lambda *_: fill(small))
    monkeypatch.setattr("sublet.leases.backends.local.teardown._free_all_but_home", lambda *_: None)
    seen = one.stop()
    assert seen.clean and seen.error is not None and "could not be kept" in seen.error
    assert free(small) > HOME_BYTES // 2


def test_a_home_that_lost_power_is_repaired_and_holes_are_filled(
    backend: LocalBackend, small: Path, tmp_path: Path
) -> None:
    one = tenant(backend, small / "leases", client_key(tmp_path))
    one.run("echo kept > ~/file; sync")
    assert backend.pause(one.lease_id).state is RunState.PAUSED
    image = image_of(one)
    disk.shrink(image, image.with_name("home"))
    run("debugfs", "-w", "-R", "set_super_value state 0", str(image))
    assert disk.allocated_bytes(image) < HOME_BYTES
    ends_at = one.seen.ends_at
    assert ends_at is not None
    backend.start(
        StartOrder(one.lease_id, "org_a", ("cpu:0",), (one.key.with_name("client_key.pub").read_text(),), ends_at)
    )
    one.wait(RunState.RUNNING)
    assert one.run("cat ~/file") == (0, "kept")
    assert disk.allocated_bytes(image) >= HOME_BYTES
    assert "allocated" in one.seen.guarantees["disk"]["how"]
    assert one.stop().clean
    with open(small / "leases" / "archive" / one.lease_id / "home.img", "rb") as file:
        file.seek(1024 + 58)
        assert file.read(1)[0] & 1, "unmounted in order"


def test_homes_without_a_disk_of_their_own_are_counted(tmp_path: Path) -> None:
    from dataclasses import replace

    probed = LocalBackend(local_settings(tmp_path)).capabilities
    wanted = order()
    room = shutil.disk_usage(tmp_path).free - disk.keep_free_bytes(shutil.disk_usage(tmp_path).total)
    half = int(room * 0.6)
    backend = LocalBackend(local_settings(tmp_path, disk_bytes=half), replace(probed, loop_disks=False))
    try:
        backend.start(wanted)
        with pytest.raises(StorageFullError):
            backend.start(order("cpu:1"))
    finally:
        assert backend.stop(wanted.lease_id, "test", 0.0).clean


def test_f29_what_the_disk_can_serve_does_not_depend_on_what_runs(backend: LocalBackend, small: Path) -> None:
    home = local_settings(small / "leases", accelerators=8, disk_bytes=HOME_BYTES)
    assert LocalBackend(home).without_room() == 6
    wanted = order()
    backend.start(wanted)
    assert LocalBackend(home).without_room() == 6, "what it holds is counted with what is free"
    assert backend.stop(wanted.lease_id, "test", 0.0).clean


def test_books_on_a_disk_that_others_fill_are_written_from_the_reserve(small: Path) -> None:
    ballast = Ballast(small)
    ballast.tend()
    store = Store(f"sqlite:///{small}/sublet.db", SimulatedClock())
    store.write(lambda connection: connection.execute(text("CREATE TABLE books (entry TEXT)")))
    filler = fill(small)
    entry = text("INSERT INTO books VALUES (printf('%.*c', 200000, 'x'))")
    with pytest.raises(StorageFullError):
        for _ in range(100):
            store.write(lambda connection: connection.execute(entry))
    with pytest.raises(StorageFullError, match="reserve"):
        ballast.tend()
    for _ in range(100):
        store.write(lambda connection: connection.execute(entry))
    filler.unlink()
    ballast.tend()
    assert ballast.held_bytes
    store.close()
