"""Which processes of this machine are Sublet's own or its tenants': their load is not the owner's demand."""

from __future__ import annotations

import os
from pathlib import Path

from sublet.config.data_dir import running_system
from sublet.config.settings import Settings
from sublet.demand.feeds.local import Tenants
from sublet.leases.backends.local.files import LeaseFiles


def tenants(settings: Settings) -> Tenants:
    """The system's own processes with all that descends from them, and the shim of every lease, whose child the sandbox is."""
    pids = {os.getpid()}
    state = running_system(settings.data_dir)
    if state is not None:
        pids.add(int(state["pid"]))
    base = settings.data_dir / "leases"
    for folder in _folders(base):
        seen = LeaseFiles(base, folder.name).read_state()
        if seen is not None and seen.pid:
            pids.add(seen.pid)
    return Tenants(pids=tuple(sorted(pids)))


def _folders(base: Path) -> list[Path]:
    try:
        return [entry for entry in base.iterdir() if entry.is_dir() and entry.name.startswith("lse_")]
    except OSError:
        return []
