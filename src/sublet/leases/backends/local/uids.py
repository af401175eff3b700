"""A host uid for each lease, when we run as root: no two live leases of this host share one, whichever Sublet made them."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sublet.leases.backends.base import BackendFailedError

CLAIMS = Path("/run/sublet/uids")


class LeaseUids:
    """Claims on uids `[first, first + count)`: a file per uid that names the lease's directory. A claim whose directory is
    gone is void."""

    def __init__(self, first: int, count: int, claims: Path = CLAIMS) -> None:
        self._first, self._count, self._claims = first, count, claims

    def claim(self, root: Path, wanted: int | None = None) -> int:
        """A uid for the lease in `root`, `wanted` if it is given. Raises BackendFailedError where none can be had."""
        with self._locked():
            start = int.from_bytes(hashlib.sha256(os.fsencode(root)).digest()[:4], "big")
            candidates = (
                [wanted] if wanted is not None else (self._first + (start + n) % self._count for n in range(64))
            )
            for uid in candidates:
                holder = self._holder(uid)
                if holder is None or holder == root:
                    (self._claims / str(uid)).write_text(str(root))
                    return uid
        raise BackendFailedError(
            f"no free user id for the lease{f' (it needs {wanted})' if wanted else ''}; first end a lease of another Sublet "
            "on this machine"
        )

    def release(self, uid: int, root: Path) -> None:
        """Give the uid back; only once nothing on disk or in the kernel belongs to it."""
        with self._locked():
            if self._holder(uid) in (None, root):
                (self._claims / str(uid)).unlink(missing_ok=True)

    def _holder(self, uid: int) -> Path | None:
        try:
            root = Path((self._claims / str(uid)).read_text())
        except OSError:
            return None
        return root if (root / "contents").exists() else None

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self._claims.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self._claims / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)
