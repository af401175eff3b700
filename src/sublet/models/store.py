"""The SQL of the catalog, of deployments and of replicas."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from sublet.models.catalog import from_row
from sublet.models.model import LIVE_STATES, CatalogEntry, Deployment, Replica, Trouble
from sublet.store.changes import kept
from sublet.store.tables.models import deployments, models, replica_troubles, replicas

TROUBLES_KEPT = timedelta(days=1)


def catalog_rows(connection: Connection) -> list[CatalogEntry]:
    return [from_row(row.entry) for row in connection.execute(select(models).order_by(models.c.name))]


def save_entry(connection: Connection, entry: CatalogEntry, at: datetime) -> None:
    """Store an entry; one with that name is replaced."""
    connection.execute(delete(models).where(models.c.name == entry.name))
    connection.execute(insert(models).values(name=entry.name, entry=entry.as_dict(), created_at=at))


def drop_entry(connection: Connection, name: str) -> bool:
    return connection.execute(delete(models).where(models.c.name == name)).rowcount == 1


def all_deployments(connection: Connection) -> list[Deployment]:
    rows = connection.execute(select(deployments).order_by(deployments.c.created_at, deployments.c.id))
    return [_deployment(row) for row in rows]


def deployment_of(connection: Connection, model: str) -> Deployment | None:
    row = connection.execute(select(deployments).where(deployments.c.model == model)).first()
    return _deployment(row) if row else None


def active_deployments(connection: Connection) -> list[Deployment]:
    return [item for item in all_deployments(connection) if item.state == "active"]


def insert_deployment(connection: Connection, deployment: Deployment) -> None:
    connection.execute(
        insert(deployments).values(
            id=deployment.id,
            model=deployment.model,
            pool_id=deployment.pool_id,
            pool_ids=list(deployment.pool_ids),
            floor=deployment.floor,
            replicas_max=deployment.replicas_max,
            scale=deployment.scale,
            state=deployment.state,
            created_at=deployment.created_at,
            updated_at=deployment.updated_at,
        )
    )


def update_deployment(connection: Connection, deployment_id: str, at: datetime, **values: Any) -> None:
    """Change a deployment. With `pool_ids`, the column of the preferred pool, which older versions read, changes, too."""
    if "pool_ids" in values:
        pool_ids = list(values["pool_ids"])
        values |= {"pool_ids": pool_ids, "pool_id": pool_ids[0] if pool_ids else ""}
    connection.execute(update(deployments).where(deployments.c.id == deployment_id).values(updated_at=at, **values))


def replica_counts(connection: Connection) -> dict[str, int]:
    """How many replicas each deployment ever had. The next replica's id is derived from it."""
    rows = connection.execute(select(replicas.c.deployment_id, func.count()).group_by(replicas.c.deployment_id))
    return {row[0]: row[1] for row in rows}


def recent_replicas(connection: Connection, ended_since: datetime) -> list[Replica]:
    """Every live replica, and those that ended since `ended_since`, oldest first."""
    rows = connection.execute(
        select(replicas)
        .where(replicas.c.state.in_(LIVE_STATES) | (replicas.c.stopped_at >= ended_since))
        .order_by(replicas.c.created_at, replicas.c.id)
    )
    return [_replica(row) for row in rows]


def live_replicas(connection: Connection) -> list[Replica]:

    def read() -> tuple[Replica, ...]:
        query = select(replicas).where(replicas.c.state.in_(LIVE_STATES)).order_by(replicas.c.created_at, replicas.c.id)
        return tuple(_replica(row) for row in connection.execute(query))

    return list(kept(connection, ("replicas",), "live replicas", read))


def serving_replicas(connection: Connection) -> list[Replica]:
    """Replicas that are ready or starting, by id."""
    rows = connection.execute(
        select(replicas).where(replicas.c.state.in_(("starting", "ready"))).order_by(replicas.c.id)
    )
    return [_replica(row) for row in rows]


