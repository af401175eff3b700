"""Sell raw capacity, keep the promises, and give it back to the owner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from sublet.leases import calendar
from sublet.leases import store as sql
from sublet.leases.admission import Admission, QuoteRequest, checked_key
from sublet.leases.backends.base import Backend, BackendFailedError, Observation
from sublet.leases.executor import Executor, Outcome
from sublet.leases.model import (
    ACCELERATORS_PER_LEASE_MAX,
    FirmLeaseError,
    Lease,
    LeaseState,
    Quote,
    SoldWindow,
    Transition,
    checked_ahead,
)
from sublet.leases.outcomes import promise_of
from sublet.leases.planner import Quarantined, View, make_plan
from sublet.leases.reclaim import ReclaimPlan, Victim, plan_reclaim
from sublet.leases.terms import LeasePorts
from sublet.leases.transitions import Transitions
from sublet.store import Store
from sublet.surplus.calibration import Promise
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError, NotFoundError, SubletError
from sublet.values.ids import new_id
from sublet.values.plan import Plan, Step
from sublet.values.text import checked_line
from sublet.values.windows import Window

PAGE_MAX = 200
REASON_MAX = 500
TRANSITIONS_MAX = 500
OLD_QUOTES_PER_TICK = 500
OLD_QUOTE = timedelta(days=1)
_log = structlog.get_logger("sublet.leases")


@dataclass(frozen=True, slots=True)
class ReclaimOrder:
    """The owner's word: `accelerators` of `pool` for `window`, because of `reason`; `force` breaks firm leases too."""

    pool: str
    accelerators: int
    window: Window
    reason: str
    force: bool = False


