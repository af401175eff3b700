"""One truth about a pool's capacity: what the owner needs of it, who holds it, what may stay, and what may still be sold.

The surplus, admission, the reclaim plan and the models' planner all ask here, so that they can't disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from sqlalchemy import Connection

from sublet.config.settings import Settings
from sublet.demand.model import Claim
from sublet.demand.service import Demand
from sublet.fleet import store as fleet_sql
from sublet.fleet.model import Pool
from sublet.fleet.service import Fleet
from sublet.leases import unit_store as unit_sql
from sublet.leases.backends import registry
from sublet.leases.deadlines import store as deadline_sql
from sublet.leases.maintenance import store as maintenance_sql
from sublet.leases.model import Timing
from sublet.leases.quotes import calendar
from sublet.leases.reclaim import store as reclaims_sql
from sublet.leases.reclaim import waits as waits_sql
from sublet.leases.reclaim.victims import Occupant
from sublet.models import store as models_sql
from sublet.models.model import DRAIN_S, Replica
from sublet.models.placement import floor_places, floor_replicas
from sublet.models.service import Models
from sublet.store import Store
from sublet.surplus.blocks.service import BlockBook
from sublet.surplus.model import Absence, PoolFacts, Promised, Sold, StandingBlock, Standings
from sublet.surplus.ports import Quota
from sublet.surplus.record import store as surplus_sql
from sublet.surplus.rule import ladder as rule
from sublet.surplus.rule.blocks import kept_for_tenants
from sublet.surplus.rule.patience import PatienceTerms, Waiting, find_waiting, room_for_tenants, with_patience_left
from sublet.surplus.rule.view import View
from sublet.surplus.service import Surplus
from sublet.values.clock import format_time, to_micros
from sublet.values.plan import Step
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window
from sublet.wiring.booked import BookedCalendar
from sublet.wiring.booked import sold as entry
from sublet.wiring.owned import stated_of

REPLICA_WINDOW = timedelta(hours=24)
SUSTAINED_S = 45
"""The owner's need takes capacity back once it has lasted this long: three of the usual samples, so that a spike of 20
seconds that two of them show takes nothing."""
SPARSE_S = 120
"""Samples further apart than this each count by themselves: to wait for a second one would cost the owner minutes."""
ROUNDING = 1e-9
BLOCKS_MAX = 1_000
"""Blocks whose beginnings and ends the plan shows."""

_OF_SALES = frozenset(
    {
        "audit_entries",
        "fences",
        "idempotent_answers",
        "lease_transitions",
        "leases",
        "ledger_alerts",
        "ledger_holds",
        "outbox_events",
        "quotes",
        "unit_states",
    }
)
"""The tables that a sale writes: what is sold is read again for each decision, and the rest of a view does not rest on them."""

Room = Callable[[Pool, Window, Connection], int]
"""(pool, window, connection) to how many more leases' accelerators the backend can serve, beyond what the calendar says."""


