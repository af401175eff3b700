"""Volumes on this machine: each a file system of its own whose blocks are all there, below the leases' directory.

Every lease has another host uid, and a volume outlives leases. So on the volume everything belongs to one fixed id, and the
mount of a lease maps it to that lease's uid (mount_setattr(2), Linux 5.12): nothing of the volume is walked or changed.
"""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import signal
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.local import disk
from sublet.values.errors import InvalidInputError, StorageFullError

DIRECTORY = "volumes"
OWNER_ID = 1000
"""Whose everything on a volume is."""
_VOLUME_ID = re.compile(r"vol_[a-z0-9]{1,40}")
_MIB = 1 << 20
_MKFS_TIMEOUT_S = 600
_LIBC = ctypes.CDLL(None, use_errno=True)
# The same numbers on every architecture (include/uapi/asm-generic/unistd.h).
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _AT_EMPTY_PATH, _MOVE_MOUNT_F_EMPTY_PATH, _MOUNT_ATTR_IDMAP = 1, 0x1000, 4, 0x00100000
_CLONE_NEWUSER, _AT_FDCWD = 0x10000000, -100
_MS_NOSUID, _MS_NODEV = 2, 4


@dataclass(frozen=True, slots=True)
class VolumeFiles:
    """Where a volume lies: an image, or a directory where this machine can make none for an ordinary user."""

    root: Path

    @classmethod
    def of(cls, base: Path, volume_id: str) -> VolumeFiles:
        """Raises InvalidInputError for an id that could name another place."""
        if not _VOLUME_ID.fullmatch(volume_id):
            raise InvalidInputError(f"{volume_id!r} is not the id of a volume")
        return cls(base / DIRECTORY / volume_id)

    @property
    def image(self) -> Path:
        return self.root / "volume.img"

    @property
    def files(self) -> Path:
        return self.root / "files"

    def copy(self, copy_id: str) -> Path:
        """Where a copy that is on its way into the volume lies. Raises InvalidInputError."""
        return self.root / "copies" / _checked("cpy", copy_id)

    def snapshot(self, snapshot_id: str) -> Path:
        """Where a snapshot lies. Raises InvalidInputError."""
        return self.root / "snapshots" / f"{_checked('snp', snapshot_id)}.{'img' if self.image.exists() else 'files'}"

    @property
    def exists(self) -> bool:
        return self.image.is_file() or self.files.is_dir()


def _checked(prefix: str, subject_id: str) -> str:
    if not re.fullmatch(f"{prefix}_[a-z0-9]{{1,40}}", subject_id):
        raise InvalidInputError(
            f"{subject_id!r} is not an id of a volume's {'copy' if prefix == 'cpy' else 'snapshot'}"
        )
    return subject_id


def make(base: Path, volume_id: str, size_mib: int, mkfs: str | None) -> None:
    """Allocate and format; a volume that is there stays as it is. Raises StorageFullError, BackendFailedError."""
    found = VolumeFiles.of(base, volume_id)
    if found.exists:
        return
    found.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with disk.counted(base):
        try:
            disk.require_room(base, size_mib * _MIB)
            if mkfs is None:
                # Its size is counted (`disk.room_bytes`) and not enforced, as that of a home here.
                (found.root / "size").write_text(str(size_mib * _MIB))
                found.files.mkdir(mode=0o700)
                return
            _format(found, size_mib * _MIB, mkfs)
        except (StorageFullError, OSError):
            shutil.rmtree(found.root, ignore_errors=True)
            raise


def _format(found: VolumeFiles, size_bytes: int, mkfs: str) -> None:
    """Under another name first: what a crash leaves half-made is made again."""
    temporary = found.image.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    disk.allocate(temporary, size_bytes)
    options = f"root_owner={OWNER_ID}:{OWNER_ID},lazy_itable_init=1,nodiscard"
    command = [mkfs, "-q", "-F", "-m0", "-E", options, str(temporary)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_MKFS_TIMEOUT_S, check=False)
    if done.returncode != 0 or not disk.keep_allocated(temporary, size_bytes):
        shutil.rmtree(found.root, ignore_errors=True)
        raise BackendFailedError(f"the volume could not be created: {' '.join(done.stderr.split())[:200]}")
    temporary.replace(found.image)


def remove(base: Path, volume_id: str) -> None:
    """Leave nothing: the next user of its blocks reads zeros. Raises BackendFailedError where it is in use."""
    found = VolumeFiles.of(base, volume_id)
    if disk.loop_devices(found.image):
        raise BackendFailedError("the volume is still in use by a sandbox")
    shutil.rmtree(found.root, ignore_errors=True)
    if found.root.exists():
        raise BackendFailedError("parts of the volume could not be removed")


def mount(found: VolumeFiles, target: Path, uid: int) -> None:
    """As root, in a mount namespace of one's own: the volume at `target`, where its owner is `uid`. Raises OSError."""
    disk.mount(disk.loop_device(found.image), str(target), "ext4", _MS_NOSUID | _MS_NODEV)
    shutil.rmtree(target / "lost+found", ignore_errors=True)
    mapping = _mapping(uid)
    tree = _call(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(target), _OPEN_TREE_CLONE | os.O_CLOEXEC)
    try:
        # struct mount_attr of linux/mount.h: attr_set, attr_clr, propagation, userns_fd, 64 bits each.
        attributes = struct.pack("=QQQQ", _MOUNT_ATTR_IDMAP, 0, 0, mapping)
        _call(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, len(attributes))
        _call(_SYS_MOVE_MOUNT, tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    finally:
        os.close(tree)
        os.close(mapping)


def _mapping(uid: int) -> int:
    """A user namespace that maps the volume's owner to `uid` and nobody else, as a descriptor."""
    ready, begin = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(ready[1], b"y" if _LIBC.unshare(_CLONE_NEWUSER) == 0 else b"n")
            os.close(begin[1])
            os.read(begin[0], 1)
        finally:
            os._exit(0)
    try:
        if os.read(ready[0], 1) != b"y":
            raise OSError("a user namespace for the volume could not be created")
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{child}/{name}").write_text(f"{OWNER_ID} {uid} 1\n")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for descriptor in (*ready, *begin):
            os.close(descriptor)


def _call(number: int, *arguments: int | bytes) -> int:
    passed = [ctypes.c_long(item) if isinstance(item, int) else ctypes.c_char_p(item) for item in arguments]
    result = _LIBC.syscall(ctypes.c_long(number), *passed)
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"the volume can't be mounted for its lease: {os.strerror(error)}")
    return int(result)
