"""Snapshots of volumes: asked for by the customer, or made when the owner takes a lease back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from sublet.leases.backends.base import Backend
from sublet.leases.backends.volume import KeepsFiles, VolumeWork, WorkKind, WorkState
from sublet.leases.model import Lease
from sublet.leases.ports import LeasePorts
from sublet.leases.projects import refuse_other
from sublet.leases.redaction import told_to_tenant
from sublet.leases.volumes import files_store
from sublet.leases.volumes import store as sql
from sublet.leases.volumes.copies import found, hold, usable
from sublet.leases.volumes.files import HOLD_S, MIB, SNAPSHOTS_PER_VOLUME_MAX, Origin, Snapshot
from sublet.leases.volumes.model import StorageHour, Volume, VolumeQuotaError, VolumeState
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.values.errors import ConflictError, LimitExceededError, NotFoundError, SubletError
from sublet.values.ids import derived_id, new_id
from sublet.values.text import checked_line

PER_ROUND = 20
HOUR = timedelta(hours=1)
HOURS_PER_ROUND = 24
GIVEN_UP = timedelta(hours=6)
"""After that long a snapshot that can't be made has failed."""
NAME_MAX = 80
RECLAIMED = "reclaimed"
_S = VolumeState
_log = structlog.get_logger("sublet.leases")


