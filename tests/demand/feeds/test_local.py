"""The local sampler counts the owner's load and leaves out what tenants use."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublet.demand.feeds.local import LoadUnreadableError, LocalSampler, Tenants
from sublet.values.clock import SimulatedClock

TICKS = 100


def machine(proc: Path, busy: int, idle: int, processes: dict[int, tuple[int, int]] | None = None) -> None:
    """Write a /proc in which the cores were busy and idle for so many ticks; processes are pid -> (parent, ticks)."""
    proc.mkdir(exist_ok=True)
    (proc / "stat").write_text(f"cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 1 2 3 4\n")
    for pid, (parent, ticks) in (processes or {}).items():
        (proc / str(pid)).mkdir(exist_ok=True)
        fields = ["S", str(parent), *["0"] * 9, str(ticks), "0", *["0"] * 6, "77"]
        (proc / str(pid) / "stat").write_text(f"{pid} (a (strange) name) {' '.join(fields)}\n")


def test_load_is_a_share_of_the_pool(tmp_path: Path, clock: SimulatedClock) -> None:
    sampler = LocalSampler(clock, 8, proc=tmp_path / "proc", ticks_per_s=TICKS)
    machine(tmp_path / "proc", 1000, 1000)
    assert sampler.sample() is None
    assert sampler.sample() is None
    machine(tmp_path / "proc", 1100, 1100)
    sample = sampler.sample()
    assert sample is not None
    assert (sample.capacity, sample.in_use) == (8, 4.0)


def test_housekeeping_is_no_demand(tmp_path: Path, clock: SimulatedClock) -> None:
    sampler = LocalSampler(clock, 2, proc=tmp_path / "proc", ticks_per_s=TICKS)
    machine(tmp_path / "proc", 0, 0)
    sampler.sample()
    machine(tmp_path / "proc", 10, 190)
    sample = sampler.sample()
    assert sample is not None
    assert sample.in_use == 0.0


def test_tenants_and_their_children_are_left_out(tmp_path: Path, clock: SimulatedClock) -> None:
    cgroup = tmp_path / "cgroup"
    cgroup.mkdir()
    sampler = LocalSampler(
        clock, 4, lambda: Tenants((cgroup, tmp_path / "gone"), (10,)), proc=tmp_path / "proc", ticks_per_s=TICKS
    )
    (cgroup / "cpu.stat").write_text("usage_usec 0\nuser_usec 0\n")
    machine(tmp_path / "proc", 0, 0, {10: (1, 0), 11: (10, 5), 12: (1, 0)})
    sampler.sample()
    # 200 of 400 ticks busy: 50 of process 10, 40 of its child, 10 of a child that is new, 60 of the cgroup; 40 the owner's.
    (cgroup / "cpu.stat").write_text("usage_usec 600000\n")
    machine(tmp_path / "proc", 200, 200, {10: (1, 50), 11: (10, 45), 12: (1, 40), 13: (11, 10)})
    sample = sampler.sample()
    assert sample is not None
    assert sample.in_use == pytest.approx(0.4)


def test_a_machine_without_proc_says_what_to_do(tmp_path: Path, clock: SimulatedClock) -> None:
    with pytest.raises(LoadUnreadableError, match="import demand from CSV"):
        LocalSampler(clock, 2, proc=tmp_path / "none").sample()
