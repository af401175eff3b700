"""The SQL of accelerators' states: what is fenced, in use, or in quarantine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select
from sqlalchemy.dialects import postgresql, sqlite

from sublet.fleet.inventory import units
from sublet.leases.model import UnitState
from sublet.store.changes import kept
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.leases import unit_states

QUARANTINE = Listing("quarantine", (unit_states.c.unit_id,))
# Built once: to build a statement costs more than to execute it.
_QUARANTINED = select(unit_states.c.unit_id).where(
    unit_states.c.pool_id == bindparam("pool"), unit_states.c.state == UnitState.QUARANTINED.value
)
_FENCE_UNITS = {
    name: new.on_conflict_do_update(
        index_elements=["unit_id"],
        set_={column: new.excluded[column] for column in ("pool_id", "state", "lease_id", "reason", "changed_at")},
        where=unit_states.c.state != UnitState.QUARANTINED.value,
    )
    for name, new in (("sqlite", sqlite.insert(unit_states)), ("postgresql", postgresql.insert(unit_states)))
}


def set_unit_states(
    connection: Connection,
    pool_id: str,
    unit_ids: Iterable[str],
    state: UnitState,
    lease_id: str | None,
    reason: str | None,
    now: datetime,
) -> None:
    """Free accelerators have no row. A quarantined one keeps its row, whatever a lease does, until it is released."""
    for unit_id in unit_ids:
        row = connection.execute(select(unit_states.c.state).where(unit_states.c.unit_id == unit_id)).first()
        if row is not None and row.state == UnitState.QUARANTINED:
            continue
        connection.execute(delete(unit_states).where(unit_states.c.unit_id == unit_id))
        if state is not UnitState.FREE:
            connection.execute(
                insert(unit_states).values(
                    unit_id=unit_id,
                    pool_id=pool_id,
                    state=state.value,
                    lease_id=lease_id,
                    reason=reason,
                    changed_at=now,
                )
            )


def fence_units(connection: Connection, pool_id: str, unit_ids: Sequence[str], lease_id: str, now: datetime) -> None:
    """Accelerators that are sold to a lease, which were free: what `set_unit_states` does, in one statement."""
    rows = [
        {
            "unit_id": unit_id,
            "pool_id": pool_id,
            "state": UnitState.FENCED.value,
            "lease_id": lease_id,
            "changed_at": now,
        }
        for unit_id in unit_ids
    ]
    if rows:
        connection.execute(_FENCE_UNITS[connection.dialect.name], rows)


def release_unit(connection: Connection, unit_id: str) -> bool:
    """Take an accelerator out of quarantine; False where it was in none."""
    done = connection.execute(
        delete(unit_states).where(unit_states.c.unit_id == unit_id, unit_states.c.state == UnitState.QUARANTINED.value)
    )
    return done.rowcount == 1


def quarantined(connection: Connection) -> list[Row[Any]]:
    """Rows with unit_id, pool_id, lease_id, reason and changed_at."""
    return list(connection.execute(select(unit_states).where(unit_states.c.state == UnitState.QUARANTINED.value)))


def quarantine_page(connection: Connection, wanted: PageRequest) -> Page[Row[Any]]:
    """A page of the same, by the accelerator's id."""
    query = select(unit_states).where(unit_states.c.state == UnitState.QUARANTINED.value)
    return QUARANTINE.read(connection, query, wanted)


def quarantined_units(connection: Connection, pool_id: str) -> Sequence[str]:
    """Accelerators of the pool that are in quarantine."""

    def read() -> Sequence[str]:
        return connection.execute(_QUARANTINED, {"pool": pool_id}).scalars().all()

    return kept(connection, ("unit_states",), ("quarantined", pool_id), read)


def quarantined_count(connection: Connection, pool_id: str) -> int:
    """Accelerators of the pool that would be in service but for their quarantine."""
    ids = quarantined_units(connection, pool_id)
    if not ids:
        return 0
    found = connection.execute(
        select(func.count()).select_from(units).where(units.c.id.in_(ids), units.c.in_service == 1)
    )
    return int(found.scalar_one())


def units_held(connection: Connection, pool_id: str) -> dict[str, UnitState]:
    """State of each accelerator of the pool that is not free."""
    found = connection.execute(
        select(unit_states.c.unit_id, unit_states.c.state).where(unit_states.c.pool_id == pool_id)
    )
    return {row.unit_id: UnitState(row.state) for row in found}
