"""The SQL of samples and claims."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    bindparam,
    cast,
    delete,
    func,
    select,
    type_coerce,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from sublet.demand.jobs import HOUR_US, Known
from sublet.demand.model import PATIENCE_MAX, TALLY_PARTS, Claim, Sample, Series, Tally, TeamUse, assemble
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.demand import demand_claims, demand_known, demand_samples, demand_team_use
from sublet.values.clock import from_micros, to_micros
from sublet.values.windows import Window

ROWS_PER_READ = 20_000
ROWS_PER_INSERT = 2_000


CLAIMS = Listing("claims", (demand_claims.c.created_at, demand_claims.c.id))
SAMPLES = Listing("samples", (demand_samples.c.at,), descending=True)


def sample_page(
    connection: Connection, pool_id: str, since: datetime, until: datetime, wanted: PageRequest
) -> tuple[Series, str | None]:
    """The newest samples of the pool in `[since, until)`, at most `wanted.limit`, and the cursor to those before them."""
    table = demand_samples
    query = select(table).where(table.c.pool_id == pool_id, table.c.at >= since, table.c.at < until)
    found = SAMPLES.read(connection, query, wanted)
    rows = found.items[::-1]
    numbers = np.array([(row.capacity, row.in_use, row.pending) for row in rows], dtype=np.float64).reshape(-1, 3)
    times = np.fromiter((to_micros(row.at) for row in rows), dtype=np.int64, count=len(rows))
    columns = (numbers[:, place].copy() for place in range(3))
    return assemble(pool_id, times, *columns), found.next


def samples_between(connection: Connection, pool_id: str, since: datetime, until: datetime) -> Series:
    """The pool's samples in `[since, until)`, read in pieces so that a year of minutes stays small in memory."""
    table = demand_samples
    micros = type_coerce(table.c.at, BigInteger)
    query = (
        select(micros, table.c.capacity, table.c.in_use, table.c.pending)
        .where(table.c.pool_id == pool_id, table.c.at >= since, table.c.at < until)
        .order_by(table.c.at)
        .execution_options(yield_per=ROWS_PER_READ)
    )
    times, numbers = [np.empty(0, dtype=np.int64)], [np.empty((0, 3))]
    for rows in connection.execute(query).partitions():
        times.append(np.fromiter((row[0] for row in rows), dtype=np.int64, count=len(rows)))
        numbers.append(np.array([row[1:] for row in rows], dtype=np.float64))
    columns = np.concatenate(numbers)
    return assemble(pool_id, np.concatenate(times), columns[:, 0].copy(), columns[:, 1].copy(), columns[:, 2].copy())


def latest_sample(connection: Connection, pool_id: str) -> Sample | None:
    table = demand_samples
    row = connection.execute(
        select(table).where(table.c.pool_id == pool_id).order_by(table.c.at.desc()).limit(1)
    ).first()
    return None if row is None else Sample(row.at, row.capacity, row.in_use, row.pending)


def first_sample_at(connection: Connection, pool_id: str) -> datetime | None:
    """When the pool's demand was first recorded, of what is kept."""
    table = demand_samples
    found: datetime | None = connection.execute(
        select(func.min(table.c.at)).where(table.c.pool_id == pool_id)
    ).scalar_one()
    return found


def tally(connection: Connection, pool_id: str, first: datetime, last: datetime, valued_from: datetime) -> Tally:
    """The tally of the samples from `first` to `last`, as `Tally.of` tells it of a series."""
    values = {"pool_id": pool_id, "first": first, "last": last, "valued_from": valued_from}
    row = connection.execute(_tally_query(connection.dialect.name == "sqlite"), values).one()
    return Tally(*(int(number) for number in row))


@cache
def _tally_query(is_sqlite: bool) -> Select[tuple[int, int, int]]:
    """Made once: it is asked of every pool in every round."""
    table = demand_samples
    of_pool = (table.c.pool_id == bindparam("pool_id"), table.c.at <= bindparam("last"))

    def total(column: ColumnElement[float]) -> ColumnElement[int]:
        parts = column * TALLY_PARTS + 0.5
        # SQLite cuts off what stands behind the point, PostgreSQL rounds.
        return func.coalesce(func.sum(cast(parts if is_sqlite else func.floor(parts), BigInteger)), 0)

    # The index alone tells how many there are; the sums need the rows themselves, which takes four times as long.
    count = select(func.count()).select_from(table).where(*of_pool, table.c.at >= bindparam("first"))
    sums = (total(table.c.in_use), total(table.c.capacity))
    return select(count.scalar_subquery(), *sums).where(*of_pool, table.c.at >= bindparam("valued_from"))


