"""A process of its own for the files of one volume: it mounts the volume where nobody else sees it, and ends with its caller.

As root it keeps to the volume by chroot and becomes the volume's owner before it reads anything that a tenant wrote. The order is one
line of JSON on its standard input; when that input closes, the caller is gone and the process ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import io
import json
import os
import resource
import select
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from sublet.leases.backends.local import disk, volume_tree
from sublet.leases.backends.local.volumes import OWNER_ID, VolumeFiles
from sublet.leases.backends.volume import WorkKind, parts_of
from sublet.values.errors import InvalidInputError, StorageFullError, SubletError, UnavailableError

STALLED_S = 45
"""A reader that takes nothing for so long loses its copy: the volume is needed for leases."""
APART_S = 10
MEMORY_BYTES_MAX = 1 << 30
READ_FACTOR = 4
_FICLONE = 0x40049409
_PART_BYTES = 1 << 20
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE, _MS_RDONLY, _MS_NOSUID, _MS_NODEV = 0x20000, 16384, 1 << 18, 1, 2, 4
_ZEROS = bytes(_PART_BYTES)
_OF_THE_CONTENT = (
    errno.EACCES,
    errno.EEXIST,
    errno.EINVAL,
    errno.EISDIR,
    errno.ELOOP,
    errno.EMLINK,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EPERM,
)
"""What a name, a link or a mode in a tar or in the volume leads to, however often it is tried."""


class _Output(io.RawIOBase):
    """Standard output that gives up on a reader that stalls."""

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        whole = memoryview(content).cast("B")
        done = 0
        while done < len(whole):
            _, ready, _ = select.select([], [1], [], STALLED_S)
            if not ready:
                raise UnavailableError(f"the reader took nothing for {STALLED_S} s")
            done += os.write(1, whole[done : done + 65_536])
        return done


def main() -> int:
    order = json.loads(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_caller, daemon=True).start()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    found = VolumeFiles.of(Path(order["base"]), order["volume_id"])
    # Its streams are loaded before there is no file system to load them from.
    tarfile.open(fileobj=io.BytesIO(), mode="w|").close()
    try:
        done = _carry_out(found, order)
    except SubletError as error:
        return _tell({"code": error.code, "error": error.message})
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return _tell({"code": StorageFullError.code, "error": "there is no room for it"})
        return _tell({"code": "", "error": f"{type(error).__name__}: {error.strerror}"})
    except (MemoryError, RecursionError) as error:
        return _tell({"code": "invalid_input", "error": f"the files nest too deep ({type(error).__name__})"})
    if order["kind"] != "read":
        _Output().write(json.dumps({"bytes": done}).encode())
    return 0


def _tell(told: dict[str, str]) -> int:
    sys.stderr.write(json.dumps(told) + "\n")
    return 1


def _end_with_caller() -> None:
    while os.read(0, 4096):
        pass
    os._exit(3)


def _carry_out(found: VolumeFiles, order: dict[str, Any]) -> int:
    if not found.exists:
        raise UnavailableError("the volume is not on this machine")
    _wait_apart(found)
    if order["kind"] == WorkKind.SNAPSHOT:
        return _snapshot(found, order["subject_id"])
    if order["kind"] == WorkKind.RESTORE:
        _restore(found, order["subject_id"])
        return 0
    if order["kind"] == WorkKind.UNPACK:
        _unpack(found, order)
        return 0
    parts = parts_of(order["path"])
    root = _enter(found, read_only=True)
    volume_tree.Packer(cast("BinaryIO", _Output()), order["size_bytes"] * READ_FACTOR).pack(
        root, parts, parts[-1] if parts else order["name"]
    )
    return 0


def _wait_apart(found: VolumeFiles) -> None:
    """The kernel releases a disk a moment after its last user. Raises UnavailableError where a sandbox has it."""
    deadline = time.monotonic() + APART_S
    while disk.loop_devices(found.image):
        if time.monotonic() > deadline:
            raise UnavailableError("the volume is still in use by a sandbox")
        time.sleep(0.02)


def _enter(found: VolumeFiles, *, read_only: bool = False) -> int:
    """The volume's root, open; from here on, nothing else can be reached where this machine allows that."""
    if not found.image.exists():
        return os.open(found.files, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    target = found.root / "mount"
    target.mkdir(mode=0o700, exist_ok=True)
    disk.call("unshare", _LIBC.unshare(_CLONE_NEWNS))
    disk.mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if read_only else 0)
    disk.mount(disk.loop_device(found.image), str(target), "ext4", flags)
    os.chroot(target)
    os.chdir("/")
    os.setgroups([])
    os.setresgid(OWNER_ID, OWNER_ID, OWNER_ID)
    os.setresuid(OWNER_ID, OWNER_ID, OWNER_ID)
    return os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _unpack(found: VolumeFiles, order: dict[str, Any]) -> None:
    """A copy that was in place before a crash stays; one that replaces is simply done again."""
    copy = found.copy(order["subject_id"])
    if not (copy / "upload").exists():
        raise InvalidInputError("what was uploaded is no longer here; send it again")
    placing = os.open(copy / "placing", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with open(copy / "upload", "rb") as upload:
        if hashlib.file_digest(upload, "sha256").hexdigest() != order["sha256"]:
            raise InvalidInputError("what arrived is not what was announced; send it again")
        upload.seek(0)
        parts, staging = parts_of(order["path"]), f"{volume_tree.OUR_PREFIX}{order['subject_id']}"
        root = _enter(found)
        if os.read(placing, 1) and not order["replace"] and staging not in os.listdir(root):  # noqa: PTH208
            return
        volume_tree.remove_leftovers(root)
        with _final():
            name = volume_tree.unpack(root, upload, staging)
        volume_tree.flush(root)
        os.pwrite(placing, b"y", 0)
        os.fsync(placing)
        try:
            with _final():
                volume_tree.place(root, staging, name, parts, replace=order["replace"])
        finally:
            volume_tree.remove(root, staging)


@contextlib.contextmanager
def _final() -> Iterator[None]:
    """Raises InvalidInputError for what another try would not change, so that nobody waits for one."""
    try:
        yield
    except ValueError as error:
        raise InvalidInputError("the copy has a name, a link or a number that can't be read; pack it again") from error
    except OSError as error:
        if error.errno not in _OF_THE_CONTENT:
            raise
        raise InvalidInputError(
            f"the copy can't be put into the volume: {error.strerror}; check its names and links, and the modes of the "
            "directories on its path"
        ) from error


def _snapshot(found: VolumeFiles, snapshot_id: str) -> int:
    target = found.snapshot(snapshot_id)
    if target.exists():
        return _occupied(target)
    target.parent.mkdir(mode=0o700, exist_ok=True)
    temporary = target.with_suffix(".new")
    _drop(temporary)
    base = found.root.parent.parent
    if found.image.exists():
        with disk.counted(base):
            disk.require_room(base, found.image.stat().st_size)
        _copy_image(found.image, temporary, found.image.stat().st_size)
        mounted = found.root / "mount"
        mounted.mkdir(mode=0o700, exist_ok=True)
        disk.shrink(temporary, mounted)
    else:
        with disk.counted(base):
            disk.require_room(base, disk.used_below(found.files))
        _copy_tree(found.files, temporary)
    temporary.replace(target)
    return _occupied(target)


def _restore(found: VolumeFiles, snapshot_id: str) -> None:
    """The volume changes in one step, after everything is there."""
    source = found.snapshot(snapshot_id)
    base = found.root.parent.parent
    if found.image.exists():
        temporary, size = found.image.with_suffix(".new"), found.image.stat().st_size
        _drop(temporary)
        with disk.counted(base):
            disk.require_room(base, size)
            disk.allocate(temporary, size)
        try:
            _copy_image(source, temporary, size, clone=False)
        except BaseException:
            _drop(temporary)
            raise
        temporary.replace(found.image)
        return
    temporary = found.files.with_suffix(".new")
    _drop(temporary)
    with disk.counted(base):
        disk.require_room(base, disk.used_below(source))
    _copy_tree(source, temporary)
    folder = os.open(found.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    volume_tree.flush(folder)
    volume_tree.exchange(folder, temporary.name, found.files.name)
    os.close(folder)
    _drop(temporary)


def _copy_image(source: Path, target: Path, size: int, *, clone: bool = True) -> None:
    """Only what is not zero is written: the copy of a snapshot has holes, and a volume keeps the blocks that it was given."""
    with open(source, "rb") as reading, open(target, "r+b" if target.exists() else "w+b") as writing:
        os.fchmod(writing.fileno(), 0o600)
        if clone:
            try:
                fcntl.ioctl(writing.fileno(), _FICLONE, reading.fileno())
                os.fsync(writing.fileno())
                return
            except OSError:
                pass
        os.ftruncate(writing.fileno(), size)
        offset = 0
        while offset < size:
            try:
                offset = os.lseek(reading.fileno(), offset, os.SEEK_DATA)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                break
            end = os.lseek(reading.fileno(), offset, os.SEEK_HOLE)
            while offset < end:
                part = os.pread(reading.fileno(), min(_PART_BYTES, end - offset), offset)
                if not part:
                    raise UnavailableError("the disk of the volume can't be read")
                if part != _ZEROS[: len(part)]:
                    os.pwrite(writing.fileno(), part, offset)
                offset += len(part)
        os.fsync(writing.fileno())


def _copy_tree(source: Path, target: Path) -> None:
    """An ordinary user's volume is a directory; links are copied as links."""
    import shutil

    def regular(folder: str, names: list[str]) -> list[str]:
        places = {name: Path(folder, name) for name in names}
        return [n for n, place in places.items() if not (place.is_symlink() or place.is_file() or place.is_dir())]

    shutil.copytree(source, target, symlinks=True, ignore=regular)


def _occupied(path: Path) -> int:
    return disk.used_below(path) if path.is_dir() else disk.allocated_bytes(path)


def _drop(path: Path) -> None:
    if not path.exists() and not path.is_symlink():
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        volume_tree.remove(folder, path.name)
    finally:
        os.close(folder)


if __name__ == "__main__":
    sys.exit(main())
