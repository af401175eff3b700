"""What to do next, from what was promised, what is observed, and the clock. Pure: the same view gives the same plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sublet.leases.backends.base import Observation, RunState, keys_digest
from sublet.leases.backends.engine import PLAIN, Traits
from sublet.leases.backends.job import JOB_DONE
from sublet.leases.deadlines.steps import at_risk, ends_at, own_step
from sublet.leases.lifecycle.metering import read_meter
from sublet.leases.model import Lease, LeaseState, Timing
from sublet.leases.plan.engines import engine_steps, is_taken
from sublet.leases.plan.failures import Failure, failure_steps
from sublet.leases.reclaim.victims import ReclaimPlan, Return
from sublet.surplus.rule.patience import Wait
from sublet.values.clock import format_time
from sublet.values.plan import Plan, Step


@dataclass(frozen=True, slots=True)
class Quarantined:
    """An accelerator that is out of sale because what a lease left on it is not proved gone."""

    unit_id: str
    pool_id: str
    lease_id: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class View:
    """All that the planner knows. `leases` are those not yet over; `observations` is what the backends say, by lease id, of
    the backends that answered: a lease of a backend in `silent` is neither started nor ended on guesswork.

    `ended` are the states of leases that a backend knows and that are over in the books.
    """

    now: datetime
    leases: Sequence[Lease]
    observations: Mapping[str, Observation]
    ended: Mapping[str, LeaseState]
    backend_of: Mapping[str, str]
    silent: frozenset[str]
    quarantined: Sequence[Quarantined]
    reclaims: Sequence[ReclaimPlan]
    timing: Timing
    returns: Sequence[Return] = ()
    failures: Mapping[str, Failure] = field(default_factory=dict)
    seen_on: Mapping[str, str] = field(default_factory=dict)
    """Which backend has what `observations` tell."""
    turns: Sequence[Step] = ()
    """Which leases with a deadline are resumed, kept or paused."""
    traits: Mapping[str, Traits] = field(default_factory=dict)
    """What each engine does of its own, by the name of its backend."""
    waits: Sequence[Step] = ()
    """What is to be counted of the owner's own work that waits."""
    waiting: Sequence[Wait] = ()
    """All of it, for people."""
    strangers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Organizations that an engine is to be introduced to, by the name of its backend."""

    def traits_of(self, lease: Lease) -> Traits:
        """What the engine of the lease's pool does of its own."""
        return self.traits.get(self.backend_of.get(lease.pool_id, ""), PLAIN)

    def timing_of(self, lease: Lease) -> Timing:
        """The gaps around the lease and the patience with it."""
        return self.traits_of(lease).timing or self.timing


def lanes_of(view: View) -> Callable[[Step], str]:
    """The backend that a step is about; empty where it is about the books alone."""
    backends = {lease.id: view.backend_of.get(lease.pool_id, "") for lease in view.leases}

    def lane_of(step: Step) -> str:
        if "backend" in step.details:
            return str(step.details["backend"])
        return "" if step.kind in _BOOKS_ALONE else backends.get(step.subject, "")

    return lane_of


def make_plan(view: View) -> Plan:
    """Ends first, so that capacity is back in time; then notices, starts, repairs, the meter, and what must be tidied up."""
    steps: list[Step] = []
    in_use = _units_in_use(view)
    for lease in view.leases:
        steps += _steps_of(view, lease, in_use)
    for plan in view.reclaims:
        steps += _reclaim_steps(plan)
    steps += [_withdraw(item, view.now) for item in view.returns]
    steps += view.waits
    asked = {victim.id for plan in view.reclaims for victim in plan.victims}
    busy = {step.subject for step in steps if step.kind in ("end", "pause")} | asked
    steps += [step for step in view.turns if step.subject not in busy and _answers(view, step)]
    steps += _tidy_steps(view)
    for name, tenants in view.strangers.items():
        details = {"backend": name, "tenants": sorted(tenants)}
        steps.append(Step("introduce", name, f"{len(tenants)} organizations hold quotes or leases", details=details))
    return Plan(view.now, tuple(sorted(steps, key=lambda step: _ORDER.index(step.kind))))


