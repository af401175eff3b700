"""A system that tests start with `sublet up`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from sublet.story.stage import UpProcess
from sublet.wiring.system import local_backend


@contextlib.contextmanager
def started(config: Path) -> Iterator[UpProcess]:
    """Started with these settings; ended whatever happens, its leases reaped."""
    up = UpProcess(config)
    up.start()
    try:
        yield up
    finally:
        for pid in up.pids().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        local_backend(up.settings).reap(frozenset())
