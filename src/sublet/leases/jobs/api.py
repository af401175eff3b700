"""Routes of jobs: customers have them, the operator sees all."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require, acting_for
from sublet.leases.jobs import wire
from sublet.leases.jobs.model import Job, NewJob, Submitted
from sublet.leases.jobs.service import Jobs
from sublet.leases.jobs.wire import JobRequest
from sublet.leases.model import Lease
from sublet.leases.quotes.request import QuoteRequest
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.money import nano_from_decimal
from sublet.values.wire import as_answer

Offset = Annotated[int, Query(ge=0, le=1 << 53)]


def router(jobs: Jobs, require: Require) -> APIRouter:
    """`/v1/jobs`."""
    routes = APIRouter(tags=["jobs"], route_class=AnswerRoute)
    reader, writer = require("leases:read"), require("leases:write")

    @routes.post("/v1/jobs", status_code=201)
    def submit(
        body: JobRequest, actor: Actor = Depends(require("leases:write", effect=Effect(Submitted)))
    ) -> wire.SubmittedJobs:
        """Run a command on a lease of its own, quoted and accepted in one step. The command starts with the lease. When the
        command ends, the lease and its billing end, too."""
        made = jobs.submit(actor.organization_id, _wanted(body, acting_for(actor)), actor.key_id, actor.project)
        return as_answer(wire.SubmittedJobs, made.as_dict())

    @routes.get("/v1/jobs")
    def list_jobs(actor: Actor = Depends(reader), page: PageRequest = Depends(page_request)) -> wire.JobPage:
        """List jobs, newest first. The operator sees those of every organization. A key that can only read does not see
        their commands."""
        return as_answer(
            wire.JobPage, jobs.page(_whose(actor), page).map(lambda item: _seen(actor, *item)).as_dict("jobs")
        )

    @routes.get("/v1/jobs/{job_id}")
    def show(job_id: str, actor: Actor = Depends(reader)) -> wire.Job:
        """Show a job and how its attempts exited. A key that can only read does not see its command."""
        return as_answer(wire.Job, _seen(actor, *jobs.job(job_id, _whose(actor))))

    @routes.get("/v1/jobs/{job_id}/log")
    def log(job_id: str, actor: Actor = Depends(writer), offset: Offset = 0) -> wire.JobLog:
        """Read the output of a job from byte `offset` on. The newest 4 to 8 MiB are kept. A key that can only read sees that a
        job ran, not what it printed."""
        part, complete = jobs.log(job_id, offset, _whose(actor))
        return as_answer(
            wire.JobLog, {"text": part.text, "offset": part.offset, "next": part.next, "complete": complete}
        )

    @routes.post("/v1/jobs/{job_id}/cancel")
    def cancel(job_id: str, actor: Actor = Depends(writer)) -> wire.SubmittedJobs:
        """Cancel a job, or with the id of an array, all of its jobs. Repeating this has no effect."""
        organization_id = _whose(actor)
        by = f"customer {organization_id}" if organization_id else "operator"
        return as_answer(wire.SubmittedJobs, jobs.cancel(job_id, organization_id, by, acting_for(actor)).as_dict())

    return routes


def _wanted(body: JobRequest, project: str) -> NewJob:
    request = QuoteRequest(
        accelerators=body.accelerators,
        class_name=body.class_ or "",
        end=body.end,
        start=body.start,
        pool=body.pool,
        generation=body.generation,
        duration_s=body.duration_s,
        network=tuple(body.network or ()),
        service_s=body.service_s,
        volumes=tuple(body.volumes or ()),
        image=body.image or "",
        project=project,
    )
    limit = body.max_price_per_accelerator_hour
    return NewJob(
        tuple(body.command),
        request,
        body.name,
        body.environment or {},
        body.retries,
        body.grace_s,
        tuple(body.array or ()),
        None if limit is None else nano_from_decimal(limit),
        tuple(body.ssh_public_keys or ()),
    )


def _seen(actor: Actor, job: Job, lease: Lease) -> dict[str, Any]:
    """The job without its command for those who may only read: people put secrets into arguments."""
    shown = job.as_dict(lease)
    return shown if actor.may("leases:write") else {**shown, "command": []}


def _whose(actor: Actor) -> str | None:
    return None if actor.everywhere else actor.organization_id