def _answers(view: View, step: Step) -> bool:
    """Nothing is started on a backend that does not answer."""
    return step.kind != "resume" or view.backend_of.get(str(step.details["pool_id"])) not in view.silent


_ORDER = (
    "end",
    "fail",
    "stop",
    "pause",
    "hand_back",
    "transfer",
    "finish",
    "adopt",
    "wait",
    "wait_over",
    "reclaim",
    "ask_pause",
    "withdraw_pause",
    "prolong",
    "warn",
    "withdraw",
    "notify",
    "announce",
    "set_terms",
    "set_keys",
    "replace",
    "shrink",
    "prepare",
    "resume",
    "start",
    "restart",
    "activate",
    "recover",
    "degrade",
    "reserve",
    "record",
    "meter",
    "abandon",
    "quarantine",
    "reap",
    "release_unit",
    "release",
    "forget",
    "introduce",
)
_IN_USE = frozenset({LeaseState.PREPARING, LeaseState.ENDING})
_BOOKS_ALONE = frozenset(
    {"wait", "wait_over", "reclaim", "withdraw", "release_unit", "ask_pause", "withdraw_pause", "prolong", "warn"}
)
KINDS = _ORDER
"""Every kind of step, in the order in which a plan carries them."""


def _units_in_use(view: View) -> frozenset[str]:
    """The accelerators that some lease is on, as far as the books know."""
    using = (lease for lease in view.leases if lease.state.served or lease.state in _IN_USE)
    return frozenset(unit for lease in using for unit in lease.unit_ids)


def _steps_of(view: View, lease: Lease, in_use: frozenset[str]) -> Iterator[Step]:
    if view.backend_of.get(lease.pool_id) in view.silent:
        yield from _silent_steps(view, lease)
        return
    seen = view.observations.get(lease.id) or Observation(lease.id, RunState.ABSENT)
    yield from engine_steps(lease, seen, view.traits_of(lease), view.timing_of(lease), view.now)
    if lease.service_s is not None and lease.state is not LeaseState.ENDING:
        if at_risk(lease, view.now):
            yield Step("warn", lease.id, "it waits and has little slack left")
        own = own_step(lease, seen, view.failures.get(lease.id), view.now, view.timing_of(lease).start_grace_s)
        if own is not None:
            yield own
        if own is not None or lease.waits:
            yield from _meter_steps(lease, seen) if lease.state.served else ()
            return
    if lease.state is LeaseState.SCHEDULED:
        yield from _scheduled_steps(view, lease, in_use)
    elif lease.state is LeaseState.PREPARING:
        yield from _preparing_steps(view, lease, seen)
    elif lease.state.served and not is_taken(lease, seen):
        # What else is to be done about one that is taken waits for the next round, which knows of it.
        yield from _served_steps(view, lease, seen)
    elif lease.state is LeaseState.ENDING:
        yield from _ending_steps(view, lease, seen)


def _silent_steps(view: View, lease: Lease) -> Iterator[Step]:
    """The deadline lives with the backend too; here it is only written down that the lease must be over."""
    over = lease.deadline if lease.service_s is None else lease.window.end
    if lease.state.served and view.now >= over and not _moves(lease, view.now):
        yield _end(lease, view.now)
    if lease.state is LeaseState.ENDING and view.now > lease.deadline + timedelta(
        seconds=view.timing_of(lease).unreachable_s
    ):
        yield Step("quarantine", lease.id, "its backend does not answer and the lease may still be running")


def _scheduled_steps(view: View, lease: Lease, in_use: frozenset[str]) -> Iterator[Step]:
    if view.now >= lease.deadline:
        yield Step("abandon", lease.id, "its window is over before it could be started")
    elif lease.id in view.failures:
        yield from failure_steps(lease, view.failures[lease.id], view.now, view.timing_of(lease))
    elif any(unit in in_use for unit in lease.unit_ids):
        # The lease that had an accelerator before must be proved gone; until then nothing is handed out.
        return
    elif view.now >= lease.window.start - timedelta(seconds=view.timing_of(lease).prepare_s):
        yield Step("prepare", lease.id, f"its window opens at {format_time(lease.window.start)}", lease.window.start)


