"""A file beside the books that is given up when the disk is nearly full, so that they can always be written."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from sublet.values.errors import StorageFullError

MIB = 1 << 20
NAME = "reserve"
SIZE_BYTES = 64 * MIB
GIVE_UP_BELOW_BYTES = 32 * MIB
"""Less free space than this, and the file goes."""
MAKE_AGAIN_ABOVE_BYTES = SIZE_BYTES + 2 * GIVE_UP_BELOW_BYTES


class Ballast:
    """The reserve of one data directory. Its blocks are allocated: an ordinary file of zeros would promise nothing."""

    def __init__(self, folder: Path, size_bytes: int = SIZE_BYTES) -> None:
        self.path = folder / NAME
        self.size_bytes = size_bytes

    @property
    def held_bytes(self) -> int:
        """What giving it up would free."""
        try:
            return self.path.stat().st_blocks * 512
        except OSError:
            return 0

    def tend(self) -> None:
        """Give it up where the disk is nearly full, make it again where there is room. Raises StorageFullError while it
        is given up: somebody has to see that the reserve is in use."""
        free = shutil.disk_usage(self.path.parent).free
        if free < GIVE_UP_BELOW_BYTES:
            self.path.unlink(missing_ok=True)
        elif not self.path.exists() and free >= MAKE_AGAIN_ABOVE_BYTES:
            self._make()
        if not self.path.exists():
            raise StorageFullError(
                f"the disk that holds {self.path.parent} is nearly full ({free // MIB} MiB free): its reserve of "
                f"{self.size_bytes // MIB} MiB has been released, and no more leases are sold on it; free some space"
            )

    def _make(self) -> None:
        temporary = self.path.with_suffix(".new")
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self.size_bytes)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            return
        finally:
            os.close(descriptor)
        temporary.replace(self.path)
