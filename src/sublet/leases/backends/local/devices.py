"""From a leased device to what the sandbox is pinned to: cores, a share of their time, and device files."""

from __future__ import annotations

import os
from pathlib import Path

from sublet.leases.backends.base import BackendFailedError
from sublet.values.errors import InvalidInputError

_NVIDIA_SHARED = ("/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset")


def host_cores() -> list[int]:
    """The cores that this process may use, in order."""
    return sorted(os.sched_getaffinity(0))


def cores_and_share(
    devices: tuple[str, ...], accelerators: int, cores: list[int] | None = None
) -> tuple[list[int], float | None]:
    """The cores of `cpu:K` devices (core K modulo the number of cores), and how many cores' worth of time they may use where
    several of the pool's `accelerators` share a core; None where each has its own. A lease of GPUs alone gets every core.

    Raises InvalidInputError for a device of an unknown kind.
    """
    cores = cores or host_cores()
    numbers = [_number(device, "cpu") for device in devices if not device.startswith("nvidia:")]
    if not numbers:
        return cores, None
    sharing = [len(range(number % len(cores), max(accelerators, number + 1), len(cores))) for number in numbers]
    used = sorted({cores[number % len(cores)] for number in numbers})
    share = round(sum(1 / count for count in sharing), 6)
    return used, None if share >= len(used) else share


def device_nodes(devices: tuple[str, ...]) -> list[str]:
    """The device files that `nvidia:K` devices need. Raises BackendFailedError where a leased GPU is not there."""
    numbers = [_number(device, "nvidia") for device in devices if device.startswith("nvidia:")]
    leased = [f"/dev/nvidia{number}" for number in numbers]
    for node in leased:
        if not Path(node).is_char_device():
            raise BackendFailedError(
                f"{node} does not exist; take the accelerator out of service until its driver is loaded again"
            )
    return leased + [node for node in _NVIDIA_SHARED if leased and Path(node).is_char_device()]


def _number(device: str, kind: str) -> int:
    prefix, _, number = device.partition(":")
    if prefix != kind or not number.isdigit():
        raise InvalidInputError(f"device {device!r} can't be leased on this machine; use cpu:K or nvidia:K")
    return int(number)
