"""GPUs as NVML tells of them, played back: what is read, which readings are faults, and what a fault does to the fleet."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.fleet.recorded_nvml import NVMLError, RecordedNvml
from tests.leases.world import pool_spec

from sublet.config.settings import Settings
from sublet.control.gpus import GpuWatch
from sublet.fleet.gpu_health import HARDWARE_XIDS, HOT_ROUNDS, GpuHealth
from sublet.fleet.gpus import GpuReader, GpuReading
from sublet.values.clock import SimulatedClock
from sublet.wiring.system import Sublet

SILENT = dict.fromkeys(
    ("temperature", "hot", "power_mw", "utilization", "memory_used", "uncorrected", "rows", "minor"), NVMLError
)


def faults(nvml: RecordedNvml, rounds: int = 1) -> list[dict[str, str | None]]:
    reader, health = GpuReader(nvml), GpuHealth()
    return [{reading.device: health.fault(reading) for reading in reader.read()} for _ in range(rounds)]


def test_what_the_driver_tells_is_read_and_what_it_does_not_support_is_none() -> None:
    nvml = RecordedNvml([[{"minor": 5, "utilization": 97, "power_mw": 612_300}, SILENT]])
    working, silent = GpuReader(nvml).read()
    assert working == GpuReading(
        "nvidia:5", "GPU-3f1c0c7e-0000-4000-8000-000000000000", 41, 87, 612_300, 97, 622_854_144, 85_520_809_984, 0
    )
    assert silent == GpuReading("nvidia:1", "GPU-3f1c0c7e-0000-4000-8000-000000000001")
    assert GpuHealth().fault(silent) is None, "what nobody can tell is no fault"


def test_the_library_is_opened_and_closed_and_events_are_asked_for_once() -> None:
    nvml = RecordedNvml([[{}], [{}], [{}]])
    reader = GpuReader(nvml)
    for _ in range(3):
        reader.read()
    assert (nvml.open, nvml.sets) == (1, 1), "open for the events alone"


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        ({"rows": (0, 1, 1, 0)}, "next reset"),
        ({"rows": (0, 0, 0, 1)}, "could not be replaced"),
        ({"uncorrected": 2}, "2 uncorrected ECC errors"),
        (None, "can't reach it"),
        ({"rows": (3, 0, 0, 0), "temperature": 86}, None),
    ],
)
def test_faults_of_memory_and_of_the_link(frame: dict[str, Any] | None, word: str | None) -> None:
    [found] = faults(RecordedNvml([[{}, frame]]))
    assert found["nvidia:0"] is None
    assert (word in (found["nvidia:1"] or "")) if word else found["nvidia:1"] is None


def test_errors_are_counted_once_and_more_of_them_are_a_fault_again() -> None:
    found = faults(RecordedNvml([[{"uncorrected": many}] for many in (0, 1, 1, 4)]), 4)
    told = [item["nvidia:0"] for item in found]
    assert told == [None, "1 uncorrected ECC errors", None, "3 uncorrected ECC errors"]


def test_heat_is_a_fault_only_when_it_lasts() -> None:
    frames: list[list[dict[str, Any] | None]] = [[{"temperature": 88}] for _ in range(HOT_ROUNDS - 1)]
    burst = RecordedNvml([*frames, [{"temperature": 60}], *frames])
    assert all(item["nvidia:0"] is None for item in faults(burst, 2 * HOT_ROUNDS - 1))
    *before, last = faults(RecordedNvml([[{"temperature": 88}]] * HOT_ROUNDS), HOT_ROUNDS)
    assert [item["nvidia:0"] for item in before] == [None] * (HOT_ROUNDS - 1) and "88 °C" in str(last["nvidia:0"])


@pytest.mark.parametrize("xid", [13, 31, 43, 45, *HARDWARE_XIDS])
def test_errors_of_a_tenant_s_program_take_nothing_out(xid: int) -> None:
    [found] = faults(RecordedNvml([[{}, {}]], [[(1, 13), (1, xid)]]))
    assert found["nvidia:0"] is None
    assert (found["nvidia:1"] is None) == (xid not in HARDWARE_XIDS)


def test_a_failing_gpu_leaves_service_with_its_reason_and_stays_out(tmp_path: Path, clock: SimulatedClock) -> None:
    system = Sublet(Settings(data_dir=tmp_path), clock)
    system.sync_fleet()
    spec = pool_spec("gpus", 2, backend="local")
    gpus = replace(spec, devices=("nvidia:0", "nvidia:1"))
    [pool] = [item for item in system.fleet.sync([gpus], system.node_id()) if item.name == "gpus"]
    nvml = RecordedNvml([[{}, {}], [{}, {}], [{}, {}]], [[], [(1, 79)], []])
    watch = GpuWatch(system, lambda: nvml)
    assert watch.round() == []
    [taken] = watch.round()
    first, second = system.fleet.units(pool.id)
    assert taken == second.id and first.in_service
    assert (second.in_service, second.out_reason) == (False, "nvidia:1: XID 79: it has fallen off the bus")
    assert watch.round() == [] and not system.fleet.units(pool.id)[1].in_service
    system.close()


def test_a_machine_without_a_driver_is_asked_once(tmp_path: Path, clock: SimulatedClock) -> None:
    asked: list[int] = []
    system = Sublet(Settings(data_dir=tmp_path), clock)
    watch = GpuWatch(system, lambda: asked.append(1))
    assert watch.round() == watch.round() == [] and asked == [1]
    system.close()
