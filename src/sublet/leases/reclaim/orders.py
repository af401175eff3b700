"""Reclaims capacity for the owner, by an order or because demand has risen, and withdraws notices when the need is gone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from sqlalchemy import Connection

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases.deadlines.turns import Cause, Turns
from sublet.leases.lifecycle.transferring import Transfers
from sublet.leases.lifecycle.transitions import Transitions
from sublet.leases.model import ACCELERATORS_PER_LEASE_MAX, FirmLeaseError, Lease, LeaseState, checked_ahead
from sublet.leases.plan.waits import pauses_alone, wait_steps
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes import calendar
from sublet.leases.quotes.admission import checked_key
from sublet.leases.reclaim import store as reclaim_store
from sublet.leases.reclaim import waits as waits_sql
from sublet.leases.reclaim.moving import Targets, may_move, targets_of
from sublet.leases.reclaim.store import Rounds
from sublet.leases.reclaim.victims import (
    Occupant,
    ReclaimPlan,
    ReplicaVictim,
    Return,
    Victim,
    accelerators_of,
    plan_reclaim,
    returning,
    rising,
)
from sublet.leases.reclaim.waiting import Waits
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.surplus.rule.patience import Wait
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.ids import new_id
from sublet.values.plan import Step
from sublet.values.text import checked_line
from sublet.values.windows import Window

REASON_MAX = 500
ACTOR = "planner"
NO_LONGER = "the owner does not need it after all"


@dataclass(frozen=True, slots=True)
class ReclaimOrder:
    """An order of the owner to reclaim `accelerators` of `pool` for `window`, because of `reason`. With `force`, firm leases
    and floors can be broken."""

    pool: str
    accelerators: int
    window: Window
    reason: str
    force: bool = False


@dataclass(slots=True)
class Due:
    """What the owner's need requires in a round. `steps` update the counts of waits, and `waits` are all current waits."""

    plans: list[ReclaimPlan] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    waits: list[Wait] = field(default_factory=list)


