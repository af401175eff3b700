"""The SQL of pools and units."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, literal, literal_column, or_, select, update

from sublet.fleet.model import Pool, PoolSpec, Unit
from sublet.fleet.node_store import nodes_of_pools
from sublet.store.changes import kept
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.fleet import pools, unit_outages, units
from sublet.store.types import Instant

OUTAGES_KEPT = timedelta(days=800)

# A large pool is read many times a second for its size, and seldom for what is in it.
_COUNTED = select(
    pools,
    select(func.count()).where(units.c.pool_id == pools.c.id).scalar_subquery().label("accelerators"),
    select(func.count())
    .where(units.c.pool_id == pools.c.id, units.c.in_service == 1)
    .scalar_subquery()
    .label("working"),
)


_POOL_TABLES = ("pools", "units", "pool_nodes")

POOLS = Listing("pools", (pools.c.name,))
UNITS = Listing("units", (units.c.position,))


def all_pools(connection: Connection) -> list[Pool]:
    return list(kept(connection, _POOL_TABLES, "fleet.all_pools", lambda: _all_pools(connection)))


def _all_pools(connection: Connection) -> tuple[Pool, ...]:
    stated_by = nodes_of_pools(connection)
    return tuple(_pool(row, stated_by) for row in connection.execute(_COUNTED.order_by(pools.c.name)))


def pool_page(connection: Connection, wanted: PageRequest) -> Page[Pool]:
    """Pools by name."""
    stated_by = nodes_of_pools(connection)
    return POOLS.read(connection, _COUNTED, wanted).map(lambda row: _pool(row, stated_by))


def pool_named(connection: Connection, id_or_name: str) -> Pool | None:
    """The pool with that id, or else with that name."""
    return kept(connection, _POOL_TABLES, ("fleet.pool", id_or_name), lambda: _pool_named(connection, id_or_name))


def _pool_named(connection: Connection, id_or_name: str) -> Pool | None:
    wanted = _COUNTED.where(or_(pools.c.id == id_or_name, pools.c.name == id_or_name))
    row = min(connection.execute(wanted), key=lambda found: found.id != id_or_name, default=None)
    return _pool(row, nodes_of_pools(connection)) if row is not None else None


def units_of(connection: Connection, pool_id: str) -> list[Unit]:
    """The accelerators of a pool, by position."""
    wanted = select(units).where(units.c.pool_id == pool_id).order_by(units.c.position)
    return [_unit(row) for row in connection.execute(wanted)]


def unit_page(connection: Connection, pool_id: str, wanted: PageRequest) -> Page[Unit]:
    """The accelerators of a pool, by position."""
    return UNITS.read(connection, select(units).where(units.c.pool_id == pool_id), wanted).map(_unit)


def unit_named(connection: Connection, unit_id: str, lock: bool = False) -> Unit | None:
    """An accelerator. With `lock`, nobody else can change it until the transaction ends."""
    query = select(units).where(units.c.id == unit_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return None if row is None else _unit(row)


def insert_pool(connection: Connection, pool_id: str, spec: PoolSpec, now: datetime) -> None:
    connection.execute(insert(pools).values(id=pool_id, name=spec.name, online_at=now, **_fields(spec, now)))


def update_pool(connection: Connection, pool_id: str, spec: PoolSpec, now: datetime) -> None:
    connection.execute(update(pools).where(pools.c.id == pool_id).values(offline_at=None, **_fields(spec, now)))


def retire_pool(connection: Connection, pool_id: str, now: datetime) -> None:
    connection.execute(
        update(pools).where(pools.c.id == pool_id, pools.c.offline_at.is_(None)).values(offline_at=now, updated_at=now)
    )


def insert_unit(connection: Connection, unit: Unit) -> None:
    connection.execute(
        insert(units).values(
            id=unit.id,
            pool_id=unit.pool_id,
            position=unit.position,
            device=unit.device,
            in_service=int(unit.in_service),
            out_reason=unit.out_reason,
        )
    )


def set_device(connection: Connection, unit_id: str, device: str) -> None:
    connection.execute(update(units).where(units.c.id == unit_id).values(device=device))


def set_service(connection: Connection, unit_id: str, in_service: bool, reason: str | None, now: datetime) -> bool:
    """Take the unit out of service or return it. Returns False if there is no such unit. A unit that is already out keeps its
    time."""
    if in_service:
        _note_outage(connection, unit_id, now)
    out_at = None if in_service else func.coalesce(units.c.out_at, literal(now, Instant()))
    done = connection.execute(
        update(units).where(units.c.id == unit_id).values(in_service=int(in_service), out_reason=reason, out_at=out_at)
    )
    return done.rowcount == 1


def _note_outage(connection: Connection, unit_id: str, now: datetime) -> None:
    """Keep when the accelerator was out, if it is and time has passed."""
    outages = unit_outages.c
    out = select(units.c.id, units.c.out_at, units.c.pool_id, literal(now, Instant())).where(
        units.c.id == unit_id, units.c.in_service == 0, units.c.out_at < now
    )
    connection.execute(insert(unit_outages).from_select(["unit_id", "out_at", "pool_id", "back_at"], out))
    connection.execute(delete(unit_outages).where(outages.unit_id == unit_id, outages.back_at < now - OUTAGES_KEPT))


def outages_between(
    connection: Connection, since: datetime, until: datetime
) -> dict[str, list[tuple[datetime, datetime]]]:
    """When accelerators were out of service in `[since, until)`, by pool; one that is still out is so until `until`."""
    found: dict[str, list[tuple[datetime, datetime]]] = {}
    over = select(unit_outages).where(unit_outages.c.back_at > since, unit_outages.c.out_at < until)
    for row in connection.execute(over):
        found.setdefault(row.pool_id, []).append((max(row.out_at, since), min(row.back_at, until)))
    # The literal lets both databases use the index of the few that are out.
    out = select(units.c.pool_id, units.c.out_at).where(units.c.in_service == literal_column("0"))
    for row in connection.execute(out):
        if row.out_at is None or row.out_at < until:
            found.setdefault(row.pool_id, []).append((max(row.out_at or since, since), until))
    return found


def _fields(spec: PoolSpec, now: datetime) -> dict[str, Any]:
    return {
        "site": spec.site,
        "generation": spec.generation,
        "backend": spec.backend,
        "watts_mw": int(spec.watts * 1000),
        "watts_source": spec.watts_source,
        "price_nano": spec.price_nano,
        "currency": spec.currency,
        "tenure": spec.tenure,
        "stated": dict(spec.stated),
        "updated_at": now,
    }


def _unit(row: Row[Any]) -> Unit:
    return Unit(row.id, row.pool_id, row.position, row.device, bool(row.in_service), row.out_reason)


def _pool(row: Row[Any], stated_by: Mapping[str, frozenset[str]]) -> Pool:
    return Pool(
        row.id,
        row.name,
        row.site,
        row.generation,
        row.backend,
        Decimal(row.watts_mw) / 1000,
        row.watts_source,
        row.price_nano,
        row.currency,
        row.tenure,
        row.online_at,
        row.offline_at,
        row.accelerators,
        row.working,
        row.stated or {},
        stated_by.get(row.id, frozenset()),
    )
