"""Sell a lease for a command and accept it in one step, keep how the command exits, and show what it printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

import structlog
from sqlalchemy import Connection

from sublet.leases import store as leases_sql
from sublet.leases.backends.base import Backend, BackendFailedError, Observation, checked_authorized_keys
from sublet.leases.backends.job import LogPart, RunsJobs, is_over
from sublet.leases.changes.service import Changes
from sublet.leases.jobs import store as sql
from sublet.leases.jobs.model import Job, NewJob, PriceLimitError, Submitted, checked
from sublet.leases.lifecycle.transitions import Transitions
from sublet.leases.model import Lease, LeaseState
from sublet.leases.ports import ProjectOf
from sublet.leases.projects import refuse_other
from sublet.leases.quotes.admission import Admission
from sublet.leases.quotes.contracts import Buyer
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.values.errors import NotFoundError, SubletError
from sublet.values.ids import new_id
from sublet.values.money import price_from_nano

PER_ROUND = 100
_MAY_RUN = [
    state.value for state in LeaseState if not state.terminal and state not in (LeaseState.ENDING, LeaseState.REQUESTED)
]
_log = structlog.get_logger("sublet.leases")


class Jobs:
    """The use cases of jobs. A job is a lease inside: the same calendar, meter, and credits."""

    def __init__(
        self,
        store: Store,
        admission: Admission,
        transitions: Transitions,
        changes: Changes,
        backends: Mapping[str, Backend],
        project_of: ProjectOf,
    ) -> None:
        self._project_of = project_of
        self._store, self._admission, self._transitions, self._backends = store, admission, transitions, backends
        self._changes = changes

    def submit(self, organization_id: str, wanted: NewJob, key_id: str = "", project: str = "") -> Submitted:
        """Quote and accept a lease for each job, all of them or none. `key_id` and `project` say whose budgets they count
        against. Raises what a quote and its acceptance raise, and PriceLimitError."""
        wanted = checked(wanted)
        keys = checked_authorized_keys(wanted.ssh_public_keys, least=0)
        request = self._admission.checked_request(replace(wanted.request, job=True))
        array_id = new_id("arr") if wanted.indexes else None

        def write(connection: Connection) -> Submitted:
            now = self._store.clock.now()
            made = []
            for index in wanted.indexes or (None,):
                quote = self._admission.quote_within(connection, organization_id, request, None)
                if wanted.price_max_nano is not None and quote.price_nano > wanted.price_max_nano:
                    raise PriceLimitError(
                        f"the price is {price_from_nano(quote.price_nano)} {quote.currency} per accelerator-hour, above your limit "
                        f"of {price_from_nano(wanted.price_max_nano)}; raise the limit, or ask for another class, window or pool"
                    )
                lease = self._admission.accept_within(connection, quote, Buyer(keys, None, key_id, project), now)
                job = Job(
                    new_id("job"), organization_id, lease.id, wanted.name, wanted.command, now, array_id, index,
                    dict(wanted.environment), wanted.retries, wanted.grace_s,
                )  # fmt: skip
                sql.insert_job(connection, job)
                made.append((job, lease))
            return Submitted(tuple(made))

        return self._store.write(write)

    def job(self, job_id: str, organization_id: str | None = None) -> tuple[Job, Lease]:
        """A job with its lease. Raises NotFoundError, the same for another's."""
        with self._store.read() as connection:
            return self._found(connection, job_id, organization_id)

    def page(self, organization_id: str | None, wanted: PageRequest) -> Page[tuple[Job, Lease]]:
        """A page of jobs with their leases, the newest first."""
        with self._store.read() as connection:
            found = sql.page(connection, organization_id, wanted)
            known = leases_sql.leases_named(connection, [job.lease_id for job in found.items])
        return found.map(lambda job: (job, known[job.lease_id]))

    def cancel(self, job_or_array: str, organization_id: str | None, actor: str, project: str = "") -> Submitted:
        """End a job, or all of an array, for the fee of giving back its lease. One that is over stays as it is. Raises
        NotFoundError, OtherProjectError."""

        def write(connection: Connection) -> list[Job]:
            now = self._store.clock.now()
            if job_or_array.startswith("arr_"):
                found = sql.of_array(connection, job_or_array, organization_id)
                if not found:
                    raise NotFoundError(f"there is no array {job_or_array[:60]!r}; `sublet job ls` shows yours")
            else:
                found = [self._found(connection, job_or_array, organization_id)[0]]
            for job in found:
                lease = self._transitions.locked(connection, job.lease_id)
                refuse_other(f"job {job.id}", self._project_of(connection, lease), project)
                if not lease.state.terminal and sql.cancel(connection, job.id, now):
                    self._changes.charge_end(connection, lease, organization_id, now)
            return found

        found = self._store.write(write)
        for job in found:
            # Where this is cut short, the next round goes on.
            self._release(job.lease_id, actor)
        return Submitted(tuple(self.job(job.id) for job in found))

    def log(self, job_id: str, offset: int, organization_id: str | None) -> tuple[LogPart, bool]:
        """A part of what the job has printed, and whether no more will come. Raises NotFoundError, BackendFailedError."""
        with self._store.read() as connection:
            job, lease = self._found(connection, job_id, organization_id)
            pool = leases_sql.pool_named(connection, lease.pool_id)
        backend = self._backends.get(pool.backend if pool is not None else "")
        if not isinstance(backend, RunsJobs):
            raise BackendFailedError("the machine of this job is not reachable from here; ask again later")
        # What is said of the end is read first, so that nothing that was printed before it is missed.
        over = job.done_at is not None or lease.state.terminal
        part = backend.job_log(job.lease_id, offset)
        return part, over and not part.text

    def tend(self, observations: Mapping[str, Observation], now: datetime) -> None:
        """One round, before anything is forgotten: keep what the backends say of exits, and end what was canceled."""
        told = {lease_id: seen.exits for lease_id, seen in observations.items() if seen.exits}
        with self._store.read() as connection:
            jobs = sql.open_jobs(connection, list(told))
            canceled = sql.canceled_leases(connection, _MAY_RUN, PER_ROUND)
        fresh = [job for job in jobs if len(told[job.lease_id]) > len(job.exits)]

        def write(connection: Connection) -> None:
            for job in fresh:
                exits = told[job.lease_id]
                done_at = exits[-1].at if is_over(job.order, exits) else None
                sql.keep_exits(connection, job.id, exits, done_at)

        if fresh:
            self._store.write(write)
        for lease_id in canceled:
            self._release(lease_id, "jobs")

    def _release(self, lease_id: str, actor: str) -> None:
        try:
            self._transitions.release(lease_id, actor)
        except SubletError as error:
            _log.warning("job_not_canceled_yet", lease=lease_id, error=error.message)

    def _found(self, connection: Connection, job_id: str, organization_id: str | None) -> tuple[Job, Lease]:
        job = sql.job(connection, job_id, organization_id)
        lease = leases_sql.lease(connection, job.lease_id) if job is not None else None
        if job is None or lease is None:
            raise NotFoundError(f"there is no job {job_id[:60]!r}; `sublet job ls` lists yours")
        return job, lease
