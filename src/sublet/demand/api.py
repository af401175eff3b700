"""Routes of demand: samples in, history out, claims."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from starlette.concurrency import run_in_threadpool

from sublet.accounts.answers import AnswerRoute
from sublet.accounts.model import Actor, Require
from sublet.demand import wire
from sublet.demand.jobs import KnownJob
from sublet.demand.model import REASON_CHARACTERS_MAX, Claim, Sample, TeamUse
from sublet.demand.service import Demand
from sublet.demand.wire import NewClaim, NewJob, NewSamples
from sublet.store.once import Effect
from sublet.store.paging import CURSOR_MAX, PageRequest, page_request
from sublet.values.clock import format_time, from_micros
from sublet.values.errors import ForbiddenError, InvalidInputError
from sublet.values.moments import Moment
from sublet.values.windows import Window
from sublet.values.wire import as_answer

SAMPLES_PER_PAGE_MAX = 5_000
HISTORY_DEFAULT = timedelta(days=7)
_FILE: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_HISTORY_BODY = {
    "requestBody": {
        "required": True,
        "description": "A CSV file, as it is or gzipped.",
        "content": {"text/csv": _FILE, "application/gzip": _FILE},
    }
}


def router(
    demand: Demand,
    require: Require,
    clock_now: Callable[[], datetime],
    id_of: Callable[[str], str] = str,
    accelerators_of: Callable[[str], int] = lambda pool_id: 0,
    check_teams: Callable[[Collection[str]], None] = lambda teams: None,
) -> APIRouter:
    """`/v1/demand`: samples for the operator, claims for the operator and internal teams.

    `id_of` gives a pool's id by its id or name and raises NotFoundError: what is said of a pool that nobody has would be
    kept and never heeded. `accelerators_of` tells how many a pool has, by its id. `check_teams` raises InvalidInputError for an
    id that is no internal team's.
    """
    routes = APIRouter(tags=["demand"], route_class=AnswerRoute)
    seen = Depends(require("demand:read"))

    _add_import(routes, demand, require, id_of, accelerators_of)
    _add_imports(routes, demand, require, id_of)

    @routes.post("/v1/demand/{pool_id}/samples", dependencies=[Depends(require("demand:write"))])
    def record(pool_id: str, body: NewSamples) -> wire.SamplesTaken:
        """Record demand samples of a pool. Sending the same samples again changes nothing."""
        samples = [Sample(item.time, item.capacity, item.in_use, item.pending) for item in body.samples]
        found = id_of(pool_id)
        told = [(item, _jobs(item.jobs)) for item in body.samples if item.jobs is not None]
        used = [TeamUse(item.time, use.team, use.in_use) for item in body.samples for use in item.teams or ()]
        check_teams({item.team for item in used})
        # Before the samples: what is refused here leaves nothing of the request behind.
        if used:
            demand.record_team_use(found, used)
        recorded = demand.record_samples(found, samples)
        for item, jobs in told:
            demand.record_jobs(found, item.time, item.capacity, jobs)
        return as_answer(wire.SamplesTaken, recorded.as_dict())

    @routes.get("/v1/demand/{pool_id}/samples", dependencies=[seen])
    def list_samples(
        pool_id: str,
        since: Moment | None = None,
        until: Moment | None = None,
        limit: Annotated[int, Query(ge=1, le=SAMPLES_PER_PAGE_MAX)] = 1_000,
        after: Annotated[str | None, Query(max_length=CURSOR_MAX)] = None,
    ) -> wire.SampleHistory:
        """List the samples in `[since, until)`, newest first; by default, those of the last seven days. `step_s` and
        `findings` describe the page."""
        end = until or clock_now() + timedelta(seconds=1)
        found = id_of(pool_id)
        series, following = demand.sample_page(found, since or end - HISTORY_DEFAULT, end, PageRequest(limit, after))
        return as_answer(
            wire.SampleHistory,
            {
                "pool_id": found,
                "step_s": series.step_s,
                "findings": series.findings.as_dict(),
                "samples": [
                    {
                        "time": format_time(from_micros(int(series.times_us[index]))),
                        "capacity": float(series.capacity[index]),
                        "in_use": float(series.in_use[index]),
                        "pending": float(series.pending[index]),
                    }
                    for index in reversed(range(len(series)))
                ],
                "next": following,
            },
        )

    _add_claims(routes, demand, require, id_of)
    return routes


def _jobs(told: Sequence[NewJob]) -> list[KnownJob]:
    return [KnownJob(job.accelerators, job.start, job.limit_s, job.eligible) for job in told]


def _add_import(
    routes: APIRouter,
    demand: Demand,
    require: Require,
    id_of: Callable[[str], str],
    accelerators_of: Callable[[str], int],
) -> None:
    @routes.put(
        "/v1/demand/{pool_id}/history",
        dependencies=[Depends(require("demand:write"))],
        openapi_extra=_HISTORY_BODY,
    )
    async def import_history(
        pool_id: str,
        request: Request,
        source: Annotated[str, Query(max_length=REASON_CHARACTERS_MAX)] = "",
        force: bool = False,
    ) -> wire.SamplesTaken:
        """Import history from a CSV file with `time,capacity,in_use`, all or nothing. Importing it again changes nothing.

        If its demand is usually far above the capacity of the pool, the file is refused unless `force` is set. `source`
        names the file, so that the import can be identified and undone.
        """
        content = await request.body()

        def keep() -> wire.SamplesTaken:
            found = id_of(pool_id)
            taken = demand.import_history(found, content, accelerators_of(found), source, force=force)
            return as_answer(wire.SamplesTaken, taken.as_dict())

        return await run_in_threadpool(keep)


def _add_imports(routes: APIRouter, demand: Demand, require: Require, id_of: Callable[[str], str]) -> None:
    @routes.get("/v1/demand/{pool_id}/imports", dependencies=[Depends(require("demand:read"))])
    def list_imports(pool_id: str, page: PageRequest = Depends(page_request)) -> wire.DemandImportList:
        """List the files that were imported as a pool's history, newest first."""
        return as_answer(
            wire.DemandImportList,
            demand.import_page(id_of(pool_id), page).map(lambda item: item.as_dict()).as_dict("imports"),
        )

    @routes.delete("/v1/imports/{import_id}", dependencies=[Depends(require("demand:write"))])
    def undo_import(import_id: str) -> wire.DemandImport:
        """Undo an import. Samples that it replaced are restored unless they were written again since. Repeating this has no
        effect."""
        return as_answer(wire.DemandImport, demand.undo_import(import_id).as_dict())


