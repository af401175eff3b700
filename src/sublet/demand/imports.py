"""Imports of history from files. Each stores what it overwrites, so that it can be undone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, and_, delete, func, insert, select, update

from sublet.demand.model import Series
from sublet.demand.store import ROWS_PER_INSERT, samples_between
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.demand import demand_import_samples, demand_imports, demand_samples
from sublet.values.clock import format_time, from_micros
from sublet.values.errors import InvalidInputError

FAR_ABOVE = 2.0
"""How many times a pool's accelerators the usual demand or capacity of a file may be: work queues, but not for weeks."""

IMPORTS = Listing("imports", (demand_imports.c.created_at, demand_imports.c.id), descending=True)
IMPORTS_MAX = 200
"""So many imports of a pool can be undone; of older ones what they wrote over is forgotten."""


@dataclass(frozen=True, slots=True)
class Import:
    """One import of `samples` rows between `first_at` and `last_at`."""

    id: str
    pool_id: str
    source: str
    created_at: datetime
    first_at: datetime
    last_at: datetime
    samples: int
    undone_at: datetime | None = None

    def as_dict(self) -> dict[str, object]:
        return {
            "id": self.id,
            "pool_id": self.pool_id,
            "source": self.source,
            "created_at": format_time(self.created_at),
            "first_at": format_time(self.first_at),
            "last_at": format_time(self.last_at),
            "samples": self.samples,
            "undone_at": format_time(self.undone_at) if self.undone_at else None,
        }


def refuse_another_pools(series: Series, accelerators: int) -> None:
    """Refuse a file whose demand or capacity is usually far above the pool's capacity. Raises InvalidInputError."""
    if len(series) == 0 or accelerators < 1:
        return
    usual = {"in_use": float(np.median(series.in_use)), "capacity": float(np.median(series.capacity))}
    for name, value in usual.items():
        if value > FAR_ABOVE * accelerators:
            raise InvalidInputError(
                f"the file looks like another pool's: its {name} is usually {value:g}, and this pool has {accelerators} "
                "accelerators. Check the file and the pool; to import it anyway, set force"
            )


@dataclass(frozen=True, slots=True)
class Mark:
    """The state of a pool's imports: the newest one, its last sample so far, and when one was last undone."""

    newest: str | None = None
    written: datetime | None = None
    undone: datetime | None = None


def begin(connection: Connection, new: Import) -> None:
    """Record an import before its first sample is written."""
    table = demand_imports
    connection.execute(
        insert(table).values(
            id=new.id,
            pool_id=new.pool_id,
            source=new.source,
            created_at=new.created_at,
            first_at=new.first_at,
            last_at=new.last_at,
            samples=new.samples,
        )
    )
    older = select(table.c.id).where(table.c.pool_id == new.pool_id).order_by(table.c.created_at.desc(), table.c.id)
    forgotten = list(connection.execute(older.offset(IMPORTS_MAX)).scalars())
    if forgotten:
        connection.execute(delete(demand_import_samples).where(demand_import_samples.c.import_id.in_(forgotten)))
        connection.execute(delete(table).where(table.c.id.in_(forgotten)))


def note(connection: Connection, import_id: str, part: Series) -> None:
    """Store the samples that `part` is about to replace, and those that replace them."""
    last = from_micros(int(part.times_us[-1]) + 1)
    before = samples_between(connection, part.pool, part.start, last)
    columns = ("capacity", "in_use", "pending")
    known = {int(at): place for place, at in enumerate(before.times_us)}
    rows: list[dict[str, Any]] = []
    for place, at in enumerate(part.times_us.tolist()):
        old = known.get(at)
        there = {name: None if old is None else float(getattr(before, name)[old]) for name in columns}
        new = {name: float(getattr(part, name)[place]) for name in columns}
        # As `insert_samples` does: the lower capacity and the higher need stay.
        stays = {
            name: value if was is None else (min if name == "capacity" else max)(value, was)
            for (name, value), was in zip(new.items(), there.values(), strict=True)
        }
        rows.append(
            {"import_id": import_id, "at": from_micros(at)}
            | {f"{name}_before": was for name, was in there.items()}
            | stays
        )
    for first in range(0, len(rows), ROWS_PER_INSERT):
        connection.execute(insert(demand_import_samples), rows[first : first + ROWS_PER_INSERT])


def undo(connection: Connection, found: Import, now: datetime) -> int:
    """Restore the samples that the import replaced, unless they were written again since. Returns how many."""
    table, kept = demand_samples, demand_import_samples
    same = and_(
        table.c.pool_id == found.pool_id,
        table.c.at == kept.c.at,
        table.c.capacity == kept.c.capacity,
        table.c.in_use == kept.c.in_use,
        table.c.pending == kept.c.pending,
    )
    standing = select(kept).join(table, same).where(kept.c.import_id == found.id)
    rows = list(connection.execute(standing))
    for row in rows:
        where = (table.c.pool_id == found.pool_id, table.c.at == row.at)
        if row.capacity_before is None:
            connection.execute(delete(table).where(*where))
        else:
            connection.execute(
                update(table)
                .where(*where)
                .values(capacity=row.capacity_before, in_use=row.in_use_before, pending=row.pending_before)
            )
    connection.execute(delete(kept).where(kept.c.import_id == found.id))
    connection.execute(update(demand_imports).where(demand_imports.c.id == found.id).values(undone_at=now))
    return len(rows)


def mark(connection: Connection, pool_id: str) -> Mark:
    """What changes with each part of an import of the pool, and when one is undone."""
    mine = demand_imports.c.pool_id == pool_id
    newest = select(demand_imports.c.id).where(mine).order_by(demand_imports.c.created_at.desc(), demand_imports.c.id)
    last = newest.limit(1).scalar_subquery()
    written = select(func.max(demand_import_samples.c.at)).where(demand_import_samples.c.import_id == last)
    undone = select(func.max(demand_imports.c.undone_at)).where(mine)
    row = connection.execute(select(last, written.scalar_subquery(), undone.scalar_subquery())).one()
    return Mark(*row)


def one(connection: Connection, import_id: str) -> Import | None:
    row = connection.execute(select(demand_imports).where(demand_imports.c.id == import_id)).first()
    return None if row is None else _import(row)


def page_of(connection: Connection, pool_id: str, wanted: PageRequest) -> Page[Import]:
    """A page of a pool's imports, newest first."""
    return IMPORTS.read(connection, select(demand_imports).where(demand_imports.c.pool_id == pool_id), wanted).map(
        _import
    )


def _import(row: Row[Any]) -> Import:
    return Import(
        row.id, row.pool_id, row.source, row.created_at, row.first_at, row.last_at, row.samples, row.undone_at
    )
