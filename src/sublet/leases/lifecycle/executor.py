"""Carries out a plan, one step at a time. The process may be killed between any two steps: the next plan starts from what is
observed then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby

import structlog

from sublet.leases import store as sql
from sublet.leases.backends.base import (
    Backend,
    BackendFailedError,
    IsolationUnavailableError,
    Observation,
    RunState,
    SoftIsolationError,
    StartOrder,
)
from sublet.leases.backends.job import JOB_DONE
from sublet.leases.images.service import order_of as image_order
from sublet.leases.jobs import store as jobs_sql
from sublet.leases.lifecycle.handing import hand_back
from sublet.leases.lifecycle.lanes import Lanes
from sublet.leases.lifecycle.transitions import Transitions
from sublet.leases.model import ACCELERATOR_FAILED, Lease, LeaseState, OnReclaim, Outage, WrongStateError
from sublet.leases.plan.engines import engine_facts, reserve_order
from sublet.leases.plan.planner import KINDS
from sublet.leases.reclaim.orders import Reclaims
from sublet.store import Store
from sublet.values.clock import format_time, parse_time
from sublet.values.egress import EgressPolicy
from sublet.values.errors import InvalidInputError, NotFoundError, StorageFullError, SubletError
from sublet.values.plan import Plan, Step

ACTOR = "planner"
STOP_GRACE_S = 2.0
SLOW_KINDS = frozenset(
    {
        "stop",
        "pause",
        "hand_back",
        "transfer",
        "resume",
        "prepare",
        "start",
        "restart",
        "replace",
        "shrink",
        "fail",
        "abandon",
        "reap",
        "reserve",
        "release",
        "forget",
    }
)
NOT_OURS = "another process acts on this pool by now"
_log = structlog.get_logger("sublet.leases")


@dataclass(slots=True)
class Outcome:
    """The result of a plan: the steps that were carried out, and those that failed, with the reason."""

    done: list[Step] = field(default_factory=list)
    failed: list[tuple[Step, str]] = field(default_factory=list)


class Executor:
    """Carries out plans. `backends` are keyed by the backend name of a pool. `reclaims` gives and withdraws notices. With one
    worker, the order of all calls depends only on the plan, as a simulation requires."""

    def __init__(
        self,
        store: Store,
        transitions: Transitions,
        backends: Mapping[str, Backend],
        reclaims: Reclaims,
        egress: EgressPolicy,
        workers: int = 1,
    ) -> None:
        self._turns = reclaims.turns
        self._store = store
        self._transitions = transitions
        self._backends = backends
        self._reclaims = reclaims
        self._workers = workers
        self._egress = egress

    def carry_out(
        self,
        plan: Plan,
        may: Callable[[Step], bool] = lambda step: True,
        lanes: Lanes | None = None,
        lane_of: Callable[[Step], str] = lambda step: "",
    ) -> Outcome:
        """Carry out the steps of a plan. A step that fails is reported and does not prevent the others. Kinds of steps run one
        after another. With several workers, slow steps of one kind, each for a different lease, run in parallel.

        `may` is called right before a step. A step that another process has taken over is left to that process and not reported.
        With `lanes`, no backend waits for another: steps that are not done by the end of the round continue, and their results
        are only logged.
        """
        outcome = Outcome()
        if lanes is None:
            self._in_order(plan.steps, may, outcome)
            return outcome
        work: dict[str, list[Step]] = {}
        for step in plan.steps:
            work.setdefault(lane_of(step), []).append(step)
        lanes.run(work, lambda steps: self._in_order(steps, may, outcome))
        return Outcome(list(outcome.done), list(outcome.failed))

    def _in_order(self, steps: Sequence[Step], may: Callable[[Step], bool], outcome: Outcome) -> None:
        for kind, of_kind in groupby(steps, key=lambda step: step.kind):
            group = list(of_kind)
            if self._workers > 1 and kind in SLOW_KINDS and len(group) > 1:
                with ThreadPoolExecutor(self._workers, "leases") as pool:
                    failures = list(pool.map(lambda step: self._attempt(step, may), group))
            else:
                failures = [self._attempt(step, may) for step in group]
            for step, failure in zip(group, failures, strict=True):
                if failure is None:
                    outcome.done.append(step)
                elif failure != NOT_OURS:
                    outcome.failed.append((step, failure))

    def _attempt(self, step: Step, may: Callable[[Step], bool]) -> str | None:
        """The reason why the step failed, or None."""
        try:
            if not may(step):
                return NOT_OURS
            if step.kind not in KINDS:
                raise InvalidInputError(f"a plan can't hold a step of kind {step.kind!r}")
            getattr(self, f"_{step.kind}")(step)
        except (SubletError, OSError) as error:
            message = error.message if isinstance(error, SubletError) else str(error)
            _log.warning("step failed", kind=step.kind, subject=step.subject, error=message)
            self._note(step, message)
            return message
        return None

    def _prepare(self, step: Step) -> None:
        self._transitions.prepare(step.subject, ACTOR)
        self._start(step)

    def _start(self, step: Step) -> None:
        """If this machine can never run it, the lease fails at once instead of at the end of its grace period."""
        lease = self._lease(step)
        if lease.state is not LeaseState.PREPARING:
            return
        try:
            self._backend(lease).start(self._order(lease))
        except (IsolationUnavailableError, SoftIsolationError, StorageFullError, InvalidInputError) as error:
            if lease.service_s is not None:
                # It can start later, or elsewhere, and still meet its deadline.
                self._turns.pause(lease.id, self._backend(lease).pause(lease.id), ACTOR, error.message)
                self._transitions.note(lease.id, error.message)
                return
            seen = self._backend(lease).stop(lease.id, "start_failed", 0.0)
            self._transitions.note(lease.id, error.message)
            self._transitions.abandon(lease.id, seen, ACTOR, error.message)

    def _resume(self, step: Step) -> None:
        if self._turns.resume(step, ACTOR):
            self._start(step)

    def _prolong(self, step: Step) -> None:
        self._turns.prolong(step, ACTOR)

    def _ask_pause(self, step: Step) -> None:
        assert step.at is not None
        self._turns.ask(step.subject, step.at, ACTOR, step.reason)

    def _withdraw_pause(self, step: Step) -> None:
        self._turns.withdraw(step.subject, ACTOR, step.reason)

    def _warn(self, step: Step) -> None:
        self._turns.note_risk(step.subject)

    def _pause(self, step: Step) -> None:
        """The sandbox is stopped first, so that it no longer uses the accelerators when they become free."""
        lease = self._lease(step)
        if lease.service_s is None or lease.state.terminal or lease.state is LeaseState.ENDING:
            return
        seen = self._backend(lease).pause(lease.id)
        if seen.state.live:
            raise BackendFailedError(f"{lease.id} did not stop when it was paused")
        if lease.waits or seen.state in (RunState.STOPPED, RunState.FAILED):
            return
        now = self._store.clock.now()
        out = [
            Outage(str(item["unit"]), min(now, parse_time(str(item["since"]))), now)
            for item in step.details.get("out", ())
        ]
        self._turns.pause(lease.id, seen, ACTOR, step.reason, out)

    def _hand_back(self, step: Step) -> None:
        """The sandbox is stopped first, so that it no longer uses accelerators that others may get now. The home directory is
        kept."""
        lease = self._lease(step)
        if not lease.state.served or lease.handing_back is None:
            return
        seen = self._backend(lease).pause(lease.id)
        if seen.state.live:
            raise BackendFailedError(f"{lease.id} did not stop to give accelerators back")
        if seen.state in (RunState.STOPPED, RunState.FAILED):
            return
        if hand_back(self._store, self._transitions, lease.id, ACTOR):
            self._restart(step)

    def _transfer(self, step: Step) -> None:
        """The sandbox is stopped first, so that it no longer uses the owner's accelerators. The home directory is kept for the
        start in the other pool, which is part of the next plan."""
        lease = self._lease(step)
        if lease.move is None or lease.state.terminal or lease.state is LeaseState.ENDING:
            return
        seen = self._backend(lease).pause(lease.id)
        if seen.state.live:
            raise BackendFailedError(f"{lease.id} did not stop to move to another pool")
        self._transitions.meter(lease.id, seen.deliveries)
        if seen.state not in (RunState.STOPPED, RunState.FAILED):
            self._reclaims.transfers.make(lease.id, ACTOR)

    def _restart(self, step: Step) -> None:
        lease = self._lease(step)
        if lease.state.served:
            self._backend(lease).start(self._order(lease))

    def _replace(self, step: Step) -> None:
        """The sandbox is stopped first, so that it no longer uses the failed accelerators. The home directory is kept for the
        next start."""
        lease = self._lease(step)
        if lease.state is not LeaseState.SCHEDULED:
            seen = self._backend(lease).pause(lease.id)
            if seen.state.live:
                raise BackendFailedError(f"{lease.id} did not stop on the failed accelerators")
            if seen.state in (RunState.STOPPED, RunState.FAILED):
                return
        moved = self._transitions.move(lease.id, step.details["out"], step.details["in"], ACTOR, step.reason)
        if moved and lease.state is LeaseState.PREPARING:
            self._start(step)
        elif moved:
            self._restart(step)

    _shrink = _replace

    def _fail(self, step: Step) -> None:
        lease = self._lease(step)
        if lease.state is LeaseState.PREPARING:
            seen = self._backend(lease).stop(lease.id, ACCELERATOR_FAILED, 0.0)
            if not seen.state.over:
                raise BackendFailedError(f"{lease.id} did not stop on the failed accelerators")
            self._transitions.fail(lease.id, step.details["out"], ACTOR, step.reason, clean=seen.clean is not False)
        else:
            self._transitions.fail(lease.id, step.details["out"], ACTOR, step.reason)

    def _activate(self, step: Step) -> None:
        lease, seen = self._seen(step)
        if seen.state is RunState.RUNNING or seen.reason == JOB_DONE:
            self._transitions.activate(lease.id, seen, ACTOR)

    def _recover(self, step: Step) -> None:
        lease, seen = self._seen(step)
        if seen.state is RunState.RUNNING:
            self._transitions.recover(lease.id, seen, ACTOR)

    def _degrade(self, step: Step) -> None:
        self._transitions.degrade(step.subject, step.reason, ACTOR)

    def _announce(self, step: Step) -> None:
        self._transitions.announce(step.subject, ACTOR)

    def _notify(self, step: Step) -> None:
        lease = self._lease(step)
        if not lease.state.served:
            return
        if lease.reclaim_at is None:
            self._backend(lease).withdraw_notice(lease.id)
        elif lease.on_reclaim is OnReclaim.MOVE:
            text, comes_back = notice_text(lease), lease.move is not None
            self._backend(lease).notice(lease.id, lease.reclaim_at, text, comes_back=comes_back)
        else:
            self._backend(lease).notice(lease.id, lease.reclaim_at, notice_text(lease))

    def _adopt(self, step: Step) -> None:
        lease, seen = self._seen(step)
        if seen.taken_at is not None:
            self._transitions.adopt(lease.id, seen.taken_at, ACTOR)

    def _reserve(self, step: Step) -> None:
        """Runs outside every transaction. An accepted lease is recorded in the database, and the reservation is requested
        again until the engine has it, too."""
        lease = self._lease(step)
        if lease.state.terminal or lease.state is LeaseState.ENDING:
            return
        backend = self._backend(lease)
        seen = backend.reserve(reserve_order(lease, backend.traits.timing or self._transitions.timing))
        self._keep_facts(lease, seen)

    def _record(self, step: Step) -> None:
        self._keep_facts(*self._seen(step))

    def _keep_facts(self, lease: Lease, seen: Observation) -> None:
        facts = engine_facts(lease, seen, self._backend(lease).traits)
        if not lease.state.terminal and facts != (lease.engine or {}):
            self._transitions.keep_facts(lease.id, facts)

    def _release(self, step: Step) -> None:
        """The database is checked again, as for an orphan."""
        with self._store.read() as connection:
            lease = sql.lease(connection, step.subject)
        if lease is None or lease.state.terminal:
            for backend in self._where(step):
                backend.release(step.subject)

    def _introduce(self, step: Step) -> None:
        for backend in self._where(step):
            backend.introduce(frozenset(step.details["tenants"]))

    def _set_terms(self, step: Step) -> None:
        lease = self._lease(step)
        if lease.state.served:
            self._backend(lease).extend(lease.id, step.at or lease.window.end)

    def _set_keys(self, step: Step) -> None:
        """Starting a lease that already runs makes the backend use the keys of the order."""
        lease = self._lease(step)
        if lease.state.served:
            self._backend(lease).start(self._order(lease))

    def _reclaim(self, step: Step) -> None:
        self._reclaims.take_back(step)

    def _wait(self, step: Step) -> None:
        self._reclaims.waits.count(step)

    def _wait_over(self, step: Step) -> None:
        self._reclaims.waits.stop(step)

    def _withdraw(self, step: Step) -> None:
        self._reclaims.give_back(step)

    def _end(self, step: Step) -> None:
        self._transitions.begin_end(step.subject, str(step.details["end_reason"]), ACTOR, step.reason)

    def _stop(self, step: Step) -> None:
        lease = self._lease(step)
        if lease.state is LeaseState.ENDING:
            self._finish_with(lease, self._backend(lease).stop(lease.id, lease.end_reason or "ended", STOP_GRACE_S))

    def _finish(self, step: Step) -> None:
        lease, seen = self._seen(step)
        self._finish_with(lease, seen)

    def _finish_with(self, lease: Lease, seen: Observation) -> None:
        if lease.state is LeaseState.ENDING and seen.state.over:
            self._transitions.count_traffic(lease, seen)
            self._transitions.finish(lease.id, seen, ACTOR)

    def _abandon(self, step: Step) -> None:
        """What was started is stopped before the accelerators are released."""
        lease = self._lease(step)
        if lease.state not in (LeaseState.SCHEDULED, LeaseState.PREPARING):
            return
        seen = self._backend(lease).stop(lease.id, "start_failed", 0.0)
        if seen.state.over:
            if lease.end_reason != "canceled":
                self._transitions.note(lease.id, step.reason)
            self._transitions.abandon(lease.id, seen, ACTOR, step.reason)

    def _meter(self, step: Step) -> None:
        lease, seen = self._seen(step)
        self._transitions.meter(lease.id, seen.deliveries)
        self._transitions.count_traffic(lease, seen)

    def _quarantine(self, step: Step) -> None:
        self._transitions.quarantine(step.subject, step.reason, ACTOR)

    def _reap(self, step: Step) -> None:
        """The database is checked again: a lease that was sold since the plan was made is not an orphan."""
        with self._store.read() as connection:
            lease = sql.lease(connection, step.subject)
        if lease is not None and not lease.state.terminal:
            return
        for backend in self._where(step):
            if backend.observe(step.subject).state is not RunState.ABSENT:
                seen = backend.stop(step.subject, "orphan", 0.0)
                if not seen.clean:
                    raise BackendFailedError(f"{step.subject} is not proved clean: {seen.error}")

    def _forget(self, step: Step) -> None:
        for backend in self._where(step):
            backend.forget(step.subject)

    def _release_unit(self, step: Step) -> None:
        self._transitions.release_unit(step.subject, ACTOR, step.reason)

    def _where(self, step: Step) -> list[Backend]:
        """The backend of the step's subject, or all backends if the plan does not say."""
        named = self._backends.get(str(step.details.get("backend", "")))
        return [named] if named is not None else list(self._backends.values())

    def _seen(self, step: Step) -> tuple[Lease, Observation]:
        lease = self._lease(step)
        return lease, self._backend(lease).observe(lease.id)

    def _lease(self, step: Step) -> Lease:
        with self._store.read() as connection:
            lease = sql.lease(connection, step.subject)
        if lease is None:
            raise NotFoundError(f"there is no lease {step.subject!r}")
        return lease

    def _backend(self, lease: Lease) -> Backend:
        with self._store.read() as connection:
            pool = sql.pool_named(connection, lease.pool_id)
        name = pool.backend if pool is not None else ""
        if name not in self._backends:
            raise WrongStateError(f"pool {lease.pool_id} runs on backend {name!r}, which is not set up here")
        return self._backends[name]

    def _order(self, lease: Lease) -> StartOrder:
        """The order for the backend. Allow lists are read again, so hosts that the operator removed are blocked at the next
        start."""
        with self._store.read() as connection:
            job = jobs_sql.order_of(connection, lease.id)
            image = image_order(connection, lease.image)
        return StartOrder(
            lease_id=lease.id,
            tenant=lease.organization_id,
            devices=lease.devices,
            authorized_keys=lease.ssh_public_keys,
            ends_at=lease.window.end,
            class_name=lease.class_name,
            reclaim_at=lease.reclaim_at,
            egress=self._egress.rules(lease.network),
            pausable=lease.service_s is not None or lease.move is not None,
            volumes=lease.volumes,
            image=image,
            job=job,
        )

    def _note(self, step: Step, message: str) -> None:
        with self._store.read() as connection:
            lease = sql.lease(connection, step.subject)
        if lease is not None and lease.last_error != message[:500]:
            self._transitions.note(step.subject, message)


def notice_text(lease: Lease) -> str:
    """The message in the tenant's terminals."""
    assert lease.reclaim_at is not None
    if lease.service_s is not None:
        return (
            f"*** NOTICE: this lease is paused at {format_time(lease.reclaim_at)} and comes back later with its home directory. "
            "Save your work now; the countdown is in /run/sublet/lease.json. ***"
        )
    if lease.move is not None:
        return (
            f"*** NOTICE: this lease moves to another pool at {format_time(lease.reclaim_at)} and restarts there with its home "
            "directory. Save your work now; the countdown is in /run/sublet/lease.json. ***"
        )
    return (
        f"*** NOTICE: the owner takes this lease back. It ends at {format_time(lease.reclaim_at)}. "
        "Save your work now; the countdown is in /run/sublet/lease.json. ***"
    )
