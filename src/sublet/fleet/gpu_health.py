"""Which readings of a GPU say that it should not be sold, and why. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from sublet.fleet.gpus import GpuReading

HOT_ROUNDS = 3
"""So many readings in a row at the temperature of slowdown: one alone may be a burst."""

HARDWARE_XIDS: dict[int, str] = {
    48: "a double-bit ECC error",
    62: "an error of its internal microcontroller",
    64: "a faulty memory row could not be replaced",
    74: "an NVLink error",
    79: "it has fallen off the bus",
    92: "a high rate of single-bit ECC errors",
    95: "an uncontained ECC error",
    119: "its system processor does not answer",
    120: "an error of its system processor",
}
"""Errors that the hardware or its link is to blame for, by the numbers that NVIDIA documents. Others, such as 13, 31, 43 and 45,
are what a tenant's own program causes: they take nothing out of service."""


@dataclass(slots=True)
class GpuHealth:
    """Judges readings one after another, since some faults only show over time."""

    _hot: dict[str, int] = field(default_factory=dict)
    _uncorrected: dict[str, int] = field(default_factory=dict)

    def fault(self, reading: GpuReading) -> str | None:
        """Why the GPU should go out of service; None if it works."""
        device = reading.device
        known = self._uncorrected.get(device)
        if reading.uncorrected is not None:
            self._uncorrected[device] = reading.uncorrected
        is_hot = (
            reading.temperature_c is not None and reading.hot_c is not None and reading.temperature_c >= reading.hot_c
        )
        self._hot[device] = self._hot.get(device, 0) + 1 if is_hot else 0
        for xid in reading.xids:
            if xid in HARDWARE_XIDS:
                return f"XID {xid}: {HARDWARE_XIDS[xid]}"
        if reading.lost:
            return "the driver can't reach it"
        if reading.rows_failed:
            return "a faulty memory row could not be replaced"
        if reading.rows_pending:
            return "a faulty memory row is replaced at its next reset"
        if reading.uncorrected is not None and reading.uncorrected > (known or 0):
            return f"{reading.uncorrected - (known or 0)} uncorrected ECC errors"
        if self._hot[device] >= HOT_ROUNDS:
            return f"{reading.temperature_c} °C, where it slows itself down at {reading.hot_c} °C"
        return None
