"""Copy files into and out of volumes that no lease uses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import NamedTuple

import structlog
from sqlalchemy import Connection

from sublet.leases import store as leases_sql
from sublet.leases.backends.base import Backend, BackendFailedError
from sublet.leases.backends.volume import KeepsFiles, VolumeWork, WorkKind, WorkState, parts_of
from sublet.leases.projects import refuse_other
from sublet.leases.redaction import told_to_tenant
from sublet.leases.volumes import files_store
from sublet.leases.volumes import store as sql
from sublet.leases.volumes.files import COPIES_OPEN_MAX, HOLD_S, MIB, PART_BYTES_MAX, CopyState, VolumeCopy
from sublet.leases.volumes.model import Volume, VolumeBusyError, VolumeInUseError, VolumeState
from sublet.store import Store
from sublet.values.errors import (
    ConflictError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    SubletError,
)
from sublet.values.ids import new_id

PER_ROUND = 20
KEPT = timedelta(days=1)
"""How long an upload may rest, and how long what became of it is told."""
GIVEN_UP = timedelta(hours=6)
"""After that long a copy that arrived and can't be unpacked has failed."""
TAR_FACTOR = 2
"""How much larger than its volume an upload may be: a tar of many small files is larger than the files."""
_SHA256 = re.compile(r"[0-9a-f]{64}")
_log = structlog.get_logger("sublet.leases")


@dataclass(frozen=True, slots=True)
class NewCopy:
    """What is to be sent: a tar with one file or directory at its top, which becomes `path`."""

    path: str
    size_bytes: int
    sha256: str
    replace: bool = False


class Part(NamedTuple):
    """A part of an upload, and the byte of it that the part begins at."""

    offset: int
    content: bytes