def _add_claims(routes: APIRouter, demand: Demand, require: Require, id_of: Callable[[str], str]) -> None:
    @routes.get("/v1/claims", dependencies=[Depends(require("claims:read"))])
    def list_claims(pool_id: str | None = None, page: PageRequest = Depends(page_request)) -> wire.ClaimList:
        """List the claims that are not over, oldest first, of one pool or of all pools."""
        found = demand.claim_page(id_of(pool_id) if pool_id else None, page)
        return as_answer(wire.ClaimList, found.map(lambda claim: claim.as_dict()).as_dict("claims"))

    @routes.post("/v1/claims", status_code=201)
    def add_claim(body: NewClaim, actor: Actor = Depends(require("claims:write", effect=Effect(Claim)))) -> wire.Claim:
        """Claim capacity for the owner, or change a claim by replacing it. A claim takes precedence over anything that is sold
        later."""
        window = Window.told(body.start or demand.clock.now(), body.end, body.duration_s)
        pool_id, count = id_of(body.pool), body.accelerators
        team = actor.organization_id
        if body.replaces is not None:
            replaced = demand.claim(body.replaces)
            _refuse_other_team(actor, replaced)
            if replaced.pool_id != pool_id:
                raise InvalidInputError("a claim can only replace one of the same pool", field="replaces")
            made = demand.change_claim(body.replaces, count, window, body.reason, body.patience_s)
            return as_answer(wire.Claim, made.as_dict())
        return as_answer(
            wire.Claim,
            demand.add_claim(pool_id, count, window, body.reason, patience_s=body.patience_s, team=team).as_dict(),
        )

    @routes.delete("/v1/claims/{claim_id}")
    def withdraw_claim(claim_id: str, actor: Actor = Depends(require("claims:write"))) -> wire.Claim:
        """Withdraw a claim, which the operator and the team that made it may. Repeating this has no effect."""
        _refuse_other_team(actor, demand.claim(claim_id))
        return as_answer(wire.Claim, demand.withdraw_claim(claim_id).as_dict())


def _refuse_other_team(actor: Actor, claim: Claim) -> None:
    """Every team sees what the others have claimed, but what one needs is not another's to give up."""
    if not actor.is_operator and claim.team != actor.organization_id:
        raise ForbiddenError(f"claim {claim.id} belongs to another team; only that team or the operator can change it")