def insert_samples(connection: Connection, series: Series) -> None:
    """Add the samples; of two at one time the higher need and the lower capacity stay, so that a repeat changes nothing."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    greater, least = ("max", "min") if connection.dialect.name == "sqlite" else ("greatest", "least")
    table = demand_samples
    columns = (
        series.times_us.tolist(),
        series.capacity.tolist(),
        series.in_use.tolist(),
        series.pending.tolist(),
    )
    rows = [
        {"pool_id": series.pool, "at": from_micros(at), "capacity": capacity, "in_use": in_use, "pending": pending}
        for at, capacity, in_use, pending in zip(*columns, strict=True)
    ]
    for first in range(0, len(rows), ROWS_PER_INSERT):
        statement = dialect.insert(table)
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=[table.c.pool_id, table.c.at],
            set_={
                "capacity": getattr(func, least)(table.c.capacity, new.capacity),
                "in_use": getattr(func, greater)(table.c.in_use, new.in_use),
                "pending": getattr(func, greater)(table.c.pending, new.pending),
            },
        )
        connection.execute(statement, rows[first : first + ROWS_PER_INSERT])


def delete_before(connection: Connection, pool_id: str, moment: datetime) -> int:
    """Drop the samples before `moment`, and what was known of jobs then; how many samples that was."""
    table, known = demand_samples, demand_known
    connection.execute(delete(known).where(known.c.pool_id == pool_id, known.c.hour < to_micros(moment) // HOUR_US))
    by_team = demand_team_use
    connection.execute(delete(by_team).where(by_team.c.pool_id == pool_id, by_team.c.at < moment))
    return connection.execute(delete(table).where(table.c.pool_id == pool_id, table.c.at < moment)).rowcount


def keep_known(connection: Connection, pool_id: str, known: Known) -> None:
    """Keep what jobs will need, unless something newer was told in the same hour."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    table = demand_known
    values = {"at": known.at, "steps": json.dumps(known.as_steps(), separators=(",", ":"))}
    statement = dialect.insert(table).values(pool_id=pool_id, hour=to_micros(known.at) // HOUR_US, **values)
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[table.c.pool_id, table.c.hour], set_=values, where=table.c.at <= statement.excluded.at
        )
    )


def known_between(connection: Connection, pool_id: str, since: datetime, until: datetime) -> list[Known]:
    """What was told of the pool's jobs in `[since, until]`, the oldest first."""
    table = demand_known
    first, last = to_micros(since) // HOUR_US, to_micros(until) // HOUR_US
    query = select(table).where(table.c.pool_id == pool_id, table.c.hour >= first, table.c.hour <= last)
    rows = connection.execute(query.order_by(table.c.hour)).all()
    return [Known.of_steps(row.at, json.loads(row.steps)) for row in rows if since <= row.at <= until]


def save_team_use(connection: Connection, pool_id: str, rows: Sequence[TeamUse]) -> None:
    """What teams used of a pool; a moment that is there already is replaced."""
    table = demand_team_use
    for at in sorted({row.at for row in rows}):
        connection.execute(delete(table).where(table.c.pool_id == pool_id, table.c.at == at))
    for row in rows:
        connection.execute(table.insert().values(pool_id=pool_id, at=row.at, team=row.team, in_use=row.in_use))


def team_use_between(connection: Connection, pool_id: str, since: datetime, until: datetime) -> list[TeamUse]:
    """What teams used of a pool in `[since, until)`, the oldest first."""
    table = demand_team_use
    query = select(table).where(table.c.pool_id == pool_id, table.c.at >= since, table.c.at < until)
    return [
        TeamUse(row.at, row.team, row.in_use) for row in connection.execute(query.order_by(table.c.at, table.c.team))
    ]


def insert_claim(connection: Connection, claim: Claim) -> None:
    connection.execute(
        demand_claims.insert().values(
            id=claim.id,
            pool_id=claim.pool_id,
            count=claim.count,
            start_at=claim.window.start,
            end_at=claim.window.end,
            reason=claim.reason,
            created_at=claim.created_at,
            withdrawn_at=claim.withdrawn_at,
            patience_s=claim.patience_s,
            team=claim.team,
        )
    )


def claims_between(
    connection: Connection, pool_id: str | None, window: Window | None, standing_only: bool, limit: int
) -> list[Claim]:
    table = demand_claims
    query = select(table).order_by(table.c.created_at, table.c.id).limit(limit)
    if pool_id is not None:
        query = query.where(table.c.pool_id == pool_id)
    if window is not None:
        query = query.where(table.c.start_at < window.end, table.c.end_at > window.start - PATIENCE_MAX)
    if standing_only:
        query = query.where(table.c.withdrawn_at.is_(None))
    found = [_claim(row) for row in connection.execute(query)]
    return [claim for claim in found if window is None or claim.needed.end > window.start]


def claim_page(connection: Connection, pool_id: str | None, window: Window, wanted: PageRequest) -> Page[Claim]:
    """Standing claims that overlap `window`, the oldest first, of one pool where it is given."""
    table = demand_claims
    query = select(table).where(
        table.c.start_at < window.end, table.c.end_at > window.start, table.c.withdrawn_at.is_(None)
    )
    if pool_id is not None:
        query = query.where(table.c.pool_id == pool_id)
    return CLAIMS.read(connection, query, wanted).map(_claim)


def one_claim(connection: Connection, claim_id: str) -> Claim | None:
    row = connection.execute(select(demand_claims).where(demand_claims.c.id == claim_id)).first()
    return None if row is None else _claim(row)


def mark_withdrawn(connection: Connection, claim_id: str, now: datetime) -> bool:
    """False where it was already."""
    table = demand_claims
    standing = update(table).where(table.c.id == claim_id, table.c.withdrawn_at.is_(None))
    return connection.execute(standing.values(withdrawn_at=now)).rowcount == 1


def pools_with_samples(connection: Connection) -> Sequence[str]:
    return list(connection.execute(select(demand_samples.c.pool_id).distinct()).scalars())


def _claim(row: Any) -> Claim:
    return Claim(
        id=row.id,
        pool_id=row.pool_id,
        count=row.count,
        window=Window(row.start_at, row.end_at),
        reason=row.reason,
        created_at=row.created_at,
        withdrawn_at=row.withdrawn_at,
        patience_s=row.patience_s,
        team=row.team,
    )
