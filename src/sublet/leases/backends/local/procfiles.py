"""What a tenant reads in /proc: the lease's own memory, processors, load and time instead of the whole machine's.

The shim writes these files from the lease's control groups once a second, in place: a bind mount follows the file, so a
rename would not be seen inside. Everything of /proc that speaks of the whole machine and that nobody needs is shown empty;
what is new in a later kernel is shown empty too, since only what is listed here is let through. Formats: proc(5).
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

PASSED = frozenset(
    "self thread-self mounts net sys sysvipc filesystems version devices execdomains crypto misc".split()
)
"""Names in /proc that the sandbox sees as the kernel has them: of the reader's own namespaces, or of the kernel alone."""
OWN = ("meminfo", "stat", "loadavg", "uptime", "cpuinfo", "cgroups", "vmstat", "swaps", "partitions")
SETTINGS = {
    "kernel/random/boot_id": "",
    "kernel/core_pattern": "core\n",
    "kernel/pty/nr": "0\n",
    "fs/file-nr": "0\t0\t0\n",
    "fs/inode-nr": "0\t0\n",
    "fs/inode-state": "0\t0\t0\t0\t0\t0\t0\n",
    "fs/dentry-state": "0\t0\t0\t0\t0\t0\n",
    "fs/aio-nr": "0\n",
}
"""Files below /proc/sys that count or name things of the whole machine, and what is shown instead."""
_PRESSURE = "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n"
_LOAD_SPANS_S = (60, 300, 900)
_BLOCK_BYTES = 256
_READABLE_BY_OTHERS = 0o004
_KIB = 1024


@dataclass(frozen=True, slots=True)
class Groups:
    """Where the lease's control groups are: controller to directory, and which of them are of version 2."""

    directories: Mapping[str, Path]
    second: frozenset[str]

    def read(self, controller: str, first: str, second: str) -> str:
        """The content of `first` or `second`, by the version that the controller has; empty where there is none."""
        directory = self.directories.get(controller)
        if directory is None:
            return ""
        try:
            return (directory / (second if controller in self.second else first)).read_text()
        except OSError:
            return ""

    def number(self, controller: str, first: str, second: str) -> int:
        text = self.read(controller, first, second).strip()
        return int(text) if text.isdigit() else 0

    def table(self, controller: str, name: str) -> dict[str, int]:
        words = (line.split() for line in self.read(controller, name, name).splitlines())
        return {item[0]: int(item[1]) for item in words if len(item) == 2 and item[1].isdigit()}

    @property
    def cpu_used_us(self) -> int:
        """Processor time that the lease has used since its groups were made."""
        used = self.table("cpu", "cpu.stat").get("usage_usec")
        return used if used is not None else self.number("cpuacct", "cpuacct.usage", "cpuacct.usage") // 1000


