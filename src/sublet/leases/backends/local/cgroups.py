"""Hard caps: one control group per lease, below our own group in every hierarchy, so that our own limits keep holding.

Hosts mount version 1, version 2, or both with the controllers on either side; each controller is taken from where it is.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

CONTROLLERS = ("cpuset", "cpu", "memory", "pids", "cpuacct")
# It caps nothing: version 1 counts processor time there, version 2 in every group.
UNIFIED = "unified"
SERVICE_GROUP = "sublet-service"
CPU_PERIOD_US = 100_000
_REMOVE_ATTEMPTS = 200
_REMOVE_PAUSE_S = 0.005


def parents(proc: Path = Path("/proc"), *, prepare: bool = True) -> dict[str, str]:
    """Controller to the directory under which a lease's group can be made; `unified` is version 2's, for cgroup.kill.

    Only directories in which this process may make groups are given. On version 2 a group with processes can't hand
    controllers to its children, so with `prepare` our own processes first move one level down (what systemd asks of a
    unit with Delegate=yes).
    """
    own = _own_groups(proc)
    found: dict[str, str] = {}
    for line in (proc / "mounts").read_text().splitlines():
        _, mount, kind, options = line.split()[:4]
        if kind == "cgroup":
            for controller in CONTROLLERS:
                if controller in options.split(","):
                    _offer(found, controller, Path(mount + own.get(controller, "/")))
        elif kind == "cgroup2":
            _offer_unified(found, Path(mount + own.get("", "/")), prepare)
    return found


def _own_groups(proc: Path) -> dict[str, str]:
    groups = {}
    for line in (proc / "self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            groups[controller] = path
    return groups


def _offer(found: dict[str, str], controller: str, directory: Path) -> None:
    if controller not in found and os.access(directory, os.W_OK):
        found[controller] = str(directory)


def _offer_unified(found: dict[str, str], directory: Path, prepare: bool) -> None:
    if directory.name == SERVICE_GROUP:
        directory = directory.parent
    if not os.access(directory, os.W_OK):
        return
    found[UNIFIED] = str(directory)
    wanted = [name for name in CONTROLLERS if name in _words(directory / "cgroup.controllers")]
    if prepare and not set(wanted) <= set(_words(directory / "cgroup.subtree_control")):
        _hand_down(directory, wanted)
    for controller in _words(directory / "cgroup.subtree_control"):
        if controller in CONTROLLERS:
            found.setdefault(controller, str(directory))


def _hand_down(directory: Path, controllers: list[str]) -> None:
    for moved in (False, True):
        if moved and not _move_down(directory):
            return
        with contextlib.suppress(OSError):
            (directory / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in controllers))
            return


def _move_down(directory: Path) -> bool:
    leaf = directory / SERVICE_GROUP
    try:
        leaf.mkdir(exist_ok=True)
        for process in _words(directory / "cgroup.procs"):
            with contextlib.suppress(ProcessLookupError):
                (leaf / "cgroup.procs").write_text(process)
    except OSError:
        return False
    return True


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []


@dataclass(frozen=True, slots=True)
class Caps:
    """What one lease may use at most. `cores` are core numbers, `cpu_quota` in cores or None for all of `cores`."""

    cores: tuple[int, ...]
    cpu_quota: float | None
    memory_bytes: int
    processes_max: int


@dataclass(slots=True)
class LeaseCgroup:
    """The control groups of one lease: a directory per hierarchy."""

    name: str
    parents: Mapping[str, str]
    enforced: set[str] = field(default_factory=set)

    def directories(self) -> list[Path]:
        """Each hierarchy's directory once."""
        return [Path(parent) / self.name for parent in dict.fromkeys(self.parents.values())]

    def create(self, caps: Caps) -> set[str]:
        """Make the groups and set the caps; returns the controllers that now hold. Where a group can't be made, none of
        its controllers does."""
        for directory in self.directories():
            with contextlib.suppress(OSError):
                directory.mkdir(exist_ok=True)
        self.enforced = {name for name in CONTROLLERS if name in self.parents and self._apply(name, caps)}
        return self.enforced

    def join(self, pid: int) -> None:
        """Move `pid` in. Raises OSError where an enforced group refuses it: it must not run uncapped."""
        needed = {self.parents[name] for name in self.enforced}
        for directory in self.directories():
            try:
                (directory / "cgroup.procs").write_text(str(pid))
            except OSError:
                if str(directory.parent) in needed:
                    raise

    def pids(self) -> set[int]:
        return {int(pid) for directory in self.directories() for pid in _words(directory / "cgroup.procs")}

    def kill(self) -> None:
        """Kill all that is inside, at once where version 2 offers that."""
        unified = self.parents.get(UNIFIED)
        if unified:
            with contextlib.suppress(OSError):
                (Path(unified) / self.name / "cgroup.kill").write_text("1")
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, 9)

    def remove(self) -> list[str]:
        """Remove the directories; returns those that would not go."""
        left = []
        for directory in self.directories():
            for _ in range(_REMOVE_ATTEMPTS):
                try:
                    directory.rmdir()
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(_REMOVE_PAUSE_S)
                else:
                    break
            else:
                left.append(str(directory))
        return left

    def _apply(self, controller: str, caps: Caps) -> bool:
        parent = Path(self.parents[controller])
        directory, second = parent / self.name, self.parents[controller] == self.parents.get(UNIFIED)
        try:
            if controller == "cpuset":
                if not second:
                    (directory / "cpuset.mems").write_text((parent / "cpuset.mems").read_text().strip())
                (directory / "cpuset.cpus").write_text(",".join(str(core) for core in caps.cores))
            elif controller == "cpu":
                self._apply_cpu(directory, caps, second)
            elif controller == "memory":
                (directory / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(caps.memory_bytes))
                with contextlib.suppress(OSError):
                    swap = ("memory.swap.max", 0) if second else ("memory.memsw.limit_in_bytes", caps.memory_bytes)
                    (directory / swap[0]).write_text(str(swap[1]))
            elif controller == "pids":
                (directory / "pids.max").write_text(str(caps.processes_max))
        except OSError:
            return False
        return True

    @staticmethod
    def _apply_cpu(directory: Path, caps: Caps, second: bool) -> None:
        quota = max(1000, round(caps.cpu_quota * CPU_PERIOD_US)) if caps.cpu_quota is not None else None
        if second:
            (directory / "cpu.max").write_text(f"{'max' if quota is None else quota} {CPU_PERIOD_US}")
        else:
            (directory / "cpu.cfs_period_us").write_text(str(CPU_PERIOD_US))
            (directory / "cpu.cfs_quota_us").write_text(str(-1 if quota is None else quota))
