"""Gathers what the console's first page shows, at one moment, from every domain."""

from __future__ import annotations

import math
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np

from sublet.config.data_dir import running_system
from sublet.console import model as view
from sublet.console.figures import duration, moment
from sublet.demand.model import Series
from sublet.fleet.model import Pool
from sublet.gateway.store import recent_minutes
from sublet.leases.model import Lease
from sublet.leases.store import ended_since, live_leases
from sublet.ledger.budgets.standing import Standing, standings
from sublet.ledger.rating import figures
from sublet.reporting.messages import Messages
from sublet.store.paging import PageRequest
from sublet.surplus.model import HOUR_S, Ladder
from sublet.surplus.rule.earned import kind_text, opens, state_of
from sublet.surplus.rule.view import View
from sublet.values.clock import from_micros, to_micros
from sublet.values.errors import NotFoundError
from sublet.values.money import Money
from sublet.values.plan import Plan
from sublet.wiring.system import Sublet

PAST = timedelta(hours=24)
POINTS_MAX = 288
FORECAST_HOURS = 6
FORECAST_QUANTILE = 0.99
PATHS_MIN = 20
GAP_S_MIN = 120.0
RHYTHM_MIN = 3
MODELS_WINDOW_S = 300
ENDED_MAX = 2_000
UPCOMING = timedelta(hours=1)
UPCOMING_MAX = 10
BUDGETS_MAX = 5
WAITS_MAX = 14
FRESH = timedelta(seconds=2)