class ProcFiles:
    """The files of one life of a sandbox, in `directory`. `own_time` says that it has a time namespace, whose clock starts
    with it; without one its processes carry the machine's times, and these files then have to agree with them."""

    def __init__(
        self,
        directory: Path,
        cores: list[int],
        memory_bytes: int,
        groups: Groups,
        *,
        own_time: bool,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._directory, self._cores, self._memory = directory, sorted(cores), memory_bytes
        self._groups, self._own_time, self._clock = groups, own_time, clock
        self._hz = os.sysconf("SC_CLK_TCK")
        self._started = self._last = clock()
        self._used_before_us = self._last_used_us = groups.cpu_used_us
        self._load = [0.0, 0.0, 0.0]

    def write(self) -> None:
        """Make every file. Raises OSError."""
        for name in ("pressure", "empty", "sys", "settings"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        self._put("nothing", "")
        self._put("cpuinfo", _cpuinfo(self._cores))
        self._put("cgroups", _cgroups())
        self._put("vmstat", _zeros("/proc/vmstat"))
        self._put("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n")
        self._put("partitions", "major minor  #blocks  name\n\n")
        for name in _names("/proc/pressure"):
            self._put(f"pressure/{name}", _PRESSURE)
        for name, text in SETTINGS.items():
            self._put(f"settings/{name.replace('/', '.')}", text or f"{uuid.uuid4()}\n")
        processors = self._directory / "sys/devices/system/cpu"
        processors.mkdir(parents=True, exist_ok=True)
        last = len(self._cores) - 1
        for name in ("online", "possible", "present"):
            self._put(f"sys/devices/system/cpu/{name}", f"0-{last}\n" if last else "0\n")
        self.refresh()

    def refresh(self) -> None:
        """Write what changes, from the control groups."""
        self._put("meminfo", self._meminfo(), padded=True)
        now, used_us = self._clock(), self._groups.cpu_used_us
        self._count_load(now, used_us)
        processes = max(1, self._groups.number("pids", "pids.current", "pids.current"))
        load = " ".join(f"{value:.2f}" for value in self._load)
        self._put("loadavg", f"{load} 1/{processes} {processes}\n", padded=True)
        up_s, busy = max(0.0, now - self._started), int((used_us - self._used_before_us) / 1e6 * self._hz)
        idle = max(0, int(up_s * len(self._cores) * self._hz) - busy)
        self._put("stat", self._stat(busy, idle, processes), padded=True)
        shown_s = up_s if self._own_time else time.clock_gettime(time.CLOCK_BOOTTIME)
        self._put("uptime", f"{shown_s:.2f} {idle / self._hz:.2f}\n", padded=True)

    def _meminfo(self) -> str:
        groups = self._groups
        used = groups.number("memory", "memory.usage_in_bytes", "memory.current")
        stat = groups.table("memory", "memory.stat")

        def of(*names: str) -> int:
            return next((stat[name] for name in names if name in stat), 0)

        cached, inactive = of("total_cache", "file"), of("total_inactive_file", "inactive_file")
        shared = of("total_shmem", "shmem")
        free = max(0, self._memory - used)
        rows = {
            "MemTotal": self._memory, "MemFree": free, "MemAvailable": min(self._memory, free + inactive), "Buffers": 0,
            "Cached": cached, "SwapCached": 0, "Active": max(0, used - inactive), "Inactive": inactive, "SwapTotal": 0,
            "SwapFree": 0, "Dirty": 0, "Writeback": 0, "AnonPages": max(0, used - cached), "Mapped": 0, "Shmem": shared,
            "Slab": 0, "SReclaimable": 0, "SUnreclaim": 0, "CommitLimit": self._memory, "Committed_AS": used,
        }  # fmt: skip
        return "".join(f"{name + ':':<16}{value // _KIB:>8} kB\n" for name, value in rows.items())

    def _stat(self, busy: int, idle: int, processes: int) -> str:
        count = len(self._cores)
        lines = [f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0"]
        lines += [f"cpu{index} {busy // count} 0 0 {idle // count} 0 0 0 0 0 0" for index in range(count)]
        booted = int(self._started) if self._own_time else _booted()
        lines += ["intr 0", "ctxt 0", f"btime {booted}", f"processes {processes}", "procs_running 1", "procs_blocked 0",
                  "softirq 0"]  # fmt: skip
        return "\n".join(lines) + "\n"

    def _count_load(self, now: float, used_us: int) -> None:
        """The load as the kernel averages it, with the processors in use in place of the queue, which no group tells."""
        passed = now - self._last
        if passed <= 0:
            return
        rate = max(0.0, (used_us - self._last_used_us) / 1e6 / passed)
        for index, span in enumerate(_LOAD_SPANS_S):
            weight = math.exp(-passed / span)
            self._load[index] = self._load[index] * weight + rate * (1 - weight)
        self._last, self._last_used_us = now, used_us

    def _put(self, name: str, text: str, *, padded: bool = False) -> None:
        """In place. What changes is padded to whole blocks before its last line end, so that it keeps its length and no
        reader finds the tail of a longer text. Its owner can write it again: an ordinary user is not root. The sandbox sees it
        read-only."""
        data = text.encode()
        if padded:
            data = data[:-1] + b" " * (-len(data) % _BLOCK_BYTES) + b"\n"
        descriptor = os.open(self._directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            os.pwrite(descriptor, data, 0)
            if os.fstat(descriptor).st_size != len(data):
                os.ftruncate(descriptor, len(data))
        finally:
            os.close(descriptor)


def binds(directory: str, *, gpus: bool) -> list[tuple[str, str]]:
    """(source, path inside) of every file and directory to show, for a sandbox that has its own /proc mounted. `gpus` lets
    /proc/driver through, where NVIDIA's libraries read their settings."""
    found = [(f"{directory}/sys", "/sys"), (f"{directory}/pressure", "/proc/pressure")]
    found += [(f"{directory}/{name}", f"/proc/{name}") for name in OWN]
    passed = PASSED | {"pressure", *OWN} | ({"driver"} if gpus else frozenset())
    for name in sorted(set(_names("/proc")) - passed):
        path = Path("/proc", name)
        with contextlib.suppress(OSError):
            # What only root may read nobody inside can read.
            if path.is_symlink() or not path.stat().st_mode & _READABLE_BY_OTHERS:
                continue
            found.append((f"{directory}/{'empty' if path.is_dir() else 'nothing'}", str(path)))
    found += [(f"{directory}/settings/{name.replace('/', '.')}", f"/proc/sys/{name}") for name in SETTINGS]
    return [(source, inside) for source, inside in found if inside == "/sys" or Path(inside).exists()]


def _names(folder: str) -> list[str]:
    try:
        return [name for name in os.listdir(folder) if not name.isdigit()]  # noqa: PTH208
    except OSError:
        return []


def _cpuinfo(cores: list[int]) -> str:
    """The blocks of the leased cores, numbered from 0, which say how many processors the lease has."""
    blocks = Path("/proc/cpuinfo").read_text().strip().split("\n\n")
    chosen = []
    for number, core in enumerate(cores):
        block = next((item for item in blocks if re.search(rf"^processor\s*:\s*{core}$", item, re.M)), blocks[0])
        for field, value in (("processor", number), ("core id", number), ("apicid", number), ("initial apicid", number),
                             ("siblings", len(cores)), ("cpu cores", len(cores))):  # fmt: skip
            block = re.sub(rf"^({field}\s*:\s*)\d+", rf"\g<1>{value}", block, flags=re.M)
        chosen.append(block)
    return "\n\n".join(chosen) + "\n\n"


def _cgroups() -> str:
    """Which controllers there are, without how many groups the machine has."""
    try:
        lines = Path("/proc/cgroups").read_text().splitlines()
    except OSError:
        return ""
    words = (line.split() for line in lines)
    return "".join(
        "\t".join(item if item[0].startswith("#") else [item[0], item[1], "1", item[3]]) + "\n"
        for item in words
        if len(item) == 4
    )


def _zeros(path: str) -> str:
    """The names of a table of counters, each with 0: programs that read it give up on an empty one."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return ""
    return "".join(f"{line.split()[0]} 0\n" for line in lines if line)


def _booted() -> int:
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith("btime "):
            return int(line.split()[1])
    return int(time.time() - time.clock_gettime(time.CLOCK_BOOTTIME))