def _ran_already(seen: Observation) -> bool:
    """A job may be done before anyone has seen its lease run."""
    return seen.state is RunState.STOPPED and seen.reason == JOB_DONE and bool(seen.deliveries)


def _preparing_steps(view: View, lease: Lease, seen: Observation) -> Iterator[Step]:
    late = view.now > max(lease.window.start, lease.turned_at or lease.created_at) + timedelta(
        seconds=view.timing_of(lease).start_grace_s
    )
    if lease.end_reason == "canceled":
        yield Step("abandon", lease.id, "canceled by the tenant")
    elif view.now >= lease.deadline:
        moving = _moves(lease, view.now)
        over = Step("abandon", lease.id, "its window was over before the tenant could log in")
        yield _transfer(lease) if moving else over
    elif lease.id in view.failures:
        yield from failure_steps(lease, view.failures[lease.id], view.now, view.timing_of(lease))
    elif _ran_already(seen):
        yield Step("activate", lease.id, "its job has run to its end already")
    elif seen.state is RunState.FAILED or (seen.state is RunState.STOPPED):
        yield Step(
            "abandon", lease.id, f"it did not start: {seen.error or seen.reason or 'the backend gave no reason'}"
        )
    elif seen.state is RunState.RUNNING and view.now >= lease.window.start:
        yield Step("activate", lease.id, "the SSH server answers at the customer's address")
    elif late:
        yield Step("abandon", lease.id, f"it did not start within {view.timing_of(lease).start_grace_s} s")
    elif seen.state in (RunState.ABSENT, RunState.PAUSED):
        yield Step("start", lease.id, "nothing runs for it yet")


def _served_steps(view: View, lease: Lease, seen: Observation) -> Iterator[Step]:
    if view.now >= lease.deadline and seen.reason != JOB_DONE:
        yield _transfer(lease) if _moves(lease, view.now) else _end(lease, view.now)
        return
    if seen.state in (RunState.STOPPED, RunState.FAILED):
        reason = "sandbox_failed" if seen.reason not in ("reclaimed", "window_over", JOB_DONE) else seen.reason
        yield Step("end", lease.id, f"its backend ended it: {seen.reason}", details={"end_reason": reason})
        return
    if lease.id in view.failures:
        # Nothing starts again on an accelerator that has failed.
        yield from failure_steps(lease, view.failures[lease.id], view.now, view.timing_of(lease))
        yield from _meter_steps(lease, seen)
        return
    if lease.reclaim_at is not None and lease.state is not LeaseState.NOTICE:
        what = f"moves to pool {lease.move.pool_id}" if lease.move is not None else "is taken back"
        yield Step("announce", lease.id, f"it {what} at {format_time(lease.reclaim_at)}", lease.reclaim_at)
    if lease.handing_back is not None and view.now >= lease.handing_back.at:
        gone = len(lease.handing_back.unit_ids)
        yield Step("hand_back", lease.id, f"its tenant gives back {gone} accelerators", lease.handing_back.at)
    elif seen.state in (RunState.ABSENT, RunState.PAUSED):
        yield Step(
            "restart", lease.id, "its sandbox is gone; the same lease comes back with the same home and door key"
        )
    elif seen.state.live:
        yield from _terms_steps(lease, seen)
    if seen.state is RunState.RUNNING:
        if lease.state is LeaseState.DEGRADED:
            yield Step("recover", lease.id, "SSH answers again")
        elif lease.endpoint is None or (seen.endpoint and dict(lease.endpoint) != seen.endpoint.as_dict()):
            yield Step("recover", lease.id, "its door is elsewhere now")
    elif lease.state is LeaseState.ACTIVE:
        yield Step("degrade", lease.id, f"its backend says {seen.state}: {seen.error or 'the tenant can not log in'}")
    yield from _meter_steps(lease, seen)


