"""The control plane: the API, the console, and the loops of plan-then-act."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Annotated, Any

import structlog
from fastapi import APIRouter, Depends, FastAPI, Query, Request, Response
from fastapi.responses import HTMLResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from sublet.accounts import api as accounts_api
from sublet.accounts import audit_api
from sublet.accounts.auditing import RETENTION
from sublet.accounts.limits import api as limits_api
from sublet.accounts.limits.service import Limits
from sublet.accounts.model import Require
from sublet.accounts.people import api as people_api
from sublet.allocation import api as allocation_api
from sublet.api import wire
from sublet.api.contract import describe
from sublet.api.http import bearer_secret, check_permissions, frame, requirement
from sublet.api.reference import add_reference
from sublet.console.charging import chargeback_router
from sublet.console.elsewhere import elsewhere_router
from sublet.console.frame import Pages
from sublet.console.pages import router as console_router
from sublet.console.passkeys import passkey_router
from sublet.console.playground import playground_router
from sublet.console.signing import signing_router
from sublet.console.usage import UsagePages, usage_router
from sublet.control.collecting import Collecting
from sublet.control.gpus import GpuWatch
from sublet.control.loops import Loop
from sublet.control.metrics import EXPOSITION, ControlMetrics, Requests
from sublet.control.telling import Telling
from sublet.control.tenants import tenants
from sublet.control.watching import Watching
from sublet.demand import api as demand_api
from sublet.demand.feeds.local import LocalSampler
from sublet.demand.imports import Import
from sublet.demand.model import Sample
from sublet.demand.service import Demand, Recorded
from sublet.desk.actuals import Actuals, worth
from sublet.desk.report.actuals_page import actuals_json
from sublet.fleet import api as fleet_api
from sublet.fleet.leadership import STAND_INTERVAL_S
from sublet.fleet.nodes import Nodes
from sublet.leases import api as leases_api
from sublet.leases.backends.registry import on_this_machine
from sublet.leases.blocks import api as blocks_api
from sublet.leases.images import api as images_api
from sublet.leases.jobs import api as jobs_api
from sublet.leases.maintenance import api as maintenance_api
from sublet.leases.volumes import api as volumes_api
from sublet.leases.waitlist import api as waitlist_api
from sublet.ledger import api as ledger_api
from sublet.ledger.invoices.month_end import close_due
from sublet.models import api as models_api
from sublet.models.routes import api as model_routes_api
from sublet.notifications import api as notifications_api
from sublet.reporting import bookings_api, offered_api
from sublet.reporting.actuals import recent_actuals, recent_page
from sublet.reporting.backlog import contracted
from sublet.reporting.chatting import playing
from sublet.reporting.console_pages import console_pages, doors_of
from sublet.reporting.overview import Overviews, pool_names
from sublet.store import audit, once
from sublet.store.ballast import Ballast
from sublet.surplus import api as surplus_api
from sublet.values.addresses import is_direct
from sublet.values.plan import Plan
from sublet.values.wire import as_answer
from sublet.wiring.owned import stated_of
from sublet.wiring.system import Sublet

log = structlog.get_logger(__name__)

RATING_INTERVAL_S = 2.0
BOOKKEEPING_INTERVAL_S = 60.0
OUTBOX_INTERVAL_S = 0.5
LETTERS_INTERVAL_S = 2.0
WATCHING_INTERVAL_S = 10.0
WARM_INTERVAL_S = 1.0
WARM_BUDGET_S = 0.3
WARM_AGAIN_S = 60.0
"""How often a pool is looked at again: an import makes it learn again."""
RECORD_INTERVAL_S = 1.0
RECORD_BUDGET_S = 0.3
"""A third of one core at most goes into what the shadow still has to live through: until then nothing is sold that can't be taken
back. Once it is there, an hour takes milliseconds."""
NIGHTLY_S = 24 * 3600
FLEET_INTERVAL_S = 30.0
DISK_INTERVAL_S = 1.0
MONTHS_INTERVAL_S = 600.0
YIELD_INTERVAL_S = 600.0
"""How often the mix is decided: models start and drain in minutes."""
COLLECTING_INTERVAL_S = 10.0
WAITLIST_INTERVAL_S = 5.0
GPUS_INTERVAL_S = 10.0
LED = ("fleet", "rating", "bookkeeping", "months", "record", "outbox", "letters", "watching-all", "yield", "waitlist")
"""What one control plane does for all of them; pools are led each by itself."""
PLANS_KEPT = 20
PUSHED_S = 60.0
"""While somebody else tells a pool's demand, as a collector does, this machine's own load is not sampled as its demand."""


class ControlPlane:
    """The loops and their latest results."""

    def __init__(self, system: Sublet) -> None:
        self.system = system
        self.settings = system.settings
        self._lock = threading.Lock()
        self._plans: list[Plan] = []
        self._record_turn = 0
        self._warm_at: dict[str, datetime] = {}
        self._samplers: dict[str, LocalSampler] = {}
        self._pushed_at: dict[str, datetime] = {}
        self._collecting = Collecting(system)
        self._telling = Telling(system)
        self._gpus = GpuWatch(system)
        clock = system.clock
        tick_s = self.settings.control.tick_s
        self.loops = [
            Loop("fleet", FLEET_INTERVAL_S, self._fleet, clock),
            # Nothing is sold before the owner's need was seen: the first samples come at once.
            Loop("demand", self.settings.demand.sample_interval_s, self._sample, clock),
            Loop("collecting", COLLECTING_INTERVAL_S, self._collecting.round, clock),
            Loop("gpus", GPUS_INTERVAL_S, self._watch_gpus, clock),
            Loop("disk", DISK_INTERVAL_S, Ballast(self.settings.data_dir).tend, clock),
            Loop("leases", tick_s, self._leases, clock),
            Loop("models", tick_s, self._models, clock),
            self._led("rating", RATING_INTERVAL_S, self._rate),
            self._led("bookkeeping", BOOKKEEPING_INTERVAL_S, self._keep_books),
            self._led("months", MONTHS_INTERVAL_S, self._close_months),
            Loop("warming", WARM_INTERVAL_S, self._warm, clock),
            self._led("record", RECORD_INTERVAL_S, self._record),
            self._led("outbox", OUTBOX_INTERVAL_S, self._telling.round),
            self._led("letters", LETTERS_INTERVAL_S, self._send_letters),
            self._led("yield", YIELD_INTERVAL_S, self._yield),
            self._led("waitlist", WAITLIST_INTERVAL_S, self._offer),
        ]
        watching = Watching(system, self.loops)
        self.loops += [
            Loop("watching", WATCHING_INTERVAL_S, watching.own_round, clock),
            self._led("watching-all", WATCHING_INTERVAL_S, watching.led_round),
        ]
        if not system.store.is_sqlite:
            self.loops.insert(0, Loop("leadership", STAND_INTERVAL_S, self._stand, clock))

    def start(self) -> None:
        """Check the machine once, repair what a crash left behind, then start the loops. Raises the errors of the first check."""
        self._stand()
        self.system.sync_fleet()
        # What was just written down may be led as well.
        self._stand()
        for loop in self.loops:
            loop.start()

    def stop(self) -> None:
        """End the loops, and resign as the leader so that another control plane can take over at once."""
        for loop in self.loops:
            loop.stop()
        self._telling.stop()
        self.system.leadership.resign()

    def _led(self, name: str, interval_s: float, work: Callable[[], None]) -> Loop:
        """A loop that does its work where this control plane leads it; of several on one database one does."""

        def round_() -> None:
            if self.system.leadership.leads(name):
                work()

        return Loop(name, interval_s, round_, self.system.clock, leads=lambda: self.system.leadership.leads(name))

    def _stand(self) -> None:
        with self.system.store.read() as connection:
            shared = self.system.reach.shared(connection)
        self.system.leadership.stand([*LED, *shared])

    def plans(self) -> list[Plan]:
        """The last plans that had steps, newest first."""
        with self._lock:
            return list(reversed(self._plans))

    def note_push(self, pool_id: str) -> None:
        """Samples of the pool came in from outside just now."""
        with self._lock:
            self._pushed_at[pool_id] = self.system.clock.now()

    def _is_pushed(self, pool_id: str) -> bool:
        with self._lock:
            last = self._pushed_at.get(pool_id)
        return last is not None and (self.system.clock.now() - last).total_seconds() < PUSHED_S

    def health(self) -> dict[str, Any]:
        """Whether every loop works, and since when not."""
        failing = [loop.as_dict() for loop in self.loops if loop.failures_running]
        backends = self.system.leases.backends()
        answering = all(backend["state"] == "closed" for backend in backends)
        return {
            "ok": not failing and answering,
            "failing": failing,
            "backends": backends,
            "ledger": self.system.ledger.health(),
        }

    def _fleet(self) -> None:
        self.system.sync_fleet()

    def _mine(self) -> frozenset[str]:
        """The pools that this control plane acts on now."""
        with self.system.store.read() as connection:
            return self.system.reach.pools(connection)

    def _sample(self) -> None:
        mine = self._mine()
        for pool in self.system.fleet.pools():
            if (
                pool.id not in mine
                or not on_this_machine(self.settings, pool.backend)
                or pool.offline_at is not None
                or not pool.in_service
                or self._is_pushed(pool.id)
                or self._collecting.feeds(pool.name)
            ):
                continue
            sampler = self._samplers.get(pool.id)
            if sampler is None:
                sampler = LocalSampler(self.system.clock, pool.accelerators, lambda: tenants(self.settings))
                self._samplers[pool.id] = sampler
            sample = sampler.sample()
            if sample is not None:
                self.system.demand.record_samples(pool.id, [sample])

    def _leases(self) -> None:
        plan, outcome = self.system.leases.tick()
        if plan.steps:
            self._remember(plan)
        for step, reason in outcome.failed:
            log.warning("step_failed", kind=step.kind, subject=step.subject, reason=reason)

    def _models(self) -> None:
        plan = self.system.models.plan(*self.system.room(), reach=self.system.reach)
        if plan.steps:
            self._remember(plan)
            self.system.models.carry_out(plan, self.system.capacity.model_spare)

    def _yield(self) -> None:
        plan = self.system.allocation.tick()
        if plan.steps:
            self._remember(plan)

    def _watch_gpus(self) -> None:
        self._gpus.round()

    def _offer(self) -> None:
        for entry in self.system.leases.waitlist.tend():
            log.info("waitlist_offered", entry=entry.id, quote=entry.quote_id, lease=entry.lease_id)

    def _rate(self) -> None:
        self.system.ledger.rate()

    def _send_letters(self) -> None:
        if self.settings.mail.host:
            self.system.send_letters()

    def _keep_books(self) -> None:
        self.system.ledger.expire(timedelta(hours=self.settings.billing.grace_hours))
        once.forget(self.system.store, self.system.clock.now())
        self.system.sessions.forget()
        self.system.elsewhere.forget()
        self.system.passkeys.forget()
        kept_since = self.system.clock.now() - RETENTION
        self.system.store.write(lambda connection: audit.forget(connection, kept_since))
        self._telling.forget()
        # The last proof is in the books themselves: the books are proved even if the service is restarted every day.
        last = self.system.ledger.proved_at()
        if last is None or (self.system.clock.now() - last).total_seconds() >= NIGHTLY_S:
            proof = self.system.ledger.prove_nightly()
            if not proof.ok:
                log.error("books_differ", proof=proof.as_dict())

    def _close_months(self) -> None:
        billing = self.settings.billing
        if billing.close_months:
            for closed in close_due(self.system.ledger, timedelta(hours=billing.grace_hours)):
                number = closed.invoice["number"] if closed.invoice else None
                log.info("month_closed", month=closed.period.label, invoice=number)

    def _record(self) -> None:
        """The shadow of each pool lives through what was recorded since; pools take turns."""
        pools = [pool.id for pool in self.system.fleet.pools() if pool.offline_at is None]
        if pools:
            self._record_turn = (self._record_turn + 1) % len(pools)
            first = self._record_turn
            self.system.record.advance([*pools[first:], *pools[:first]], RECORD_BUDGET_S)

    def _warm(self) -> None:
        """Learn what forecasts stand on before the first quote after a start or an import needs it; within a budget, so that
        requests that come meanwhile are answered."""
        now, until = self.system.clock.now(), time.monotonic() + WARM_BUDGET_S
        online = {pool.id for pool in self.system.fleet.pools() if pool.offline_at is None}
        self._warm_at = {
            pool_id: at
            for pool_id, at in self._warm_at.items()
            if pool_id in online and (now - at).total_seconds() < WARM_AGAIN_S
        }
        for pool_id in sorted(online - set(self._warm_at)):
            left_s = until - time.monotonic()
            if left_s <= 0 or not self.system.surplus.warm(pool_id, left_s):
                return
            self._warm_at[pool_id] = now

    def _remember(self, plan: Plan) -> None:
        with self._lock:
            self._plans.append(plan)
            del self._plans[:-PLANS_KEPT]


class PushedDemand(Demand):
    """Demand as the API has it: what is pushed is noted, so that local sampling steps back."""

    def __init__(self, plane: ControlPlane) -> None:
        super().__init__(plane.system.store, plane.settings.demand.history_days)
        self._plane = plane

    def record_samples(self, pool_id: str, samples: Sequence[Sample]) -> Recorded:
        recorded = super().record_samples(pool_id, samples)
        self._plane.note_push(pool_id)
        return recorded

    def undo_import(self, import_id: str) -> Import:
        undone = super().undo_import(import_id)
        self._plane.system.record.forget(undone.pool_id)
        return undone


def _demand_routes(system: Sublet, plane: ControlPlane, require: Require) -> APIRouter:
    fleet = system.fleet
    return demand_api.router(
        PushedDemand(plane),
        require,
        system.clock.now,
        lambda pool: fleet.pool(pool).id,
        lambda pool_id: fleet.pool(pool_id).accelerators,
        system.check_teams,
    )


def build_api(system: Sublet, plane: ControlPlane) -> FastAPI:
    """Every route of the control plane."""
    api = frame("Sublet")
    require = requirement(system.accounts)
    clock_now = system.clock.now
    api.include_router(accounts_api.router(system.accounts, require))
    api.include_router(limits_api.router(Limits(system.store), require))
    api.include_router(audit_api.router(system.store, require))
    api.include_router(people_api.router(system.accounts, system.people, require))
    api.include_router(fleet_api.router(system.fleet, require))
    api.include_router(bookings_api.router(system, require))
    api.include_router(fleet_api.node_router(Nodes(system.store), clock_now, require))
    api.include_router(_demand_routes(system, plane, require))
    api.include_router(surplus_api.router(system.surplus, require, clock_now))
    api.include_router(surplus_api.record_router(system.record, lambda: pool_names(system), require))
    api.include_router(surplus_api.trial_router(system.demand, lambda: _tried(system), require, clock_now))
    api.include_router(allocation_api.router(system.allocation, require))
    _add_leases(api, system, require)
    _add_blocks(api, system, require)
    _add_models(api, system, require)
    api.include_router(ledger_api.router(system.ledger, require))
    _add_notifications(api, system, require)
    _add_console(api, system, plane)
    _add_metrics(api, system, plane)

    @api.get("/health")
    def health() -> wire.Liveness:
        """Show whether the control plane works. No key is needed."""
        return as_answer(wire.Liveness, {"ok": plane.health()["ok"]})

    @api.get("/v1/health", dependencies=[Depends(require("system:read"))])
    def full_health() -> wire.Health:
        """Show the state of every loop and backend, what fails and since when, and the state of the books."""
        return as_answer(wire.Health, {**plane.health(), "loops": [loop.as_dict() for loop in plane.loops]})

    @api.get("/v1/desk/worth", dependencies=[Depends(require("desk:read"))])
    def worth_line(days: Annotated[int, Query(ge=1, le=3660)] = 30) -> wire.Worth:
        """Show what was earned in the last days, per accelerator-hour and per IT watt and year, and what others earn."""
        line, *others = (worth(item) for item in recent(days))
        told = [{**asdict(other), "sentence": other.sentence} for other in others]
        return as_answer(wire.Worth, {**asdict(line), "sentence": line.sentence, "other_currencies": told})

    def recent(days: int) -> list[Actuals]:
        return recent_actuals(system, days)

    @api.get("/v1/desk/actuals", dependencies=[Depends(require("desk:read"))])
    def actuals_figures(days: Annotated[int, Query(ge=1, le=3660)] = 30) -> wire.ActualFigures:
        """Show what was earned in the last days by pool, channel and customer, with the backlog, units and sources.

        The currency with the most accelerator-hours comes first, the others are under `other_currencies`. Each `statement`
        reconciles its currency with the journal.
        """
        first, *others = (actuals_json(item, system.clock.now().date()) for item in recent(days))
        return as_answer(wire.ActualFigures, {**first, "other_currencies": others})

    @api.get("/v1/desk/actuals.html", dependencies=[Depends(require("desk:read"))], response_class=HTMLResponse)
    def actuals_page(days: Annotated[int, Query(ge=1, le=3660)] = 30) -> HTMLResponse:
        """Show the same figures as one self-contained page."""
        return HTMLResponse(recent_page(system, days))

    @api.get("/v1/plan", dependencies=[Depends(require("plans:read"))])
    def next_plan() -> wire.Plans:
        """Show what would be done next, before it is done, and the last plans that were carried out."""
        last = [plan.as_dict() for plan in plane.plans()]
        return as_answer(wire.Plans, {"next": system.plan().as_dict(), "last": last})

    check_permissions(api)
    describe(api)
    add_reference(api)
    return api


def _tried(system: Sublet) -> list[surplus_api.TriedPool]:
    """The pools with what their settings keep in reserve."""
    stated = [(pool, stated_of(pool)) for pool in system.fleet.pools()]
    return [surplus_api.TriedPool(pool.id, pool.name, item.reserve + item.failure_reserve) for pool, item in stated]


def _add_notifications(api: FastAPI, system: Sublet, require: Require) -> None:
    api.include_router(
        notifications_api.router(system.notifications, system.accounts.organization, system.leases.lease, require)
    )
    api.include_router(notifications_api.leave_router(system.notifications))


def _add_leases(api: FastAPI, system: Sublet, require: Require) -> None:
    api.include_router(leases_api.router(system.leases, require))
    api.include_router(volumes_api.router(system.leases.volumes, require))
    api.include_router(images_api.router(system.leases.images, require))
    api.include_router(jobs_api.router(system.leases.jobs, require))
    api.include_router(waitlist_api.router(system.leases.waitlist, require))


def _add_models(api: FastAPI, system: Sublet, require: Require) -> None:
    api.include_router(models_api.router(system.models, require, system.fleet))
    api.include_router(model_routes_api.router(system.routes, require))
    api.include_router(offered_api.router(system, require))


def _add_blocks(api: FastAPI, system: Sublet, require: Require) -> None:
    api.include_router(blocks_api.router(system.blocks, require, lambda name: system.accounts.organization(name).id))
    api.include_router(maintenance_api.router(system.maintenance, system.capacity.stated_maintenance, require))

    @api.get("/v1/backlog", dependencies=[Depends(require("books:read"))], tags=["ledger"])
    def backlog() -> wire.BacklogByMonth:
        """Show what is contracted but not yet delivered, by month: leases that are not over, at the prices at which they
        were sold."""
        return as_answer(wire.BacklogByMonth, {"months": [month.as_dict() for month in contracted(system)]})


def _add_console(api: FastAPI, system: Sublet, plane: ControlPlane) -> None:
    shown = console_pages(system, Overviews(system, plane.health))
    pages, doors = Pages(shown), doors_of(system)
    api.include_router(signing_router(doors, pages))
    api.include_router(passkey_router(doors, pages))
    api.include_router(elsewhere_router(doors, pages))
    api.include_router(usage_router(system.sessions, pages, UsagePages(system.ledger, system.accounts)))
    api.include_router(chargeback_router(system.sessions, pages, system.allocation.chargeback))
    api.include_router(playground_router(system.sessions, playing(system)))
    api.include_router(console_router(system.accounts, system.sessions, pages, shown))


def _add_metrics(api: FastAPI, system: Sublet, plane: ControlPlane) -> None:
    requests = Requests()
    api.add_middleware(_Measured, requests=requests)
    figures = ControlMetrics(system, plane.loops, requests)

    @api.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        """Figures for Prometheus: for this machine, or with the operator's key."""
        if not is_direct(request.client.host if request.client else "", request.headers):
            system.accounts.authenticate(bearer_secret(request) or None).require("system:read")
        return Response(figures.exposition(), media_type=EXPOSITION)


class _Measured:
    """Starlette makes its middleware itself; this one measures into what it is given."""

    def __init__(self, app: ASGIApp, requests: Requests) -> None:
        self._app = requests.around(app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)
