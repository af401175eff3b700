"""A process that has settled looks for garbage less often."""

from __future__ import annotations

import gc

from sublet.values import garbage


def test_what_is_there_is_not_walked_through_again() -> None:
    before, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        garbage.settle()
        assert gc.get_threshold() == garbage.THRESHOLDS
        assert gc.get_freeze_count() > frozen
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
