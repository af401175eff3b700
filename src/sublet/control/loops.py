"""The loops of the control plane. A round that fails is logged, counted, and retried."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from sublet.values.clock import Clock, format_time

log = structlog.get_logger(__name__)

BACKOFF_S_MAX = 30.0


@dataclass
class Loop:
    """Calls `round` every `interval_s` seconds in a thread of its own."""

    name: str
    interval_s: float
    round: Callable[[], None]
    clock: Clock
    leads: Callable[[], bool] = lambda: True
    """Whether this process does the work now, where several could."""
    rounds: int = 0
    failures_running: int = 0
    last_error: str | None = None
    failing_since: datetime | None = None
    last_at: str | None = None
    longest_s: float = 0.0
    ended_s: float = field(default_factory=time.monotonic)
    """When the last round ended, by the monotonic clock; before the first, when the loop was made."""
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        self.made_at = self.clock.now()

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name=f"loop-{self.name}", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Ask the loop to end after its round, and wait for it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def once(self) -> bool:
        """Run one round. Returns whether it succeeded. Errors are logged and counted, never raised."""
        started = time.monotonic()
        try:
            self.round()
        except Exception as error:
            self.failures_running += 1
            self.failing_since = self.failing_since or self.clock.now()
            self.last_error = str(error) or type(error).__name__
            if self.failures_running in (1, 10, 100, 1000):
                log.warning("loop_failed", loop=self.name, times=self.failures_running, exc_info=error)
            return False
        finally:
            self.rounds += 1
            self.last_at = format_time(self.clock.now())
            self.ended_s = time.monotonic()
            self.longest_s = max(self.longest_s, time.monotonic() - started)
        if self.failures_running:
            log.info("loop_recovered", loop=self.name, after=self.failures_running)
        self.failures_running = 0
        self.failing_since = None
        self.last_error = None
        return True

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "leads": self.leads(),
            "rounds": self.rounds,
            "failing": self.failures_running,
            "last_error": self.last_error,
            "last_at": self.last_at,
            "longest_s": round(self.longest_s, 3),
        }

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.monotonic()
            went_well = self.once()
            pause = (
                self.interval_s
                if went_well
                else min(BACKOFF_S_MAX, self.interval_s * 2 ** min(self.failures_running, 6))
            )
            self._stop.wait(max(0.0, pause - (time.monotonic() - started)))
