"""What NVML says of each GPU of this machine now: temperature, power, memory, errors, and who uses it. Reads, decides nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

XIDS_MAX = 1_000
"""Events that are taken from the driver in one round."""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """One GPU at one moment; None is what its driver does not support. `hot_c` is where it slows itself down. Memory is in bytes,
    power in milliwatts, utilization in percent. `uncorrected` counts ECC errors that lost data since the driver was loaded."""

    device: str
    uuid: str = ""
    temperature_c: int | None = None
    hot_c: int | None = None
    power_mw: int | None = None
    utilization: int | None = None
    memory_used: int | None = None
    memory_total: int | None = None
    uncorrected: int | None = None
    rows_failed: bool = False
    """A faulty row of its memory could not be replaced by a spare one."""
    rows_pending: bool = False
    """A faulty row is replaced at the next reset."""
    lost: bool = False
    """The driver knows it and can't talk to it."""
    xids: tuple[int, ...] = ()
    """Errors that the driver reported since the last reading."""


@dataclass(slots=True)
class GpuReader:
    """Reads all GPUs through a module like `pynvml`, and keeps listening for their errors in between. Not safe to use from
    several threads."""

    nvml: Any
    _events: Any = None
    _devices: dict[str, str] = field(default_factory=dict)
    """The device of each GPU by its PCI bus id, since an event names the bus alone."""

    def read(self) -> list[GpuReading]:
        """One reading of each GPU. Raises the module's NVMLError if the driver itself does not answer."""
        self.nvml.nvmlInit()
        try:
            count = int(self.nvml.nvmlDeviceGetCount())
            if self._events is None:
                self._listen(count)
            xids = self._xids()
            return [self._reading(index, xids) for index in range(count)]
        finally:
            # The events' set keeps the library loaded; each init needs its own shutdown.
            self.nvml.nvmlShutdown()

    def _listen(self, count: int) -> None:
        nvml = self.nvml
        # One more init, never undone: the set of events lives as long as this reader.
        nvml.nvmlInit()
        events = nvml.nvmlEventSetCreate()
        for index in range(count):
            with contextlib.suppress(nvml.NVMLError):
                handle = nvml.nvmlDeviceGetHandleByIndex(index)
                self._devices[self._bus(handle)] = self._device(handle, index)
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
        self._events = events

    def _xids(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for _ in range(XIDS_MAX):
            data = self._ask(lambda: self.nvml.nvmlEventSetWait_v2(self._events, 0))
            if data is None:
                break
            if data.eventType & self.nvml.nvmlEventTypeXidCriticalError:
                device = self._devices.get(self._bus(data.device), "")
                found.setdefault(device, []).append(int(data.eventData))
        return found

    def _reading(self, index: int, xids: Mapping[str, list[int]]) -> GpuReading:
        nvml = self.nvml
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError:
            return GpuReading(f"nvidia:{index}", lost=True, xids=tuple(xids.get(f"nvidia:{index}", ())))
        device = self._device(handle, index)
        memory = self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        used = self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        rows = self._ask(lambda: nvml.nvmlDeviceGetRemappedRows(handle))
        uuid = self._ask(lambda: nvml.nvmlDeviceGetUUID(handle))
        return GpuReading(
            device,
            uuid if isinstance(uuid, str) else (uuid or b"").decode(),
            self._ask(lambda: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
            self._ask(
                lambda: int(nvml.nvmlDeviceGetTemperatureThreshold(handle, nvml.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN))
            ),
            self._ask(lambda: int(nvml.nvmlDeviceGetPowerUsage(handle))),
            int(used.gpu) if used is not None else None,
            int(memory.used) if memory is not None else None,
            int(memory.total) if memory is not None else None,
            self._ask(
                lambda: int(
                    nvml.nvmlDeviceGetTotalEccErrors(
                        handle, nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, nvml.NVML_VOLATILE_ECC
                    )
                )
            ),
            # Corrected rows, uncorrected rows, whether one is pending, whether one failed.
            bool(rows is not None and rows[3]),
            bool(rows is not None and rows[2]),
            uuid is None and memory is None,
            tuple(xids.get(device, ())),
        )

    def _device(self, handle: Any, index: int) -> str:
        minor = self._ask(lambda: int(self.nvml.nvmlDeviceGetMinorNumber(handle)))
        return f"nvidia:{index if minor is None else minor}"

    def _bus(self, handle: Any) -> str:
        info = self._ask(lambda: self.nvml.nvmlDeviceGetPciInfo(handle))
        bus = info.busId if info is not None else b""
        return bus if isinstance(bus, str) else bytes(bus).decode(errors="replace")

    def _ask(self, question: Callable[[], T]) -> T | None:
        """The answer; None where the driver does not support it, or has nothing to tell."""
        try:
            return question()
        except self.nvml.NVMLError:
            return None
