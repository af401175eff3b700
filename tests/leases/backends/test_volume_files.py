"""The files of volumes, for real: copied in and out without a lease, whatever a tenant or an archive tries, and snapshots."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.leases.machine import local_settings

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.local import disk
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.backends.local.volumes import VolumeFiles
from sublet.leases.backends.volume import VolumeWork, WorkKind, WorkResult, WorkState
from sublet.leases.uploads import UploadOffsetError
from sublet.values.errors import InvalidInputError, NotFoundError
from sublet.values.ids import new_id

pytestmark = pytest.mark.real
WAIT_S = 60
Member = tuple[tarfile.TarInfo, bytes]


class Site:
    """A volume of 16 MiB on this machine."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.backend = LocalBackend(local_settings(base))
        self.volume = new_id("vol")
        self.backend.make_volume(self.volume, 16)
        self.files = VolumeFiles.of(base, self.volume)

    def done(self, work: VolumeWork) -> WorkResult:
        deadline = time.monotonic() + WAIT_S
        while (found := self.backend.work_on(work)).state is WorkState.RUNNING:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return found

    def put(self, content: bytes, path: str, *, replace: bool = False, sha256: str | None = None) -> WorkResult:
        copy = new_id("cpy")
        assert self.backend.receive_copy(self.volume, copy, 0, content) == len(content)
        named = sha256 or hashlib.sha256(content).hexdigest()
        found = self.done(VolumeWork(WorkKind.UNPACK, self.volume, copy, path, named, replace))
        self.backend.remove_copy(self.volume, copy)
        return found

    def keep(self, kind: WorkKind, snapshot: str) -> WorkResult:
        return self.done(VolumeWork(kind, self.volume, snapshot))

    def out(self, path: str) -> dict[str, tarfile.TarInfo]:
        content = b"".join(self.backend.volume_content(self.volume, path))
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            return {member.name: member for member in tar}

    def read(self, path: str) -> bytes:
        content = b"".join(self.backend.volume_content(self.volume, path))
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            file = tar.extractfile(tar.getmembers()[0])
            assert file is not None
            return file.read()

    def as_tenant(self, act: Callable[[Path], None]) -> None:
        """What a tenant does in a lease, which has the volume mounted."""
        if not self.files.image.exists():
            act(self.files.files)
            return
        child = os.fork()
        if child == 0:
            status = 1
            try:
                place = self.base / "seen"
                place.mkdir(exist_ok=True)
                disk.call("unshare", disk._LIBC.unshare(0x20000))
                disk.mount(None, "/", None, 16384 | 1 << 18)
                disk.mount(disk.loop_device(self.files.image), str(place), "ext4", 0)
                act(place)
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def owned(path: Path) -> None:
    """A tenant's file; an ordinary user's volumes belong to that user."""
    if os.geteuid() == 0:
        os.chown(path, 1000, 1000)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def member(
    name: str,
    content: bytes = b"",
    kind: bytes = tarfile.REGTYPE,
    link: str = "",
    mode: int = 0o640,
    pax: dict[str, str] | None = None,
) -> Member:
    told = tarfile.TarInfo(name)
    told.pax_headers = pax or {}
    told.type, told.linkname, told.size, told.mode, told.mtime = kind, link, len(content), mode, 1_000_000
    return told, content


def packed(*members: Member) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for told, content in members:
            tar.addfile(told, io.BytesIO(content))
    return made.getvalue()


TREE = packed(
    member("data", kind=tarfile.DIRTYPE, mode=0o755),
    member("data/a", b"one"),
    member("data/deep/er/b", b"two" * 1000, mode=0o755),
    member("data/link", kind=tarfile.SYMTYPE, link="/etc/passwd"),
    member("data/same", kind=tarfile.LNKTYPE, link="data/a"),
)


def test_a_tree_goes_in_and_comes_out_as_it_was(site: Site) -> None:
    assert site.put(TREE, "in/here") == WorkResult(WorkState.DONE)
    found = site.out("in/here")
    assert set(found) == {"here", "here/a", "here/deep", "here/deep/er", "here/deep/er/b", "here/link", "here/same"}
    assert found["here/link"].issym() and found["here/link"].linkname == "/etc/passwd"
    assert found["here/same"].islnk() and found["here/same"].linkname == "here/a"
    assert (found["here/deep/er/b"].mode, found["here/a"].mode, found["here/a"].mtime) == (0o755, 0o640, 1_000_000)
    assert site.read("in/here/deep/er/b") == b"two" * 1000
    assert set(site.out("")) >= {"volume", "volume/in", "volume/in/here/a"}
    assert disk.loop_devices(site.files.image) == []