def _terms_steps(lease: Lease, seen: Observation) -> Iterator[Step]:
    """What its sandbox does not know yet: a notice, another end, other keys."""
    if seen.reclaim_at != lease.reclaim_at:
        what = f"notice until {format_time(lease.reclaim_at)}" if lease.reclaim_at else "the notice is withdrawn"
        yield Step("notify", lease.id, f"its tenant does not know yet: {what}", lease.reclaim_at)
    wanted = ends_at(lease, seen)
    if seen.ends_at is not None and seen.ends_at != wanted:
        yield Step("set_terms", lease.id, f"its end is {format_time(wanted)}", wanted)
    if seen.keys is not None and seen.keys != keys_digest(lease.ssh_public_keys):
        yield Step("set_keys", lease.id, "other SSH keys may log in now")


def _meter_steps(lease: Lease, seen: Observation) -> Iterator[Step]:
    if read_meter(lease, seen.deliveries, final=False) is not None:
        yield Step("meter", lease.id, "full minutes are delivered and not yet billed")


def _ending_steps(view: View, lease: Lease, seen: Observation) -> Iterator[Step]:
    if not seen.state.over or (seen.state is not RunState.ABSENT and seen.clean is None):
        yield Step("stop", lease.id, "access is closed and nothing of it may be left")
        if view.now > lease.deadline + timedelta(seconds=view.timing_of(lease).unreachable_s):
            yield Step("quarantine", lease.id, "it should be over and still is not")
    else:
        yield Step("finish", lease.id, "nothing of it is left" if seen.clean else "it is over, but not proved clean")


def _moves(lease: Lease, now: datetime) -> bool:
    """Whether the lease goes on in another pool instead of ending: not once what was held for it there is on sale again."""
    return lease.move is not None and now < min(lease.move.until, lease.window.end)


def _transfer(lease: Lease) -> Step:
    assert lease.move is not None
    details = {"to_pool_id": lease.move.pool_id}
    return Step("transfer", lease.id, f"it moves to pool {lease.move.pool_id}", lease.reclaim_at, details)


def _end(lease: Lease, now: datetime) -> Step:
    reclaimed = lease.reclaim_at is not None and lease.reclaim_at <= lease.window.end
    reason = "reclaimed" if reclaimed else "window_over"
    sentence = "the owner takes it back now" if reclaimed else "its window is over"
    return Step("end", lease.id, sentence, now, {"end_reason": reason})


def _reclaim_steps(plan: ReclaimPlan) -> Iterator[Step]:
    for victim in plan.victims:
        details = {**victim.as_dict(), "pool_id": plan.pool_id}
        yield Step("reclaim", victim.id, victim.sentence, victim.reclaim_at, details)


def _withdraw(item: Return, now: datetime) -> Step:
    return Step("withdraw", item.id, item.reason, now, {"kind": item.kind, "pool_id": item.pool_id})


def _tidy_steps(view: View) -> Iterator[Step]:
    live = {lease.id for lease in view.leases}
    for lease_id, seen in sorted(view.observations.items()):
        if lease_id in live:
            continue
        where = {"backend": view.seen_on[lease_id]} if lease_id in view.seen_on else {}
        if seen.state is RunState.ABSENT:
            yield Step("release", lease_id, "capacity is still kept for it, and it is over", details=where)
        elif not (seen.state.over and seen.clean):
            known = "is over in the books" if lease_id in view.ended else "is in no book"
            yield Step("reap", lease_id, f"it {known}, but the backend still has something of it", details=where)
        elif lease_id in view.ended:
            yield Step("forget", lease_id, "it is over, billed and proved clean", details=where)
        else:
            yield Step("forget", lease_id, "it is in no book and proved clean", details=where)
    for unit in view.quarantined:
        left = view.observations.get(unit.lease_id or "")
        answered = view.backend_of.get(unit.pool_id) not in view.silent
        gone = left is not None and left.state.over and left.clean is True
        if unit.lease_id not in live and gone and answered:
            yield Step("release_unit", unit.unit_id, f"what {unit.lease_id} left is proved gone")
