"""Samples this machine's own load as demand, less what Sublet itself and its tenants use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sublet.demand.model import Sample
from sublet.values.clock import Clock
from sublet.values.errors import UnavailableError

PROCESSES_MAX = 100_000
HOUSEKEEPING = 0.25
"""Load below a quarter of an accelerator is the machine's own housekeeping, not demand."""


class LoadUnreadableError(UnavailableError):
    """This machine's load cannot be read from /proc; import demand from CSV or Prometheus instead."""

    code = "load_unreadable"


@dataclass(frozen=True, slots=True)
class Tenants:
    """Whose use is not the owner's demand: cgroup directories, and processes with all their descendants."""

    cgroups: tuple[Path, ...] = ()
    pids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Reading:
    busy_ticks: int
    all_ticks: int
    process_ticks: dict[tuple[int, int], int]
    cgroup_us: dict[Path, int]


class LocalSampler:
    """Reads `/proc/stat` twice and says how many of a pool's accelerators the owner's own work kept busy between.

    The machine's cores stand for the pool's `accelerators`: a half-busy machine is half the pool.
    """

    def __init__(
        self,
        clock: Clock,
        accelerators: int,
        tenants: Callable[[], Tenants] = Tenants,
        proc: Path = Path("/proc"),
        ticks_per_s: int | None = None,
    ) -> None:
        self._clock = clock
        self._accelerators = accelerators
        self._tenants = tenants
        self._proc = proc
        self._ticks_per_s = ticks_per_s or os.sysconf("SC_CLK_TCK")
        self._before: _Reading | None = None

    def sample(self) -> Sample | None:
        """Demand since the last call; None at the first call, or when no time has passed. Raises LoadUnreadableError."""
        tenants = self._tenants()
        now = self._read(tenants)
        before, self._before = self._before, now
        if before is None or now.all_ticks <= before.all_ticks:
            return None
        spent = now.all_ticks - before.all_ticks
        busy = now.busy_ticks - before.busy_ticks - self._tenant_ticks(before, now)
        load = min(1.0, max(0.0, busy / spent)) * self._accelerators
        in_use = 0.0 if load < HOUSEKEEPING else round(load, 3)
        return Sample(self._clock.now(), self._accelerators, in_use)

    def _tenant_ticks(self, before: _Reading, now: _Reading) -> float:
        # A process that began since the last reading has used all of its time since then.
        processes = sum(max(0, ticks - before.process_ticks.get(key, 0)) for key, ticks in now.process_ticks.items())
        cgroups = sum(max(0, used - before.cgroup_us.get(path, used)) for path, used in now.cgroup_us.items())
        return processes + cgroups * self._ticks_per_s / 1e6

    def _read(self, tenants: Tenants) -> _Reading:
        try:
            cells = (self._proc / "stat").read_text().split("\n", 1)[0].split()
            if cells[0] != "cpu":
                raise ValueError("no cpu line")
            ticks = [int(cell) for cell in cells[1:9]]
        except (OSError, ValueError, IndexError) as error:
            raise LoadUnreadableError() from error
        idle = ticks[3] + ticks[4]
        inside = {path: used for path in tenants.cgroups if (used := cgroup_used_us(path)) is not None}
        return _Reading(sum(ticks) - idle, sum(ticks), self._ticks_of(tenants.pids), inside)

    def _ticks_of(self, roots: Iterable[int]) -> dict[tuple[int, int], int]:
        wanted = set(roots)
        if not wanted:
            return {}
        parents: dict[int, int] = {}
        spent: dict[int, tuple[int, int]] = {}
        for entry in os.scandir(self._proc):
            if not entry.name.isdigit() or len(parents) >= PROCESSES_MAX:
                continue
            try:
                text = (self._proc / entry.name / "stat").read_text()
            except OSError:
                continue
            # The command's name may hold spaces and parentheses: the fields start after the last one.
            fields = text[text.rindex(")") + 2 :].split()
            pid = int(entry.name)
            parents[pid] = int(fields[1])
            spent[pid] = (int(fields[19]), int(fields[11]) + int(fields[12]))
        family = _descendants(wanted, parents)
        return {(pid, spent[pid][0]): spent[pid][1] for pid in family if pid in spent}


def cgroup_used_us(path: Path) -> int | None:
    """CPU microseconds that a cgroup (v2 `cpu.stat`, v1 `cpuacct.usage`) has used; None where it can't be read."""
    try:
        for line in (path / "cpu.stat").read_text().splitlines():
            name, _, value = line.partition(" ")
            if name == "usage_usec":
                return int(value)
    except (OSError, ValueError):
        pass
    try:
        return int((path / "cpuacct.usage").read_text()) // 1000
    except (OSError, ValueError):
        return None


def _descendants(roots: set[int], parents: dict[int, int]) -> set[int]:
    children: dict[int, list[int]] = {}
    for pid, parent in parents.items():
        children.setdefault(parent, []).append(pid)
    family, pending = set(roots), list(roots)
    while pending:
        for child in children.get(pending.pop(), ()):
            if child not in family:
                family.add(child)
                pending.append(child)
    return family
