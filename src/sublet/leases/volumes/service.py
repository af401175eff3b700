"""Make volumes, keep them between leases, bill them by the hour, and leave nothing of those that are removed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog
from sqlalchemy import Connection

from sublet.leases import store as leases_sql
from sublet.leases.backends.base import Backend, KeepsVolumes
from sublet.leases.model import told_to_tenant
from sublet.leases.ports import LeasePorts
from sublet.leases.projects import refuse_other
from sublet.leases.volumes import files_store
from sublet.leases.volumes import store as sql
from sublet.leases.volumes.copies import Copies
from sublet.leases.volumes.files import MIB
from sublet.leases.volumes.model import (
    VOLUMES_PER_LEASE_MAX,
    StorageHour,
    Volume,
    VolumeBusyError,
    VolumeInUseError,
    VolumeQuotaError,
    VolumeState,
    checked_name,
    checked_size,
)
from sublet.leases.volumes.snapshots import Snapshots
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError, StorageFullError, SubletError
from sublet.values.ids import derived_id, new_id

FEATURE = "volumes"
PER_ROUND = 50
HOUR = timedelta(hours=1)
HOURS_PER_ROUND = 24
_log = structlog.get_logger("sublet.leases")


@dataclass(frozen=True, slots=True)
class NewVolume:
    """What a customer asks for. `pool` is an id or a name."""

    name: str
    size_mib: int
    pool: str
    project: str = ""


class Volumes:
    """The use cases of volumes. A volume is attached to a lease by naming it in the quote."""

    def __init__(self, store: Store, backends: Mapping[str, Backend], ports: LeasePorts) -> None:
        self._store, self._backends, self._ports = store, backends, ports
        self.copies = Copies(store, backends)
        self.snapshots = Snapshots(store, backends, ports)

    def create(self, organization_id: str, wanted: NewVolume) -> Volume:
        """A volume that is made within seconds. The same name and size again is the same volume.

        Raises InvalidInputError, NotFoundError, VolumeQuotaError, and ConflictError where another volume has the name."""
        name, size = checked_name(wanted.name), checked_size(wanted.size_mib)

        def write(connection: Connection) -> Volume:
            self._store.lock(connection, f"volumes:{organization_id}")
            pool = leases_sql.pool_named(connection, wanted.pool)
            if pool is None:
                raise NotFoundError(f"there is no pool {wanted.pool!r}; `sublet pool ls` lists them")
            if FEATURE not in self._ports.features(pool.backend):
                raise InvalidInputError(f"pool {pool.name} has no volumes; choose another pool", field="pool")
            known = sql.volume(connection, name, organization_id)
            if known is not None:
                if (known.size_mib, known.pool_id) != (size, pool.id):
                    raise ConflictError(f"you have a volume {name} of {known.size_mib} MiB; choose another name")
                return known
            self._refuse_beyond_quota(connection, organization_id, size)
            now = self._store.clock.now()
            state = VolumeState.MAKING
            made = Volume(new_id("vol"), organization_id, pool.id, name, size, state, now, now, project=wanted.project)
            sql.insert_volume(connection, made)
            return made

        return self._store.write(write)

    def volume(self, id_or_name: str, organization_id: str | None) -> Volume:
        """Raises NotFoundError, the same for another's."""
        with self._store.read() as connection:
            return _found(sql.volume(connection, id_or_name, organization_id), id_or_name)

    def now(self) -> datetime:
        """The present, as everything here sees it."""
        return self._store.clock.now()

    def page(self, organization_id: str | None, wanted: PageRequest) -> Page[Volume]:
        """A page of them, the newest first; of one organization where it is given."""
        with self._store.read() as connection:
            return sql.page(connection, organization_id, wanted)

    def remove(self, id_or_name: str, organization_id: str | None, project: str = "") -> Volume:
        """Wipe a volume and end its billing; it is gone within seconds. Raises NotFoundError, OtherProjectError, VolumeInUseError."""

        def write(connection: Connection) -> Volume:
            found = _found(sql.volume(connection, id_or_name, organization_id), id_or_name)
            self._store.lock(connection, f"volumes:{found.organization_id}")
            found = _found(sql.volume(connection, found.id, organization_id), id_or_name)
            refuse_other(f"volume {found.name}", found.project, project)
            if found.lease_id is not None:
                raise VolumeInUseError(
                    f"volume {found.name} is attached to lease {found.lease_id}; end that lease first"
                )
            if (busy := found.busy(self._store.clock.now())) is not None:
                raise VolumeBusyError(f"volume {found.name} is {busy} just now; try again in a moment", retry_after_s=5)
            sql.change(connection, found.id, VolumeState, state=VolumeState.REMOVING.value)
            return _found(sql.volume(connection, found.id, organization_id), id_or_name)

        return self._store.write(write)

    def tend(self, backend_of: Mapping[str, str], now: datetime) -> None:
        """One round: make and remove what is asked for on these pools, and bill the hours that have begun."""
        pools = [pool for pool, backend in backend_of.items() if FEATURE in self._ports.features(backend)]
        if not pools:
            return
        with self._store.read() as connection:
            unfinished = sql.unfinished(connection, pools, PER_ROUND)
            due = sql.due(connection, pools, now, PER_ROUND)
        for item in unfinished:
            self._finish(item, self._backends.get(backend_of[item.pool_id]))
        for item in due:
            self._bill(item, now)
        self.copies.tend(pools, backend_of, now)
        self.snapshots.tend(pools, backend_of, now)

    def _finish(self, item: Volume, keeper: Backend | None) -> None:
        """A failure is told, and tried again in the next round; without room, the volume has failed."""
        if not isinstance(keeper, KeepsVolumes):
            return
        making, now = item.state is VolumeState.MAKING, self._store.clock.now()
        try:
            if making:
                keeper.make_volume(item.id, item.size_mib)
                values = {"state": VolumeState.READY.value, "last_error": None, "billed_until": now}
            else:
                keeper.remove_volume(item.id)
                values = {"state": VolumeState.REMOVED.value, "last_error": None, "removed_at": now}
        except StorageFullError as error:
            values = {"state": VolumeState.FAILED.value, "last_error": told_to_tenant(error.message)[:500]}
        except (SubletError, OSError) as error:
            told = error.message if isinstance(error, SubletError) else str(error)
            _log.warning("volume_failed", volume=item.id, error=told)
            values = {"last_error": told_to_tenant(told)[:500]}

        def write(connection: Connection) -> None:
            if sql.change(connection, item.id, [item.state], **values) and "removed_at" in values:
                # They lay with the volume.
                files_store.remove_of_volume(connection, item.id, now)
                files_store.forget_copies_of(connection, item.id)

        self._store.write(write)

    def _bill(self, item: Volume, now: datetime) -> None:
        """Every hour that has begun, once: the hour and the mark of how far is billed move together."""

        def write(connection: Connection) -> None:
            start = item.billed_until
            for _ in range(HOURS_PER_ROUND):
                if start > now or not sql.advance(connection, item.id, start, start + HOUR):
                    return
                hour_id = derived_id("evt", item.id, str(start))
                hour = StorageHour(hour_id, item.id, item.organization_id, item.pool_id, item.size_mib, start)
                self._ports.emit_storage(connection, hour)
                start += HOUR

        self._store.write(write)

    def _refuse_beyond_quota(self, connection: Connection, organization_id: str, size_mib: int) -> None:
        count, mib = sql.held(connection, organization_id)
        mib += -(-files_store.bytes_held(connection, organization_id) // MIB)
        limits = self._ports.volumes
        if count >= limits.count_max or mib + size_mib > limits.mib_max:
            raise VolumeQuotaError(
                f"your organization has {count} volumes of {mib} MiB in all, with snapshots, and may have "
                f"{limits.count_max} of {limits.mib_max} "
                f"MiB; another {size_mib} MiB would exceed that"
            )


def chosen(
    connection: Connection, organization_id: str, names: Sequence[str], pool_id: str, project: str = ""
) -> tuple[Volume, ...]:
    """Volumes by id or name, for a lease on a pool, asked for by a key of `project`: its own, and those of no project, which the
    organization shares. Raises NotFoundError, OtherProjectError, InvalidInputError, VolumeInUseError."""
    if len(names) > VOLUMES_PER_LEASE_MAX:
        raise InvalidInputError(f"a lease has at most {VOLUMES_PER_LEASE_MAX} volumes", field="volumes")
    found = {}
    for name in names:
        item = _found(sql.volume(connection, name, organization_id), name)
        if item.project:
            refuse_other(f"volume {item.name}", item.project, project)
        if item.pool_id != pool_id:
            raise InvalidInputError(
                f"volume {item.name} is on pool {item.pool_id}; use it with a lease on that pool", field="volumes"
            )
        if item.state is not VolumeState.READY:
            raise ConflictError(f"volume {item.name} is {item.state}; `sublet volume show {item.name}` says more")
        if item.lease_id is not None:
            raise VolumeInUseError(
                f"volume {item.name} is attached to lease {item.lease_id}; a volume can be attached to one lease at a time"
            )
        found[item.id] = item
    return tuple(found.values())


def _found(volume: Volume | None, name: str) -> Volume:
    if volume is None:
        raise NotFoundError(f"there is no volume {name[:60]!r}; `sublet volume ls` lists yours")
    return volume
