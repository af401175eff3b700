"""The files of volumes on this machine: each piece of work is a process of its own (`volume_worker`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import sublet
from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.local import disk, volumes
from sublet.leases.backends.local.volumes import DIRECTORY, VolumeFiles
from sublet.leases.backends.volume import VolumeWork, WorkResult, WorkState, parts_of
from sublet.leases.uploads import append_part
from sublet.values.errors import (
    ConflictError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    StorageFullError,
    SubletError,
)

WORKERS_MAX = 8
READERS_MAX = 16
PART_BYTES = 1 << 16
ABANDONED_S = 2 * 86_400
_KINDS: dict[str, type[SubletError]] = {
    kind.code: kind for kind in (ConflictError, InvalidInputError, NotFoundError, StorageFullError)
}
Key = tuple[str, str, str]


class VolumeWorkers:
    """Runs them, up to WORKERS_MAX at a time, and READERS_MAX that copy files out. Safe to use from several threads."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._lock = threading.Lock()
        self._running: dict[Key, subprocess.Popen[bytes]] = {}
        self._readers = 0

    def receive_copy(self, volume_id: str, copy_id: str, offset: int, content: bytes) -> int:
        """See `KeepsFiles.receive_copy`."""
        upload = VolumeFiles.of(self._base, volume_id).copy(copy_id) / "upload"
        if not content:
            return upload.stat().st_size if upload.is_file() else 0
        with disk.counted(self._base):
            disk.require_room(self._base, len(content))
            upload.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            return append_part(upload, offset, content)

    def remove_copy(self, volume_id: str, copy_id: str) -> None:
        """See `KeepsFiles.remove_copy`."""
        self.stop(volume_id, copy_id)
        shutil.rmtree(VolumeFiles.of(self._base, volume_id).copy(copy_id), ignore_errors=True)

    def work_on(self, work: VolumeWork) -> WorkResult:
        """See `KeepsFiles.work_on`."""
        key = (work.kind.value, work.volume_id, work.subject_id)
        with self._lock:
            process = self._running.get(key)
            if process is None:
                if len(self._running) < WORKERS_MAX:
                    self._running[key] = self._begin({**asdict(work), "kind": work.kind.value})
                return WorkResult(WorkState.RUNNING)
            if process.poll() is None:
                return WorkResult(WorkState.RUNNING)
            del self._running[key]
        said, failed = process.communicate()
        if process.returncode != 0:
            error = _error_of(failed)
            if not isinstance(error, tuple(_KINDS.values())):
                raise error
            return WorkResult(WorkState.FAILED, error=error.message)
        return WorkResult(WorkState.DONE, int(json.loads(said)["bytes"]))

    def remove_snapshot(self, volume_id: str, snapshot_id: str) -> None:
        """See `KeepsFiles.remove_snapshot`."""
        self.stop(volume_id, snapshot_id)
        found = VolumeFiles.of(self._base, volume_id).snapshot(snapshot_id)
        for path in (found, found.with_suffix(".new")):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
            if path.exists():
                raise BackendFailedError("parts of the snapshot could not be removed")

    def content(self, volume_id: str, path: str) -> Iterator[bytes]:
        """See `KeepsFiles.volume_content`. Raises LimitExceededError where too many are read at once."""
        parts_of(path)
        found = VolumeFiles.of(self._base, volume_id)
        with self._lock:
            if self._readers >= READERS_MAX:
                raise LimitExceededError("too many volumes are being copied out; try again", retry_after_s=10)
            self._readers += 1
        process = None
        try:
            order = {"kind": "read", "volume_id": volume_id, "path": path, "name": "volume"}
            process = self._begin(order | {"size_bytes": _size_of(found)})
            assert process.stdout is not None
            first = process.stdout.read(PART_BYTES)
            if not first or (len(first) < PART_BYTES and process.wait() != 0):
                raise _error_of(process.communicate()[1])
        except BaseException:
            self._end_reader(process)
            raise
        return self._parts(process, first)

    def stop(self, volume_id: str, subject_id: str | None = None) -> None:
        """End what is done to the volume, or about one subject, by killing it: the next work on the volume removes what it leaves."""
        with self._lock:
            keys = [key for key in self._running if key[1] == volume_id and subject_id in (None, key[2])]
            ended = [self._running.pop(key) for key in keys]
        for process in ended:
            process.kill()
            process.communicate()

    def purge(self) -> None:
        """Remove what was uploaded long ago and never used."""
        for upload in (self._base / DIRECTORY).glob("vol_*/copies/cpy_*"):
            if time.time() - upload.stat().st_mtime > ABANDONED_S:
                shutil.rmtree(upload, ignore_errors=True)

    def _parts(self, process: subprocess.Popen[bytes], first: bytes) -> Iterator[bytes]:
        assert process.stdout is not None
        try:
            part = first
            while part:
                yield part
                part = process.stdout.read(PART_BYTES)
            if process.wait() != 0:
                raise _error_of(process.communicate()[1])
        finally:
            self._end_reader(process)

    def _end_reader(self, process: subprocess.Popen[bytes] | None) -> None:
        with self._lock:
            self._readers -= 1
        if process is not None:
            process.kill()
            process.communicate()

    def _begin(self, order: dict[str, Any]) -> subprocess.Popen[bytes]:
        source = str(Path(sublet.__file__).resolve().parent.parent)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "sublet.leases.backends.local.volume_worker"],
            env={"PYTHONPATH": source, "PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"},
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps({**order, "base": str(self._base)}).encode() + b"\n")
        process.stdin.flush()
        return process


class LocalVolumes:
    """What the backend of this machine does with volumes, besides creating them."""

    def __init__(self, base: Path) -> None:
        self._volumes = base
        self._workers = VolumeWorkers(base)

    def remove_volume(self, volume_id: str) -> None:
        """See `volumes.remove`."""
        self._workers.stop(volume_id)
        volumes.remove(self._volumes, volume_id)

    def receive_copy(self, volume_id: str, copy_id: str, offset: int, content: bytes) -> int:
        return self._workers.receive_copy(volume_id, copy_id, offset, content)

    def remove_copy(self, volume_id: str, copy_id: str) -> None:
        self._workers.remove_copy(volume_id, copy_id)

    def work_on(self, work: VolumeWork) -> WorkResult:
        return self._workers.work_on(work)

    def remove_snapshot(self, volume_id: str, snapshot_id: str) -> None:
        self._workers.remove_snapshot(volume_id, snapshot_id)

    def volume_content(self, volume_id: str, path: str) -> Iterator[bytes]:
        return self._workers.content(volume_id, path)


def _size_of(found: VolumeFiles) -> int:
    try:
        return found.image.stat().st_size if found.image.exists() else int((found.root / "size").read_text())
    except (OSError, ValueError) as error:
        raise BackendFailedError("the volume is not on this machine") from error


def _error_of(said: bytes) -> SubletError:
    try:
        told = json.loads(said.splitlines()[-1])
        return _KINDS.get(told["code"], BackendFailedError)(told["error"])
    except (ValueError, IndexError, KeyError, TypeError):
        return BackendFailedError(f"the work on the volume broke off: {said.decode(errors='replace')[-300:]}")
