"""What runs on a data directory: the lock that its supervisor holds, and what it wrote of itself."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

STATE_NAME = "up.json"


def running_system(data_dir: Path) -> dict[str, Any] | None:
    """What runs on that data directory now: pid and addresses, or None."""
    path = data_dir / "up.lock"
    try:
        with open(path) as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return None
            except OSError:
                state: dict[str, Any] = json.loads((data_dir / STATE_NAME).read_text())
                return state
    except (OSError, ValueError):
        return None
