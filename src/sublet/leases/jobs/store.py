"""The SQL of jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from sublet.leases.backends.job import JobExit, JobOrder
from sublet.leases.jobs.model import Job, exits_as_json, exits_of_json
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.leases import jobs, leases

JOBS = Listing("jobs", (jobs.c.created_at, jobs.c.id), descending=True)


def insert_job(connection: Connection, job: Job) -> None:
    connection.execute(
        insert(jobs).values(
            id=job.id,
            organization_id=job.organization_id,
            lease_id=job.lease_id,
            array_id=job.array_id,
            array_index=job.array_index,
            name=job.name,
            command=list(job.command),
            environment=dict(job.environment) or None,
            retries=job.retries,
            grace_s=job.grace_s,
            created_at=job.created_at,
        )
    )


def job(connection: Connection, job_id: str, organization_id: str | None = None) -> Job | None:
    """The job, of any organization or of the one given."""
    query = select(jobs).where(jobs.c.id == job_id)
    if organization_id is not None:
        query = query.where(jobs.c.organization_id == organization_id)
    row = connection.execute(query).first()
    return _job(row) if row else None


def of_array(connection: Connection, array_id: str, organization_id: str | None) -> list[Job]:
    """The jobs of an array, by their index."""
    query = select(jobs).where(jobs.c.array_id == array_id)
    if organization_id is not None:
        query = query.where(jobs.c.organization_id == organization_id)
    return [_job(row) for row in connection.execute(query.order_by(jobs.c.array_index))]


def order_of(connection: Connection, lease_id: str) -> JobOrder | None:
    """What a lease runs; None for one that is only logged in to."""
    row = connection.execute(select(jobs).where(jobs.c.lease_id == lease_id)).first()
    return _job(row).order if row else None


def page(connection: Connection, organization_id: str | None, wanted: PageRequest) -> Page[Job]:
    """A page of jobs, the newest first."""
    query = select(jobs)
    if organization_id is not None:
        query = query.where(jobs.c.organization_id == organization_id)
    return JOBS.read(connection, query, wanted).map(_job)


def open_jobs(connection: Connection, lease_ids: Sequence[str]) -> list[Job]:
    """Of these leases, the jobs that may run again."""
    if not lease_ids:
        return []
    query = select(jobs).where(jobs.c.lease_id.in_(lease_ids), jobs.c.done_at.is_(None))
    return [_job(row) for row in connection.execute(query)]


def canceled_leases(connection: Connection, states: Sequence[str], limit: int) -> list[str]:
    """Leases in one of `states` whose jobs were canceled."""
    query = select(leases.c.id).join(jobs, jobs.c.lease_id == leases.c.id)
    query = query.where(leases.c.state.in_(states), jobs.c.canceled_at.is_not(None)).order_by(leases.c.id).limit(limit)
    return list(connection.execute(query).scalars())


def keep_exits(connection: Connection, job_id: str, exits: Sequence[JobExit], done_at: datetime | None) -> None:
    """What has become of its attempts; one that is done stays as it is."""
    open_ = (jobs.c.id == job_id) & jobs.c.done_at.is_(None)
    connection.execute(update(jobs).where(open_).values(exits=exits_as_json(exits), done_at=done_at))


def cancel(connection: Connection, job_id: str, now: datetime) -> bool:
    """False where it is over or was canceled before."""
    open_ = (jobs.c.id == job_id) & jobs.c.done_at.is_(None) & jobs.c.canceled_at.is_(None)
    return connection.execute(update(jobs).where(open_).values(canceled_at=now)).rowcount == 1


def is_canceled(connection: Connection, lease_id: str) -> bool:
    """Whether the lease runs a job that was canceled."""
    query = select(jobs.c.id).where(jobs.c.lease_id == lease_id, jobs.c.canceled_at.is_not(None))
    return connection.execute(query).first() is not None


def _job(row: Row[Any]) -> Job:
    return Job(
        row.id,
        row.organization_id,
        row.lease_id,
        row.name,
        tuple(row.command),
        row.created_at,
        row.array_id,
        row.array_index,
        row.environment or {},
        row.retries,
        row.grace_s,
        exits_of_json(row.exits or ()),
        row.done_at,
        row.canceled_at,
    )
