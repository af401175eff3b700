"""Takes this machine's failing GPUs out of service; what becomes of their leases, the next plan says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog

from sublet.fleet.gpu_health import GpuHealth
from sublet.fleet.gpus import GpuReader
from sublet.values.errors import SubletError
from sublet.wiring.system import Sublet

log = structlog.get_logger(__name__)


def installed_nvml() -> Any:
    """NVML's module; None where it is not installed or there is no driver."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    pynvml.nvmlShutdown()
    return pynvml


class GpuWatch:
    """Reads every GPU once a round. A GPU that was taken out stays out until an operator restores it."""

    def __init__(self, system: Sublet, nvml: Callable[[], Any] = installed_nvml) -> None:
        self._system, self._nvml = system, nvml
        self._reader: GpuReader | None = None
        self._health = GpuHealth()
        self._looked = False

    def round(self) -> list[str]:
        """Read, and take out what fails; the units that were taken out. Does nothing on a machine without GPUs."""
        if self._reader is None:
            # Looked for once: a machine gets no driver while Sublet runs.
            module = None if self._looked else self._nvml()
            self._looked = True
            if module is None:
                return []
            self._reader = GpuReader(module)
        try:
            readings = self._reader.read()
        except self._reader.nvml.NVMLError as error:
            log.warning("gpus_unreadable", reason=str(error))
            return []
        faults = {reading.device: fault for reading in readings if (fault := self._health.fault(reading))}
        return self._take_out(faults) if faults else []

    def _take_out(self, faults: dict[str, str]) -> list[str]:
        own, taken = self._system.node_id(), []
        for pool in self._system.fleet.pools():
            if pool.backend != "local" or own not in pool.node_ids:
                continue
            for unit in self._system.fleet.units(pool.id):
                if unit.in_service and unit.device in faults:
                    reason = f"{unit.device}: {faults[unit.device]}"
                    try:
                        self._system.fleet.set_service(unit.id, False, reason)
                    except SubletError as error:
                        log.warning("gpu_not_taken_out", unit=unit.id, reason=error.message)
                        continue
                    log.error("gpu_taken_out", unit=unit.id, reason=reason)
                    taken.append(unit.id)
        return taken