class Overviews:
    """Makes an Overview when asked."""

    def __init__(self, system: Sublet, health: Callable[[], dict[str, Any]]) -> None:
        self._system = system
        self._health = health
        self._lock = threading.Lock()
        self._last: view.Overview | None = None

    def now(self) -> view.Overview:
        """The system as it is now, or was less than FRESH ago: however many look, it is gathered by one at a time.

        Raises what the database raises.
        """
        with self._lock:
            at = self._system.clock.now()
            if self._last is None or not timedelta() <= at - self._last.as_of < FRESH:
                self._last = self._gather(at)
            return self._last

    def _gather(self, at: datetime) -> view.Overview:
        system = self._system
        names = {item.id: item.name for item in system.accounts.organizations()}
        pools = [pool for pool in system.fleet.pools() if pool.offline_at is None]
        pool_names = {pool.id: pool.name for pool in pools}
        with system.store.read() as connection:
            live = live_leases(connection)
            ended = ended_since(connection, list(pool_names), at - PAST, ENDED_MAX)
        facts = {pool.id: system.surplus.view(pool.id, at) for pool in pools}
        health = self._health()
        shown = tuple(_lease(lease, names, pool_names, at) for lease in live)
        return view.Overview(
            as_of=at,
            pools=tuple(self._pool(pool, facts[pool.id], [*live, *ended], at) for pool in pools),
            leases=shown,
            models=self._models(at),
            money=self._money(at),
            plan=_next(system.plan(), shown, at),
            alerts=(
                *self._alerts(health, pools),
                *(alert for pool in pools for alert in _unseen(pool, facts[pool.id])),
                *(alert for pool in pools for alert in _stopped(pool, facts[pool.id])),
                *_taken_back(live, pool_names, at),
            ),
            processes=self._processes(health),
            models_window_s=MODELS_WINDOW_S,
            budgets=self.budgets(rows_max=BUDGETS_MAX),
            blocks=self._blocks(pool_names, at),
        )

    def _blocks(self, pools: dict[str, str], at: datetime) -> tuple[view.BlockView, ...]:
        """The newest blocks that are neither withdrawn nor over."""
        found = []
        for item in self._system.blocks.page(standing_only=True).items:
            block, hours, rented = item.block, 0.0, 0.0
            for span, sold in item.schedule:
                left_h = max(0.0, (span.end - max(span.start, at)).total_seconds() / HOUR_S)
                hours += left_h * block.accelerators
                rented += left_h * min(sold, block.accelerators)
            found.append(
                view.BlockView(
                    block.id,
                    pools.get(block.pool_id, block.pool_id),
                    block.accelerators,
                    item.sold_now,
                    rented / hours if hours else 0.0,
                    block.state(at).value,
                    block.window.start,
                    block.window.end,
                    block.reason,
                )
            )
        return tuple(found)

    def budgets(
        self, query: view.BudgetsQuery = view.BudgetsQuery(), rows_max: int = view.ROWS_MAX
    ) -> view.BudgetsView:
        """Live budgets as they stand in their present periods, at most `rows_max` of them."""
        at = self._system.clock.now()
        with self._system.store.read() as connection:
            found = standings(connection, at, find=query.find, order=query.order, offset=query.offset, limit=rows_max)
            messages = Messages(connection, found.items)
        rows = tuple(_budget(item, messages) for item in found.items)
        return view.BudgetsView(at, rows, found.many, found.refusing, found.passed, found.near, query)

    def record(self, pool: str | None) -> view.RecordView:
        """The record of one pool, by name or id; of the first where none is named. Raises NotFoundError."""
        names = pool_names(self._system)
        found = next((item for item in names.items() if pool in (None, *item)), None)
        if found is None and pool is not None:
            raise NotFoundError(f"there is no pool {pool!r}; choose another one")
        at = self._system.clock.now()
        record = self._system.record.of(*found) if found else None
        return view.RecordView(at, tuple(names.values()), record, self._waits(found[0]) if found else ())

    def _waits(self, pool_id: str) -> tuple[view.WaitsLine, ...]:
        """What the owner's own work waited for on a pool, the newest day first."""
        found = self._system.leases.owner_waits(pool_id, PageRequest(WAITS_MAX)).items
        teams = {item.id: item.name for item in self._system.accounts.organizations()} if found else {}
        return tuple(
            view.WaitsLine(
                item.day,
                teams.get(item.team, item.team) or "the pool’s own demand",
                item.waits,
                item.waited_s / HOUR_S,
                item.accelerator_s / HOUR_S,
            )
            for item in found
        )

    def _pool(self, pool: Pool, facts: View, leases: Sequence[Lease], at: datetime) -> view.PoolView:
        system = self._system
        history = system.demand.history(pool.id, at - PAST, at)
        ladder = system.surplus.ladder(pool.id, at)
        sold = _SoldOver(
            pool, leases, sum(item.accelerators for item in system.models.serving() if item.pool_id == pool.id)
        )
        on_sale = _on_sale(ladder)
        loosest = system.capacity.classes.loosest
        spare = dict(on_sale).get(loosest, 0)
        points = (*_observed(pool, history, sold, at), *_expected(pool, facts, sold, spare, at))
        return view.PoolView(
            id=pool.id,
            name=pool.name,
            generation=pool.generation,
            site=pool.site,
            capacity=pool.capacity(at),
            own_demand_now=float(history.in_use[-1]) if len(history) else None,
            points=points,
            classes=sold.classes(item.name for item in system.capacity.classes.on_sale),
            on_sale=on_sale,
            withheld=_withheld(ladder, loosest),
            forecast_quantile=FORECAST_QUANTILE,
            away=tuple(view.AwayView(one.window, one.count, one.reason) for one in facts.facts.absences),
            gap_s=max(_gap_s(points), 4 * system.settings.demand.sample_interval_s),
            sample_interval_s=system.settings.demand.sample_interval_s,
        )

    def _models(self, at: datetime) -> tuple[view.ModelView, ...]:
        system = self._system
        with system.store.read() as connection:
            minutes = recent_minutes(connection, at - timedelta(seconds=MODELS_WINDOW_S))
        names = {pool.id: pool.name for pool in system.fleet.pools()}
        found = []
        for row in system.models.rows():
            if row.deployment is None:
                continue
            mine = [minute for minute in minutes if minute["model"] == row.entry.name]
            requests = sum(minute["requests"] for minute in mine)
            # A minute in which no request got a token, because all failed, has 0 here.
            first = [minute["ttft_ms_p50"] for minute in mine if minute["ttft_ms_p50"]]
            ready = [replica for replica in row.replicas if row.state_of(replica) == "ready"]
            states = [row.state_of(replica) for replica in row.replicas]
            answering = Counter(replica.pool_id for replica in ready)
            found.append(
                view.ModelView(
                    name=row.entry.name,
                    replicas=len(ready),
                    state="ready" if ready else states[0] if states else "stopped",
                    tokens_per_s=sum(minute["tokens_output"] for minute in mine) / MODELS_WINDOW_S,
                    requests=requests,
                    ttft_ms=int(sorted(first)[len(first) // 2]) if first else None,
                    replicas_wanted=row.deployment.target,
                    pools=tuple((names[one], answering[one]) for one in row.deployment.pool_ids if one in names),
                    lost=tuple(sorted(Counter(node or "a removed node" for node in row.lost.values()).items())),
                )
            )
        return tuple(found)

    def _money(self, at: datetime) -> tuple[view.MoneyView, ...]:
        day = at.replace(hour=0, minute=0, second=0, microsecond=0)
        month = day.replace(day=1)
        with self._system.store.read() as connection:
            earned = figures.earned(connection, month, at + timedelta(days=1))
            today = figures.earned(connection, day, at + timedelta(days=1))
            owed = figures.balance(connection, "receivable")
            unbilled = figures.balance(connection, "unbilled")
            penalties = figures.balance(connection, "penalties")
        currency_of = {item.id: item.currency for item in self._system.accounts.organizations()}
        currencies = sorted(
            {item.currency for item in earned} | {currency_of[one] for one in owed if one in currency_of}
        )
        views = []
        for currency in currencies or ["USD"]:
            mine = [item for item in earned if item.currency == currency]
            by_product: dict[str, int] = defaultdict(int)
            by_class: dict[str, int] = defaultdict(int)
            for item in mine:
                by_product[item.product] += item.nano
                by_class[item.dimensions.get("class") or item.dimensions.get("model") or item.product] += item.nano
            views.append(
                view.MoneyView(
                    today=Money(sum(item.nano for item in today if item.currency == currency), currency),
                    this_month=Money(sum(item.nano for item in mine), currency),
                    credits=Money(_sum_of(penalties, currency_of, currency), currency),
                    open=Money(
                        _sum_of(owed, currency_of, currency) + _sum_of(unbilled, currency_of, currency), currency
                    ),
                    by_product=tuple((name, Money(nano, currency)) for name, nano in sorted(by_product.items())),
                    by_class=tuple((name, Money(nano, currency)) for name, nano in sorted(by_class.items())),
                )
            )
        return tuple(views)

    def _alerts(self, health: dict[str, Any], pools: Sequence[Pool]) -> tuple[view.Alert, ...]:
        alerts = [
            view.Alert("warning", f"the {loop['name']} loop failed and will be retried: {loop['last_error']}")
            for loop in health["failing"]
        ]
        for unit in self._system.leases.quarantined():
            alerts.append(
                view.Alert(
                    "critical", f"accelerator {unit.unit_id} is in quarantine: {unit.reason or 'not proved clean'}"
                )
            )
        for pool in pools:
            gone = pool.accelerators - pool.in_service
            if gone:
                alerts.append(
                    view.Alert("info", f"{gone} of {pool.accelerators} accelerators of {pool.name} are out of service")
                )
        return tuple(alerts)

    def _processes(self, health: dict[str, Any]) -> tuple[view.ProcessView, ...]:
        state = running_system(self._system.settings.data_dir) or {}
        alive = state.get("processes", {})
        shown = [view.ProcessView("control", "ok" if health["ok"] else "degraded")]
        if not state:
            return tuple(shown)
        for name, detail in (
            ("gateway", "the model API is not responding; leases are not affected"),
            ("engines", "no model is responding; leases are not affected"),
        ):
            up = name in alive
            shown.append(view.ProcessView(name, "ok" if up else "down", "" if up else detail))
        return tuple(shown)


def pool_names(system: Sublet) -> dict[str, str]:
    """Names of the pools that are online, by id."""
    return {pool.id: pool.name for pool in system.fleet.pools() if pool.offline_at is None}


class _SoldOver:
    """How much of a pool was or will be sold at a moment, by class."""

    def __init__(self, pool: Pool, leases: Sequence[Lease], replicas: int) -> None:
        self._leases = [lease for lease in leases if lease.pool_id == pool.id and lease.state.value not in _NEVER_HELD]
        self._replicas = replicas

    def ends(self) -> list[datetime]:
        """When leases end or are taken back."""
        return [lease.deadline for lease in self._leases]

    def at(self, moment: datetime, now: datetime) -> view.Sold:
        counts: dict[str, float] = defaultdict(float)
        for lease in self._leases:
            end = min(lease.deadline, lease.ended_at or lease.deadline)
            if lease.window.start <= moment < end:
                counts[lease.class_name] += lease.accelerators
        # Replicas have no history here: they are shown from the present on.
        model = float(self._replicas) if moment >= now - timedelta(minutes=5) else 0.0
        return view.Sold(dict(counts), model)

    def classes(self, known: Iterable[str]) -> tuple[str, ...]:
        """The classes `known`, and those that leases were sold in and that the settings no longer have."""
        return tuple(dict.fromkeys((*known, *sorted(lease.class_name for lease in self._leases))))


_NEVER_HELD = ("rejected", "canceled", "failed", "requested")


def _observed(pool: Pool, history: Series, sold: _SoldOver, at: datetime) -> list[view.PoolPoint]:
    """What was seen of the past day, in at most POINTS_MAX points, each the highest demand of its slot, the last one now."""
    if not len(history):
        return []
    start_us = int(history.times_us[0])
    slot_us = max(1, (to_micros(at) - start_us) // POINTS_MAX + 1)
    slots = (history.times_us - start_us) // slot_us
    points = []
    edges = np.flatnonzero(np.diff(slots)) + 1
    for piece in np.split(np.arange(len(history)), edges):
        first = from_micros(int(history.times_us[piece[0]]))
        demand = float(history.in_use[piece].max())
        points.append(
            view.PoolPoint(first, float(history.capacity[piece[-1]]), demand, sold.at(first, at), on_sale=None)
        )
    if points[-1].at < at:
        points.append(
            view.PoolPoint(at, float(pool.capacity(at)), float(history.in_use[-1]), sold.at(at, at), on_sale=None)
        )
    return points


def _gap_s(points: Sequence[view.PoolPoint]) -> float:
    """How far apart two points may stand before there is a gap: a distance that recurs is a rhythm, not a gap."""
    minutes = Counter(
        round((after.at - before.at).total_seconds() / 60) for before, after in pairwise(points) if not after.forecast
    )
    usual = max((minute for minute, times in minutes.items() if times >= RHYTHM_MIN), default=0)
    return max(GAP_S_MIN, 90.0 * usual)


def _expected(pool: Pool, facts: View, sold: _SoldOver, on_sale: int, at: datetime) -> list[view.PoolPoint]:
    """The next hours: demand now and the quantile of its rise as the rule sells by it, None where too little is known; and
    what is claimed or taken back."""
    quantile: dict[int, float | None] = {}
    for hour in range(1, FORECAST_HOURS + 1):
        rise = None if facts.stale else facts.outlook(hour * HOUR_S, firm=True).rise(FORECAST_QUANTILE)
        # What may come within a shorter time may come within a longer one.
        quantile[hour] = None if rise is None else max(rise, quantile.get(hour - 1) or 0.0)
    needs = [*facts.claims, *facts.facts.reclaims]
    edges = {timedelta(hours=hour) for hour in range(FORECAST_HOURS + 1)}
    edges |= {end - at for end in sold.ends() if at < end < at + timedelta(hours=FORECAST_HOURS)}
    points = []
    for ahead in sorted(edges):
        moment = at + ahead
        claimed = sum(
            claim.count - facts.claims_met.get(claim.id, 0.0)
            for claim in needs
            if claim.withdrawn_at is None and claim.window.contains(moment)
        )
        rise = quantile[min(FORECAST_HOURS, math.ceil(ahead.total_seconds() / HOUR_S))] if ahead else 0.0
        demand = facts.in_use + rise + claimed if rise is not None else None
        held = sold.at(moment, at)
        capacity = float(pool.capacity(moment))
        room = None if demand is None else capacity - facts.facts.never_sell - held.total - demand
        left = float(on_sale) if not ahead else None if room is None else float(max(0, math.floor(room)))
        points.append(view.PoolPoint(moment, capacity, demand, held, left, forecast=True))
    return points


def _on_sale(ladder: Ladder) -> tuple[tuple[str, int], ...]:
    found: dict[str, int] = {}
    for rung in ladder.alone:
        found[rung.class_name] = max(found.get(rung.class_name, 0), rung.count)
    return tuple(found.items())


def _withheld(ladder: Ladder, loosest: str) -> tuple[view.Withheld, ...]:
    """Why the rest is not on sale, for the least strict class, over the shortest window."""
    rungs = [rung for rung in ladder.alone if rung.class_name == loosest]
    if not rungs:
        return ()
    shortest = min(rungs, key=lambda rung: rung.window_s)
    return tuple(view.Withheld(item.count, item.sentence.removeprefix(f"{item.count} ")) for item in shortest.withheld)


def _stopped(pool: Pool, facts: View) -> list[view.Alert]:
    """That the monitor stopped a kind of promise, and when it may open again."""
    return [
        view.Alert("warning", f"{pool.name}: {kind_text(stood)} is not sold: {opens(stood, facts.at)}")
        for _, stood in sorted((facts.standings or {}).items())
        if state_of(stood, facts.at) == "stopped"
    ]


def _unseen(pool: Pool, facts: View) -> list[view.Alert]:
    """That nothing can be sold because the owner's demand is not seen. A pool that was never seen is a new one, and no alert."""
    if not facts.stale or facts.sample_age_s is None:
        return []
    age = duration(facts.sample_age_s)
    return [
        view.Alert(
            "warning",
            f"the last sample of {pool.name} is {age} old: none of its capacity is sold until new samples of the owner's "
            "demand arrive",
            facts.at - timedelta(seconds=facts.sample_age_s),
        )
    ]


def _taken_back(leases: Sequence[Lease], pools: dict[str, str], at: datetime) -> list[view.Alert]:
    """What the owner takes back now, pool by pool."""
    found: dict[str, list[Lease]] = defaultdict(list)
    for lease in leases:
        if lease.reclaim_at is not None:
            found[lease.pool_id].append(lease)
    alerts = []
    for pool_id, taken in found.items():
        many = sum(lease.accelerators for lease in taken)
        by = max(lease.deadline for lease in taken)
        moving = sum(lease.move is not None for lease in taken)
        counts = ((len(taken) - moving, "end", "ends"), (moving, "move to another pool", "moves to another pool"))
        whose = " and ".join(f"{n} leases {these}" if n > 1 else f"1 lease {one}" for n, these, one in counts if n)
        what = f"{many} accelerator{'' if many == 1 else 's'} of {pools.get(pool_id, pool_id)}"
        alerts.append(view.Alert("warning", f"the owner is reclaiming {what}: {whose} by {moment(by, at)} UTC"))
    return alerts


def _next(plan: Plan, leases: Sequence[view.LeaseView], at: datetime) -> tuple[view.PlanLine, ...]:
    """The planner's next steps, what waits but for leases, then the leases that end within UPCOMING."""
    steps = [view.PlanLine(step.at, step.kind, step.subject, step.reason) for step in plan.steps]
    shown = {lease.id for lease in leases}
    waiting = [
        step for step in plan.pending if step.subject not in shown and (step.at is None or step.at <= at + UPCOMING)
    ]
    steps += [view.PlanLine(step.at, step.kind, step.subject, step.reason) for step in waiting[:UPCOMING_MAX]]
    planned = {step.subject for step in steps if step.kind in ("end", "stop", "abandon")}
    ends = sorted(
        (lease for lease in leases if lease.id not in planned and at < lease.over_at <= at + UPCOMING),
        key=lambda lease: (lease.over_at, lease.id),
    )
    for lease in ends[:UPCOMING_MAX]:
        why = "its window ends" if lease.reclaim_at is None else "reclaimed by the owner"
        what = f"{lease.accelerators} of {lease.pool}, {lease.organization}"
        steps.append(view.PlanLine(lease.over_at, "end", lease.id, f"{what}: {why}"))
    return tuple(steps)


def _lease(lease: Lease, names: dict[str, str], pools: dict[str, str], at: datetime) -> view.LeaseView:
    return view.LeaseView(
        id=lease.id,
        organization=names.get(lease.organization_id, lease.organization_id),
        pool=pools.get(lease.pool_id, lease.pool_id),
        class_of_service=lease.class_name,
        accelerators=lease.accelerators,
        state=lease.state.value,
        starts_at=lease.window.start,
        ends_at=lease.window.end,
        reclaim_at=lease.reclaim_at if lease.move is None else None,
        seconds_left=max(0.0, (lease.deadline - at).total_seconds()),
    )


def _budget(item: Standing, messages: Messages) -> view.BudgetView:
    budget = item.budget
    key = f"{item.key_name} …{item.key_hint}" if item.key_hint else ""
    return view.BudgetView(
        id=budget.id,
        organization=item.organization,
        scope=budget.scope,
        subject=key or budget.scope_id,
        period=budget.period,
        limit=Money(budget.limit_nano, item.currency),
        spent=Money(item.state.spent_nano, item.currency),
        held=Money(item.state.held_nano, item.currency),
        hard=budget.hard,
        prepaid=budget.prepaid,
        credit=budget.credit,
        resets_at=item.resets_at,
        thresholds=budget.thresholds,
        told=tuple(view.Told(told.percent, told.at, messages.trouble(told)) for told in item.told),
        channels=messages.channels(budget.organization_id, budget.id),
    )


def _sum_of(balances: dict[str, int], currency_of: dict[str, str], currency: str) -> int:
    return sum(nano for organization, nano in balances.items() if currency_of.get(organization) == currency)
