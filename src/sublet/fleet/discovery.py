"""Finds what this machine has: NVIDIA GPUs by NVML, else CPU cores as accelerators of generation `cpu`."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from decimal import Decimal

CPU_WATTS_PER_CORE = Decimal(10)
"""An assumption where nothing can be read: a server CPU of 64 cores draws some 280 W, with memory and fans 10 W a core."""


@dataclass(frozen=True, slots=True)
class Found:
    """What discovery saw: a generation, the devices, and watts each with where that figure comes from."""

    generation: str
    devices: tuple[str, ...]
    watts: Decimal
    watts_source: str


def discover() -> Found:
    """GPUs where NVML names some, else the cores that this process may run on."""
    return _gpus() or _cores()


def site_name() -> str:
    """The host's name, as the site where the settings give none."""
    return socket.gethostname() or "local"


def _cores() -> Found:
    cores = sorted(os.sched_getaffinity(0))
    return Found(
        "cpu",
        tuple(f"cpu:{core}" for core in cores),
        CPU_WATTS_PER_CORE,
        f"assumed: {CPU_WATTS_PER_CORE} W per core; set pools.watts to what you measure",
    )


def _gpus() -> Found | None:
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    try:
        count = pynvml.nvmlDeviceGetCount()
        if not count:
            return None
        handles = [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
        name = pynvml.nvmlDeviceGetName(handles[0])
        limits_mw = [pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) for handle in handles]
        devices = tuple(f"nvidia:{pynvml.nvmlDeviceGetMinorNumber(handle)}" for handle in handles)
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
    return Found(
        generation_of(name),
        devices,
        Decimal(max(limits_mw)) / 1000,
        "NVML enforced power limit of the accelerator alone, without its share of the server",
    )


def generation_of(name: str) -> str:
    """A short generation name from NVML's product name: `NVIDIA H100 80GB HBM3` is `h100`."""
    words = re.findall(r"[A-Za-z]*\d+[A-Za-z]*", name.upper().replace("GEFORCE RTX", "RTX"))
    for word in words:
        if not re.fullmatch(r"\d+GB|HBM\d\w*|SXM\d|PCIE\d?", word):
            return str(word).lower()
    return name.lower().replace(" ", "-")[:40]