class Copies:
    """The use cases of copies. The files of a volume are anybody's only while no lease has it."""

    def __init__(self, store: Store, backends: Mapping[str, Backend]) -> None:
        self._store, self._backends = store, backends

    def create(self, id_or_name: str, organization_id: str | None, wanted: NewCopy, project: str = "") -> VolumeCopy:
        """Announce a copy; its parts follow. The same again continues one that was interrupted. Raises NotFoundError,
        OtherProjectError, InvalidInputError, VolumeInUseError, VolumeBusyError, LimitExceededError."""
        path = "/".join(parts_of(wanted.path))
        if not path:
            raise InvalidInputError("path must name a file or directory in the volume", field="path")
        if not _SHA256.fullmatch(wanted.sha256):
            raise InvalidInputError("sha256 must have 64 lowercase hexadecimal digits", field="sha256")

        def write(connection: Connection) -> VolumeCopy:
            volume = usable(connection, id_or_name, organization_id, self._store.clock.now(), project)
            self._store.lock(connection, f"volumes:{volume.organization_id}")
            if not 0 < wanted.size_bytes <= volume.size_mib * MIB * TAR_FACTOR:
                raise InvalidInputError(
                    f"{wanted.size_bytes} bytes do not fit into volume {volume.name} of {volume.size_mib} MiB",
                    field="size_bytes",
                )
            now, known = self._store.clock.now(), files_store.open_copies(connection, volume.id)
            same = (path, wanted.replace, wanted.sha256, wanted.size_bytes)
            for item in known:
                if (item.path, item.replace, item.sha256, item.size_bytes) == same:
                    return item
            if len(known) >= COPIES_OPEN_MAX:
                raise LimitExceededError(
                    f"{len(known)} copies into volume {volume.name} are under way; finish one of them first",
                    retry_after_s=30,
                )
            made = VolumeCopy(
                new_id("cpy"), volume.id, path, wanted.replace, wanted.sha256, wanted.size_bytes, 0,
                CopyState.RECEIVING, now, now,
            )  # fmt: skip
            files_store.insert_copy(connection, made)
            return made

        return self._store.write(write)

    def copy(self, id_or_name: str, copy_id: str, organization_id: str | None) -> VolumeCopy:
        """A copy and how far it is. Raises NotFoundError."""
        with self._store.read() as connection:
            return self._found(connection, id_or_name, copy_id, organization_id)[1]

    def append(
        self, id_or_name: str, copy_id: str, organization_id: str | None, part: Part, project: str = ""
    ) -> VolumeCopy:
        """Store a part. After the last one, the copy is unpacked. Raises NotFoundError, OtherProjectError, ConflictError,
        UploadOffsetError, InvalidInputError, StorageFullError, BackendFailedError."""
        offset, content = part
        if not 0 < len(content) <= PART_BYTES_MAX:
            raise InvalidInputError(f"a part has 1 to {PART_BYTES_MAX} bytes, not {len(content)}")
        with self._store.read() as connection:
            volume, found = self._found(connection, id_or_name, copy_id, organization_id)
            refuse_other(f"volume {volume.name}", volume.project, project)
            keeper = self._keeper(connection, volume)
        if found.state is not CopyState.RECEIVING:
            raise ConflictError(f"copy {found.id} is {found.state}, and takes no more parts")
        if not 0 <= offset <= found.size_bytes - len(content):
            raise InvalidInputError(
                f"the part ends beyond the {found.size_bytes} bytes that were announced", field="offset"
            )
        received = keeper.receive_copy(volume.id, found.id, offset, content)
        state = CopyState.UNPACKING if received == found.size_bytes else CopyState.RECEIVING
        now = self._store.clock.now()
        values = {"received_bytes": received, "state": state.value}
        self._store.write(
            lambda connection: files_store.change_copy(connection, found.id, CopyState.RECEIVING, now, **values)
        )
        return replace(found, received_bytes=received, state=state, changed_at=now)

    def content(self, id_or_name: str, organization_id: str | None, path: str) -> Iterator[bytes]:
        """A tar of what is at `path`, in parts. No lease gets the volume while it is read. Raises NotFoundError,
        InvalidInputError, VolumeInUseError, VolumeBusyError, BackendFailedError."""
        parts_of(path)
        token, now = new_id("cpy"), self._store.clock.now()

        def begin(connection: Connection) -> Volume:
            volume = usable(connection, id_or_name, organization_id, now)
            hold(connection, volume, token, now)
            return volume

        volume = self._store.write(begin)
        try:
            with self._store.read() as connection:
                keeper = self._keeper(connection, volume)
            parts = keeper.volume_content(volume.id, path)
        except BaseException:
            self._end(volume.id, token)
            raise
        return self._read(volume, token, parts)

    def tend(self, pools: list[str], backend_of: Mapping[str, str], now: datetime) -> None:
        """One round: unpack what has arrived, and drop what nobody continues."""
        with self._store.read() as connection:
            arrived = files_store.copies_in(connection, pools, CopyState.UNPACKING, PER_ROUND)
            resting = files_store.abandoned_copies(connection, pools, now - KEPT, PER_ROUND)
            volumes = {item.volume_id: sql.volume(connection, item.volume_id, None) for item in (*arrived, *resting)}
        for item in resting:
            volume = volumes[item.volume_id]
            if volume is not None:
                self._over(volume, item, backend_of, "nobody has continued the upload for a day")
        for item in arrived:
            volume = volumes[item.volume_id]
            keeper = self._backends.get(backend_of.get(volume.pool_id, "")) if volume is not None else None
            if volume is not None and isinstance(keeper, KeepsFiles):
                self._unpack(volume, item, keeper, backend_of)

    def _unpack(self, volume: Volume, item: VolumeCopy, keeper: KeepsFiles, backend_of: Mapping[str, str]) -> None:
        now = self._store.clock.now()
        until = now + timedelta(seconds=HOLD_S)
        if not self._store.write(lambda connection: sql.hold(connection, volume.id, item.id, now, until)):
            # A lease has it now, or other work: the copy waits, and is told so.
            return
        work = VolumeWork(WorkKind.UNPACK, volume.id, item.id, item.path, item.sha256, item.replace)
        try:
            result = keeper.work_on(work)
        except (SubletError, OSError) as error:
            _log.warning("volume_copy_failed", copy=item.id, error=str(error))
            if now - item.changed_at > GIVEN_UP:
                told = error.message if isinstance(error, SubletError) else str(error)
                self._over(volume, item, backend_of, f"it could not be put into the volume: {told}")
            else:
                # Until the next round others may have the volume, and its owner may remove it.
                self._end(volume.id, item.id)
            return
        if result.state is WorkState.RUNNING:
            return
        self._over(volume, item, backend_of, result.error if result.state is WorkState.FAILED else None)

    def _over(self, volume: Volume, item: VolumeCopy, backend_of: Mapping[str, str], error: str | None) -> None:
        now = self._store.clock.now()
        state = CopyState.DONE if error is None else CopyState.FAILED
        values = {"state": state.value, "last_error": told_to_tenant(error)[:500] if error else None}

        def write(connection: Connection) -> None:
            files_store.change_copy(connection, item.id, item.state, now, **values)
            sql.unhold(connection, volume.id, item.id)
            files_store.forget_copies(connection, now - KEPT)

        self._store.write(write)
        keeper = self._backends.get(backend_of.get(volume.pool_id, ""))
        if isinstance(keeper, KeepsFiles):
            try:
                keeper.remove_copy(volume.id, item.id)
            except (SubletError, OSError) as failure:
                _log.warning("volume_copy_not_removed", copy=item.id, error=str(failure))

    def _read(self, volume: Volume, token: str, parts: Iterator[bytes]) -> Iterator[bytes]:
        """What stalls ends with its worker, before what was kept for it ends."""
        held = self._store.clock.now()
        try:
            for part in parts:
                yield part
                now = self._store.clock.now()
                if (now - held).total_seconds() > HOLD_S / 4:
                    held = now
                    self._hold_on(volume.id, token, now)
        finally:
            self._end(volume.id, token)

    def _hold_on(self, volume_id: str, token: str, now: datetime) -> None:
        until = now + timedelta(seconds=HOLD_S)
        self._store.write(lambda connection: sql.hold(connection, volume_id, token, now, until))

    def _end(self, volume_id: str, token: str) -> None:
        self._store.write(lambda connection: sql.unhold(connection, volume_id, token))

    def _found(
        self, connection: Connection, id_or_name: str, copy_id: str, organization_id: str | None
    ) -> tuple[Volume, VolumeCopy]:
        volume = found(connection, id_or_name, organization_id)
        copy = files_store.copy(connection, copy_id, volume.id)
        if copy is None:
            raise NotFoundError(f"there is no copy {copy_id[:60]!r} into volume {volume.name}; it may be over")
        return volume, copy

    def _keeper(self, connection: Connection, volume: Volume) -> KeepsFiles:
        pool = leases_sql.pool_named(connection, volume.pool_id)
        backend = self._backends.get(pool.backend if pool is not None else "")
        if not isinstance(backend, KeepsFiles):
            raise BackendFailedError("the machine of this volume is not reachable from here; ask again later")
        return backend


