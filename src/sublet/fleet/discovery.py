"""Discovers this machine's accelerators: NVIDIA GPUs by NVML, or else CPU cores as accelerators of the generation `cpu`."""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import structlog

from sublet.values.errors import UnavailableError

log = structlog.get_logger(__name__)

CPU_WATTS_PER_CORE = Decimal(10)
"""An assumption where nothing can be read: a server CPU of 64 cores draws some 280 W, with memory and fans 10 W a core."""


GPU_WATTS_ASSUMED = Decimal(700)
"""An assumption where NVML gives no power limit: what an H100 SXM draws at most, so that earnings per watt are rather
understated."""


@dataclass(frozen=True, slots=True)
class Found:
    """The result of discovery: a generation, the devices, and the watts of each with their source."""

    generation: str
    devices: tuple[str, ...]
    watts: Decimal
    watts_source: str


_gpus_seen: set[str] = set()


def discover() -> Found:
    """GPUs if NVML reports any, or else the cores that this process may use.

    Raises UnavailableError if there are GPUs that can't be read, or that can't be found any more: a driver that fails for a
    moment must not turn a pool of GPUs into a pool of cores.
    """
    found = _gpus()
    if found is not None:
        _gpus_seen.update(found.devices)
        return found
    if _gpus_seen:
        raise UnavailableError(
            f"the NVIDIA driver has stopped responding; there were {len(_gpus_seen)} GPUs. Check nvidia-smi, "
            "then restart Sublet if the GPUs were removed permanently"
        )
    return _cores()


def site_name() -> str:
    """The host's name, which is the site if the settings name none."""
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
        seen = [_gpu(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    except pynvml.NVMLError as error:
        raise UnavailableError(f"NVML can't read the GPUs ({error}); check nvidia-smi") from error
    finally:
        pynvml.nvmlShutdown()
    return _one_generation(seen) if seen else None


@dataclass(frozen=True, slots=True)
class _Gpu:
    generation: str
    device: str
    limit_mw: int | None


def _gpu(nvml: Any, index: int) -> _Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    # Virtual machines and WSL answer "not supported" to one or the other; the accelerator still exists.
    try:
        limit_mw = int(nvml.nvmlDeviceGetEnforcedPowerLimit(handle))
    except nvml.NVMLError:
        limit_mw = None
    try:
        minor = int(nvml.nvmlDeviceGetMinorNumber(handle))
    except nvml.NVMLError:
        minor = index
    return _Gpu(generation_of(nvml.nvmlDeviceGetName(handle)), f"nvidia:{minor}", limit_mw)


def _one_generation(seen: list[_Gpu]) -> Found:
    """The generation with the most accelerators. The accelerators of a pool are interchangeable, so it can't contain others."""
    (generation, _), *others = Counter(gpu.generation for gpu in seen).most_common()
    for other, count in others:
        log.info("gpus_left_out", generation=other, count=count, reason=f"the pool is of generation {generation}")
    members = [gpu for gpu in seen if gpu.generation == generation]
    limits_mw = [gpu.limit_mw for gpu in members if gpu.limit_mw]
    return Found(
        generation,
        tuple(gpu.device for gpu in members),
        Decimal(max(limits_mw)) / 1000 if limits_mw else GPU_WATTS_ASSUMED,
        "NVML enforced power limit of the accelerator alone, without its share of the server"
        if limits_mw
        else f"assumed: {GPU_WATTS_ASSUMED} W per accelerator, since NVML gives no power limit; set pools.watts",
    )


_NOT_A_MODEL = re.compile(r"\d+GB|HBM\d\w*|GDDR\d\w*|SXM\d?|PCIE\d?|MIG|\d+C")


def generation_of(name: str) -> str:
    """A short generation name from NVML's product name: `NVIDIA H100 80GB HBM3` is `h100`.

    Workstation cards keep what tells their generations apart: `NVIDIA RTX 6000 Ada Generation` is `rtx6000ada`.
    """
    words = [word for word in re.split(r"[^A-Z0-9]+", name.upper()) if word]
    for place, word in enumerate(words):
        if not re.search(r"\d", word) or _NOT_A_MODEL.fullmatch(word):
            continue
        if not word.isdigit():
            return word.lower()
        family = [before for before in words[:place] if before not in ("NVIDIA", "GEFORCE", "TESLA")]
        after = [word for word in words[place + 1 :] if word in ("ADA", "TI", "SUPER", "D")]
        return "".join([*family, word, *after]).lower()[:40]
    return name.lower().replace(" ", "-")[:40]