class Reclaims:
    """Reclaims capacity. One plan chooses among leases and replicas, no matter who asks."""

    def __init__(self, store: Store, ports: LeasePorts, transitions: Transitions) -> None:
        self._store = store
        self._ports = ports
        self._transitions = transitions
        self.turns = Turns(store, ports, transitions, self._calm_room)
        self.waits = Waits(store)
        self.transfers = Transfers(store, ports, transitions)

    def preview(self, order: ReclaimOrder) -> ReclaimPlan:
        """The plan of the order. Changes nothing. Raises InvalidInputError and NotFoundError."""
        now = self._checked(order)
        with self._store.read() as connection:
            return self._plan_for(connection, order, now)

    def take(self, order: ReclaimOrder, actor: str, idempotency_key: str | None = None) -> dict[str, Any]:
        """Reclaim capacity: the victims in the plan get notice, and free capacity is held for the owner.

        Returns the plan with the reclaim's `id`. Raises FirmLeaseError and changes nothing if only firm leases or floors could
        provide enough and `force` is not set.
        """
        now = self._checked(order)
        key = checked_key(idempotency_key)

        def write(connection: Connection) -> dict[str, Any]:
            pool_id = self._pool_id(connection, order.pool)
            within = self.lock(connection, pool_id)
            if key is not None and (known := reclaim_store.reclaim_by_key(connection, actor, key)) is not None:
                asked = (pool_id, order.accelerators, order.reason, order.force)
                if (known.pool_id, known.accelerators, known.reason, bool(known.forced)) != asked:
                    raise ConflictError("this idempotency key was already used for a different reclaim; use a new key")
                return {**known.plan, "id": known.id}
            plan = self._plan_for(connection, order, now, within)
            if plan.short > 0:
                raise FirmLeaseError(
                    f"{plan.short} of {order.accelerators} accelerators are used by firm leases or reserved for model floors or "
                    "other reclaims; request fewer or a later time, or use force with a reason to evict firm leases and floors",
                    plan=plan.as_dict(),
                )
            return self.carry_out(connection, plan, order, actor, order.accelerators, key)

        return self._store.write(write)

    def carry_out(
        self,
        connection: Connection,
        plan: ReclaimPlan,
        order: ReclaimOrder,
        actor: str,
        held: int,
        key: str | None = None,
    ) -> dict[str, Any]:
        """Give notice to the victims in `plan` and store an order that holds `held` accelerators for the owner. Runs inside
        the caller's transaction, which holds the pool's lock. Returns the plan with the reclaim's `id`."""
        now = self._store.clock.now()
        for victim in plan.victims:
            self._give_notice(connection, victim, actor, now)
        reclaim_id = new_id("clm")
        reclaim_store.insert_reclaim(
            connection,
            id=reclaim_id,
            pool_id=plan.pool_id,
            accelerators=order.accelerators,
            held=held,
            start_at=order.window.start,
            end_at=order.window.end,
            actor=actor[:80],
            reason=order.reason,
            forced=int(order.force),
            plan=plan.as_dict(),
            created_at=now,
            idempotency_key=key,
        )
        fact = events.ReclaimChanged(
            reclaim_id,
            plan.pool_id,
            order.accelerators,
            order.window.start,
            order.window.end,
            len(plan.victims),
            order.force,
            order.reason,
        )
        events.RECLAIM_MADE.record(connection, fact, now, key=(reclaim_id,))
        return {**plan.as_dict(), "id": reclaim_id}

    def withdraw(self, reclaim_id: str, actor: str) -> list[Lease]:
        """Withdraw a reclaim and its notices that are not due yet. Raises NotFoundError."""
        found = self._row(reclaim_id)
        now = self._store.clock.now()
        if not self._store.write(lambda connection: reclaim_store.withdraw_reclaim(connection, reclaim_id, now)):
            return []
        replicas = [str(victim["replica_id"]) for victim in found.plan["victims"] if "replica_id" in victim]
        if replicas:
            self._store.write(
                lambda connection: [self._ports.models.withdraw(connection, item, NO_LONGER) for item in replicas]
            )
        leases = [str(victim["lease_id"]) for victim in found.plan["victims"] if "lease_id" in victim]
        return [self._withdraw_notice(lease_id, actor, NO_LONGER) for lease_id in leases]

    def _withdraw_notice(self, lease_id: str, actor: str, reason: str) -> Lease:
        with self._store.read() as connection:
            lease = sql.lease(connection, lease_id)
        if lease is not None and lease.service_s is not None:
            return self.turns.withdraw(lease_id, actor, reason)
        return self._transitions.withdraw_notice(lease_id, actor, reason)

    def page(self, wanted: PageRequest) -> Page[dict[str, Any]]:
        """A page of reclaims, newest first."""
        with self._store.read() as connection:
            return reclaim_store.reclaim_page(connection, wanted).map(_told)

    def named(self, reclaim_id: str) -> dict[str, Any]:
        """One reclaim, in the form that `page` returns. Raises NotFoundError."""
        return _told(self._row(reclaim_id))

    def _row(self, reclaim_id: str) -> Any:
        with self._store.read() as connection:
            found = reclaim_store.reclaim_named(connection, reclaim_id)
        if found is None:
            raise NotFoundError(f"there is no reclaim {reclaim_id!r}; `sublet reclaim ls` lists them")
        return found

    def due(self, connection: Connection, pool_ids: Sequence[str], leases: Sequence[Lease], now: datetime) -> Due:
        """For each pool: who gets notice because tenants hold more than they may, whose notice is withdrawn, and which of the
        owner's work waits instead."""
        here: dict[str, list[Lease]] = defaultdict(list)
        for lease in leases:
            if lease.state is not LeaseState.ENDING and not lease.waits:
                here[lease.pool_id].append(lease)
        found = Due()
        waited = {item.pool_id for item in waits_sql.begun(connection, pool_ids)}
        for pool_id in pool_ids:
            replicas = self._ports.models.occupants(connection, pool_id)
            if not here[pool_id] and not replicas and pool_id not in waited:
                continue
            waiting = self._ports.waiting(connection, pool_id, _held(here[pool_id], replicas, now))
            found.waits += waiting.waits
            found.steps += wait_steps(waiting, now)
            if not here[pool_id] and not replicas:
                continue
            plan = self._rising(connection, pool_id, here[pool_id], replicas, waiting.own_left_s > 0, now)
            if plan is not None:
                found.plans.append(plan)
            else:
                found.returns += self._returning(connection, pool_id, here[pool_id], replicas, now)
        return found

    def _rising(
        self,
        connection: Connection,
        pool_id: str,
        leases: Sequence[Lease],
        replicas: Sequence[Occupant],
        patient: bool,
        now: datetime,
    ) -> ReclaimPlan | None:
        """Who gets notice, and who is only paused. If the pool's own demand is `patient`, only what others need counts."""
        clean_s = self._ports.timing_of(connection, pool_id).clean_s
        plan_for = partial(rising, pool_id, leases, replicas, now=now, clean_s=clean_s, classes=self._ports.classes)
        targets = partial(Targets, connection, self._ports, now)
        plan = plan_for(partial(self._room, connection, pool_id), elsewhere=targets())
        if not patient or plan is None:
            return plan
        found = plan_for(partial(self._room_while_waiting, connection, pool_id), elsewhere=targets())
        known = {victim.id for victim in found.victims} if found is not None else set()
        pauses = tuple(victim for victim in pauses_alone(plan) if victim.id not in known)
        if not pauses:
            return found
        back_at = max(now + timedelta(seconds=victim.cost.drain_s) for victim in pauses)
        count = sum(victim.accelerators for victim in pauses)
        if found is None:
            return ReclaimPlan(pool_id, count, pauses, 0, back_at)
        back_at = max(back_at, found.back_at or back_at)
        return ReclaimPlan(pool_id, found.needed + count, (*found.victims, *pauses), found.short, back_at)

    def take_back(self, step: Step) -> None:
        """Carry out a reclaim step that the planner made because demand has risen. Idempotent."""
        now = self._store.clock.now()
        pool_id, why = str(step.details["pool_id"]), str(step.details["reason"])
        if step.at is None:
            return
        by = step.at

        def write(connection: Connection) -> None:
            elsewhere = Targets(connection, self._ports, now, self.lock(connection, pool_id))
            leases: list[Lease] = []
            replicas: list[Occupant] = []
            if step.details["kind"] == "replica":
                found = self._ports.models.occupants(connection, pool_id)
                replicas = [item for item in found if item.id == step.subject and item.leaving_at is None]
            else:
                lease = sql.lease(connection, step.subject)
                if lease is not None and lease.may_be_asked(by) and not lease.state.terminal:
                    leases = [lease]
            count = accelerators_of(leases, replicas)
            classes = self._ports.classes
            plan = plan_reclaim(
                pool_id, count, by, leases, now, why=why, replicas=replicas, classes=classes, elsewhere=elsewhere
            )
            for victim in plan.victims:
                self._give_notice(connection, victim, ACTOR, now)
                self._count_round(connection, pool_id, now)

        self._store.write(write)

    def give_back(self, step: Step) -> None:
        """Carry out a step that withdraws a notice. Idempotent."""
        pool_id = str(step.details["pool_id"])
        if step.details["kind"] == "replica":
            self._store.write(lambda connection: self._ports.models.withdraw(connection, step.subject, step.reason))
        else:
            self._withdraw_notice(step.subject, ACTOR, step.reason)

        def write(connection: Connection) -> None:
            known = reclaim_store.rounds(connection, pool_id)
            if known is not None:
                reclaim_store.save_rounds(connection, pool_id, replace(known, returned=True))

        self._store.write(write)

    def _give_notice(self, connection: Connection, victim: Victim | ReplicaVictim, actor: str, now: datetime) -> None:
        if isinstance(victim, Victim) and victim.lease.service_s is not None:
            lease = sql.lease(connection, victim.id) or victim.lease
            self.turns.ask_within(connection, lease, victim.reclaim_at, Cause(actor, victim.reason), now)
        elif isinstance(victim, Victim) and victim.move is not None:
            self.transfers.plan(connection, victim, actor, now)
        elif isinstance(victim, Victim):
            self._transitions.give_notice(connection, victim, actor, now)
        else:
            self._ports.models.give_notice(connection, victim.id, victim.reclaim_at, victim.reason)

    def _count_round(self, connection: Connection, pool_id: str, now: datetime) -> None:
        """Record that demand reclaimed capacity, so that repeated reclaims increase the back-off."""
        need = self._ports.need(connection, pool_id)
        known = reclaim_store.rounds(connection, pool_id)
        if known is None or now > known.taken_at:
            begun = known.again(need, now) if known is not None else Rounds(need, 1, now, returned=False)
            reclaim_store.save_rounds(connection, pool_id, begun)

    def _returning(
        self, connection: Connection, pool_id: str, leases: Sequence[Lease], replicas: Sequence[Occupant], now: datetime
    ) -> list[Return]:
        """Notices of the planner that no need justifies any more. Notices of an order are left to its owner."""
        noticed = {lease.id for lease in leases if lease.reclaim_at is not None and lease.reclaim_origin is None}
        noticed |= {item.id for item in replicas if item.leaving_at is not None}
        if not noticed:
            return []
        ordered = {
            str(victim.get("lease_id") or victim.get("replica_id"))
            for row in reclaim_store.standing_rows(connection, pool_id, now)
            for victim in row.plan["victims"]
        }
        known = reclaim_store.rounds(connection, pool_id)
        calm_s = known.calm_s if known is not None else reclaim_store.CALM_S
        why = f"the owner's need has been gone for {calm_s} s"
        found = returning(
            leases,
            replicas,
            noticed - ordered,
            lambda window: self._room(connection, pool_id, window, calm_s),
            now,
            self._ports.classes,
        )
        kinds = {item.id: "replica" for item in replicas}
        return [Return(item, pool_id, kinds.get(item, "lease"), why) for item in found]

    def _calm_room(self, connection: Connection, pool_id: str, window: Window) -> int:
        """The accelerators that tenants may hold if the need has been gone long enough to withdraw notices."""
        known = reclaim_store.rounds(connection, pool_id)
        return self._room(connection, pool_id, window, known.calm_s if known is not None else reclaim_store.CALM_S)

    def _room(self, connection: Connection, pool_id: str, window: Window, calm_s: float = 0) -> int:
        """The accelerators that tenants may hold: the capacity without the owner's need and without what reclaims hold. What is held
        for leases that are going to move in is theirs, from when it is held on."""
        kept = sql.capacity(connection, pool_id) - reclaim_store.held_for_owner(connection, pool_id, window)
        coming = calendar.moving_in(connection, pool_id, window, self._store.clock.now())
        return max(0, min(self._ports.may_stay(connection, pool_id, window, calm_s), kept) - coming)

    def _room_while_waiting(self, connection: Connection, pool_id: str, window: Window) -> int:
        kept = sql.capacity(connection, pool_id) - reclaim_store.held_for_owner(connection, pool_id, window)
        coming = calendar.moving_in(connection, pool_id, window, self._store.clock.now())
        return max(0, min(self._ports.room_while_waiting(connection, pool_id, window), kept) - coming)

    def lock(self, connection: Connection, pool_id: str) -> frozenset[str]:
        """Lock the pool and, if one of its leases may move, its target pools, in the order of their ids. Returns the locked
        pools."""
        movable = any(may_move(lease) for lease in sql.live_leases(connection, pool_id))
        found = targets_of(connection, self._ports, pool_id) if movable else []
        locked = frozenset({pool_id, *(str(pool.id) for pool in found)})
        for name in sorted(locked):
            self._store.lock(connection, f"pool:{name}")
        return locked

    def _plan_for(
        self, connection: Connection, order: ReclaimOrder, now: datetime, within: frozenset[str] | None = None
    ) -> ReclaimPlan:
        pool_id = self._pool_id(connection, order.pool)
        window = order.window
        kept = sql.capacity(connection, pool_id) - reclaim_store.held_for_owner(connection, pool_id, window)
        room = max(0, min(self._ports.may_stay(connection, pool_id, window, 0), kept) - order.accelerators)
        leases = [
            lease
            for lease in sql.live_leases(connection, pool_id)
            if lease.state is not LeaseState.ENDING
            and not lease.waits
            and lease.window.start < window.end
            and lease.deadline > max(window.start, _earliest(lease, now))
        ]
        replicas = self._ports.models.occupants(connection, pool_id)
        rented = [item for item in replicas if not item.protected and not _leaves(item, window.start, now)]
        coming = calendar.moving_in(connection, pool_id, window, now)
        needed = max(0, accelerators_of(leases, rented) + coming - room)
        floors = [item for item in replicas if item.protected]
        # Floors must give what neither the rest of the pool nor its tenants can.
        from_floors = max(0, order.accelerators - max(0, kept - sum(item.accelerators for item in floors)))
        from_floors = min(from_floors, sum(item.accelerators for item in floors))
        plan = plan_reclaim(
            pool_id,
            needed + from_floors,
            window.start,
            [lease for lease in leases if lease.may_be_asked(window.start)],
            now,
            why=order.reason,
            clean_s=self._ports.timing_of(connection, pool_id).clean_s,
            force=order.force,
            replicas=[item for item in (*rented, *floors) if item.leaving_at is None],
            classes=self._ports.classes,
            elsewhere=Targets(connection, self._ports, now, within),
        )
        # No tenant can give what other reclaims hold, or what the pool does not have.
        return replace(plan, short=plan.short + max(0, order.accelerators - max(0, kept)))

    def elsewhere(self, connection: Connection, now: datetime, within: frozenset[str] | None = None) -> Targets:
        """Where leases could move instead of ending. `within` are the pools that the caller has locked, None where nothing is
        going to change."""
        return Targets(connection, self._ports, now, within)

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
            raise InvalidInputError(f"the window ends at {format_time(order.window.end)}, which is in the past")
        checked_line(order.reason, "reason, which says why the capacity is needed,", REASON_MAX, 1)
        return now


def _held(leases: Sequence[Lease], replicas: Sequence[Occupant], now: datetime) -> int:
    """The accelerators that tenants hold now, including leases under notice."""
    present = [lease for lease in leases if lease.window.start <= now < lease.deadline]
    rented = [item for item in replicas if not item.protected and (item.leaving_at is None or item.leaving_at > now)]
    return accelerators_of(present, rented)


def _earliest(lease: Lease, now: datetime) -> datetime:
    """When a lease under notice already counts as gone: no later than a notice given now would end it."""
    if lease.reclaim_at is None or lease.notice_s is None:
        return now
    return now + timedelta(seconds=lease.notice_s)


def _leaves(item: Occupant, by: datetime, now: datetime) -> bool:
    """Whether a replica that drains or is under notice is gone no later than a notice given now would end it."""
    return item.leaving_at is not None and item.leaving_at <= max(by, now + timedelta(seconds=item.drain_s))


def _told(row: Any) -> dict[str, Any]:
    return {
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
