"""Leave nothing: end what runs, remove what lies about, and prove both from the kernel's own view."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from sublet.leases.backends.local.archive import keep_home
from sublet.leases.backends.local.disk import loop_devices
from sublet.leases.backends.local.files import LeaseFiles, Spec, State, boot_id, process_started
from sublet.leases.backends.local.sandbox import lease_cgroup
from sublet.leases.backends.local.volumes import VolumeFiles

DISAPPEAR_TIMEOUT_S = 10.0
DETACH_TIMEOUT_S = 2.0
_PAUSE_S = 0.005


def tear_down(spec: Spec, files: LeaseFiles, state: State) -> list[str]:
    """End what is left of the sandbox, remove its contents, and return what could not be removed; empty means proved clean.

    Works from disk and kernel state alone and may be repeated at any time; the caller holds the lease's lock.
    """
    end_processes(spec, state)
    cgroups_left = lease_cgroup(spec).remove()
    _unmount_below(files.root)
    _free_all_but_home(files)
    _wait_until_detached(spec, files)
    if not keep_home(spec, files):
        state.error = "the disk is full: the home of this lease could not be kept"
    for path in (files.contents, files.control):
        shutil.rmtree(path, ignore_errors=True)
    return proof(spec, files, state, cgroups_left)


def _free_all_but_home(files: LeaseFiles) -> None:
    """Before anything is written: on a full disk, keeping the home needs what this frees."""
    if files.contents.is_dir():
        for path in files.contents.iterdir():
            if path in (files.home, files.image):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _images(spec: Spec, files: LeaseFiles) -> list[Path]:
    """What the sandbox has mounted: its home and its volumes. A volume may be another lease's by now, so it is waited for and is no
    proof against this one; who has it next waits for it too."""
    return [files.image, *(VolumeFiles.of(files.root.parent, volume_id).image for volume_id, _ in spec.volumes)]


def _wait_until_detached(spec: Spec, files: LeaseFiles) -> None:
    """The kernel releases a dead namespace's disk a moment after its last process."""
    deadline = time.monotonic() + DETACH_TIMEOUT_S
    while any(loop_devices(image) for image in _images(spec, files)) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)


def end_processes(spec: Spec, state: State) -> None:
    """Kill PID 1 of the sandbox, all in its control groups, and as root all of its uid; wait until they are gone."""
    group = lease_cgroup(spec)
    deadline = time.monotonic() + DISAPPEAR_TIMEOUT_S
    while time.monotonic() < deadline:
        if init_alive(state):
            with contextlib.suppress(ProcessLookupError):
                os.kill(state.init_pid, signal.SIGKILL)
        group.kill()
        for pid in _pids_of(spec.uid):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        if not init_alive(state) and not group.pids() and not any(_pids_of(spec.uid)):
            return
        time.sleep(_PAUSE_S)


def proof(spec: Spec, files: LeaseFiles, state: State, cgroups_left: list[str]) -> list[str]:
    """What is left of the lease, in words; empty where nothing is."""
    deadline = time.monotonic() + 2.0
    while True:
        left = [f"control group {path}" for path in cgroups_left if Path(path).is_dir()]
        left += [f"process {pid} of uid {spec.uid}" for pid in _pids_of(spec.uid)]
        left += [f"process {pid} in a control group" for pid in sorted(lease_cgroup(spec).pids())]
        if init_alive(state):
            left.append(f"PID 1 of the sandbox, process {state.init_pid}")
        left += [f"mount {target}" for target in mounts_below(files.root)]
        left += [f"disk {device}" for device in loop_devices(files.image)]
        left += [f"directory {path}" for path in (files.contents, files.control) if path.exists()]
        # The kernel releases a dead namespace's mounts and disks a moment after its last process.
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.02)


def init_alive(state: State) -> bool:
    """The sandbox's PID 1 of this very state lives: same boot, same pid, same start time."""
    return bool(
        state.init_pid and state.boot_id == boot_id() and process_started(state.init_pid) == state.init_started != ""
    )


def shim_alive(state: State) -> bool:
    return bool(state.pid and state.boot_id == boot_id() and process_started(state.pid) == state.pid_started != "")


def tenant_pids(init_pid: int) -> list[int]:
    """Every process in the PID namespace of `init_pid`, itself included; empty where it is gone."""
    try:
        namespace = Path(f"/proc/{init_pid}/ns/pid").readlink()
    except OSError:
        return []
    found = []
    for process in _processes():
        with contextlib.suppress(OSError):
            if (process / "ns/pid").readlink() == namespace:
                found.append(int(process.name))
    return found


def mounts_below(root: Path) -> list[str]:
    prefix = f"{root.as_posix()}/"
    lines = Path("/proc/self/mounts").read_text().splitlines()
    targets = [line.split()[1].encode().decode("unicode_escape") for line in lines]
    return [target for target in targets if target.startswith(prefix)]


def _unmount_below(root: Path) -> None:
    import ctypes

    libc = ctypes.CDLL(None)
    for target in reversed(mounts_below(root)):
        libc.umount2(target.encode(), 2)


def _pids_of(uid: int | None) -> Iterator[int]:
    """Live processes of a lease's own uid. A shared uid says nothing about whose they are, so then none."""
    if uid is None:
        return
    for process in _processes():
        with contextlib.suppress(OSError):
            owner = process.stat().st_uid
            # A process that is not dumpable belongs to root in /proc, so its status is asked as well.
            if (owner == uid or (owner == 0 and _real_uid(process.name) == uid)) and process_started(int(process.name)):
                yield int(process.name)


def _processes() -> Iterator[Path]:
    return (entry for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _real_uid(pid: str) -> int:
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("Uid:"):
                    return int(line.split()[1])
    except OSError:
        pass
    return -1
