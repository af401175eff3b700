"""The `slurm` backend: one reservation and one holder job for each lease, which runs the sandbox of the local backend on its nodes.

What is wanted and what is lies on a shared file system (`files`); Slurm keeps the nodes (`cluster`). Reservations and jobs are
named after their leases, so that every step can be repeated. While the controller is away nothing is guessed: leases are
unknown, run on, and end at their deadlines by themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta

from sublet.leases.backends.base import (
    DEVICES_PER_LEASE_MAX,
    BackendFailedError,
    Observation,
    Reservation,
    RunState,
    StartOrder,
    checked_authorized_keys,
)
from sublet.leases.backends.engine import NodeHealth, ReserveOrder, Traits
from sublet.leases.backends.local.egress import EGRESS_LOGS, purge_logs
from sublet.leases.backends.slurm import evidence, reading
from sublet.leases.backends.slurm.cluster import PREFIX, Cluster, job_name, reservation_name
from sublet.leases.backends.slurm.commands import Commands, SlurmRefusedError
from sublet.leases.backends.slurm.facts import ClusterFacts
from sublet.leases.backends.slurm.files import Final, Order, Report, SlurmFiles, Wanted
from sublet.leases.backends.slurm.records import Job, Kept
from sublet.leases.backends.slurm.settings import SlurmSettings
from sublet.values.clock import Clock, from_micros, to_micros
from sublet.values.errors import InvalidInputError

STOP_S, KILL_S, CLEAN_S = 15.0, 20.0, 40.0
"""Seconds for a holder to obey, for Slurm to end one that does not, and for a job that only cleans up."""
SUBMITTED_S = 5.0
"""A job that was submitted so short a time ago may not be in the queue yet."""
POLL_S = 0.1
WITHDRAWN = "*** The notice is withdrawn: this lease goes on as before. ***"


class SlurmBackend(ClusterFacts):
    """Safe to use from several threads and processes that share `settings.shared`."""

    def __init__(self, name: str, clock: Clock, settings: SlurmSettings) -> None:
        self.name = name
        super().__init__(clock, Cluster(settings, Commands(settings.conf, settings.timeout_s)))
        self._settings = settings
        self._shared = settings.shared
        self._traits = Traits(
            reserves=True,
            picks_units=True,
            step=settings.accelerators_per_node,
            timing=settings.timing,
            unreserved=settings.preemptible_classes,
            accounts=settings.accounts,
        )

    @property
    def tenants_max(self) -> int | None:
        """None: a node is one tenant's alone."""
        return None

    @property
    def traits(self) -> Traits:
        return self._traits

    def introduce(self, tenants: frozenset[str]) -> None:
        if self._settings.accounts:
            for tenant in sorted(tenants):
                self._cluster.account(tenant)

    # -- what is kept ahead

    def reserve(self, order: ReserveOrder) -> Observation:
        if not self._traits.keeps(order.class_name):
            raise BackendFailedError(
                f"no capacity is reserved for leases of class {order.class_name}, because Slurm may preempt them"
            )
        files = SlurmFiles(self._shared, order.lease_id)
        account = self._cluster.account(order.tenant) if self._settings.accounts else ""
        start, end = int(order.window.start.timestamp()), int(order.window.end.timestamp())
        wanted = Wanted(start, end, self._settings.nodes(order.accelerators), account)
        with files.locked():
            files.write_wanted(wanted)
            self._keep(files, wanted)
        return self.observe(order.lease_id)

    def release(self, lease_id: str) -> None:
        files = SlurmFiles(self._shared, lease_id)
        if files.wanted() is None:
            return
        self._cluster.drop(lease_id)
        files.drop_wanted()
        files.tidy()

    def _keep(self, files: SlurmFiles, wanted: Wanted) -> None:
        """Nodes that can't take work are given back for others, unless the lease already runs on them."""

        def unfit(kept: Kept) -> bool:
            broken = self._broken(kept, {line.name: line.health for line in self._cluster.nodes()})
            return broken is not None and self._live_job(files) is None

        self._cluster.keep(files.lease_id, wanted, self._clock.now(), unfit)

    @staticmethod
    def _broken(kept: Kept, health: dict[str, NodeHealth]) -> str | None:
        """Why the nodes of a reservation would not do."""
        if not kept.nodes:
            return "Slurm keeps no nodes for it"
        for name in kept.nodes:
            if name in health and not health[name].usable:
                return f"node {name} is out: {health[name].reason}"
        return None

    # -- start and end

    def start(self, order: StartOrder) -> Observation:
        """Raises InvalidInputError, BackendFailedError."""
        keys = list(checked_authorized_keys(order.authorized_keys))
        if not 0 < len(order.devices) <= DEVICES_PER_LEASE_MAX:
            raise InvalidInputError(f"a lease needs 1 to {DEVICES_PER_LEASE_MAX} devices, not {len(order.devices)}")
        nodes = self._settings.nodes(len(order.devices))
        files = SlurmFiles(self._shared, order.lease_id)
        with files.locked():
            known = files.order()
            state = self._now(files, known) if known is not None else RunState.ABSENT
            if known is None or state in (RunState.PAUSED, RunState.ABSENT) or known.wanted == "pause":
                self._begin(files, self._next(order, keys, known), nodes)
            elif state.live and known.keys != keys:
                known.keys = keys
                files.write_order(known)
        return self.observe(order.lease_id)

    def _next(self, order: StartOrder, keys: list[str], known: Order | None) -> Order:
        return Order(
            order.lease_id,
            order.tenant,
            order.class_name,
            len(order.devices),
            keys,
            to_micros(order.ends_at),
            to_micros(order.reclaim_at) if order.reclaim_at else None,
            generation=known.generation + 1 if known is not None else 1,
            egress=list(order.egress),
            node=self._settings.for_node(),
        )

    def _begin(self, files: SlurmFiles, order: Order, nodes: int) -> None:
        """Written down before it is submitted: a holder whose generation is not the order's ends at once."""
        now = self._clock.now()
        order.submitted_us = to_micros(now)
        files.write_order(order)
        if self._traits.keeps(order.class_name):
            self._keep(files, self._wanted_now(files, order, nodes, now))
        order.job = self._cluster.submit(files, order, nodes, now)
        files.write_order(order)

    def _wanted_now(self, files: SlurmFiles, order: Order, nodes: int, now: datetime) -> Wanted:
        """What was asked to be kept, or for a lease that starts at once what it needs until it is cleaned up."""
        wanted = files.wanted()
        if wanted is None or wanted.nodes != nodes:
            end_us = min(order.ends_at_us, order.reclaim_at_us or order.ends_at_us)
            account = self._cluster.account(order.tenant) if self._settings.accounts else ""
            end = max(end_us // 1_000_000, int(now.timestamp()) + 1) + self._settings.timing.clean_s
            wanted = Wanted(int(now.timestamp()), end, nodes, account)
            files.write_wanted(wanted)
        return wanted

    def stop(self, lease_id: str, reason: str, grace_s: float = 2.0) -> Observation:
        """First by the holders, then by Slurm; what is not proved clean by then is proved by a job that only cleans up."""
        files = SlurmFiles(self._shared, lease_id)
        order = files.order()
        if order is None:
            return Observation(lease_id, RunState.ABSENT)
        with files.locked():
            order = files.order()
            final = files.final()
            if order is None or (final is not None and final.clean):
                return self.observe(lease_id)
            seen = self.observe(lease_id)
            if order.wanted != "stop":
                over = seen.state in (RunState.STOPPED, RunState.FAILED)
                order.wanted, order.grace_s = "stop", grace_s
                order.reason = (seen.reason if over else None) or reason
                files.write_order(order)
            failed = seen.state is RunState.FAILED
            clean = self._end_job(files, order, grace_s)
            if not clean and self._ever_ran(files, order):
                clean = self._clean_up(files, order)
            state = RunState.FAILED if failed else RunState.STOPPED
            error = None if clean else "no node has reported that nothing of it is left"
            taken_us = to_micros(seen.taken_at) if seen.taken_at else None
            files.write_final(Final(state.value, order.reason, clean, seen.error if failed else error, taken_us))
        if clean:
            with suppress(BackendFailedError):
                self.release(lease_id)
        return self.observe(lease_id)

    def pause(self, lease_id: str) -> Observation:
        files = SlurmFiles(self._shared, lease_id)
        order = files.order()
        if order is None or order.wanted == "stop" or files.final() is not None:
            return self.observe(lease_id)
        with files.locked():
            order = files.order()
            if order is not None and self._now(files, order).live:
                order.wanted = "pause"
                files.write_order(order)
                self._end_job(files, order, 0.0)
        return self.observe(lease_id)

    def _end_job(self, files: SlurmFiles, order: Order, grace_s: float) -> bool:
        """Wait until the order's holders have obeyed and its job is gone, by force where they don't; True where every one of
        them reported that it is over and clean, or none ever began."""
        job = self._live_job(files)
        if job is not None and job.state == "PENDING":
            self._cluster.cancel(job.id)
        elif job is not None and not _until(lambda: self._settled(files, order), STOP_S + grace_s):
            self._cluster.cancel(job.id)
            if not _until(lambda: self._live_job(files) is None, STOP_S):
                self._cluster.cancel(job.id, kill=True)
        if job is not None and not _until(lambda: self._live_job(files) is None, KILL_S):
            raise BackendFailedError(f"Slurm did not end job {job.id} of lease {files.lease_id}")
        reports = files.reports(order.generation)[-1] if order.generation else []
        if not reports:
            return not self._ever_ran(files, order)
        return self._obeyed(files, order) and all(report.clean is not False for report in reports)

    def _settled(self, files: SlurmFiles, order: Order) -> bool:
        """Every holder has obeyed, or is not heard of any more."""
        reports = files.reports(order.generation)[-1] if order.generation else []
        now_us = to_micros(self._clock.now())
        return bool(reports) and all(report.over or now_us - report.at_us > evidence.SILENT_US for report in reports)

    def _obeyed(self, files: SlurmFiles, order: Order) -> bool:
        reports = files.reports(order.generation)[-1] if order.generation else []
        return len(reports) == self._nodes(order) and all(
            report.over and (order.wanted == "pause" or report.state in ("stopped", "failed")) for report in reports
        )

    def _clean_up(self, files: SlurmFiles, order: Order) -> bool:
        """A job on the nodes where it last ran that does nothing but end and prove."""
        reports = next((each for each in reversed(files.reports(order.generation)) if each), [])
        on = tuple(dict.fromkeys(report.node for report in reports if report.node))
        order.generation, order.wanted = order.generation + 1, "stop"
        order.accelerators = max(1, len(on)) * self._settings.accelerators_per_node
        order.submitted_us = to_micros(self._clock.now())
        files.write_order(order)
        try:
            order.job = self._cluster.submit(files, order, max(1, len(on)), self._clock.now(), on=on)
        except SlurmRefusedError:
            return False
        files.write_order(order)
        done = _until(lambda: self._obeyed(files, order), CLEAN_S)
        if not done and (job := self._live_job(files)) is not None:
            self._cluster.cancel(job.id)
        reports = files.reports(order.generation)[-1]
        return done and all(report.clean is not False for report in reports)

    def _ever_ran(self, files: SlurmFiles, order: Order) -> bool:
        return any(files.reports(order.generation)) or bool(files.ranks())

    # -- terms

    def notice(self, lease_id: str, reclaim_at: datetime, text: str, *, comes_back: bool | None = None) -> Observation:
        return self._terms(lease_id, lambda order: _with_notice(order, reclaim_at, text))

    def withdraw_notice(self, lease_id: str) -> Observation:
        return self._terms(lease_id, lambda order: _with_notice(order, None, WITHDRAWN))

    def extend(self, lease_id: str, ends_at: datetime) -> Observation:
        """The reservation first, then the job's limit, then the lease: what is half done is done again."""
        files = SlurmFiles(self._shared, lease_id)
        wanted, order = files.wanted(), files.order()
        over = order is None or order.wanted == "stop" or files.final() is not None
        if order is not None and not over:
            if wanted is not None and (until := int(ends_at.timestamp()) + self._settings.timing.clean_s) > wanted.end:
                self.reserve_until(files, wanted, until)
            job = self._live_job(files)
            if job is not None and job.state != "PENDING" and to_micros(ends_at) > order.ends_at_us:
                self._cluster.limit(job.id, ends_at, self._clock.now())

        def change(order: Order) -> None:
            order.ends_at_us = to_micros(ends_at)

        return self._terms(lease_id, change)

    def reserve_until(self, files: SlurmFiles, wanted: Wanted, end: int) -> None:
        """Move the end of what is kept. Raises SlurmRefusedError where another reservation has that time."""
        with files.locked():
            wanted.end = end
            self._cluster.keep(files.lease_id, wanted, self._clock.now(), lambda kept: False)
            files.write_wanted(wanted)

    def _terms(self, lease_id: str, change: Callable[[Order], None]) -> Observation:
        files = SlurmFiles(self._shared, lease_id)
        if files.order() is None:
            return self.observe(lease_id)
        with files.locked():
            order = files.order()
            if order is not None and order.wanted != "stop" and files.final() is None:
                change(order)
                files.write_order(order)
        return self.observe(lease_id)

    # -- what is

    def observe(self, lease_id: str) -> Observation:
        files = SlurmFiles(self._shared, lease_id)
        order = files.order()
        if order is None and files.wanted() is None:
            return Observation(lease_id, RunState.ABSENT)
        jobs = self._cluster.jobs(job_name(order)) if order is not None else {}
        kept = self._cluster.reservation(lease_id) if files.wanted() is not None else None
        health = {line.name: line.health for line in self._cluster.nodes()} if kept is not None else {}
        return self._observation(files, order, jobs, kept, health)

    def observe_all(self) -> dict[str, Observation]:
        """Three questions to Slurm in all, however many leases there are."""
        ids = self._lease_ids()
        if not ids:
            self._cluster.jobs(f"{PREFIX}none")
            return {}
        jobs, kept = self._cluster.jobs(), self._cluster.reservations()
        health = {line.name: line.health for line in self._cluster.nodes()}
        found = {}
        for lease_id in ids:
            files = SlurmFiles(self._shared, lease_id)
            mine = kept.get(reservation_name(lease_id)) if files.wanted() is not None else None
            seen = self._observation(files, files.order(), jobs, mine, health)
            if seen.state is not RunState.ABSENT or seen.reservation is not None:
                found[lease_id] = seen
        return found

    def _observation(
        self,
        files: SlurmFiles,
        order: Order | None,
        jobs: dict[str, Job],
        kept: Kept | None,
        health: dict[str, NodeHealth],
    ) -> Observation:
        reservation = self._reservation(kept, health)
        if order is None:
            return Observation(files.lease_id, RunState.ABSENT, reservation=reservation)
        now_us = to_micros(self._clock.now())
        generations = files.reports(order.generation)
        reports = generations[-1] if generations else []
        job, final = jobs.get(job_name(order)), files.final()
        state = RunState(final.state) if final is not None else self._state(order, reports, job, now_us)
        live = state.live
        doors = evidence.endpoints_of(reports, self._host_of) if live else ()
        serving_reports = [report for report in reports if report.state == "running"]
        serving = live and bool(doors)
        over = state in (RunState.STOPPED, RunState.FAILED)
        each = self._settings.accelerators_per_node
        return Observation(
            lease_id=files.lease_id,
            state=state,
            endpoint=doors[0] if serving else None,
            guarantees=evidence.guarantees_of(reports) if serving else {},
            deliveries=evidence.deliveries_of(generations, self._nodes(order), now_us, live=live),
            ends_at=from_micros(reading.told(serving_reports, "ends_at_us", order.ends_at_us)),
            reclaim_at=_moment(reading.told(serving_reports, "reclaim_at_us", order.reclaim_at_us)),
            reason=reading.end_reason(order, reports, final) if over else None,
            clean=reading.proof(reports, final) if over else None,
            error=reading.trouble(reports, final, job if state is RunState.STARTING else None),
            keys=reading.told(serving_reports, "keys", None) if live else None,
            endpoints=doors if serving and len(doors) > 1 else (),
            devices=tuple(f"{report.node}:{number}" for report in serving_reports for number in range(each))
            if live
            else (),
            reservation=reservation,
            taken_at=self._taken_at(reports, final, job, order),
            traffic=evidence.traffic_of(generations) if order.egress else None,
        )

    def _state(self, order: Order, reports: list[Report], job: Job | None, now_us: int) -> RunState:
        if not order.generation:
            return RunState.PAUSED
        state = evidence.state_of(reports, self._nodes(order), now_us)
        if job is not None and job.state == "PENDING":
            return RunState.STARTING
        if job is not None or state in (RunState.STOPPED, RunState.FAILED, RunState.PAUSED):
            return state
        heard = any(not report.over and now_us - report.at_us <= evidence.SILENT_US for report in reports)
        young = now_us - order.submitted_us <= SUBMITTED_S * 1_000_000 and not any(report.over for report in reports)
        # A job that is missing from the queue while its holders report still exists.
        return state if heard or (young and not reports) else RunState.PAUSED

    def _taken_at(self, reports: list[Report], final: Final | None, job: Job | None, order: Order) -> datetime | None:
        """As the holders heard it, or as the job's end shows that was moved."""
        if final is not None:
            return _moment(final.taken_at_us)
        heard = [report.taken_at_us for report in reports if report.taken_at_us is not None]
        if heard:
            return from_micros(min(heard))
        deadline = from_micros(min(order.ends_at_us, order.reclaim_at_us or order.ends_at_us))
        preemptible = order.class_name in self._settings.preemptible_classes
        if (
            preemptible
            and job is not None
            and job.ends_at is not None
            and job.ends_at < deadline - timedelta(seconds=5)
        ):
            return self._cluster.preempted_at(job.id)
        return None

    def _reservation(self, kept: Kept | None, health: dict[str, NodeHealth]) -> Reservation | None:
        if kept is None:
            return None
        accelerators = kept.count * self._settings.accelerators_per_node
        return Reservation(kept.start, kept.end, accelerators, kept.nodes, self._broken(kept, health))

    def forget(self, lease_id: str) -> None:
        files = SlurmFiles(self._shared, lease_id)
        if files.order() is None:
            self.release(lease_id)
            return
        seen = self.observe(lease_id)
        if not seen.state.over or not seen.clean:
            raise InvalidInputError(f"lease {lease_id} is {seen.state} and not proved clean; stop it first")
        if self._live_job(files) is not None and not _until(lambda: self._live_job(files) is None, KILL_S):
            raise BackendFailedError(f"the job of lease {lease_id} is still ending")
        if files.wanted() is not None:
            self._cluster.drop(lease_id)
        files.keep_logs()
        files.remove()

    def reap(self, known: frozenset[str]) -> list[Observation]:
        """Also cancels our jobs whose lease has no files any more. Reservations without files are not ours to judge."""
        purge_logs(self._shared / EGRESS_LOGS, self._settings.egress_log_days)
        ended = []
        for lease_id in self._lease_ids():
            seen = self.observe(lease_id)
            unknown = lease_id not in known
            unproved = seen.state in (RunState.STOPPED, RunState.FAILED) and not seen.clean
            started = SlurmFiles(self._shared, lease_id).order() is not None
            if unproved or (unknown and started and not (seen.state.over and seen.clean)):
                ended.append(self.stop(lease_id, "orphan", grace_s=0.0))
            if unknown and self.observe(lease_id).clean is not False:
                with suppress(InvalidInputError):
                    self.forget(lease_id)
        here = set(self._lease_ids())
        for name, job in self._cluster.jobs().items():
            if name.removeprefix(PREFIX).rpartition("-")[0] not in here:
                self._cluster.cancel(job.id)
        return ended

    def _now(self, files: SlurmFiles, order: Order) -> RunState:
        """Where the order's generation stands."""
        final = files.final()
        if final is not None or order.wanted == "stop":
            return RunState(final.state) if final is not None else RunState.STOPPED
        job = self._cluster.jobs(job_name(order)).get(job_name(order))
        reports = files.reports(order.generation)[-1] if order.generation else []
        return self._state(order, reports, job, to_micros(self._clock.now()))

    def _live_job(self, files: SlurmFiles) -> Job | None:
        order = files.order()
        return self._cluster.jobs(job_name(order)).get(job_name(order)) if order is not None else None

    def _nodes(self, order: Order) -> int:
        return max(1, order.accelerators // self._settings.accelerators_per_node)

    def _host_of(self, node: str) -> str:
        return self._settings.door_host.replace("{node}", node)

    def _lease_ids(self) -> list[str]:
        if not self._shared.is_dir():
            raise BackendFailedError(f"the shared directory {self._shared} does not exist")
        return sorted(
            entry.name for entry in self._shared.iterdir() if entry.name.startswith("lse_") and entry.is_dir()
        )


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _with_notice(order: Order, reclaim_at: datetime | None, text: str) -> None:
    order.reclaim_at_us = to_micros(reclaim_at) if reclaim_at is not None else None
    order.text = text[:1000]


def _moment(micros: int | None) -> datetime | None:
    return from_micros(micros) if micros is not None else None
