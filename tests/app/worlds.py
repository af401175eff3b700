"""Worlds whose pool has a history and a record: made once by each process, since that takes seconds, and copied for every test."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Any, TypeVar

from sublet.simulation.world import World

_MADE: dict[str, Path] = {}
W = TypeVar("W", bound=World)


def recorded(kind: type[W], folder: Path, *, days: int, need: float, accelerators: int = 8, **classes: Any) -> W:
    """A world in `folder` where the owner used `need` of the accelerators for `days` and still does, with the record of it."""
    key = repr((days, need, accelerators, classes))
    if key not in _MADE:
        home = Path(tempfile.mkdtemp(prefix="sublet-worlds-"))
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        made = World(home / "w", accelerators=accelerators, **classes)
        made.remember(days=days, need=need, spread=0.0)
        made.observe()
        made.system.record.advance([made.pool.id])
        made.close()
        _MADE[key] = home / "w"
    shutil.copytree(_MADE[key], folder)
    found = kind(folder, accelerators=accelerators, **classes)
    found.in_use = need * accelerators
    return found