class Capacity:
    """Answers questions about capacity for the parts that sell, reclaim and scale. `room` is what backends can serve, which
    also depends on resources that the calendar does not know, such as disk."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        fleet: Fleet,
        demand: Demand,
        models: Models,
        room: Room,
        timing_of: Callable[[str], Timing] = lambda backend: Timing(),
        quota: Quota = lambda pool_id, class_name, window, connection: None,
    ) -> None:
        self._settings = settings
        self.classes = settings.service_classes
        self.rented = self.classes[settings.models.service_class]
        self._clock = store.clock
        self._store = store
        self._fleet = fleet
        self._demand = demand
        self.blocks = BlockBook(demand)
        self._models = models
        self._room = room
        self._timing_of = timing_of
        self.surplus = Surplus(
            demand,
            self.facts,
            self.book,
            self.classes.values(),
            self._clock,
            _learned,
            self.free,
            _standings,
            self.blocks.kept_off,
            self.orders,
            quota,
            self._unchanged,
        )

    # -- what the surplus counts with

    def _unchanged(self, pool_id: str, connection: Connection) -> Hashable | None:
        """Changes with anything that `facts`, samples, claims or records say of a pool, but not with sales."""
        state = self._store.state(connection, _OF_SALES)
        # Of the states of accelerators, which sales change too, the surplus counts only those in quarantine.
        return None if state is None else (state, unit_sql.quarantined_count(connection, pool_id))

    def pool_facts(self, pool_id: str) -> PoolFacts:
        """The facts about a pool for the surplus, by its id or name. Raises NotFoundError."""
        with self._store.read() as connection:
            return self.facts(pool_id, connection)

    def facts(self, pool_id: str, connection: Connection) -> PoolFacts:
        """The facts about a pool, as the caller's transaction sees it."""
        pool = self._fleet.pool(pool_id, connection)
        stated = stated_of(pool)
        now = self._clock.now()
        capacity, kept = pool.capacity(now), self.floors(connection, pool.id) + stated.reserve
        return PoolFacts(
            pool.id,
            pool.name,
            capacity,
            never_sell=kept if stated.relet else capacity,
            failure_reserve=stated.failure_reserve if stated.relet else 0,
            relet=stated.relet,
            absences=self._absences(connection, pool, now),
            quarantined=unit_sql.quarantined_count(connection, pool.id),
            reclaims=tuple(
                Claim(row.id, pool.id, row.held, Window(row.start_at, row.end_at), row.reason, row.created_at)
                for row in reclaims_sql.standing_rows(connection, pool.id, now)
                if row.held > 0
            ),
            back_off=reclaims_sql.back_off(connection, pool.id, now),
            patience_s=stated.patience_s,
            blocks=tuple(
                StandingBlock(item.id, item.accelerators, item.window, item.min_price_nano, item.currency)
                for item in self.blocks.standing(connection, pool.id, now)
            ),
            pauses="pauses" in registry.features_of(self._settings, pool.backend),
        )

    def book(self, pool_id: str, connection: Connection) -> Sequence[Sold]:
        """Everything that is sold or held of a pool: leases, quotes, and replicas beyond the floors, which rent from Sublet."""
        sold = self.leased(pool_id, connection)
        beside = self.rented_replicas(pool_id, connection)
        if not beside:
            return sold
        return sold.and_beside(beside) if isinstance(sold, BookedCalendar) else [*sold, *beside]

    def rented_replicas(self, pool_id: str, connection: Connection) -> list[Sold]:
        """What replicas beyond the floors rent of a pool: until they leave, or for the next REPLICA_WINDOW."""
        now = self._clock.now()
        rented: dict[datetime, int] = {}
        for occupant in self.occupants(connection, pool_id):
            if not occupant.protected:
                until = max(occupant.leaving_at or now + REPLICA_WINDOW, now + timedelta(seconds=1))
                rented[until] = rented.get(until, 0) + occupant.accelerators
        return [Sold(count, self.rented.name, Window(now, until)) for until, count in rented.items()]

    def leased(self, pool_id: str, connection: Connection) -> Sequence[Sold]:
        """What leases and quotes hold of a pool, without its replicas."""
        now = self._clock.now()
        known = calendar.remembered(connection, pool_id, now)
        if known is not None:
            return BookedCalendar(known, now)
        return [entry(*row) for row in calendar.book_rows(connection, pool_id, now)]

    def orders(self, pool_id: str, connection: Connection) -> list[Promised]:
        """Orders of a pool with a deadline that are promised or held and not completed."""
        return deadline_sql.promised(connection, pool_id, self._clock.now())

    def free(self, pool_id: str, window: Window, connection: Connection) -> int:
        """Accelerators that nobody holds at any time of `window`, limited by what the backend can serve."""
        pool = self._fleet.pool(pool_id, connection)
        fenced = self._timing_of(pool.backend).fence(window)
        count = calendar.free_count(connection, pool.id, fenced, self._clock.now())
        return max(0, min(count, self._room(pool, window, connection)))

    def occupants(self, connection: Connection, pool_id: str) -> list[Occupant]:
        """The replicas on a pool. Those of a floor are protected, because the operator pays for them."""
        everywhere = models_sql.live_replicas(connection)
        live = [item for item in everywhere if item.pool_id == pool_id and item.accelerators]
        if not live:
            return []
        lost = self._models.lost(connection, everywhere)
        live = [item for item in live if item.id not in lost]
        pool = self._fleet.pool(pool_id, connection)
        rate_nano = round(pool.price_nano * self.rented.price_ratio)
        found = [item for item in everywhere if item.id not in lost and item.accelerators]
        kept = floor_replicas(models_sql.all_deployments(connection), found)
        return [
            Occupant(
                id=item.id,
                model=item.model,
                accelerators=item.accelerators,
                rate_nano=rate_nano,
                currency=pool.currency,
                drain_s=round(DRAIN_S),
                leaving_at=_leaving_at(item, self._clock.now()),
                protected=item.id in kept,
                class_name=self.rented.name,
            )
            for item in live
        ]

    # -- what may stay

    def may_stay(self, connection: Connection, pool_id: str, window: Window, calm_s: float = 0) -> int:
        """Accelerators that tenants may go on holding over `window`, replicas beyond the floors included: what neither the
        owner's need nor a claim, a reclaim, maintenance or a loss takes; what blocks keep off the owner, in any case.

        A short burst takes nothing back: need and losses count once they have lasted SUSTAINED_S seconds. With `calm_s` they
        count at their worst of so many seconds: what fits then may be given back to who was under notice. What is kept for
        accelerators that fail is what tenants go on with when some do.
        """
        view = self.surplus.view(pool_id, self._clock.now(), connection)
        needed, working = self._lasting(connection, view, calm_s)
        if not calm_s:
            return room_for_tenants(self._as_patient(connection, view), window, needed, working)
        # Nobody gets a notice back, or is resumed, in the place of a claim that merely waits.
        view = replace(view, claims=tuple(replace(claim, patience_s=0) for claim in view.claims))
        return max(rule.staying(view, window, needed, working), kept_for_tenants(view.facts, working, window))

    def room_while_waiting(self, connection: Connection, pool_id: str, window: Window) -> int:
        """The same where the pool's own demand waits for whatever tenants hold: what claims, reclaims, maintenance and losses
        leave."""
        view = self._as_patient(connection, self.surplus.view(pool_id, self._clock.now(), connection))
        return room_for_tenants(view, window, 0.0, self._lasting(connection, view, 0)[1])

    def waiting(self, connection: Connection, pool_id: str, held: int) -> Waiting:
        """Which of the owner's work waits if tenants hold `held` accelerators now, as far as patience allows."""
        now = self._clock.now()
        terms = self._patience(connection, pool_id)
        patient = terms.patience_s or terms.begun
        if not patient and not any(item.patience_s for item in self._demand.claims(pool_id, None, connection)):
            return Waiting()
        view = self.surplus.view(pool_id, now, connection)
        needed, working = self._lasting(connection, view, 0)
        calm_room = self.may_stay(connection, pool_id, Window.starting(now, 1), reclaims_sql.CALM_S)
        return find_waiting(view, terms, held, needed, working, calm_room)

    def _as_patient(self, connection: Connection, view: View) -> View:
        """The view with every claim as patient as its team still may be today."""
        if not any(claim.patience_s for claim in view.claims):
            return view
        return with_patience_left(view, self._patience(connection, view.facts.pool_id))

    def _patience(self, connection: Connection, pool_id: str) -> PatienceTerms:
        """Which work may wait on a pool today, and for how long."""
        now = self._clock.now()
        stated = stated_of(self._fleet.pool(pool_id, connection))
        begun = {item.claim_id: item for item in waits_sql.begun(connection, [pool_id])}
        waited_s = waits_sql.waited_s(connection, pool_id, now)
        for item in begun.values():
            waited_s[item.team] = waited_s.get(item.team, 0.0) + item.uncounted_s(now)
        return PatienceTerms(stated.patience_s, stated.patience_times_a_day, begun, waited_s)

    def need(self, connection: Connection, pool_id: str) -> float:
        """The owner's need as it has lasted, in accelerators."""
        return self._lasting(connection, self.surplus.view(pool_id, self._clock.now(), connection), 0)[0]

    def _lasting(self, connection: Connection, view: View, calm_s: float) -> tuple[float, float]:
        """The owner's need and the accelerators that work: at their best of SUSTAINED_S, at their worst of `calm_s`."""
        if calm_s and view.stale:
            return math.inf, 0.0
        begin = view.at - timedelta(seconds=calm_s or SUSTAINED_S)
        seen = self._demand.history(
            view.facts.pool_id, begin - timedelta(seconds=SPARSE_S), view.at + timedelta(microseconds=1), connection
        )
        if not len(seen):
            return view.in_use, view.working
        # A sample stands until the next one, so the last one before the span tells how the span began; one alone is no
        # proof that it lasted.
        first = int(np.searchsorted(seen.times_us, to_micros(begin), side="right")) - 1
        first = max(0, first if calm_s else min(first, len(seen) - 2))
        need, capacity = seen.in_use[first:], seen.capacity[first:]
        if calm_s:
            return float(need.max()), float(capacity.min())
        return float(need.min()), float(capacity.max())

    # -- what replicas may occupy

    def model_room(self, connection: Connection, pool_id: str) -> int:
        """Accelerators that replicas may occupy in all: what they occupy, the floors, and what their class may sell beyond.

        They grow where their class is on sale, and shrink by notice alone, as leases do.
        """
        used = sum(item.accelerators for item in self.occupants(connection, pool_id))
        return used + self.model_spare(connection, pool_id)

    def model_spare(self, connection: Connection, pool_id: str) -> int:
        """Accelerators that replicas may grow by: into floors that are not filled, and into what their class may sell."""
        now = self._clock.now()
        occupants = self.occupants(connection, pool_id)
        filled = sum(item.accelerators for item in occupants if item.protected)
        used = sum(item.accelerators for item in occupants)
        hour = Window(now, now + timedelta(hours=1))
        book = self.book(pool_id, connection)
        rentable = self.surplus.sellable(pool_id, self.rented.name, hour, sold=book, connection=connection)
        spare = max(0, self.floors(connection, pool_id) - filled) + rentable.count
        return max(0, min(spare, self.model_limit(connection, pool_id) - used))

    def model_limit(self, connection: Connection, pool_id: str) -> int:
        """The most that replicas may occupy, including floors: the working accelerators without those that the owner reclaimed
        with force; nothing if the pool's node does not respond."""
        now = self._clock.now()
        if pool_id in self._models.away(connection):
            return 0
        pool = self._fleet.pool(pool_id, connection)
        soon = Window.starting(now, DRAIN_S)
        forced = reclaims_sql.held_for_owner(connection, pool_id, soon, forced_only=True)
        # Floors are the operator's own: they leave when its maintenance begins.
        away = sum(
            item.count
            for item in self._absences(connection, pool, now)
            if item.window.start < soon.end and item.window.end > soon.start
        )
        return max(0, pool.capacity(now) - forced - away)

    def stated_maintenance(self, pool: str | None = None) -> list[dict[str, Any]]:
        """What the settings of pools state and is not over, of one pool (id or name) or of all. Raises NotFoundError."""
        now = self._clock.now()
        return [
            {
                "pool_id": item.id,
                "accelerators": window.accelerators or item.accelerators,
                "start": format_time(window.start),
                "end": format_time(window.end),
                "reason": window.reason,
            }
            for item in (self._fleet.pools() if pool is None else [self._fleet.pool(pool)])
            for window in stated_of(item).maintenance
            if window.end > now
        ]

    def _absences(self, connection: Connection, pool: Pool, now: datetime) -> tuple[Absence, ...]:
        """Maintenance that is not over, from the settings or scheduled by the operator."""
        stated = [
            Absence(item.accelerators or pool.accelerators, Window(item.start, item.end), item.reason)
            for item in stated_of(pool).maintenance
            if item.end > now
        ]
        planned = maintenance_sql.standing(connection, pool.id, now)
        return (*stated, *(Absence(item.accelerators, item.window, item.reason) for item in planned))

    def pending(self) -> list[Step]:
        """When claims, blocks and maintenance begin and end."""
        now = self._clock.now()
        found = []
        for claim in self._demand.claims():
            why = f"{claim.count} claimed: {claim.reason or 'no reason was given'}"
            found += _edges("claim", claim.id, why, claim.window, now)
        with self._store.read() as connection:
            blocks = self.blocks.standing(connection, None, now, BLOCKS_MAX)
            windows = maintenance_sql.standing(connection, None, now)
        for block in blocks:
            why = f"{block.accelerators} of its pool are for sale{f': {block.reason}' if block.reason else ''}"
            found += _edges("block", block.id, why, block.window, now)
        for planned in windows:
            why = f"{planned.accelerators} away: {planned.reason}"
            found += _edges("maintenance", planned.id, why, planned.window, now)
        for pool in self._fleet.pools():
            for item in stated_of(pool).maintenance:
                why = f"{item.accelerators or 'all'} of {pool.name} away: {item.reason}"
                found += _edges("maintenance", pool.name, why, Window(item.start, item.end), now)
        return found

    def floors(self, connection: Connection, pool_id: str) -> int:
        """What the floors of the models occupy: the operator pays for it, so it is never sold. A floor of a deployment on several
        pools is kept where its replicas are, and as far as they are missing on the first pool that has room for them."""
        deployed = [
            item
            for item in models_sql.all_deployments(connection)
            if item.floor and item.state == "active" and item.pool_ids
        ]
        if not any(pool_id in item.pool_ids for item in deployed):
            return 0
        catalog = self._models.catalog(connection)
        places: Mapping[tuple[str, str], int]
        if all(len(item.pool_ids) == 1 for item in deployed):
            places = {(item.id, item.pool_id): item.floor for item in deployed}
        else:
            replicas = models_sql.live_replicas(connection)
            lost = self._models.lost(connection, replicas)
            here = [item for item in replicas if item.id not in lost]
            known = {pool.id for pool in fleet_sql.all_pools(connection)}
            pool_ids = {one for item in deployed for one in item.pool_ids} & known
            limit = {one: self.model_limit(connection, one) for one in sorted(pool_ids)}
            places = floor_places(deployed, here, catalog, limit)
        needs = {item.id: catalog[item.model].accelerators for item in deployed if item.model in catalog}
        return sum(count * needs.get(owner, 0) for (owner, place), count in places.items() if place == pool_id)


def _edges(kind: str, subject: str, why: str, window: Window, now: datetime) -> list[Step]:
    if window.end <= now:
        return []
    over = Step(f"{kind}_ends", subject, why, window.end)
    return [Step(f"{kind}_begins", subject, why, window.start), over] if window.start > now else [over]


def _learned(pool_id: str, connection: Connection) -> Mapping[str, Any] | None:
    return surplus_sql.learned(connection, pool_id)


def _standings(pool_id: str, classes: Sequence[ServiceClass], patience_hours: int, connection: Connection) -> Standings:
    return surplus_sql.standings(connection, pool_id, classes, patience_hours)


def _leaving_at(replica: Replica, now: datetime) -> datetime | None:
    if replica.state == "draining":
        return replica.drain_deadline or now + timedelta(seconds=DRAIN_S)
    return replica.reclaim_at