def replicas_ready_before(connection: Connection, moment: datetime) -> list[Replica]:
    """Every replica that was ready at some time before `moment`, including those that have ended."""
    return [_replica(row) for row in connection.execute(select(replicas).where(replicas.c.ready_at < moment))]


def replicas_between(connection: Connection, since: datetime, until: datetime) -> list[Replica]:
    """Replicas that were there in `[since, until)`, at least in part, by id."""
    there = replicas.c.created_at < until, replicas.c.stopped_at.is_(None) | (replicas.c.stopped_at > since)
    return [_replica(row) for row in connection.execute(select(replicas).where(*there).order_by(replicas.c.id))]


def replica_by_id(connection: Connection, replica_id: str) -> Replica | None:
    row = connection.execute(select(replicas).where(replicas.c.id == replica_id)).first()
    return _replica(row) if row else None


def insert_replica(connection: Connection, replica: Replica) -> bool:
    """Store a new replica. Returns False if it exists already."""
    if replica_by_id(connection, replica.id) is not None:
        return False
    connection.execute(
        insert(replicas).values(
            id=replica.id,
            deployment_id=replica.deployment_id,
            model=replica.model,
            pool_id=replica.pool_id,
            accelerators=replica.accelerators,
            state=replica.state,
            slots=replica.slots,
            restarts=0,
            reason=replica.reason,
            created_at=replica.created_at,
            entry=replica.entry.as_dict() if replica.entry else None,
        )
    )
    return True


def update_replica(connection: Connection, replica_id: str, states: tuple[str, ...], **values: Any) -> bool:
    """Change a replica that is in one of `states`. Returns False if it is not, because another process was faster."""
    done = connection.execute(
        update(replicas).where(replicas.c.id == replica_id, replicas.c.state.in_(states)).values(**values)
    )
    return done.rowcount == 1


def save_troubles(connection: Connection, run: str, troubles: Sequence[Trouble], at: datetime) -> None:
    """Store a gateway's current reports of failing replicas. They replace its earlier ones; reports of any gateway that are a
    day old are deleted."""
    connection.execute(
        delete(replica_troubles).where((replica_troubles.c.run == run) | (replica_troubles.c.at < at - TROUBLES_KEPT))
    )
    for item in troubles:
        connection.execute(
            insert(replica_troubles).values(
                replica_id=item.replica_id,
                run=run,
                failures=item.failures,
                kind=item.kind,
                status=item.status,
                said=item.said,
                since=item.since,
                at=at,
            )
        )


def troubles_since(connection: Connection, since: datetime) -> list[Trouble]:
    """The reports of gateways since then, by replica."""
    rows = connection.execute(
        select(replica_troubles)
        .where(replica_troubles.c.at >= since)
        .order_by(replica_troubles.c.replica_id, replica_troubles.c.run)
    )
    return [Trouble(**row._mapping) for row in rows]


def _deployment(row: Row[Any]) -> Deployment:
    return Deployment(
        row.id,
        row.model,
        tuple(row.pool_ids) if row.pool_ids is not None else (row.pool_id,),
        row.floor,
        row.replicas_max,
        row.scale,
        row.state,
        row.created_at,
        row.updated_at,
    )


def _replica(row: Row[Any]) -> Replica:
    return Replica(
        id=row.id,
        deployment_id=row.deployment_id,
        model=row.model,
        pool_id=row.pool_id,
        accelerators=row.accelerators,
        state=row.state,
        slots=row.slots,
        reason=row.reason,
        created_at=row.created_at,
        endpoint=row.endpoint,
        host=row.host,
        pid=row.pid,
        restarts=row.restarts,
        ready_at=row.ready_at,
        healthy_at=row.healthy_at,
        drain_deadline=row.drain_deadline,
        stopped_at=row.stopped_at,
        reclaim_at=row.reclaim_at,
        entry=from_row(row.entry) if row.entry else None,
    )
