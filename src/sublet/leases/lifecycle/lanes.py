"""A lane for each backend, so that work on one backend never waits for another that is slow."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import structlog

T = TypeVar("T")

ROUND_S = 5.0
"""For how long a round waits for its lanes. A lane that takes longer goes on by itself, and the rounds meanwhile leave its
backend to it."""
_log = structlog.get_logger("sublet.leases")


class Lanes:
    """Runs work by lane, each lane in its own thread. Call `run` from one thread."""

    def __init__(self, round_s: float = ROUND_S) -> None:
        self._round_s = round_s
        self._running: dict[str, threading.Thread] = {}

    def busy(self) -> frozenset[str]:
        """Lanes that are still busy with an earlier round."""
        self._running = {lane: thread for lane, thread in self._running.items() if thread.is_alive()}
        return frozenset(self._running)

    def run(self, work: Mapping[str, Sequence[T]], do: Callable[[Sequence[T]], None]) -> frozenset[str]:
        """Run the work of each lane in parallel. Returns the lanes that had not finished after ROUND_S. A busy lane gets no
        work: the next plan has what is left to do."""
        busy = self.busy()
        started = {}
        for lane, items in work.items():
            if lane not in busy and items:
                thread = threading.Thread(target=_guarded, args=(lane, items, do), name=f"lane-{lane}", daemon=True)
                started[lane] = thread
                thread.start()
        deadline = time.monotonic() + self._round_s
        for thread in started.values():
            thread.join(max(0.0, deadline - time.monotonic()))
        late = {lane: thread for lane, thread in started.items() if thread.is_alive()}
        self._running.update(late)
        return frozenset(late)


def _guarded(lane: str, items: Sequence[T], do: Callable[[Sequence[T]], None]) -> None:
    try:
        do(items)
    except Exception as error:
        # An exception in a thread would only be printed to standard error.
        _log.error("lane_broke", lane=lane, exc_info=error)
