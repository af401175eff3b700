"""The lease's own /proc files, from control groups of either version, without a sandbox around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublet.leases.backends.local import procfiles
from sublet.leases.backends.local.procfiles import Groups, ProcFiles

MIB = 1 << 20


class Machine:
    """Control groups in a directory, of one version or the other, and a clock."""

    def __init__(self, root: Path, version: int) -> None:
        self.root, self.version, self.now = root, version, 1000.0
        names = ("memory", "cpu", "cpuacct", "pids") if version == 1 else ("memory", "cpu", "pids")
        self.groups = Groups({name: root for name in names}, frozenset(names if version == 2 else ()))
        self.use(0, 0)

    def use(self, memory: int, cpu_s: float, cached: int = 0, processes: int = 3) -> None:
        first = self.version == 1
        (self.root / ("memory.usage_in_bytes" if first else "memory.current")).write_text(f"{memory}\n")
        stat = (
            f"total_cache {cached}\ntotal_inactive_file {cached}\n"
            if first
            else f"file {cached}\ninactive_file {cached}\n"
        )
        (self.root / "memory.stat").write_text(stat)
        (self.root / "cpuacct.usage").write_text(f"{int(cpu_s * 1e9)}\n")
        (self.root / "cpu.stat").write_text("nr_periods 0\n" if first else f"usage_usec {int(cpu_s * 1e6)}\n")
        (self.root / "pids.current").write_text(f"{processes}\n")


@pytest.fixture(params=[1, 2])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    (tmp_path / "groups").mkdir()
    return Machine(tmp_path / "groups", request.param)


def made(machine: Machine, tmp_path: Path, *, cores: int = 2, own_time: bool = True) -> ProcFiles:
    found = ProcFiles(
        tmp_path / "proc", list(range(cores)), 512 * MIB, machine.groups, own_time=own_time, clock=lambda: machine.now
    )
    found.write()
    return found


def table(path: Path) -> dict[str, int]:
    return {line.split(":")[0]: int(line.split()[1]) for line in path.read_text().splitlines() if line.strip()}


def test_memory_is_the_lease_s(machine: Machine, tmp_path: Path) -> None:
    proc = made(machine, tmp_path)
    machine.use(200 * MIB, 0, cached=50 * MIB)
    proc.refresh()
    found = table(tmp_path / "proc/meminfo")
    assert (found["MemTotal"], found["MemFree"], found["MemAvailable"], found["Cached"], found["AnonPages"]) == (
        512 * 1024, 312 * 1024, 362 * 1024, 50 * 1024, 150 * 1024,
    )  # fmt: skip


def test_time_and_load_are_the_lease_s(machine: Machine, tmp_path: Path) -> None:
    machine.use(0, 500.0)
    proc = made(machine, tmp_path)
    for second in range(1, 121):
        machine.now += 1
        machine.use(0, 500.0 + second * 1.5)
        proc.refresh()
    stat = (tmp_path / "proc/stat").read_text().splitlines()
    assert stat[0].split()[:5] == ["cpu", "18000", "0", "0", "6000"], "what was used before it began is not counted"
    assert [line.split()[0] for line in stat if line.startswith("cpu")] == ["cpu", "cpu0", "cpu1"]
    assert "btime 1000" in stat
    load = [float(word) for word in (tmp_path / "proc/loadavg").read_text().split()[:3]]
    assert load == pytest.approx([1.30, 0.49, 0.19], abs=0.02)
    assert (tmp_path / "proc/uptime").read_text().split() == ["120.00", "60.00"]


def test_without_a_clock_of_its_own_the_files_agree_with_the_machine_s(machine: Machine, tmp_path: Path) -> None:
    made(machine, tmp_path, own_time=False)
    host = next(line for line in Path("/proc/stat").read_text().splitlines() if line.startswith("btime"))
    assert host in (tmp_path / "proc/stat").read_text().splitlines()
    shown, real = (float(Path(path).read_text().split()[0]) for path in (tmp_path / "proc/uptime", "/proc/uptime"))
    assert abs(shown - real) < 5


def test_what_is_written_stays_in_place_and_keeps_its_length(machine: Machine, tmp_path: Path) -> None:
    """A reader that has the file open, and the bind mount, hold the inode."""
    proc = made(machine, tmp_path)
    before = (tmp_path / "proc/meminfo").stat()
    machine.use(511 * MIB, 9999)
    proc.refresh()
    after = (tmp_path / "proc/meminfo").stat()
    assert (before.st_ino, before.st_size) == (after.st_ino, after.st_size)


def test_processors_are_numbered_from_0_and_say_how_many_there_are(machine: Machine, tmp_path: Path) -> None:
    made(machine, tmp_path, cores=1)
    text = (tmp_path / "proc/cpuinfo").read_text()
    assert [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("processor")] == ["0"]
    assert "cpu cores\t: 1\n" in text or "cpu cores" not in text
    assert (tmp_path / "proc/sys/devices/system/cpu/online").read_text() == "0\n"


def test_groups_that_are_missing_or_unreadable_make_no_error(tmp_path: Path) -> None:
    proc = ProcFiles(tmp_path / "proc", [0], 64 * MIB, Groups({}, frozenset()), own_time=True)
    proc.write()
    proc.refresh()
    assert table(tmp_path / "proc/meminfo")["MemFree"] == 64 * 1024


def test_what_a_later_kernel_adds_is_not_let_through(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = procfiles._names("/proc")
    covered = {inside for _, inside in procfiles.binds("/x", gpus=False)}
    for name in names:
        path = Path("/proc", name)
        secret = not path.is_symlink() and path.stat().st_mode & 0o004
        assert not secret or name in procfiles.PASSED or str(path) in covered, name
    assert any(inside == "/proc/driver" for inside in covered) == Path("/proc/driver").exists()
    assert not any(inside == "/proc/driver" for _, inside in procfiles.binds("/x", gpus=True))
