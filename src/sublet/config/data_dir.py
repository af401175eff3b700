"""What runs on a data directory: the lock that its supervisor holds, and what it wrote of itself; and when it was backed up."""

from __future__ import annotations

import fcntl
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from sublet.values.clock import format_time, parse_time

STATE_NAME = "up.json"
BACKUP_NAME = "backup.json"
RESTORE_NAME = "restore.json"
"""There while a backup is being put in place: what a killed restore left is half of one, and nothing may run on it."""


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


def unfinished_restore(data_dir: Path) -> dict[str, Any] | None:
    """What a restore that was cut short said of itself, or None."""
    try:
        found: dict[str, Any] = json.loads((data_dir / RESTORE_NAME).read_bytes())
    except FileNotFoundError:
        return None
    return found


def last_backup(data_dir: Path) -> datetime | None:
    """When the last backup of that data directory was made; None where nobody knows of one."""
    try:
        return parse_time(json.loads((data_dir / BACKUP_NAME).read_text())["made_at"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def note_backup(data_dir: Path, made_at: datetime) -> None:
    """Remember that a backup was made. Raises OSError."""
    partial = data_dir / f"{BACKUP_NAME}.partial"
    partial.write_text(json.dumps({"made_at": format_time(made_at)}))
    partial.replace(data_dir / BACKUP_NAME)