class Snapshots:
    """The use cases of snapshots."""

    def __init__(self, store: Store, backends: Mapping[str, Backend], ports: LeasePorts) -> None:
        self._store, self._backends, self._ports = store, backends, ports

    def create(self, id_or_name: str, organization_id: str | None, name: str = "", project: str = "") -> Snapshot:
        """Keep a volume as it is now; it is ready within seconds to minutes. Raises NotFoundError, OtherProjectError,
        InvalidInputError, VolumeInUseError, VolumeBusyError, VolumeQuotaError, LimitExceededError."""
        named = checked_line(name, "name", NAME_MAX, 0)

        def write(connection: Connection) -> Snapshot:
            now = self._store.clock.now()
            volume = usable(connection, id_or_name, organization_id, now, project)
            self._store.lock(connection, f"volumes:{volume.organization_id}")
            self._refuse_beyond(connection, volume)
            made = Snapshot(
                new_id("snp"), volume.id, volume.organization_id, named or f"{now:%Y-%m-%d %H:%M}", Origin.ASKED,
                _S.MAKING, now, now,
            )  # fmt: skip
            hold(connection, volume, made.id, now)
            files_store.insert_snapshot(connection, made)
            return made

        return self._store.write(write)

    def page(self, id_or_name: str, organization_id: str | None, wanted: PageRequest) -> Page[Snapshot]:
        """A page of a volume's snapshots, the newest first. Raises NotFoundError."""
        with self._store.read() as connection:
            return files_store.snapshot_page(connection, found(connection, id_or_name, organization_id).id, wanted)

    def remove(self, id_or_name: str, organization_id: str | None, snapshot: str, project: str = "") -> Snapshot:
        """Delete a snapshot and end its billing. Raises NotFoundError, OtherProjectError, ConflictError."""

        def write(connection: Connection) -> Snapshot:
            volume, item = self._found(connection, id_or_name, organization_id, snapshot, project)
            if item.id == volume.restoring:
                raise ConflictError(f"snapshot {item.name} is being restored; remove it afterward")
            files_store.change_snapshot(connection, item.id, VolumeState, state=_S.REMOVING.value)
            sql.unhold(connection, volume.id, item.id)
            return replace(item, state=_S.REMOVING)

        return self._store.write(write)

    def restore(self, id_or_name: str, organization_id: str | None, snapshot: str, project: str = "") -> Volume:
        """Make the volume what it was at the snapshot, in one step; what it holds now is lost. Raises NotFoundError,
        OtherProjectError, ConflictError, VolumeInUseError, VolumeBusyError."""

        def write(connection: Connection) -> Volume:
            now = self._store.clock.now()
            volume, item = self._found(connection, id_or_name, organization_id, snapshot, project)
            if item.state is not _S.READY:
                raise ConflictError(f"snapshot {item.name} is {item.state}, and can't be restored")
            if volume.restoring == item.id:
                return volume
            volume = usable(connection, volume.id, None, now)
            hold(connection, volume, item.id, now)
            sql.change(connection, volume.id, [_S.READY], restoring=item.id, last_error=None)
            return found(connection, volume.id, None)

        return self._store.write(write)

    def tend(self, pools: list[str], backend_of: Mapping[str, str], now: datetime) -> None:
        """One round: make, restore and remove what is asked for, bill the hours that have begun, and drop what has expired."""
        with self._store.read() as connection:
            unfinished = files_store.snapshots_in(connection, pools, [_S.MAKING, _S.REMOVING], PER_ROUND)
            restoring = sql.restoring(connection, pools, PER_ROUND)
            due = files_store.due_snapshots(connection, pools, now, PER_ROUND)
            expired = files_store.expired_snapshots(connection, pools, now, PER_ROUND)
        for item, pool_id in unfinished:
            keeper = self._backends.get(backend_of.get(pool_id, ""))
            if isinstance(keeper, KeepsFiles):
                (self._make if item.state is _S.MAKING else self._wipe)(item, keeper)
        for volume in restoring:
            keeper = self._backends.get(backend_of.get(volume.pool_id, ""))
            if isinstance(keeper, KeepsFiles):
                self._restore(volume, keeper)
        for item, pool_id in due:
            self._bill(item, pool_id, now)
        for item, _ in expired:
            self._change(item, state=_S.REMOVING.value)

    def _make(self, item: Snapshot, keeper: KeepsFiles) -> None:
        now = self._store.clock.now()
        if now - item.created_at > GIVEN_UP:
            self._finish(item, state=_S.FAILED.value, last_error=item.last_error or "the volume was never free for it")
            return
        until = now + timedelta(seconds=HOLD_S)
        if not self._store.write(lambda connection: sql.hold(connection, item.volume_id, item.id, now, until)):
            return
        try:
            result = keeper.work_on(VolumeWork(WorkKind.SNAPSHOT, item.volume_id, item.id))
        except (SubletError, OSError) as error:
            self._told(item, error)
            return
        if result.state is WorkState.DONE:
            values = {"state": _S.READY.value, "bytes": result.bytes, "last_error": None, "billed_until": now}
            self._finish(item, **values)
        elif result.state is WorkState.FAILED:
            self._finish(item, state=_S.FAILED.value, last_error=told_to_tenant(result.error)[:500])

    def _restore(self, volume: Volume, keeper: KeepsFiles) -> None:
        now, snapshot_id = self._store.clock.now(), str(volume.restoring)
        try:
            result = keeper.work_on(VolumeWork(WorkKind.RESTORE, volume.id, snapshot_id))
            over, error = result.state is not WorkState.RUNNING, result.error or None
        except (SubletError, OSError) as failure:
            over, error = False, failure.message if isinstance(failure, SubletError) else str(failure)
            _log.warning("volume_not_restored", volume=volume.id, error=error)
        values = {"last_error": told_to_tenant(error)[:500] if error else None}

        def write(connection: Connection) -> None:
            if over:
                sql.change(connection, volume.id, [_S.READY], restoring=None, **values)
                sql.unhold(connection, volume.id, snapshot_id)
                return
            if error:
                sql.change(connection, volume.id, [_S.READY], **values)
            sql.hold(connection, volume.id, snapshot_id, now, now + timedelta(seconds=HOLD_S))

        self._store.write(write)

    def _wipe(self, item: Snapshot, keeper: KeepsFiles) -> None:
        try:
            keeper.remove_snapshot(item.volume_id, item.id)
        except (SubletError, OSError) as error:
            self._told(item, error)
            return
        self._finish(item, state=_S.REMOVED.value, removed_at=self._store.clock.now(), last_error=None)

    def _bill(self, item: Snapshot, pool_id: str, now: datetime) -> None:
        """Every hour that has begun, once, as hours of volumes are."""

        def write(connection: Connection) -> None:
            start = item.billed_until
            for _ in range(HOURS_PER_ROUND):
                if start > now or not files_store.advance(connection, item.id, start, start + HOUR):
                    return
                hour_id = derived_id("evt", item.id, str(start))
                hour = StorageHour(hour_id, item.id, item.organization_id, pool_id, item.mib, start)
                self._ports.emit_storage(connection, hour)
                start += HOUR

        self._store.write(write)

    def _finish(self, item: Snapshot, **values: object) -> None:
        def write(connection: Connection) -> None:
            files_store.change_snapshot(connection, item.id, [item.state], **values)
            sql.unhold(connection, item.volume_id, item.id)

        self._store.write(write)

    def _told(self, item: Snapshot, error: Exception) -> None:
        text = error.message if isinstance(error, SubletError) else str(error)
        _log.warning("volume_snapshot_failed", snapshot=item.id, error=text)
        self._change(item, last_error=told_to_tenant(text)[:500])

    def _change(self, item: Snapshot, **values: object) -> None:
        self._store.write(lambda connection: files_store.change_snapshot(connection, item.id, [item.state], **values))

    def _refuse_beyond(self, connection: Connection, volume: Volume) -> None:
        known = files_store.snapshots_of(connection, volume.id)
        if sum(item.origin is Origin.ASKED for item in known) >= SNAPSHOTS_PER_VOLUME_MAX:
            raise LimitExceededError(
                f"volume {volume.name} has {SNAPSHOTS_PER_VOLUME_MAX} snapshots, and may not have more; remove one first"
            )
        mib_max = self._ports.volumes.mib_max
        held = sql.held(connection, volume.organization_id)[1]
        held += -(-files_store.bytes_held(connection, volume.organization_id) // MIB)
        if held + volume.size_mib > mib_max:
            raise VolumeQuotaError(
                f"your organization has {held} MiB of volumes and snapshots and may have {mib_max} MiB; a snapshot of up to "
                f"{volume.size_mib} MiB would exceed that"
            )

    def _found(
        self, connection: Connection, id_or_name: str, organization_id: str | None, snapshot: str, project: str
    ) -> tuple[Volume, Snapshot]:
        volume = found(connection, id_or_name, organization_id)
        refuse_other(f"volume {volume.name}", volume.project, project)
        item = files_store.snapshot(connection, snapshot, volume.id)
        if item is None:
            raise NotFoundError(
                f"volume {volume.name} has no snapshot {snapshot[:60]!r}; `sublet volume snapshots {volume.name}` lists them"
            )
        return volume, item


def detach_volumes(connection: Connection, lease: Lease, end_reason: str, keep_s: int, now: datetime) -> None:
    """The lease is over: its volumes are nobody's. Where the owner took it back, each is kept for `keep_s` as the tenant left it, in
    place of the snapshot of the reclaim before."""
    left = sql.attached(connection, lease.id)
    sql.detach(connection, lease.id)
    if end_reason != RECLAIMED or keep_s <= 0 or lease.active_at is None:
        return
    for volume in left:
        for item in files_store.snapshots_of(connection, volume.id):
            if item.origin is Origin.RECLAIM:
                files_store.change_snapshot(connection, item.id, [item.state], state=_S.REMOVING.value)
        made = Snapshot(
            new_id("snp"), volume.id, volume.organization_id, f"reclaim of {lease.id}", Origin.RECLAIM, _S.MAKING, now,
            now, expires_at=now + timedelta(seconds=keep_s),
        )  # fmt: skip
        files_store.insert_snapshot(connection, made)
        sql.hold(connection, volume.id, made.id, now, now + timedelta(seconds=HOLD_S))
