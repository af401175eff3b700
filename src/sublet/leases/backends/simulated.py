"""The `simulated` backend: the same behavior on an injected clock, with faults drawn from a seed."""

from __future__ import annotations

import random
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sublet.leases.backends.base import (
    DEVICES_PER_LEASE_MAX,
    BackendFailedError,
    Delivery,
    Endpoint,
    Observation,
    Reservation,
    RunState,
    StartOrder,
    checked_authorized_keys,
    keys_digest,
)
from sublet.leases.backends.engine import PLAIN, ReserveOrder, Traits
from sublet.leases.backends.job import JOB_DONE, JobExit, LogPart, is_over, part_of
from sublet.leases.backends.simulated_volumes import SimulatedVolumes
from sublet.leases.backends.standalone import Standalone
from sublet.values.clock import Clock
from sublet.values.errors import InvalidInputError

FIRST_PORT = 22_000
LAST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Faults:
    """How often what goes wrong, as probabilities from 0 to 1, and how long a start takes, in seconds.

    `deaf` and `deaf_after` make a call fail before or after it has done its work; `dies` is per lease and second of the
    time that passed since it was last looked at; `unclean` is per teardown.
    """

    start_fails: float = 0.0
    deaf: float = 0.0
    deaf_after: float = 0.0
    dies: float = 0.0
    unclean: float = 0.0
    start_s: float = 0.0


@dataclass(slots=True)
class Run:
    """`[start, end)` for which it ran."""

    start: datetime
    end: datetime
    accelerators: int
    open: bool = True


@dataclass(slots=True)
class Simulated:
    """One lease as the backend has it."""

    order: StartOrder
    state: RunState
    port: int
    ready_at: datetime
    reclaim_at: datetime | None
    seen_at: datetime
    runs: list[Run] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    reason: str | None = None
    clean: bool | None = None
    error: str | None = None
    taken_at: datetime | None = None
    exits: list[JobExit] = field(default_factory=list)
    log: str = ""

    @property
    def deadline(self) -> datetime:
        return min(self.order.ends_at, *(at for at in (self.reclaim_at, self.taken_at) if at is not None), LAST)