def found(connection: Connection, id_or_name: str, organization_id: str | None) -> Volume:
    """Raises NotFoundError, the same for another's."""
    volume = sql.volume(connection, id_or_name, organization_id)
    if volume is None:
        raise NotFoundError(f"there is no volume {id_or_name[:60]!r}; `sublet volume ls` lists yours")
    return volume


def usable(
    connection: Connection, id_or_name: str, organization_id: str | None, now: datetime, project: str = ""
) -> Volume:
    """A volume whose files nobody else needs. Raises NotFoundError, OtherProjectError, ConflictError, VolumeInUseError,
    VolumeBusyError."""
    volume = found(connection, id_or_name, organization_id)
    refuse_other(f"volume {volume.name}", volume.project, project)
    if volume.state is not VolumeState.READY:
        raise ConflictError(f"volume {volume.name} is {volume.state}; `sublet volume show {volume.name}` says more")
    if volume.lease_id is not None:
        raise VolumeInUseError(
            f"volume {volume.name} is attached to lease {volume.lease_id}; use that lease, as with `scp`, or end it first"
        )
    if (busy := volume.busy(now)) is not None:
        raise VolumeBusyError(f"volume {volume.name} is {busy} just now; try again in a moment", retry_after_s=5)
    return volume


def hold(connection: Connection, volume: Volume, token: str, now: datetime) -> None:
    """Keep the volume for work. Raises VolumeBusyError where a lease or other work was faster."""
    if not sql.hold(connection, volume.id, token, now, now + timedelta(seconds=HOLD_S)):
        raise VolumeBusyError(f"volume {volume.name} is in use just now; try again in a moment", retry_after_s=5)
