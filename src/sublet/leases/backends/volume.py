"""What a backend that keeps volumes does with their files: copy them in and out, keep snapshots, and restore them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from sublet.values.errors import InvalidInputError

PATH_CHARACTERS_MAX, PATH_PARTS_MAX, NAME_BYTES_MAX = 1_000, 64, 255


class WorkKind(StrEnum):
    """UNPACK puts an uploaded copy into the volume, SNAPSHOT keeps the volume as it is, RESTORE brings a snapshot back."""

    UNPACK = "unpack"
    SNAPSHOT = "snapshot"
    RESTORE = "restore"


class WorkState(StrEnum):
    """FAILED: the volume is as it was before."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VolumeWork:
    """Work on a volume that no lease uses. `subject_id` is the copy or the snapshot; a copy goes to `path`, in place of what is
    there only if `replace`."""

    kind: WorkKind
    volume_id: str
    subject_id: str
    path: str = ""
    sha256: str = ""
    replace: bool = False


@dataclass(frozen=True, slots=True)
class WorkResult:
    """Where work stands. `bytes` is what a snapshot occupies; `error` says why it failed."""

    state: WorkState
    bytes: int = 0
    error: str = ""


@runtime_checkable
class KeepsFiles(Protocol):
    """A backend whose volumes have files to copy. Every call may be repeated; none is made while a lease has the volume."""

    def receive_copy(self, volume_id: str, copy_id: str, offset: int, content: bytes) -> int:
        """Append a part of an upload durably, and return the number of bytes received. An empty part only asks. Raises
        UploadOffsetError, StorageFullError."""
        ...

    def remove_copy(self, volume_id: str, copy_id: str) -> None:
        """Delete what was uploaded."""
        ...

    def work_on(self, work: VolumeWork) -> WorkResult:
        """Begin the work, or say how far it is. Once the result was told, the same work begins again."""
        ...

    def remove_snapshot(self, volume_id: str, snapshot_id: str) -> None:
        """Leave nothing of a snapshot. Raises BackendFailedError."""
        ...

    def volume_content(self, volume_id: str, path: str) -> Iterator[bytes]:
        """A tar of what is at `path`, under its own name, in parts. Raises NotFoundError, InvalidInputError before the first
        part, and BackendFailedError where it breaks off."""
        ...


def parts_of(path: str) -> tuple[str, ...]:
    """The names in a path within a volume; empty for the volume itself. Raises InvalidInputError."""
    parts = tuple(part for part in path.split("/") if part not in ("", "."))
    bad = len(path) > PATH_CHARACTERS_MAX or len(parts) > PATH_PARTS_MAX or ".." in parts or "\0" in path
    if bad or any(len(part.encode(errors="surrogatepass")) > NAME_BYTES_MAX for part in parts):
        raise InvalidInputError(
            f"{path[:100]!r} is not a path in a volume; use names separated by /, without ..", field="path"
        )
    return parts
