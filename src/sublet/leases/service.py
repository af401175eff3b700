"""Sell raw capacity, keep the promises, and give it back to the owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Row

from sublet.fleet.reach import Everything, Reach
from sublet.leases import store as sql
from sublet.leases import unit_store as unit_sql
from sublet.leases.backends.base import Backend, BackendFailedError, Observation
from sublet.leases.backends.engine import Traits
from sublet.leases.backends.guard import GuardedBackend, guarded, observe_each
from sublet.leases.backends.job import LogPart, RunsJobs
from sublet.leases.changes.model import ChangeRequest, LeaseChange
from sublet.leases.changes.service import Changes
from sublet.leases.images.service import Images
from sublet.leases.jobs.service import Jobs
from sublet.leases.lifecycle.executor import Executor, Outcome
from sublet.leases.lifecycle.lanes import Lanes
from sublet.leases.lifecycle.moves import find_failures
from sublet.leases.lifecycle.outcomes import promise_of
from sublet.leases.lifecycle.transitions import Transitions
from sublet.leases.model import (
    Lease,
    Quote,
    SoldWindow,
    Transition,
)
from sublet.leases.plan.failures import working
from sublet.leases.plan.pending import pending
from sublet.leases.plan.planner import Quarantined, View, lanes_of, make_plan
from sublet.leases.ports import LeasePorts
from sublet.leases.projects import refuse_other
from sublet.leases.quotes import calendar
from sublet.leases.quotes.admission import Admission, QuoteRequest
from sublet.leases.quotes.tenants import tenants_of
from sublet.leases.reclaim.orders import ReclaimOrder, Reclaims
from sublet.leases.reclaim.store import standing_rows
from sublet.leases.reclaim.victims import ReclaimPlan
from sublet.leases.reclaim.waits import DayOfWaiting
from sublet.leases.volumes.service import Volumes
from sublet.leases.waitlist.service import Waitlist
from sublet.leases.watching import Watching
from sublet.store import Store
from sublet.store.paging import PAGE_MAX, Page, PageRequest
from sublet.surplus.record.calibration import Promise
from sublet.values.errors import NotFoundError, SubletError
from sublet.values.etags import ANY_STATE, Condition
from sublet.values.plan import Plan, in_time
from sublet.values.service_classes import ServiceClasses
from sublet.values.text import checked_line

PENDING_MAX = 1_000
REASON_MAX = 500
TRANSITIONS_MAX = 500
OLD_QUOTES_PER_TICK = 500
OLD_QUOTE = timedelta(days=1)
_log = structlog.get_logger("sublet.leases")


class Leases:
    """The use cases of raw leases. `backends` are keyed by the name that pools carry."""

    def __init__(
        self,
        store: Store,
        backends: Mapping[str, Backend],
        ports: LeasePorts,
        workers: int = 1,
        reach: Reach = Everything(),
    ) -> None:
        """`workers` leases are started or ended at the same time; one keeps a simulation deterministic. `reach` says on which
        pools this process acts: leases of others are sold and shown here, and left alone."""
        self._reach = reach
        self._store = store
        # With one worker everything happens in one thread, in an order that follows from the plan, as a simulation needs it.
        self._lanes = Lanes() if workers > 1 else None
        self._backends = guarded(backends) if workers > 1 else backends
        self._ports = ports
        self._admission = Admission(store, ports)
        self._transitions = Transitions(store, ports)
        self._reclaims = Reclaims(store, ports, self._transitions)
        self.changes = Changes(store, ports, self._transitions)
        self.watching = Watching(store, ports)
        self.waitlist = Waitlist(store, ports)
        self.volumes = Volumes(store, self._backends, ports)
        self.images = Images(store, ports.images)
        self._executor = Executor(store, self._transitions, backends, self._reclaims, ports.egress, workers)
        self.jobs = Jobs(store, self._admission, self._transitions, self.changes, self._backends, ports.project_of)
        self._recovered = False
        self._introduced: dict[str, frozenset[str]] = {}

    @property
    def classes(self) -> ServiceClasses:
        """The classes of service."""
        return self._ports.classes

    @property
    def class_default(self) -> str:
        """The class of a quote that names none."""
        return self._ports.class_default

    def networks(self, organization_id: str) -> list[dict[str, Any]]:
        """The allow lists that there are, and whether a lease of the organization may ask for each."""
        policy = self._ports.egress
        return [
            {"name": name, "hosts": [str(rule) for rule in rules], "open": name in policy.open_to(organization_id)}
            for name, rules in sorted(policy.lists.items())
        ]

    def quote(self, organization_id: str, request: QuoteRequest, idempotency_key: str | None = None) -> Quote:
        """See Admission.quote."""
        return self._admission.quote(organization_id, request, idempotency_key)

    def accept(
        self,
        organization_id: str,
        quote_id: str,
        ssh_public_keys: Sequence[str],
        idempotency_key: str | None = None,
        *,
        key_id: str = "",
        project: str = "",
    ) -> Lease:
        """See Admission.accept."""
        return self._admission.accept(
            organization_id, quote_id, ssh_public_keys, idempotency_key, key_id=key_id, project=project
        )

    def cancel_quote(self, organization_id: str, quote_id: str, project: str = "") -> Quote:
        """See Admission.cancel."""
        return self._admission.cancel(organization_id, quote_id, project)

    def permit(self, lease_id: str, organization_id: str | None, project: str) -> None:
        """Whether a key of `project` (empty: of none) may change a lease. Raises NotFoundError, OtherProjectError."""
        if not project:
            return
        with self._store.read() as connection:
            found = sql.lease(connection, lease_id, organization_id)
            if found is not None:
                refuse_other(f"lease {lease_id}", self._ports.project_of(connection, found), project)

    def open_quotes(self, organization_id: str) -> list[Quote]:
        """Quotes that the organization can still accept, the newest first."""
        with self._store.read() as connection:
            return sql.open_quotes(connection, organization_id, self._store.clock.now())

    def quote_page(self, organization_id: str, wanted: PageRequest) -> Page[Quote]:
        """A page of them."""
        with self._store.read() as connection:
            return sql.quote_page(connection, organization_id, self._store.clock.now(), wanted)

    def now(self) -> datetime:
        """The present, as everything here sees it."""
        return self._store.clock.now()

    def lease(self, lease_id: str, organization_id: str | None = None) -> Lease:
        """A lease of the organization, or of any where none is given. Raises NotFoundError, the same for another's."""
        with self._store.read() as connection:
            found = sql.lease(connection, lease_id, organization_id)
        if found is None:
            raise NotFoundError(f"there is no lease {lease_id!r}; `sublet lease ls` lists yours")
        return found

    def lease_page(self, organization_id: str | None, wanted: PageRequest, *, live_only: bool = False) -> Page[Lease]:
        """A page of leases, the newest first; of one organization where it is given."""
        with self._store.read() as connection:
            return sql.lease_page(connection, organization_id, wanted, live_only=live_only)

    def log(self, lease_id: str, offset: int, organization_id: str | None = None) -> tuple[LogPart, bool]:
        """A part of what the lease's drain hooks, and its job, have printed, and whether no more will come. It is kept after the
        lease. Raises NotFoundError, BackendFailedError."""
        lease = self.lease(lease_id, organization_id)
        with self._store.read() as connection:
            pool = sql.pool_named(connection, lease.pool_id)
        backend = self._backends.get(pool.backend if pool is not None else "")
        if not isinstance(backend, RunsJobs):
            raise BackendFailedError("the machine of this lease is not reachable from here; ask again later")
        part = backend.job_log(lease_id, offset)
        return part, lease.state.terminal and not part.text

    def leases(self, organization_id: str | None = None, *, live_only: bool = False) -> list[Lease]:
        """The newest PAGE_MAX leases, the newest first."""
        return self.lease_page(organization_id, PageRequest(PAGE_MAX), live_only=live_only).items

    def live_leases(self) -> list[Lease]:
        """Every lease that is not over, the oldest first."""
        with self._store.read() as connection:
            return sql.live_leases(connection)

    def history(self, subject_id: str) -> list[Transition]:
        """Every change of state of a lease or an accelerator, oldest first, the newest TRANSITIONS_MAX of them."""
        with self._store.read() as connection:
            return sql.transitions(connection, subject_id, TRANSITIONS_MAX)

    def promises(self, pool_id: str, since: datetime, limit: int) -> list[Promise]:
        """What became of the leases of a pool that were over since then, the newest first: the record's real side."""
        with self._store.read() as connection:
            return [
                promise for row in sql.over_since(connection, pool_id, since, limit) if (promise := promise_of(row))
            ]

    def end(self, lease_id: str, organization_id: str | None = None) -> Lease:
        """Give a lease back, or cancel it before it began; one that is over stays as it is. Raises NotFoundError."""
        return self.changes.end(lease_id, organization_id, _actor(organization_id))

    def set_ssh_keys(
        self, lease_id: str, keys: Sequence[str], organization_id: str | None = None, seen: Condition = ANY_STATE
    ) -> Lease:
        """Who may log in from now on. Raises NotFoundError, InvalidInputError, WrongStateError, PreconditionFailedError."""
        return self.changes.set_ssh_keys(lease_id, tuple(keys), organization_id, _actor(organization_id), seen)

    def change(
        self, lease_id: str, request: ChangeRequest, organization_id: str | None, key_id: str = ""
    ) -> LeaseChange:
        """See Changes.change."""
        return self.changes.change(lease_id, request, organization_id, _actor(organization_id), key_id)

    def book(self, pool_id: str, connection: Connection | None = None) -> list[SoldWindow]:
        """What is sold or held of the pool from now on, as the caller's transaction sees it."""
        now = self._store.clock.now()
        if connection is not None:
            return calendar.book(connection, pool_id, now)
        with self._store.read() as reading:
            return calendar.book(reading, pool_id, now)

    def preview_reclaim(self, order: ReclaimOrder) -> ReclaimPlan:
        """See Reclaims.preview."""
        return self._reclaims.preview(order)

    def reclaim(self, order: ReclaimOrder, actor: str, idempotency_key: str | None = None) -> dict[str, Any]:
        """See Reclaims.take."""
        return self._reclaims.take(order, actor, idempotency_key)

    def withdraw_reclaim(self, reclaim_id: str, actor: str) -> list[Lease]:
        """See Reclaims.withdraw."""
        return self._reclaims.withdraw(reclaim_id, actor)

    def reclaims(self, wanted: PageRequest | None = None) -> Page[dict[str, Any]]:
        """A page of what was asked back, the newest first."""
        return self._reclaims.page(wanted or PageRequest())

    def reclaim_named(self, reclaim_id: str) -> dict[str, Any]:
        """See Reclaims.named."""
        return self._reclaims.named(reclaim_id)

    def owner_waits(self, pool: str | None = None, wanted: PageRequest | None = None) -> Page[DayOfWaiting]:
        """See Waits.page."""
        return self._reclaims.waits.page(pool, wanted or PageRequest())

    def quarantined(self) -> list[Quarantined]:
        """Accelerators that are out of sale until they are proved clean."""
        with self._store.read() as connection:
            return [
                Quarantined(row.unit_id, row.pool_id, row.lease_id, row.reason)
                for row in unit_sql.quarantined(connection)
            ]

    def quarantine_page(self, wanted: PageRequest) -> Page[Quarantined]:
        """A page of them, by id."""
        with self._store.read() as connection:
            found = unit_sql.quarantine_page(connection, wanted)
        return found.map(lambda row: Quarantined(row.unit_id, row.pool_id, row.lease_id, row.reason))

    def release_unit(self, unit_id: str, actor: str, reason: str) -> None:
        """The operator says that an accelerator is clean. Raises NotFoundError where it is in no quarantine."""
        if not self._transitions.release_unit(unit_id, actor, checked_line(reason, "reason", REASON_MAX, 1)):
            raise NotFoundError(f"accelerator {unit_id!r} is not in quarantine")

    def plan(self) -> Plan:
        """What would be done now, and what waits. Looks at the backends and the books; changes nothing."""
        view = self._view()
        made = make_plan(view)
        planned = {step.key for step in made.steps}
        with self._store.read() as connection:
            rows = [row for pool_id in view.backend_of for row in standing_rows(connection, pool_id, view.now)]
        waiting = (step for step in pending(view, rows) if step.key not in planned)
        return replace(made, pending=in_time(waiting, PENDING_MAX))

    def tick(self) -> tuple[Plan, Outcome]:
        """Plan, then act. Call it again and again, from one thread; it never assumes that the last time worked."""
        if not self._recovered:
            self._recover()
        view = self._view()
        # Before anything is carried out: what a backend says of a job is kept before the backend forgets the lease.
        self.jobs.tend(view.observations, view.now)
        plan = make_plan(view)
        pools = {lease.id: lease.pool_id for lease in view.leases}
        outcome = self._executor.carry_out(
            plan, lambda step: self._may(pools.get(step.subject)), self._lanes, lanes_of(view)
        )
        for step in outcome.done:
            if step.kind == "introduce":
                known = self._introduced.get(step.subject, frozenset())
                self._introduced[step.subject] = known | frozenset(step.details["tenants"])
        now = self._store.clock.now()
        self.volumes.tend(view.backend_of, now)
        self.images.tend(now)

        def tidy(connection: Connection) -> None:
            calendar.release_expired(connection, now, OLD_QUOTES_PER_TICK)
            sql.delete_quotes_before(connection, now - OLD_QUOTE, OLD_QUOTES_PER_TICK)

        if self._stale_holds(now):
            self._store.write(tidy)
        return plan, outcome

    def _recover(self) -> None:
        """Once, before anything is started: what a crash left with the backends that is in no book is ended."""
        with self._store.read() as connection:
            known = frozenset(lease.id for lease in sql.live_leases(connection))
            reached = self._reached(connection)

        def reap(names: Sequence[str]) -> None:
            for name in names:
                try:
                    self._backends[name].reap(known)
                except (SubletError, OSError) as error:
                    _log.warning("recovery is left to the plan", backend=name, error=str(error))

        # What a shared backend has may be of others: its orphans are left to the leader's plan.
        names = [name for name in self._backends if name in reached]
        if self._lanes is None:
            reap(names)
        else:
            self._lanes.run({name: [name] for name in names}, reap)
        self._recovered = True

    def backends(self) -> list[dict[str, Any]]:
        """Whether each backend answers, where it is guarded."""
        return [backend.status() for backend in self._backends.values() if isinstance(backend, GuardedBackend)]

    def _may(self, pool_id: str | None) -> bool:
        """Whether a step about that pool may be carried out: this process still acts on it, in the database's eyes too."""
        return pool_id is None or self._reach.claim(pool_id)

    def _reached(self, connection: Connection) -> frozenset[str]:
        """The backends of the pools that this process acts on."""
        mine = self._reach.pools(connection)
        return frozenset(str(pool.backend) for pool in sql.pools_of(connection) if pool.id in mine)

    def _view(self) -> View:
        now = self._store.clock.now()
        with self._store.read() as connection:
            reached = self._reached(connection)
        told, silent = self._observe(reached)
        observations = {lease_id: seen for found in told.values() for lease_id, seen in found.items()}
        with self._store.read() as connection:
            mine = self._reach.pools(connection)
            everybodys = sql.live_leases(connection)
            leases = [lease for lease in everybodys if lease.pool_id in mine]
            live = {lease.id for lease in everybodys}
            strangers = [lease_id for lease_id in observations if lease_id not in live]
            others = sql.leases_elsewhere(connection, list(observations), mine) if observations else frozenset()
            observations = {lease_id: seen for lease_id, seen in observations.items() if lease_id not in others}
            ended = sql.states_of(connection, strangers) if strangers else {}
            # A lease may have been sold between the look at the books and the look at the backends; it is no stranger.
            ended = {lease_id: state for lease_id, state in ended.items() if state.terminal}
            pools = [pool for pool in sql.pools_of(connection) if pool.id in mine]
            failures = find_failures(connection, leases, now)
            held = [lease for lease in working(leases, failures) if not lease.waits]
            traits = {
                str(pool.backend): self._backends[pool.backend].traits
                for pool in pools
                if pool.backend in self._backends
            }
            due = self._reclaims.due(connection, [pool.id for pool in pools], held, now)
            return View(
                now=now,
                leases=leases,
                observations=observations,
                ended=ended,
                backend_of={pool.id: pool.backend for pool in pools},
                silent=silent,
                quarantined=[
                    Quarantined(row.unit_id, row.pool_id, row.lease_id, row.reason)
                    for row in unit_sql.quarantined(connection)
                    if row.pool_id in mine
                ],
                reclaims=due.plans,
                returns=due.returns,
                waits=due.steps,
                waiting=due.waits,
                turns=self._reclaims.turns.due(connection, [pool.id for pool in pools], leases, now),
                timing=self._ports.timing,
                failures=failures,
                seen_on={lease_id: name for name, found in told.items() for lease_id in found},
                traits=traits,
                strangers=self._strangers(connection, pools, traits, now),
            )

    def _strangers(
        self, connection: Connection, pools: Sequence[Row[Any]], traits: Mapping[str, Traits], now: datetime
    ) -> dict[str, frozenset[str]]:
        """Whom each engine that has accounts is to be introduced to; each is told once, by this process."""
        found = {}
        for name in (name for name, each in traits.items() if each.accounts):
            here = [pool.id for pool in pools if pool.backend == name]
            new = tenants_of(connection, here, now) - self._introduced.get(name, frozenset())
            if new:
                found[name] = new
        return found

    def _observe(self, reached: frozenset[str]) -> tuple[dict[str, dict[str, Observation]], frozenset[str]]:
        """Backends are asked before the books are read: what a backend has and no book then knows is an orphan. One that does
        not answer, or still does the work of an earlier round, keeps its leases as they are."""
        busy = self._lanes.busy() if self._lanes is not None else frozenset()
        asked = {name: self._backends[name] for name in sorted((reached - busy) & set(self._backends))}
        seen, silent = observe_each(asked, together=self._lanes is not None)
        return seen, silent | busy

    def _stale_holds(self, now: datetime) -> bool:
        with self._store.read() as connection:
            return sql.any_stale(connection, now)


def _actor(organization_id: str | None) -> str:
    return f"customer {organization_id}" if organization_id else "operator"
