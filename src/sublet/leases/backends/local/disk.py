"""Room on the disk: what a lease is promised is allocated before it starts, and some of the disk is never promised.

A sparse file is a promise without cover: the first tenants who use theirs leave the others, and our own books, without a
block. So a home is a file whose blocks are all there (posix_fallocate(3); a gibibyte takes about 10 ms on ext4), and a lease
is refused where they can't be had.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sublet.leases.backends.local.files import LeaseFiles, Spec
from sublet.values.errors import StorageFullError

MIB = 1 << 20
KEEP_FREE_SHARE = 0.05
KEEP_FREE_BYTES_MIN = 128 * MIB
KEEP_FREE_BYTES_MAX = 8192 * MIB
"""What of a disk is never promised to tenants: a share of it between two bounds. Databases, journals and logs grow there."""
WALK_ENTRIES_MAX = 20_000
_BLOCK_BYTES = 512
_FSCK_TIMEOUT_S = 120
_FSCK_CORRECTED_MAX = 3
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE, _MS_NOSUID, _MS_NODEV = 0x20000, 16384, 1 << 18, 2, 4
_LOOP_CTL_GET_FREE, _LOOP_SET_FD, _LOOP_SET_STATUS64, _LO_FLAGS_AUTOCLEAR = 0x4C82, 0x4C00, 0x4C04, 4
# FITRIM of linux/fs.h: _IOWR('X', 121, struct fstrim_range), three 64-bit numbers.
_FITRIM, _ALL_BYTES = 0xC0185879, (1 << 64) - 1
# Where an ext4 superblock says that it was unmounted in order: s_state, 58 bytes after its start at 1024, bit 0.
_EXT4_STATE_AT, _EXT4_VALID = 1024 + 58, 1


def keep_free_bytes(size_bytes: int) -> int:
    """What of a disk of `size_bytes` stays free of tenants."""
    return min(KEEP_FREE_BYTES_MAX, max(KEEP_FREE_BYTES_MIN, int(size_bytes * KEEP_FREE_SHARE)))


def room_bytes(base: Path) -> int:
    """How much new leases below `base` may be promised; below zero where too much is promised already.

    What is allocated (homes, and what is kept of ended ones) is no longer free. What running leases were promised and
    have not allocated, as homes without a file system of their own, is subtracted.
    """
    usage = shutil.disk_usage(base)
    return usage.free - sum(max(0, promised - held) for promised, held in _homes(base)) - keep_free_bytes(usage.total)


def lease_bytes_max(base: Path) -> int:
    """How much leases below `base` may hold in all, what runs now included."""
    place = base
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    held = sum(held for _, held in _homes(base)) if base.is_dir() else 0
    return usage.free + held - keep_free_bytes(usage.total)


def _homes(base: Path) -> Iterator[tuple[int, int]]:
    """What each lease that is not over was promised, and what its home occupies, in bytes."""
    for entry in base.iterdir():
        if not entry.name.startswith("lse_") or not (entry / "contents").is_dir():
            continue
        files = LeaseFiles(base, entry.name)
        spec = files.read_spec()
        if spec is not None:
            yield (
                spec.disk_bytes,
                allocated_bytes(files.image) if files.image.exists() else used_below(files.home),
            )
    for path in (base / "volumes").glob("vol_*/size"):
        with contextlib.suppress(OSError, ValueError):
            yield int(path.read_text()), used_below(path.parent / "files")


def allocated_bytes(path: Path) -> int:
    """The blocks that a file has, whatever its length says; 0 where there is none."""
    try:
        return path.stat().st_blocks * _BLOCK_BYTES
    except OSError:
        return 0


def used_below(folder: Path) -> int:
    """What the files below `folder` occupy. It stops at WALK_ENTRIES_MAX: too little counted refuses a lease, no more."""
    total = seen = 0
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_blocks * _BLOCK_BYTES  # noqa: PTH118  os.walk gives strings
            seen += 1
        if seen >= WALK_ENTRIES_MAX:
            break
    return total


@contextmanager
def counted(base: Path) -> Iterator[None]:
    """One at a time below `base`, whichever process: who has counted the room takes it before another counts."""
    descriptor = os.open(base / "room.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def require_room(base: Path, wanted_bytes: int) -> None:
    """Raises StorageFullError where a lease of `wanted_bytes` does not fit beside what is promised already."""
    room = room_bytes(base)
    if room < wanted_bytes:
        raise StorageFullError(
            f"the disk that holds {base} has room for {max(0, room) // MIB} MiB of new leases, and this one needs "
            f"{wanted_bytes // MIB} MiB; end a lease, free some space, or lower leasing.disk_mib"
        )


def allocate(path: Path, size_bytes: int) -> None:
    """Give `path` all its blocks; what it holds stays. Raises StorageFullError; a file made for this is then gone."""
    made = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
    except OSError as error:
        # A call that fails keeps the blocks that it got so far.
        if made:
            path.unlink(missing_ok=True)
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise StorageFullError(
            f"the disk that holds {path.parent} has no room for another {size_bytes // MIB} MiB; free some space"
        ) from error
    finally:
        os.close(descriptor)


def make_disk(spec: Spec, files: LeaseFiles, mkfs: str) -> bool:
    """Give the home a file system of its own with a hard cap, every block of it allocated; False where mkfs can't make one.

    Raises StorageFullError.
    """
    temporary = files.image.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    allocate(temporary, spec.disk_bytes)
    owner = f"root_owner={spec.uid}:{spec.uid},lazy_itable_init=1,nodiscard"
    done = subprocess.run(
        [mkfs, "-q", "-F", "-m0", "-O", "^has_journal", "-E", owner, str(temporary)], capture_output=True, check=False
    )
    if done.returncode != 0:
        temporary.unlink(missing_ok=True)
        return False
    keep_allocated(temporary, spec.disk_bytes)
    temporary.replace(files.image)
    return True


def keep_allocated(image: Path, size_bytes: int) -> bool:
    """Fill holes that somebody punched into the image (fstrim does); False where there is no room for them now."""
    if not image.exists() or allocated_bytes(image) >= size_bytes:
        return True
    try:
        allocate(image, size_bytes)
    except (StorageFullError, OSError):
        return False
    return True


def check_disk(image: Path, fsck: str | None) -> None:
    """Repair the file system of a home that was not unmounted in order, as after a power failure: it has no journal.

    Raises OSError where it can't be repaired without a person.
    """
    with open(image, "rb") as file:
        file.seek(_EXT4_STATE_AT)
        (state,) = struct.unpack("<H", file.read(2))
    if state & _EXT4_VALID or fsck is None:
        return
    done = subprocess.run(
        [fsck, "-p", "-f", str(image)], capture_output=True, text=True, timeout=_FSCK_TIMEOUT_S, check=False
    )
    if done.returncode > _FSCK_CORRECTED_MAX:
        said = " ".join((done.stdout + done.stderr).split())
        raise OSError(errno.EUCLEAN, f"the file system is damaged and needs manual repair: {said[:200]}")


def fsck_program() -> str | None:
    """e2fsck of this machine; None where it has none."""
    return shutil.which("e2fsck", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def shrink(image: Path, folder: Path) -> None:
    """Give back the blocks of an image that its file system does not use. Without effect where that does not work here.

    Tried in a child: mounts of its own, which end with it. `folder` is any directory to mount on.
    """
    if os.geteuid() != 0 or loop_devices(image):
        return
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    status = 1
    try:
        call("unshare", _LIBC.unshare(_CLONE_NEWNS))
        mount(None, "/", None, _MS_REC | _MS_PRIVATE)
        mount(loop_device(image), str(folder), "ext4", _MS_NOSUID | _MS_NODEV)
        opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        fcntl.ioctl(opened, _FITRIM, struct.pack("<QQQ", 0, _ALL_BYTES, 0))
        status = 0
    finally:
        os._exit(status)


def loop_device(image: Path, *, read_only: bool = False) -> str:
    """Attach `image`; the kernel detaches it at the last unmount, even when we are killed."""
    access = os.O_RDONLY if read_only else os.O_RDWR
    backing = os.open(image, access | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        for _ in range(64):
            with open("/dev/loop-control", "rb") as control:
                number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            device = f"/dev/loop{number}"
            holding = os.open(device, access | os.O_CLOEXEC)
            try:
                fcntl.ioctl(holding, _LOOP_SET_FD, backing)
            except OSError:
                os.close(holding)
                continue
            # struct loop_info64 (linux/loop.h): lo_flags stands at byte 52 of 232. `holding` stays open until exec, so
            # that the device is not detached before it is mounted.
            fcntl.ioctl(holding, _LOOP_SET_STATUS64, struct.pack("<52xI176x", _LO_FLAGS_AUTOCLEAR))
            return device
    finally:
        os.close(backing)
    raise OSError("no free loop device")


def loop_devices(image: Path) -> list[str]:
    """The devices that hold `image`."""
    found = []
    for backing in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if backing.read_text().strip().removesuffix(" (deleted)") == str(image):
                found.append(f"/dev/{backing.parent.parent.name}")
        except OSError:
            continue
    return found


def mount(source: str | None, target: str, kind: str | None, flags: int, data: str | None = None) -> None:
    """mount(2). Raises OSError that names the target."""

    def raw(text: str | None) -> bytes | None:
        return text.encode() if text is not None else None

    call(f"mount {target}", _LIBC.mount(raw(source), raw(target), raw(kind), flags, raw(data)))


def call(what: str, result: int) -> None:
    """Raises OSError with the C library's error where `result` is not 0."""
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
