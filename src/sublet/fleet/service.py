"""Keeps the pools in the database in step with the settings and the machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection

from sublet.fleet import events
from sublet.fleet import node_store as node_sql
from sublet.fleet import store as sql
from sublet.fleet.model import REASON_MAX, UNITS_PER_POOL_MAX, Pool, PoolSpec, Unit
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.etags import ANY_STATE, Condition
from sublet.values.ids import derived_id
from sublet.values.text import checked_line

_GONE = "no longer in the settings or on the machine"


class PoolElsewhereError(ConflictError):
    """Another machine's pool has this name; choose another name in [[pools]]."""

    code = "pool_elsewhere"


class Fleet:
    """The use cases of the fleet."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def pools(self) -> list[Pool]:
        """Every pool, by name."""
        with self._store.read() as connection:
            return sql.all_pools(connection)

    def pool_page(self, wanted: PageRequest) -> Page[Pool]:
        """A page of the pools, by name."""
        with self._store.read() as connection:
            return sql.pool_page(connection, wanted)

    def pool(self, id_or_name: str, connection: Connection | None = None) -> Pool:
        """Raises NotFoundError."""
        if connection is None:
            with self._store.read() as reading:
                return self.pool(id_or_name, reading)
        found = sql.pool_named(connection, id_or_name)
        if found is None:
            raise NotFoundError(f"there is no pool {id_or_name!r}; `sublet pool ls` lists them")
        return found

    def units(self, pool_id: str) -> list[Unit]:
        """The accelerators of a pool, by position."""
        with self._store.read() as connection:
            return sql.units_of(connection, pool_id)

    def unit_page(self, pool_id: str, wanted: PageRequest) -> Page[Unit]:
        """A page of the accelerators of a pool, by position."""
        with self._store.read() as connection:
            return sql.unit_page(connection, pool_id, wanted)

    def sync(self, specs: Iterable[PoolSpec], node_id: str | None = None) -> list[Pool]:
        """Apply `specs` to the database: new pools come online, changed ones change, missing ones go offline.

        `node_id` is the node whose settings contain them. A pool of other nodes is not missing just because this node does not
        name it. A missing unit goes out of service but is never deleted, because a lease may still hold it. Raises
        InvalidInputError for two pools with one name or a pool without accelerators, and PoolElsewhereError for a pool of another
        machine.
        """
        wanted = {spec.name: spec for spec in _checked(specs)}
        now = self._store.clock.now()

        def write(connection: Connection) -> list[Pool]:
            self._store.lock(connection, "fleet")
            known = {pool.name: pool for pool in sql.all_pools(connection)}
            for name, spec in wanted.items():
                pool_id = derived_id("pool", name)
                _refuse_elsewhere(known.get(name), spec, node_id)
                if name in known:
                    sql.update_pool(connection, pool_id, spec, now)
                else:
                    sql.insert_pool(connection, pool_id, spec, now)
                _sync_units(connection, pool_id, spec, now)
            if node_id is not None:
                node_sql.set_pools(connection, node_id, [derived_id("pool", name) for name in wanted])
            for name, pool in known.items():
                if name not in wanted and pool.node_ids <= {node_id}:
                    sql.retire_pool(connection, pool.id, now)
            after = sql.all_pools(connection)
            _record_losses(connection, known, after, now)
            for pool in after:
                if pool.name in wanted:
                    before = known[pool.name].stated if pool.name in known else {}
                    events.record_maintenance(connection, pool.id, wanted[pool.name], before, now)
            return after

        return self._store.write(write)

    def unit(self, unit_id: str) -> Unit:
        """Raises NotFoundError."""
        with self._store.read() as connection:
            found = sql.unit_named(connection, unit_id)
        if found is None:
            raise NotFoundError(f"there is no accelerator {unit_id!r}")
        return found

    def set_service(
        self, unit_id: str, in_service: bool, reason: str | None = None, seen: Condition = ANY_STATE
    ) -> None:
        """Take an accelerator out of service, or return it. Raises NotFoundError, InvalidInputError for an invalid reason, and
        PreconditionFailedError."""
        if reason is not None:
            reason = checked_line(reason, "reason", REASON_MAX, 1)
        now = self._store.clock.now()

        def write(connection: Connection) -> bool:
            unit = sql.unit_named(connection, unit_id, lock=True)
            if unit is not None:
                seen.require(unit.as_dict())
            before = {pool.name: pool for pool in sql.all_pools(connection)}
            found = sql.set_service(connection, unit_id, in_service, reason, now)
            if found and not in_service:
                _record_losses(connection, before, sql.all_pools(connection), now, reason or "")
            return found

        if not self._store.write(write):
            raise NotFoundError(f"there is no accelerator {unit_id!r}")


def _record_losses(
    connection: Connection, before: Mapping[str, Pool], after: Iterable[Pool], now: datetime, reason: str = ""
) -> None:
    """Record pools that have fewer working accelerators than `before`, or went offline."""
    for pool in after:
        known = before.get(pool.name)
        if known is None:
            continue
        had = known.in_service if known.offline_at is None else 0
        has = pool.in_service if pool.offline_at is None else 0
        if has < had:
            why = reason or (_GONE if pool.offline_at is None else "the pool went offline")
            events.record_loss(connection, pool.id, pool.name, had - has, has, why, now)


def _refuse_elsewhere(known: Pool | None, spec: PoolSpec, node_id: str | None) -> None:
    """A machine's accelerators are one machine's: two that name a pool alike would each act on the other's leases."""
    if known is None or not (known.on_one_node or spec.backend == "local"):
        return
    if known.node_ids - {node_id}:
        others = ", ".join(sorted(known.node_ids - {node_id}))
        raise PoolElsewhereError(
            f"pool {spec.name!r} belongs to another machine (node {others}); use a different name in [[pools]] or, if that "
            "machine was removed permanently, run `sublet node forget`"
        )


def _checked(specs: Iterable[PoolSpec]) -> list[PoolSpec]:
    listed = list(specs)
    seen: set[str] = set()
    for spec in listed:
        if spec.name in seen:
            raise InvalidInputError(f"there are two pools named {spec.name!r}; give each pool a unique name")
        if not 0 < len(spec.devices) <= UNITS_PER_POOL_MAX:
            raise InvalidInputError(f"pool {spec.name!r} must have 1 to {UNITS_PER_POOL_MAX} accelerators")
        seen.add(spec.name)
    return listed


def _sync_units(connection: Connection, pool_id: str, spec: PoolSpec, now: datetime) -> None:
    present = {unit.position: unit for unit in sql.units_of(connection, pool_id)}
    for position, device in enumerate(spec.devices):
        unit = present.pop(position, None)
        if unit is None:
            sql.insert_unit(connection, Unit(derived_id("unit", pool_id, str(position)), pool_id, position, device))
            continue
        if unit.device != device:
            sql.set_device(connection, unit.id, device)
        if not unit.in_service and unit.out_reason == _GONE:
            sql.set_service(connection, unit.id, True, None, now)
    for unit in present.values():
        if unit.in_service:
            sql.set_service(connection, unit.id, False, _GONE, now)
