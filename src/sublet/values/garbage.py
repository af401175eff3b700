"""How often a process that runs for long looks for garbage."""

from __future__ import annotations

import gc

THRESHOLDS = (20_000, 20, 50)


def settle() -> None:
    """Once a process has started: what is there now stays for good, and the collector need not walk through it again.

    It looks for new garbage less often, too: cycles are few, and looking costs more than the rest of a short decision.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