class SimulatedBackend(SimulatedVolumes, Standalone):
    """Deterministic for a seed and a sequence of calls and clock times. With `traits` it does what an engine of a fleet does."""

    name = "simulated"

    def __init__(self, clock: Clock, seed: int = 0, faults: Faults | None = None, traits: Traits = PLAIN) -> None:
        self._clock = clock
        self._traits = traits
        self._kept: dict[str, ReserveOrder] = {}
        self._random = random.Random(seed)
        self._faults = faults or Faults()
        self._leases: dict[str, Simulated] = {}
        self._lock: AbstractContextManager[Any] = threading.RLock()
        SimulatedVolumes.__init__(self)

    @property
    def tenants_max(self) -> int | None:
        return None

    def served_max(self) -> int | None:
        return None

    @property
    def traits(self) -> Traits:
        return self._traits

    def reserve(self, order: ReserveOrder) -> Observation:
        if not self._traits.keeps(order.class_name):
            return super().reserve(order)
        with self._lock:
            self._hear()
            self._kept[order.lease_id] = order
            return self._answer(self._aged(order.lease_id), order.lease_id)

    def release(self, lease_id: str) -> None:
        with self._lock:
            self._hear()
            self._kept.pop(lease_id, None)

    def preempt(self, lease_id: str, at: datetime) -> None:
        """The engine's own notice: it takes the lease back at `at`, and nobody is asked."""
        with self._lock:
            found = self._aged(lease_id)
            if found is not None and not found.state.over:
                found.taken_at = at

    def start(self, order: StartOrder) -> Observation:
        with self._lock:
            self._hear()
            if not 0 < len(order.devices) <= DEVICES_PER_LEASE_MAX:
                raise InvalidInputError(f"a lease needs 1 to {DEVICES_PER_LEASE_MAX} devices, not {len(order.devices)}")
            keys = checked_authorized_keys(order.authorized_keys, least=0 if order.job is not None else 1)
            now = self._clock.now()
            ready_at = now + timedelta(seconds=self._faults.start_s)
            found = self._leases.get(order.lease_id)
            if found is None:
                state = RunState.STARTING
                order = replace(order, authorized_keys=keys)
                found = Simulated(order, state, FIRST_PORT + len(self._leases), ready_at, order.reclaim_at, now)
                self._leases[order.lease_id] = found
                if self._chance(self._faults.start_fails):
                    self._over(found, RunState.FAILED, "start_failed", "simulated start failure")
            else:
                self._age(found)
                if found.state is RunState.PAUSED:
                    found.state, found.ready_at, found.seen_at = RunState.STARTING, ready_at, now
                    found.order = replace(order, authorized_keys=keys)
                    found.reclaim_at = order.reclaim_at
                    found.taken_at = None if order.pausable else found.taken_at
                elif found.state.live:
                    found.order = replace(found.order, authorized_keys=keys)
            return self._answer(found)

    def job_log(self, lease_id: str, offset: int) -> LogPart:
        """What `print_in_job` said; a simulated command prints nothing by itself."""
        with self._lock:
            self._hear()
            found = self._leases.get(lease_id)
            content = found.log.encode()[offset:] if found is not None else b""
            return part_of(content, offset)

    def exit_job(self, lease_id: str, code: int) -> None:
        """The command of a running job exits; no command does by itself."""
        with self._lock:
            found = self._aged(lease_id)
            if found is None or found.order.job is None or found.state is not RunState.RUNNING:
                return
            found.exits.append(JobExit(len(found.exits) + 1, code, self._clock.now()))
            if is_over(found.order.job, tuple(found.exits)):
                self._over(found, RunState.STOPPED, JOB_DONE)

    def print_in_job(self, lease_id: str, text: str) -> None:
        """The command of a job prints."""
        with self._lock:
            if (found := self._leases.get(lease_id)) is not None:
                found.log += text

    def observe(self, lease_id: str) -> Observation:
        with self._lock:
            self._hear()
            return self._look(lease_id)

    def observe_all(self) -> dict[str, Observation]:
        with self._lock:
            self._hear()
            return {
                lease_id: self._look(lease_id)
                for lease_id in (*self._leases, *(self._kept.keys() - self._leases.keys()))
            }

    def notice(self, lease_id: str, reclaim_at: datetime, text: str, *, comes_back: bool | None = None) -> Observation:
        with self._lock:
            self._hear()
            found = self._aged(lease_id)
            if found is not None and comes_back is not None:
                found.order = replace(found.order, pausable=comes_back)
            if found is not None and not found.state.over and found.reclaim_at != reclaim_at:
                found.reclaim_at = reclaim_at
                found.told.append(text)
            return self._answer(found, lease_id)

    def withdraw_notice(self, lease_id: str) -> Observation:
        with self._lock:
            self._hear()
            found = self._aged(lease_id)
            if found is not None and not found.state.over and found.reclaim_at is not None:
                found.reclaim_at = None
                found.told.append("withdrawn")
            return self._answer(found, lease_id)

    def extend(self, lease_id: str, ends_at: datetime) -> Observation:
        with self._lock:
            self._hear()
            found = self._aged(lease_id)
            if found is not None and not found.state.over:
                found.order = replace(found.order, ends_at=ends_at)
            return self._answer(found, lease_id)

    def stop(self, lease_id: str, reason: str, grace_s: float = 2.0) -> Observation:
        with self._lock:
            self._hear()
            found = self._aged(lease_id)
            if found is not None and (not found.state.over or not found.clean):
                self._over(found, RunState.FAILED if found.state is RunState.FAILED else RunState.STOPPED, reason)
            return self._answer(found, lease_id)

    def pause(self, lease_id: str) -> Observation:
        with self._lock:
            self._hear()
            found = self._aged(lease_id)
            if found is not None and found.state.live:
                self._halt(found)
            return self._answer(found, lease_id)

    def forget(self, lease_id: str) -> None:
        with self._lock:
            self._hear()
            found = self._aged(lease_id)
            if found is not None and not (found.state.over and found.clean):
                raise InvalidInputError(f"lease {lease_id} is {found.state} and not proved clean; stop it first")
            self._leases.pop(lease_id, None)
            self._kept.pop(lease_id, None)

    def reap(self, known: frozenset[str]) -> list[Observation]:
        with self._lock:
            self._hear()
            ended = []
            for lease_id in list(self._leases):
                found = self._aged(lease_id)
                assert found is not None
                if lease_id not in known and not (found.state.over and found.clean):
                    self._over(found, RunState.STOPPED, "orphan")
                    ended.append(self._look(lease_id))
                if lease_id not in known and found.clean:
                    del self._leases[lease_id]
            for lease_id in self._kept.keys() - known:
                del self._kept[lease_id]
            return ended

    def told(self, lease_id: str) -> list[str]:
        """What the tenant has been told, in order."""
        with self._lock:
            found = self._leases.get(lease_id)
            return list(found.told) if found else []

    def crash(self, lease_id: str) -> None:
        """The sandbox and its shim die, as a SIGKILL of both would do; the files stay."""
        with self._lock:
            found = self._aged(lease_id)
            if found is not None and found.state.live:
                self._halt(found)

    def _age(self, found: Simulated) -> None:
        """Let the time pass that has passed: starts become ready, sandboxes die, deadlines come."""
        now = max(self._clock.now(), found.seen_at)
        if found.state is RunState.STARTING and found.ready_at <= min(now, found.deadline):
            found.state = RunState.RUNNING
            start = max([found.ready_at, *(run.end for run in found.runs)])
            found.runs.append(Run(start, start, len(found.order.devices)))
        if found.state is RunState.RUNNING:
            until = min(now, found.deadline)
            run = found.runs[-1]
            elapsed_s = (until - run.end).total_seconds()
            if elapsed_s > 0 and self._chance(1 - (1 - self._faults.dies) ** elapsed_s):
                run.end += timedelta(seconds=self._random.uniform(0, elapsed_s))
                self._halt(found)
            else:
                run.end = max(run.end, until)
        found.seen_at = now
        if found.state.live and now >= found.deadline:
            reclaimed = found.deadline < found.order.ends_at or found.reclaim_at == found.deadline
            if found.order.pausable and found.deadline < found.order.ends_at:
                self._halt(found)
                return
            self._over(found, RunState.STOPPED, "reclaimed" if reclaimed else "window_over")

    def _halt(self, found: Simulated) -> None:
        found.state = RunState.PAUSED
        for run in found.runs:
            run.open = False

    def _over(self, found: Simulated, state: RunState, reason: str, error: str | None = None) -> None:
        self._halt(found)
        found.state, found.reason, found.error = state, found.reason or reason, error
        found.clean = not self._chance(self._faults.unclean)

    def _aged(self, lease_id: str) -> Simulated | None:
        found = self._leases.get(lease_id)
        if found is not None:
            self._age(found)
        return found

    def _look(self, lease_id: str) -> Observation:
        found = self._aged(lease_id)
        return self._observation(found, lease_id)

    def _answer(self, found: Simulated | None, lease_id: str = "") -> Observation:
        if found is not None:
            self._age(found)
        if self._chance(self._faults.deaf_after):
            raise BackendFailedError("simulated: the response was lost")
        return self._observation(found, lease_id)

    def _observation(self, found: Simulated | None, lease_id: str) -> Observation:
        if found is None:
            return Observation(lease_id, RunState.ABSENT, reservation=self._reservation(lease_id))
        running = found.state is RunState.RUNNING
        count = len(found.order.devices)
        nodes = -(-count // self._traits.step) if self._traits.picks_units else 1
        doors = [
            Endpoint("127.0.0.1", found.port + number, "tenant", "ssh-ed25519 AAAA", "SHA256:simulated")
            for number in range(nodes)
        ]
        picked = tuple(f"node{number // self._traits.step}:{number % self._traits.step}" for number in range(count))
        return Observation(
            lease_id=found.order.lease_id,
            state=found.state,
            endpoint=doors[0] if running else None,
            guarantees={"all": {"level": "none", "how": "simulated"}} if running else {},
            deliveries=tuple(Delivery(run.start, run.end, run.accelerators, run.open) for run in found.runs),
            ends_at=found.order.ends_at,
            reclaim_at=found.reclaim_at,
            reason=found.reason,
            clean=found.clean,
            error=found.error,
            keys=keys_digest(found.order.authorized_keys),
            endpoints=tuple(doors) if running and nodes > 1 else (),
            devices=picked if running and self._traits.picks_units else (),
            reservation=self._reservation(found.order.lease_id),
            taken_at=found.taken_at,
            exits=tuple(found.exits),
        )

    def _reservation(self, lease_id: str) -> Reservation | None:
        order = self._kept.get(lease_id)
        if order is None:
            return None
        return Reservation(order.window.start, order.window.end, order.accelerators, ("simulated",))

    def _hear(self) -> None:
        if self._chance(self._faults.deaf):
            raise BackendFailedError("simulated: no response")

    def _chance(self, probability: float) -> bool:
        return probability > 0 and self._random.random() < probability
