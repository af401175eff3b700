"""Decides rounds, keeps them, and carries them out on pools that are acted on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection

from sublet.allocation import store as sql
from sublet.allocation.chargeback.service import Chargeback, Known
from sublet.allocation.mix.decide import decide
from sublet.allocation.mix.program import Solver
from sublet.allocation.model import FRESH, ROUNDS_KEPT, Facts, Round, nearest
from sublet.allocation.ports import AllocationPorts
from sublet.allocation.pricing import priced_low
from sublet.allocation.report.service import Report
from sublet.allocation.worth import explained
from sublet.store import Store
from sublet.values.errors import NotFoundError
from sublet.values.plan import Plan, Step

log = structlog.get_logger(__name__)

SCALE = "scale_model"
RELEASE = "release_model"
"""To give a model's scale back to the automatic choice, because yield does not act on all of its pools any more."""

ASKED_DAYS = 28
SETTLED = timedelta(minutes=10)
"""After this, every quote of an hour was accepted or has expired."""
HOURS_PER_ROUND_MAX = 48

Price = Callable[[], float | None]
"""The list price per accelerator-hour, asked for only where a quota depends on it."""


class Allocation:
    """Yield on one database. Rounds are decided by one control plane at a time."""

    def __init__(
        self,
        store: Store,
        ports: AllocationPorts,
        chargeback: Chargeback,
        report: Report,
        solver_s: float = 5.0,
    ) -> None:
        self._store = store
        self.chargeback = chargeback
        self.report = report
        self._ports = ports
        self._solver = Solver(solver_s)
        self._lock = threading.Lock()

    def facts(self) -> Facts:
        """What is known now."""
        since = self._store.clock.now() - timedelta(days=ASKED_DAYS)
        with self._store.read() as connection:
            asked = sql.asked_since(connection, since)
            hours = sql.counted_hours(connection, since)
        return self._ports.observe(asked, float(hours))

    def decide(self) -> Round:
        """The best mix now. Nothing is carried out. Raises UnusableStateError."""
        facts = self.facts()
        with self._lock:
            return Round(facts, decide(facts.state, self._solver))

    def latest(self) -> dict[str, Any] | None:
        """The document of the last round that was kept; None before the first."""
        with self._store.read() as connection:
            return sql.last_round(connection)

    def explain(self, pool: str) -> dict[str, Any]:
        """What an hour of a pool (id or name) is worth, and why. Raises NotFoundError."""
        found = self.decide()
        for name, pool_id in found.facts.pool_ids.items():
            if pool in (name, pool_id):
                since = self._store.clock.now() - timedelta(days=ASKED_DAYS)
                with self._store.read() as connection:
                    rows = sql.asked_since(connection, since)
                currency = found.mix.currency
                return explained(
                    found, name, [row for row in rows if row.pool_id == pool_id and row.currency == currency]
                )
        raise NotFoundError(
            f"yield knows no pool {pool!r}: there is none, or its mode is off; set allocation.mode or pools.allocation to advise"
        )

    # -- rounds

    def tick(self) -> Plan:
        """Count the quotes of hours that are over, decide a round if any pool is not off, keep it, and carry it out on pools
        that are acted on. Then book the hours that are over.

        Safe to repeat; a round that fails changes nothing, and the last one stands until it is old."""
        self.count_quotes()
        facts = self.facts()
        now = self._store.clock.now()
        if facts.modes:
            with self._lock:
                found = Round(facts, decide(facts.state, self._solver))
            plan, document, limits = self.plan(found), found.as_dict(), found.limits()
        else:
            plan, document, limits = Plan(now, tuple(self._released({}))), None, []

        def keep(connection: Connection) -> None:
            if document is not None:
                sql.save_round(connection, now, document)
            sql.replace_limits(connection, limits)
            sql.forget_before(connection, now - ROUNDS_KEPT)

        self._store.write(keep)
        self.carry_out(plan)
        names = {pool_id: name for name, pool_id in facts.pool_ids.items()}
        self.chargeback.tick(Known(facts.state, names, lambda: self._priced_low(facts)))
        return plan

    def _priced_low(self, facts: Facts) -> dict[str, float]:
        """What the best prices would add an hour, by pool name."""
        since = self._store.clock.now() - timedelta(days=ASKED_DAYS)
        with self._store.read() as connection:
            asked = sql.asked_since(connection, since)
        return priced_low(facts, asked)

    def plan(self, found: Round) -> Plan:
        """The steps that bring the scales of models to what the round decided."""
        with self._store.read() as connection:
            before = sql.scale_of(connection)
        wanted = found.wanted()
        moves = {item.model: item.said(found.mix.currency) for item in reversed(found.mix.moves)}
        steps = [
            Step(SCALE, model, moves.get(model, f"{model} keeps its replicas"), None, {"replicas": count})
            for model, count in wanted.items()
            if before.get(model) != count
        ]
        return Plan(found.mix.at, (*steps, *self._released(wanted, before)))

    def carry_out(self, plan: Plan) -> None:
        """Request the scales. Each step is one transaction, and repeatable."""
        now = self._store.clock.now()
        for step in plan.steps:
            replicas: int | None = step.details["replicas"] if step.kind == SCALE else None

            def write(connection: Connection, model: str = step.subject, replicas: int | None = replicas) -> bool:
                self._store.lock(connection, "deployments")
                before = sql.scale_of(connection).get(model)
                set_to = self._ports.set_scale(connection, model, replicas, before)
                sql.save_scale(connection, model, set_to, now)
                return set_to == replicas

            if self._store.write(write):
                log.info("model scaled by yield", model=step.subject, replicas=replicas, reason=step.reason)

    def _released(self, wanted: Mapping[str, int], before: Mapping[str, int] | None = None) -> list[Step]:
        if before is None:
            with self._store.read() as connection:
                before = sql.scale_of(connection)
        return [
            Step(RELEASE, model, f"yield does not act on all pools of {model}")
            for model in sorted(before)
            if model not in wanted
        ]

    def count_quotes(self) -> int:
        """Count the quotes of every hour that is settled and not yet counted. Returns how many hours were."""
        now = self._store.clock.now()
        end = _hour(now - SETTLED)
        with self._store.read() as connection:
            last = sql.last_hour(connection)
        begin = (
            max(last + timedelta(hours=1), end - timedelta(hours=HOURS_PER_ROUND_MAX))
            if last
            else end - timedelta(hours=1)
        )
        counted = 0
        while begin < end:
            with self._store.read() as connection:
                rows = list(self._ports.quotes(connection, begin, begin + timedelta(hours=1)))

            def write(connection: Connection, hour: datetime = begin, rows: list[Any] = rows) -> None:
                self._store.lock(connection, "allocation")
                sql.count_hour(connection, hour, rows)

            self._store.write(write)
            begin += timedelta(hours=1)
            counted += 1
        return counted

    # -- what acting means for others

    def room(self, connection: Connection) -> dict[str, int]:
        """What replicas may occupy, by the id of each pool that is acted on; without a fresh round, nothing is limited."""
        return sql.rooms(connection, self._store.clock.now() - FRESH)

    def allowed(self, connection: Connection, product: tuple[str, str, float], price: Price) -> int | None:
        """How many more accelerators of a product (pool, class, hours) may be sold; None: as many as the surplus rule allows,
        because its price is worth it, or because nothing limits it."""
        pool_id, class_name, hours = product
        found = sql.limits_of(connection, pool_id, self._store.clock.now() - FRESH)
        own = {float(item["hours"]): item for item in found.quotas if item["class"] == class_name} if found else {}
        if found is None or not own:
            return None
        length = nearest(list(own), hours)
        asked = price()
        if asked is None or asked >= float(own[length]["bid"]):
            return None
        sold = self._ports.sold_since(connection, (pool_id, class_name, length), found.at)
        return max(0, int(own[length]["count"]) - sold)


def _hour(moment: datetime) -> datetime:
    return moment.replace(minute=0, second=0, microsecond=0)
