"""Discovery sees GPUs where NVML names some, cores elsewhere, and always says where a wattage comes from."""

from __future__ import annotations

import os
import sys
import types
from decimal import Decimal
from typing import Any

import pytest

from sublet.fleet import discovery
from sublet.fleet.discovery import CPU_WATTS_PER_CORE, GPU_WATTS_ASSUMED, discover, generation_of
from sublet.values.errors import UnavailableError


class NVMLError(Exception):
    """As pynvml's: every failure is one of its subclasses."""


class NotSupportedError(NVMLError):
    pass


def fake_nvml(*gpus: tuple[str, int | None, int | None], init_fails: bool = False) -> types.ModuleType:
    """A pynvml that knows `gpus` of (name, power limit in mW, minor number); None: the driver does not support it."""
    module = types.ModuleType("pynvml")
    state = {"open": 0}

    def init() -> None:
        if init_fails:
            raise NVMLError("Driver Not Loaded")
        state["open"] += 1

    def shutdown() -> None:
        state["open"] -= 1

    def field(place: int) -> Any:
        def read(handle: int) -> Any:
            assert state["open"], "read after nvmlShutdown"
            value = gpus[handle][place]
            if value is None:
                raise NotSupportedError("Not Supported")
            return value

        return read

    module.__dict__.update(
        NVMLError=NVMLError,
        nvmlInit=init,
        nvmlShutdown=shutdown,
        nvmlDeviceGetCount=lambda: len(gpus),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=field(0),
        nvmlDeviceGetEnforcedPowerLimit=field(1),
        nvmlDeviceGetMinorNumber=field(2),
        state=state,
    )
    return module


@pytest.fixture(autouse=True)
def first_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "_gpus_seen", set())


H100 = "NVIDIA H100 80GB HBM3"
L4 = "NVIDIA L4"


def test_gpus_become_a_pool_with_their_device_files(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake_nvml((H100, 700_000, 0), (H100, 650_500, 2))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    found = discover()
    assert (found.generation, found.devices) == ("h100", ("nvidia:0", "nvidia:2"))
    assert found.watts == Decimal(700)
    assert "NVML enforced power limit" in found.watts_source
    assert nvml.__dict__["state"]["open"] == 0, "the library was closed again"


def test_a_driver_that_gives_no_limit_or_number_still_has_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml((H100, None, None), (H100, None, None)))
    found = discover()
    assert found.devices == ("nvidia:0", "nvidia:1")
    assert found.watts == GPU_WATTS_ASSUMED
    assert found.watts_source.startswith("assumed:")


def test_a_pool_is_of_one_generation_the_most_numerous(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml((H100, 700_000, 0), (L4, 72_000, 1), (L4, 72_000, 2)))
    found = discover()
    assert (found.generation, found.devices, found.watts) == ("l4", ("nvidia:1", "nvidia:2"), Decimal(72))


@pytest.mark.parametrize("nvml", [fake_nvml(), fake_nvml(init_fails=True), None])
def test_without_gpus_the_cores_are_the_accelerators(
    monkeypatch: pytest.MonkeyPatch, nvml: types.ModuleType | None
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    found = discover()
    assert found.generation == "cpu"
    assert found.devices == tuple(f"cpu:{core}" for core in sorted(os.sched_getaffinity(0)))
    assert found.watts == CPU_WATTS_PER_CORE
    assert found.watts_source.startswith("assumed:")


@pytest.mark.parametrize("later", [fake_nvml(), fake_nvml(init_fails=True)])
def test_gpus_that_vanish_do_not_become_cores(monkeypatch: pytest.MonkeyPatch, later: types.ModuleType) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml((H100, 700_000, 0)))
    before = discover()
    monkeypatch.setitem(sys.modules, "pynvml", later)
    with pytest.raises(UnavailableError, match=r"has stopped responding; there were 1 GPUs\. Check nvidia-smi"):
        discover()
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml((H100, 700_000, 0)))
    assert discover() == before


def test_gpus_that_cannot_be_read_do_not_become_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake_nvml((H100, 700_000, 0))

    def lost(index: int) -> int:
        raise NVMLError("GPU is lost")

    nvml.__dict__["nvmlDeviceGetHandleByIndex"] = lost
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    with pytest.raises(UnavailableError, match="GPU is lost"):
        discover()
    assert nvml.__dict__["state"]["open"] == 0


def test_only_the_cores_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {7, 3})
    assert discover().devices == ("cpu:3", "cpu:7")


@pytest.mark.parametrize(
    ("name", "generation"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GB200", "gb200"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA A10G", "a10g"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla T4", "t4"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 3090 Ti", "rtx3090ti"),
        ("NVIDIA RTX A6000", "a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx6000ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtxpro6000"),
        ("Quadro RTX 6000", "quadrortx6000"),
        ("NVIDIA Graphics Device", "nvidia-graphics-device"),
    ],
)
def test_generations_of_real_product_names(name: str, generation: str) -> None:
    assert generation_of(name) == generation
