"""The homes of ended leases, kept for a stated time in case a tenant asks for what was in them."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

from sublet.leases.backends.local.files import LeaseFiles, Spec

DIRECTORY = "archive"


def keep_home(spec: Spec, files: LeaseFiles) -> None:
    """Move the home of an ended lease aside, as the disk image it was or as a directory that is the owner's now.

    Harmless to repeat; nothing is kept where the lease was not to be kept or its home is gone already.
    """
    if spec.home_keep_s <= 0:
        return
    source = files.image if files.image.is_file() else files.home
    if not source.exists():
        return
    target = _directory(files.root.parent) / spec.lease_id
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if source.is_dir() and spec.uid is not None:
        _take_over(source)
    kept = target / source.name
    if not kept.exists():
        source.replace(kept)
    (target / "until").write_text(str(int(time.time()) + spec.home_keep_s))


def purge(base: Path) -> list[str]:
    """Remove what has been kept long enough; returns the leases whose homes went."""
    gone: list[str] = []
    directory = _directory(base)
    if not directory.is_dir():
        return gone
    for entry in directory.iterdir():
        try:
            until = int((entry / "until").read_text())
        except (OSError, ValueError):
            # A crash between the move and the note: it counts from when it was moved.
            until = int(entry.stat().st_mtime) + 86_400
        if time.time() >= until:
            shutil.rmtree(entry, ignore_errors=True)
            gone.append(entry.name)
    return gone


def _directory(base: Path) -> Path:
    return base / DIRECTORY


def _take_over(home: Path) -> None:
    """Its files are no tenant's any more, so that the tenant's uid may be another's. Links are not followed."""
    for folder, folders, names in os.walk(home):
        for name in (*folders, *names):
            os.lchown(Path(folder) / name, 0, 0)
    os.lchown(home, 0, 0)
