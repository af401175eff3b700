"""Slurm's own commands as private processes: each with a deadline, and none while the controller does not answer."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from sublet.leases.backends.base import BackendFailedError

PING_S = 3.0
PING_KEPT_S = 1.0
OUTPUT_MAX = 256 << 20
"""100,000 jobs are about 10 MB."""
_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


class ControllerAwayError(BackendFailedError):
    """Slurm's controller does not answer; leases run on and end at their deadlines. Check slurmctld; it is asked again by itself."""

    code = "slurm_away"


class SlurmRefusedError(BackendFailedError):
    """Slurm refused the request, and the message has its words; check the partition, its nodes, and the rights of Sublet's user."""

    code = "slurm_refused"


class Commands:
    """Safe to use from several threads. `conf` is slurm.conf, or None for the system's. Times are UTC and printed as seconds
    since the epoch, whatever the zone of the machine."""

    def __init__(self, conf: Path | None, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._lock = threading.Lock()
        self._answered = -PING_KEPT_S
        self._environment = {
            "PATH": f"{os.environ.get('PATH', '')}:{_PATH}",
            "TZ": "UTC",
            "LC_ALL": "C",
            "SLURM_TIME_FORMAT": "%s",
            **({"SLURM_CONF": str(conf)} if conf is not None else {}),
        }

    def run(self, *words: str, given: str | None = None) -> str:
        """What the command prints. Raises ControllerAwayError, SlurmRefusedError."""
        self.require()
        return self._run(words, self._timeout_s, given)

    def account(self, *words: str) -> str:
        """The same for sacctmgr and sacct, which ask the accounting daemon and not the controller."""
        return self._run(words, self._timeout_s, None)

    def require(self) -> None:
        """Raises ControllerAwayError. A call to a controller that is away takes nine seconds, this one none."""
        with self._lock:
            if time.monotonic() - self._answered < PING_KEPT_S:
                return
        if " is UP" not in self._run(("scontrol", "ping"), PING_S, None, any_status=True):
            raise ControllerAwayError("slurmctld does not respond to `scontrol ping`")
        with self._lock:
            self._answered = time.monotonic()

    def _run(self, words: Sequence[str], timeout_s: float, given: str | None, *, any_status: bool = False) -> str:
        try:
            done = subprocess.run(
                words,
                env=self._environment,
                cwd="/",
                input=given if given is not None else "",
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired:
            self._forget_answer()
            raise ControllerAwayError(f"{words[0]} did not respond within {timeout_s:g} s") from None
        except OSError as error:
            raise BackendFailedError(
                f"{words[0]} can't be run: {error.strerror}; install the Slurm client commands"
            ) from error
        if done.returncode != 0 and not any_status:
            said = done.stderr.strip() or done.stdout.strip() or f"exit {done.returncode}"
            if "Unexpected message received" in said or "Unable to contact slurm controller" in said:
                self._forget_answer()
                raise ControllerAwayError(f"{words[0]}: slurmctld is not responding")
            raise SlurmRefusedError(f"{words[0]} {words[1] if len(words) > 1 else ''}: {' '.join(said.split())[-300:]}")
        return done.stdout[:OUTPUT_MAX]

    def _forget_answer(self) -> None:
        with self._lock:
            self._answered = -PING_KEPT_S
