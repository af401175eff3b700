"""What the tenant reads: /run/sublet/lease.json, and lines on the open terminals as the end comes near."""

from __future__ import annotations

import errno
import json
import time

from sublet.leases.backends.local.files import LeaseFiles, Spec, State
from sublet.values.clock import format_time, from_micros

# Seconds before the end at which every open terminal is told.
COUNTDOWN_S = (2400, 600, 300, 120, 60, 30, 10)
TEXT_MAX = 2000
_SECOND_US = 1_000_000


class Countdown:
    """Writes the documents of one lease and says when the terminals are to be told again."""

    def __init__(self, files: LeaseFiles, spec: Spec, state: State) -> None:
        self._files, self._spec, self._state = files, spec, state
        self._told_s: int | None = None
        self._sequence = 0

    @property
    def _end_us(self) -> int:
        reclaim = self._state.reclaim_at_us
        return self._state.ends_at_us if reclaim is None else min(reclaim, self._state.ends_at_us)

    def publish(self, text: str = "") -> None:
        """Replace lease.json; with `text`, also the notice that the terminals show."""
        state, spec = self._state, self._spec
        self._sequence += 1
        self._replace(
            "lease.json",
            json.dumps(
                {
                    "lease": spec.lease_id,
                    "class": spec.class_name,
                    "devices": spec.devices,
                    "ends_at": format_time(from_micros(state.ends_at_us)),
                    "reclaim_at": format_time(from_micros(state.reclaim_at_us)) if state.reclaim_at_us else None,
                    "action": "pause" if spec.pausable and state.reclaim_at_us else "terminate",
                    "memory_bytes": spec.memory_bytes,
                    "disk_bytes": spec.disk_bytes,
                    "processes_max": spec.processes_max,
                    "guarantees": state.guarantees,
                    "sequence": self._sequence,
                },
                indent=1,
            )
            + "\n",
        )
        if text:
            self._told_s = self._step()
            self._replace("notice.txt", text[:TEXT_MAX] + "\n")

    def due(self) -> bool:
        """True once for each step of the countdown that has come; the text is then in place."""
        step = self._step()
        if step is None or (self._told_s is not None and step >= self._told_s):
            return False
        first, self._told_s = self._told_s is None, step
        remaining_s = max(0, (self._end_us - time.time_ns() // 1000) // _SECOND_US)
        # A lease that starts inside the countdown hears of the next step, not of the one that it was born in.
        if first and remaining_s < step - 5:
            return False
        why = "is being taken back" if self._state.reclaim_at_us is not None else "ends"
        if self._spec.pausable and self._state.reclaim_at_us is not None:
            why = "is paused"
        at = format_time(from_micros(self._end_us))
        self._replace("notice.txt", f"*** This lease {why} in {remaining_s} s, at {at}. Save your work. ***\n")
        return True

    def _step(self) -> int | None:
        remaining_s = (self._end_us - time.time_ns() // 1000) / _SECOND_US
        passed = [step for step in COUNTDOWN_S if remaining_s <= step]
        return min(passed) if passed else None

    def _replace(self, name: str, text: str) -> None:
        # The directory is bound into the sandbox; a name that starts with a dot and is renamed is never seen half-written.
        temporary = self._files.notices / f".{name}"
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.chmod(0o644)
            temporary.replace(self._files.notices / name)
        except OSError as error:
            # A full disk costs the tenant a line on the terminal, and nobody the lease.
            temporary.unlink(missing_ok=True)
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
