"""A module like `pynvml` that plays readings back. The readings are written by hand, in the shapes that NVIDIA documents; none was
taken from a real device."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """As pynvml's."""


H100: dict[str, Any] = {
    "uuid": "GPU-3f1c0c7e-0000-4000-8000-00000000000{index}",
    "minor": None,
    "temperature": 41,
    "hot": 87,
    "power_mw": 98_400,
    "utilization": 0,
    "memory_used": 622_854_144,
    "memory_total": 85_520_809_984,
    "uncorrected": 0,
    "rows": (0, 0, 0, 0),
}


@dataclass
class RecordedNvml:
    """`frames` are what each reading in turn finds: for each GPU what differs from an H100 that works. A value of NVMLError is one
    that the driver does not support; None for a whole GPU is one that the driver has lost."""

    frames: list[list[dict[str, Any] | None]]
    events: list[list[tuple[int, int]]] = field(default_factory=list)
    """For each reading, the (index, XID) that came before it."""

    def __post_init__(self) -> None:
        self.at, self.open, self.sets = -1, 0, 0
        self.waiting: list[tuple[int, int]] = []
        self.NVMLError = NVMLError
        self.nvmlEventTypeXidCriticalError = 8
        self.NVML_TEMPERATURE_GPU = 0
        self.NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1
        self.NVML_MEMORY_ERROR_TYPE_UNCORRECTED = 1
        self.NVML_VOLATILE_ECC = 0
        self.nvmlDeviceGetUUID = self._field("uuid")
        self.nvmlDeviceGetMinorNumber = self._field("minor")
        self.nvmlDeviceGetPowerUsage = self._field("power_mw")
        self.nvmlDeviceGetRemappedRows = self._field("rows")

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1
        assert self.open >= 0

    def nvmlDeviceGetCount(self) -> int:
        assert self.open, "asked before nvmlInit"
        self.at = min(self.at + 1, len(self.frames) - 1)
        self.waiting = list(self.events[self.at]) if self.at < len(self.events) else []
        return len(self.frames[self.at])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        if self.frames[self.at][index] is None:
            raise NVMLError("GPU is lost")
        return index

    def nvmlDeviceGetPciInfo(self, handle: int) -> Any:
        return SimpleNamespace(busId=f"00000000:{handle + 16:02X}:00.0".encode())

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        read = self._field
        return SimpleNamespace(used=read("memory_used")(handle), total=read("memory_total")(handle))

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=self._field("utilization")(handle), memory=0)

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> Any:
        return self._field("temperature")(handle)

    def nvmlDeviceGetTemperatureThreshold(self, handle: int, which: int) -> Any:
        return self._field("hot")(handle)

    def nvmlDeviceGetTotalEccErrors(self, handle: int, kind: int, counter: int) -> Any:
        assert (kind, counter) == (1, 0)
        return self._field("uncorrected")(handle)

    def nvmlEventSetCreate(self) -> object:
        self.sets += 1
        return object()

    def nvmlDeviceRegisterEvents(self, handle: int, kinds: int, events: object) -> None:
        assert kinds == self.nvmlEventTypeXidCriticalError

    def nvmlEventSetWait_v2(self, events: object, timeout_ms: int) -> Any:
        assert timeout_ms == 0, "a round never waits for an event"
        if not self.waiting:
            raise NVMLError("Timeout")
        index, xid = self.waiting.pop(0)
        return SimpleNamespace(device=index, eventType=8, eventData=xid)

    def _field(self, name: str) -> Any:
        def read(handle: int) -> Any:
            assert self.open, "asked before nvmlInit"
            frame = self.frames[self.at][handle]
            assert frame is not None
            value = frame.get(name, H100[name])
            if value is NVMLError:
                raise NVMLError("Not Supported")
            if name == "minor":
                return handle if value is None else value
            return value.format(index=handle) if isinstance(value, str) else value

        return read