class Leases:
    """The use cases of raw leases. `backends` are keyed by the name that pools carry."""

    def __init__(self, store: Store, backends: Mapping[str, Backend], ports: LeasePorts, workers: int = 1) -> None:
        """`workers` leases are started or ended at the same time; one keeps a simulation deterministic."""
        self._store = store
        self._backends = backends
        self._ports = ports
        self._admission = Admission(store, ports)
        self._transitions = Transitions(store, ports)
        self._executor = Executor(store, self._transitions, backends, self._take_back, workers)
        self._recovered = False

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

    def cancel_quote(self, organization_id: str, quote_id: str) -> Quote:
        """See Admission.cancel."""
        return self._admission.cancel(organization_id, quote_id)

    def open_quotes(self, organization_id: str) -> list[Quote]:
        """Quotes that the organization can still accept, the newest first."""
        with self._store.read() as connection:
            return sql.open_quotes(connection, organization_id, self._store.clock.now())

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

    def leases(
        self,
        organization_id: str | None = None,
        *,
        live_only: bool = False,
        limit: int = PAGE_MAX,
        after: str | None = None,
    ) -> list[Lease]:
        """Newest first, at most PAGE_MAX; `after` is the id of the last lease of the page before."""
        if not 0 < limit <= PAGE_MAX:
            raise InvalidInputError(f"limit must be 1 to {PAGE_MAX}")
        with self._store.read() as connection:
            before = None
            if after is not None:
                last = sql.lease(connection, after, organization_id)
                if last is None:
                    raise NotFoundError(f"there is no lease {after!r} to page on from")
                before = (last.created_at, last.id)
            return sql.list_leases(connection, organization_id, live_only=live_only, limit=limit, before=before)

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
        lease = self.lease(lease_id, organization_id)
        actor = f"customer {organization_id}" if organization_id else "operator"
        return lease if lease.state.terminal else self._transitions.release(lease_id, actor)

    def book(self, pool_id: str, connection: Connection | None = None) -> list[SoldWindow]:
        """What is sold or held of the pool from now on, as the caller's transaction sees it."""
        now = self._store.clock.now()
        if connection is not None:
            return calendar.book(connection, pool_id, now)
        with self._store.read() as reading:
            return calendar.book(reading, pool_id, now)

    def preview_reclaim(self, order: ReclaimOrder) -> ReclaimPlan:
        """Whom the order would ask back. Changes nothing. Raises InvalidInputError, NotFoundError."""
        now = self._checked(order)
        with self._store.read() as connection:
            return self._plan_for(connection, order, now)

    def reclaim(self, order: ReclaimOrder, actor: str, idempotency_key: str | None = None) -> dict[str, Any]:
        """Take capacity back: notice is given to whom the plan names, and what is free is kept for the asker.

        Returns the plan with the reclaim's `id`. Raises FirmLeaseError where only firm leases could give enough and
        `force` is not set; nothing has then changed.
        """
        now = self._checked(order)
        key = checked_key(idempotency_key)

        def write(connection: Connection) -> dict[str, Any]:
            pool_id = self._pool_id(connection, order.pool)
            self._store.lock(connection, f"pool:{pool_id}")
            if key is not None and (known := sql.reclaim_by_key(connection, actor, key)) is not None:
                return {**known.plan, "id": known.id}
            plan = self._plan_for(connection, order, now)
            if plan.short > 0:
                raise FirmLeaseError(
                    f"{plan.short} of {order.accelerators} accelerators are held by firm leases or kept for other reclaims; "
                    "ask for fewer, for later, or break firm leases with force and a reason",
                    plan=plan.as_dict(),
                )
            for victim in plan.victims:
                self._transitions.give_notice(connection, victim, actor, now)
            reclaim_id = new_id("clm")
            sql.insert_reclaim(
                connection,
                id=reclaim_id,
                pool_id=pool_id,
                accelerators=order.accelerators,
                held=order.accelerators,
                start_at=order.window.start,
                end_at=order.window.end,
                actor=actor[:80],
                reason=order.reason,
                forced=int(order.force),
                plan=plan.as_dict(),
                created_at=now,
                idempotency_key=key,
            )
            return {**plan.as_dict(), "id": reclaim_id}

        return self._store.write(write)

    def withdraw_reclaim(self, reclaim_id: str, actor: str) -> list[Lease]:
        """The owner does not need it after all: notices that are not due yet are withdrawn. Raises NotFoundError."""
        with self._store.read() as connection:
            found = [row for row in sql.list_reclaims(connection, PAGE_MAX) if row.id == reclaim_id]
        if not found:
            raise NotFoundError(f"there is no reclaim {reclaim_id!r}")
        now = self._store.clock.now()
        if not self._store.write(lambda connection: sql.withdraw_reclaim(connection, reclaim_id, now)):
            return []
        victims = [str(victim["lease_id"]) for victim in found[0].plan["victims"]]
        return [
            self._transitions.withdraw_notice(lease_id, actor, "the owner does not need it after all")
            for lease_id in victims
        ]

    def reclaims(self, limit: int = PAGE_MAX) -> list[dict[str, Any]]:
        """What was asked back, newest first."""
        with self._store.read() as connection:
            return [
                {
                    "id": row.id,
                    "pool_id": row.pool_id,
                    "accelerators": row.accelerators,
                    "start": format_time(row.start_at),
                    "end": format_time(row.end_at),
                    "actor": row.actor,
                    "reason": row.reason,
                    "forced": bool(row.forced),
                    "withdrawn": row.withdrawn_at is not None,
                    "plan": row.plan,
                }
                for row in sql.list_reclaims(connection, min(limit, PAGE_MAX))
            ]

    def quarantined(self) -> list[Quarantined]:
        """Accelerators that are out of sale until they are proved clean."""
        with self._store.read() as connection:
            return [
                Quarantined(row.unit_id, row.pool_id, row.lease_id, row.reason) for row in sql.quarantined(connection)
            ]

    def release_unit(self, unit_id: str, actor: str, reason: str) -> None:
        """The operator says that an accelerator is clean. Raises NotFoundError where it is in no quarantine."""
        if not self._transitions.release_unit(unit_id, actor, checked_line(reason, "reason", REASON_MAX, 1)):
            raise NotFoundError(f"accelerator {unit_id!r} is in no quarantine")

    def plan(self) -> Plan:
        """What would be done now. Looks at the backends and the books; changes nothing."""
        return make_plan(self._view())

    def tick(self) -> tuple[Plan, Outcome]:
        """Plan, then act. Call it again and again, from one thread; it never assumes that the last time worked."""
        if not self._recovered:
            self._recover()
        plan = self.plan()
        outcome = self._executor.carry_out(plan)
        now = self._store.clock.now()

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
        for name, backend in self._backends.items():
            try:
                backend.reap(known)
            except (SubletError, OSError) as error:
                _log.warning("recovery is left to the plan", backend=name, error=str(error))
        self._recovered = True

    def _view(self) -> View:
        now = self._store.clock.now()
        observations, silent = self._observe()
        with self._store.read() as connection:
            leases = sql.live_leases(connection)
            live = {lease.id for lease in leases}
            strangers = [lease_id for lease_id in observations if lease_id not in live]
            ended = sql.states_of(connection, strangers) if strangers else {}
            # A lease may have been sold between the look at the books and the look at the backends; it is no stranger.
            ended = {lease_id: state for lease_id, state in ended.items() if state.terminal}
            pools = sql.pools_of(connection)
            reclaims = [plan for pool in pools if (plan := self._rising(connection, pool.id, leases, now)) is not None]
            return View(
                now=now,
                leases=leases,
                observations=observations,
                ended=ended,
                backend_of={pool.id: pool.backend for pool in pools},
                silent=silent,
                quarantined=[
                    Quarantined(row.unit_id, row.pool_id, row.lease_id, row.reason)
                    for row in sql.quarantined(connection)
                ],
                reclaims=reclaims,
                timing=self._ports.timing,
            )

    def _observe(self) -> tuple[dict[str, Observation], frozenset[str]]:
        """Backends are asked before the books are read: what a backend has and no book then knows is an orphan."""
        observations: dict[str, Observation] = {}
        silent = set()
        for name, backend in self._backends.items():
            try:
                observations.update(backend.observe_all())
            except (BackendFailedError, OSError):
                silent.add(name)
        return observations, frozenset(silent)

    def _rising(
        self, connection: Connection, pool_id: str, leases: Sequence[Lease], now: datetime
    ) -> ReclaimPlan | None:
        """Where tenants hold more than may stay: who gets notice. Each class is asked as early as its notice needs, no
        earlier."""
        here = [lease for lease in leases if lease.pool_id == pool_id and lease.state is not LeaseState.ENDING]
        if not here:
            return None
        clean_s = self._ports.timing.clean_s
        notices = sorted({lease.notice_s for lease in here if lease.notice_s is not None})
        victims: list[Victim] = []
        needed = short = 0
        for notice_s in notices:
            by = now + timedelta(seconds=notice_s + clean_s)
            window = Window.starting(by, 60)
            room = self._room(connection, pool_id, window)
            gone = {victim.lease.id for victim in victims}
            holding = [
                lease
                for lease in here
                if lease.id not in gone and lease.window.start < window.end and lease.deadline > by
            ]
            excess = sum(lease.accelerators for lease in holding) - room
            if excess <= 0:
                continue
            askable = [
                lease
                for lease in holding
                if lease.reclaim_at is None and lease.notice_s is not None and lease.notice_s <= notice_s
            ]
            why = f"the owner needs more of the pool: tenants hold {excess} more than may stay"
            plan = plan_reclaim(pool_id, excess, by, askable, now, why=why, clean_s=clean_s)
            victims += plan.victims
            needed += excess
            short = plan.short
        if not victims:
            return None
        back_at = max(victim.reclaim_at for victim in victims) + timedelta(seconds=clean_s)
        return ReclaimPlan(pool_id, needed, tuple(victims), short, back_at)

    def _room(self, connection: Connection, pool_id: str, window: Window) -> int:
        """Accelerators that tenants may hold: what the owner's need leaves, and what no reclaim keeps for its asker."""
        kept = sql.capacity(connection, pool_id) - sql.held_for_owner(connection, pool_id, window)
        return max(0, min(self._ports.may_stay(connection, pool_id, window), kept))

    def _plan_for(self, connection: Connection, order: ReclaimOrder, now: datetime) -> ReclaimPlan:
        pool_id = self._pool_id(connection, order.pool)
        window = order.window
        kept = sql.capacity(connection, pool_id) - sql.held_for_owner(connection, pool_id, window)
        room = max(0, min(self._ports.may_stay(connection, pool_id, window), kept) - order.accelerators)
        holding = [
            lease
            for lease in sql.live_leases(connection, pool_id)
            if lease.state is not LeaseState.ENDING
            and lease.window.start < window.end
            and lease.deadline > max(window.start, _earliest(lease, now))
        ]
        needed = sum(lease.accelerators for lease in holding) - room
        askable = [lease for lease in holding if lease.reclaim_at is None]
        plan = plan_reclaim(
            pool_id,
            max(0, needed),
            window.start,
            askable,
            now,
            why=order.reason,
            clean_s=self._ports.timing.clean_s,
            force=order.force,
        )
        # What other reclaims keep, or what the pool does not have, no tenant can give.
        return replace(plan, short=plan.short + max(0, order.accelerators - max(0, kept)))

    def _take_back(self, step: Step) -> None:
        """Carry out a reclaim step that the planner made of rising demand."""
        lease = self.lease(step.subject)
        if step.at is None or lease.reclaim_at is not None or lease.state.terminal:
            return
        now = self._store.clock.now()
        why = str(step.details["reason"])
        plan = plan_reclaim(lease.pool_id, lease.accelerators, step.at, [lease], now, why=why)

        def write(connection: Connection) -> None:
            self._store.lock(connection, f"pool:{lease.pool_id}")
            for victim in plan.victims:
                self._transitions.give_notice(connection, victim, "planner", now)

        self._store.write(write)

    def _pool_id(self, connection: Connection, name: str) -> str:
        pool = sql.pool_named(connection, name)
        if pool is None:
            raise NotFoundError(f"there is no pool {name!r}; `sublet pool ls` lists them")
        return str(pool.id)

    def _checked(self, order: ReclaimOrder) -> datetime:
        now = self._store.clock.now()
        if not 0 < order.accelerators <= ACCELERATORS_PER_LEASE_MAX * 256:
            raise InvalidInputError("accelerators must be at least 1")
        checked_ahead(order.window.start, now)
        if order.window.end <= now:
            raise InvalidInputError(f"the window ends at {format_time(order.window.end)}, which is over")
        checked_line(order.reason, "reason, which says why the capacity is needed,", REASON_MAX, 1)
        return now

    def _stale_holds(self, now: datetime) -> bool:
        with self._store.read() as connection:
            return sql.any_stale(connection, now)


def _earliest(lease: Lease, now: datetime) -> datetime:
    """When a lease that is under notice already counts as gone: no later than a notice given now could bring it back."""
    if lease.reclaim_at is None or lease.notice_s is None:
        return now
    return now + timedelta(seconds=lease.notice_s)
