"""Volumes on this machine, for real: what one lease wrote the next one reads, and nobody else."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.leases.machine import Tenant, client_key, kill_shim, local_settings

from sublet.leases.backends.base import BackendFailedError, KeepsVolumes, RunState, StartOrder
from sublet.leases.backends.guard import GuardedBackend
from sublet.leases.backends.local import disk, volumes
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.local.volumes import VolumeFiles
from sublet.values.errors import InvalidInputError, StorageFullError
from sublet.values.ids import new_id

pytestmark = pytest.mark.real
MIB = 1 << 20
WAIT_S = 60


def leased(backend: LocalBackend, base: Path, *names: tuple[str, str], device: str = "cpu:0") -> Tenant:
    key = client_key(base)
    line = key.with_name("client_key.pub").read_text()
    end = datetime.now(UTC) + timedelta(seconds=300)
    order = StartOrder(new_id("lse"), "org_a", (device,), (line,), end, volumes=names)
    backend.start(order)
    found = Tenant(backend, order.lease_id, key, base)
    found.wait(RunState.RUNNING)
    return found


def test_what_one_lease_wrote_is_there_for_the_next_whatever_its_uid(tmp_path: Path) -> None:
    backend, volume = LocalBackend(local_settings(tmp_path)), new_id("vol")
    backend.make_volume(volume, 32)
    backend.make_volume(volume, 32)
    files = VolumeFiles.of(tmp_path, volume)
    if files.image.exists():
        assert disk.allocated_bytes(files.image) >= 32 * MIB
    one = leased(backend, tmp_path, (volume, "data"))
    script = "cd /volumes/data && umask 077 && mkdir -p a/b && echo kept > a/b/file && ln -s /etc/passwd link"
    script += " && stat -c %U:%a a/b/file"
    assert one.run(script) == (0, "tenant:600")
    assert one.run("df -m --output=size /volumes/data | tail -1")[1].strip() <= "32"
    assert (
        one.run("head -c 100000000 /dev/zero 2>/dev/null > /volumes/data/fill; echo $?")[1].endswith("1")
        or not files.image.exists()
    )
    assert one.run("rm -f /volumes/data/fill; touch /volumes/other 2>/dev/null; echo $?")[1].endswith("1")
    if files.image.exists():
        with pytest.raises(BackendFailedError, match="still in use by a sandbox"):
            backend.remove_volume(volume)
    assert one.stop().clean
    two = leased(backend, tmp_path, (volume, "data"), device="cpu:1")
    try:
        assert two.run(
            "cat /volumes/data/a/b/file && echo more >> /volumes/data/a/b/file && rm /volumes/data/link"
        ) == (0, "kept")
        kill_shim(tmp_path, two.lease_id)
        line = two.key.with_name("client_key.pub").read_text()
        end = datetime.now(UTC) + timedelta(seconds=300)
        order = StartOrder(two.lease_id, "org_a", ("cpu:1",), (line,), end, volumes=((volume, "data"),))
        for _ in range(200):
            if backend.start(order).state is RunState.RUNNING:
                break
        two.wait(RunState.RUNNING)
        assert two.run("cat /volumes/data/a/b/file") == (0, "kept\nmore")
        three = replace(order, lease_id=new_id("lse"), devices=("cpu:0",))
        if files.image.exists():
            assert "still in use" in failed(backend, three)
    finally:
        assert two.stop().clean
    backend.remove_volume(volume)
    backend.remove_volume(volume)
    assert not files.root.exists() and disk.loop_devices(files.image) == []


def failed(backend: LocalBackend, order: StartOrder) -> str:
    """The error of a lease that does not start."""
    import time

    backend.start(order)
    deadline = time.monotonic() + WAIT_S
    while not (seen := backend.observe(order.lease_id)).state.over:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert backend.stop(order.lease_id, "test", 0.0).clean
    return seen.error or ""


def test_a_lease_with_a_volume_that_is_not_here_does_not_start(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    key = client_key(tmp_path).with_name("client_key.pub").read_text()
    end = datetime.now(UTC) + timedelta(seconds=300)
    order = StartOrder(new_id("lse"), "org_a", ("cpu:0",), (key,), end, volumes=((new_id("vol"), "data"),))
    assert "volume data is not on this machine" in failed(backend, order)


@pytest.mark.parametrize("volume", ["../x", "vol_../x", "vol_", "lse_a", "", "vol_a/b"])
def test_an_id_that_is_none_names_no_place(tmp_path: Path, volume: str) -> None:
    with pytest.raises(InvalidInputError):
        volumes.remove(tmp_path, volume)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_refused_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend, volume = LocalBackend(local_settings(tmp_path)), new_id("vol")
    monkeypatch.setattr(disk, "room_bytes", lambda base: 10 * MIB)
    with pytest.raises(StorageFullError):
        backend.make_volume(volume, 16)
    monkeypatch.undo()

    def no_blocks(path: Path, size_bytes: int) -> None:
        path.write_bytes(b"x")
        raise StorageFullError("no blocks")

    monkeypatch.setattr(disk, "allocate", no_blocks)
    if backend.capabilities.loop_disks:
        with pytest.raises(StorageFullError):
            backend.make_volume(volume, 16)
    monkeypatch.undo()
    assert not (tmp_path / "volumes" / volume).exists()
    half = VolumeFiles.of(tmp_path, volume)
    half.root.mkdir(parents=True)
    half.image.with_suffix(".new").write_bytes(b"half of a volume that a crash left")
    backend.make_volume(volume, 16)
    assert half.exists and (not half.image.exists() or not half.image.with_suffix(".new").exists())


def test_a_directory_counts_as_promised_where_no_image_can_be_made(tmp_path: Path) -> None:
    before = disk.room_bytes(tmp_path)
    volumes.make(tmp_path, "vol_a", 64, None)
    assert abs(before - disk.room_bytes(tmp_path) - 64 * MIB) < 8 * MIB
    assert (tmp_path / "volumes" / "vol_a" / "files").stat().st_mode & 0o777 == 0o700


def test_a_guarded_backend_keeps_volumes_if_its_own_does(tmp_path: Path) -> None:
    backend = LocalBackend(local_settings(tmp_path))
    assert isinstance(backend, KeepsVolumes) and isinstance(GuardedBackend(backend), KeepsVolumes)
    GuardedBackend(backend).make_volume("vol_b", 16)
    assert VolumeFiles.of(tmp_path, "vol_b").exists