def test_what_is_there_is_kept_unless_it_is_to_be_replaced_and_then_goes_in_one_step(site: Site) -> None:
    assert site.put(packed(member("x", b"old")), "x").state is WorkState.DONE
    refused = site.put(packed(member("x", b"new")), "x")
    assert refused.state is WorkState.FAILED and "there already is a x" in refused.error
    assert site.read("x") == b"old"
    assert site.put(TREE, "x", replace=True).state is WorkState.DONE
    assert set(site.out("x")) >= {"x/a"}
    assert site.put(packed(member("x", b"new")), "x", replace=True).state is WorkState.DONE
    assert site.read("x") == b"new"
    assert set(site.out("")) == {"volume", "volume/x"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (packed(member("/etc/x", b"x")), "absolute"),
        (packed(member("../x", b"x")), "not a path"),
        (packed(member("d/../../x", b"x")), "not a path"),
        (packed(member("d", kind=tarfile.SYMTYPE, link="/tmp"), member("d/x", b"x")), "links are not followed"),
        (packed(member("d/e", kind=tarfile.SYMTYPE, link=".."), member("d/e/x", b"x")), "links are not followed"),
        (packed(member("d/x", kind=tarfile.LNKTYPE, link="/etc/passwd")), "not before it|no etc"),
        (packed(member("d/x", kind=tarfile.LNKTYPE, link="../../upload")), "not a path"),
        (packed(member("null", kind=tarfile.CHRTYPE)), "device or a pipe"),
        (packed(member("disk", kind=tarfile.BLKTYPE)), "device or a pipe"),
        (packed(member("pipe", kind=tarfile.FIFOTYPE)), "device or a pipe"),
        (packed(member("a", b"x"), member("b", b"x")), "at its top, not 2"),
        (packed(member("d/x", kind=tarfile.SYMTYPE)), "No such file"),
        (packed(member("d/x", kind=tarfile.SYMTYPE, link="x" * 5000)), "too long"),
        (packed(member("d/x", kind=tarfile.SYMTYPE, link="x", pax={"linkpath": "a\0b"})), "can't be read"),
        (packed(member("d/x", pax={"GNU.sparse.map": "1,x", "GNU.sparse.size": "9"})), "can't be read"),
        (b"no tar at all" * 100, "not a tar"),
        (TREE[:1600], "not a tar|breaks off"),
    ],
)
def test_an_archive_that_leads_elsewhere_or_holds_more_than_files_changes_nothing(
    site: Site, content: bytes, reason: str
) -> None:
    import re

    found = site.put(content, "in")
    assert found.state is WorkState.FAILED and re.search(reason, found.error), found
    assert set(site.out("")) == {"volume"}


def test_bytes_that_changed_on_the_way_and_a_full_volume_change_nothing(site: Site) -> None:
    assert "not what was announced" in site.put(TREE, "in", sha256="0" * 64).error
    if site.files.image.exists():
        found = site.put(packed(member("big", bytes(20 << 20))), "big")
        assert found.state is WorkState.FAILED and "no room" in found.error
    assert set(site.out("")) == {"volume"}


def test_parts_arrive_in_order_and_may_be_sent_again(site: Site) -> None:
    copy, send = new_id("cpy"), site.backend.receive_copy
    assert [send(site.volume, copy, 0, b"abc"), send(site.volume, copy, 0, b"abc")] == [3, 3]
    with pytest.raises(UploadOffsetError, match="continue at 3"):
        send(site.volume, copy, 7, b"x")
    assert send(site.volume, copy, 3, b"") == 3
    for name in ("../x", "snp_a", "cpy_", "cpy_a/b"):
        with pytest.raises(InvalidInputError):
            send(site.volume, name, 0, b"x")


def test_no_link_device_or_pipe_of_a_tenant_leads_out_of_the_volume(site: Site) -> None:
    outside = site.base / "secret"
    outside.write_text("of the machine")

    def act(place: Path) -> None:
        (place / "there").symlink_to(outside.parent)
        (place / "file").symlink_to(outside)
        (place / "up").symlink_to("..")
        os.mkfifo(place / "pipe")
        (place / "closed").write_text("x")
        for name in ("closed", "pipe"):
            owned(place / name)
        (place / "closed").chmod(0o600)

    site.as_tenant(act)
    whole = site.out("")
    assert whole["volume/there"].issym() and whole["volume/file"].issym() and "volume/pipe" not in whole
    for path in ("there/secret", "there", "up/x", "up/up/etc/passwd", "file/x"):
        try:
            found = site.out(path)
        except (InvalidInputError, NotFoundError):
            continue
        assert all(item.issym() for item in found.values()), path
    assert "links are not followed" in site.put(packed(member("x", b"x")), "there/x").error
    assert not (site.base / "x").exists()
    for path in ("../x", "a/../../b", "a\0b", "a/" * 65, "x" * 256):
        with pytest.raises(InvalidInputError):
            site.out(path)
    with pytest.raises(NotFoundError):
        site.out("nothing")


def test_a_sparse_file_and_a_reader_that_leaves_hold_nobody_up(site: Site) -> None:
    assert site.put(packed(member("big", bytes(4 << 20))), "big").state is WorkState.DONE
    parts = site.backend.volume_content(site.volume, "big")
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    deadline = time.monotonic() + WAIT_S
    while disk.loop_devices(site.files.image):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    def act(place: Path) -> None:
        with open(place / "sparse", "wb") as file:
            file.truncate(1 << 32)
        owned(place / "sparse")

    site.as_tenant(act)
    with pytest.raises(InvalidInputError, match="is sparse"):
        site.out("sparse")


def test_a_snapshot_brings_back_what_was_there_and_occupies_what_is_used(site: Site) -> None:
    assert site.put(TREE, "in").state is WorkState.DONE
    one = new_id("snp")
    kept = site.keep(WorkKind.SNAPSHOT, one)
    assert kept.state is WorkState.DONE and 0 < kept.bytes < 8 << 20
    assert site.keep(WorkKind.SNAPSHOT, one) == kept
    assert site.put(packed(member("in", b"changed")), "in", replace=True).state is WorkState.DONE
    assert site.keep(WorkKind.RESTORE, one).state is WorkState.DONE
    assert site.read("in/a") == b"one"
    if site.files.image.exists():
        assert disk.allocated_bytes(site.files.image) >= 16 << 20
    site.backend.remove_snapshot(site.volume, one)
    site.backend.remove_snapshot(site.volume, one)
    assert list((site.files.root / "snapshots").iterdir()) == []
    with pytest.raises(BackendFailedError):
        site.keep(WorkKind.RESTORE, new_id("snp"))
    assert site.read("in/a") == b"one"
    site.backend.remove_volume(site.volume)
    assert not site.files.root.exists()
