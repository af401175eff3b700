"""Volumes of the `simulated` backend: everything succeeds at once, and nothing is stored."""

from __future__ import annotations

import io
import tarfile
import threading
from collections.abc import Iterator

from sublet.leases.backends.volume import VolumeWork, WorkResult, WorkState, parts_of


class SimulatedVolumes:
    """What a simulated lease would write is nowhere, so a copy of it is an empty directory."""

    def __init__(self) -> None:
        self._receiving = threading.Lock()
        self._received: dict[str, int] = {}

    def remove_volume(self, volume_id: str) -> None:
        """Nothing is left."""

    def make_volume(self, volume_id: str, size_mib: int) -> None:
        """Nothing is kept: what a simulated lease would write is nowhere."""

    def receive_copy(self, volume_id: str, copy_id: str, offset: int, content: bytes) -> int:
        with self._receiving:
            received = self._received.get(copy_id, 0)
            if content and offset == received:
                received = self._received[copy_id] = received + len(content)
            return received

    def remove_copy(self, volume_id: str, copy_id: str) -> None:
        with self._receiving:
            self._received.pop(copy_id, None)

    def work_on(self, work: VolumeWork) -> WorkResult:
        """Done at once, with nothing in it."""
        return WorkResult(WorkState.DONE)

    def remove_snapshot(self, volume_id: str, snapshot_id: str) -> None:
        """Nothing is left."""

    def volume_content(self, volume_id: str, path: str) -> Iterator[bytes]:
        """An empty directory."""
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            folder = tarfile.TarInfo((parts_of(path) or ("volume",))[-1])
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        yield made.getvalue()
