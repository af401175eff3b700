"""The homes of ended leases, kept for a stated time in case a tenant asks for what was in them."""

from __future__ import annotations

import errno
import os
import shutil
import time
from pathlib import Path

from sublet.leases.backends.local.disk import shrink
from sublet.leases.backends.local.files import LeaseFiles, Spec

DIRECTORY = "archive"


def keep_home(spec: Spec, files: LeaseFiles) -> bool:
    """Move the home of an ended lease aside, as the disk image it was or as a directory that is the owner's now.

    It takes no space that it did not have: an image first gives back what its file system does not use. Harmless to
    repeat; nothing is kept where the lease was not to be kept or its home is gone already. False where the disk has no room
    even for the entry that names it: then the home goes with the rest, since freeing comes before keeping.
    """
    if spec.home_keep_s <= 0:
        return True
    source = files.image if files.image.is_file() else files.home
    if not source.exists():
        return True
    if source == files.image:
        shrink(source, files.home)
    target = _directory(files.root.parent) / spec.lease_id
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        if source.is_dir() and spec.uid is not None:
            _take_over(source)
        kept = target / source.name
        if not kept.exists():
            source.replace(kept)
        (target / "until").write_text(str(int(time.time()) + spec.home_keep_s))
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        if not (target / source.name).exists():
            shutil.rmtree(target, ignore_errors=True)
            return False
    return True


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
