"""A backend that can't hold anybody up: every call has a deadline, and one that does not answer is left alone for a while.

What a call was to do may still happen after its deadline. That is harmless: every call of a backend may be repeated, and the
next observation says what is.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import structlog

from sublet.leases.backends.base import Backend, BackendFailedError, KeepsVolumes, Observation, StartOrder
from sublet.leases.backends.engine import Demand, Inventory, NodeHealth, ReserveOrder, Traits
from sublet.leases.backends.job import LogPart, RunsJobs
from sublet.leases.backends.volume import KeepsFiles, VolumeWork, WorkResult

T = TypeVar("T")

CALLS_MAX = 64
"""Calls that may hang at one backend; further ones are refused instead of gathering threads."""
STUCK_S = 60.0
"""After that long a call that hangs is given up, and another one about the same may be made."""
FAILURES_MAX = 3
PAUSE_S, PAUSE_S_MAX = 2.0, 60.0
_log = structlog.get_logger("sublet.leases")


class UnansweredError(BackendFailedError):
    """The backend did not answer in time, or is not called because it recently did not; its leases are unknown, not gone."""

    code = "backend_silent"


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds after which a call counts as unanswered: looks, changes of terms, and what starts or ends a sandbox."""

    look_s: float = 10.0
    terms_s: float = 15.0
    run_s: float = 90.0


class Breaker:
    """Closed while the backend answers; open, for ever longer pauses, after FAILURES_MAX failures in a row; then one call
    tries whether it is back. Safe to use from several threads."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._failures = 0
        self._pause_s = PAUSE_S
        self._closed_until: float | None = None
        self._trying = False

    @property
    def state(self) -> str:
        """closed, open, or half-open."""
        with self._lock:
            if self._closed_until is None:
                return "closed"
            return "open" if self._monotonic() < self._closed_until else "half-open"

    @property
    def failures(self) -> int:
        """How many in a row."""
        with self._lock:
            return self._failures

    def wait_s(self) -> float:
        """How long a call must wait; 0 where it may be made now. The caller that is told 0 while it is half-open makes the one try."""
        with self._lock:
            if self._closed_until is None:
                return 0.0
            left_s = self._closed_until - self._monotonic()
            if left_s > 0 or self._trying:
                return max(left_s, 0.1)
            self._trying = True
            return 0.0

    def answered(self) -> bool:
        """The backend answered; True where it had not before."""
        with self._lock:
            was_open = self._closed_until is not None
            self._failures, self._pause_s, self._closed_until, self._trying = 0, PAUSE_S, None, False
            return was_open

    def failed(self) -> bool:
        """It did not; True where the breaker opens now."""
        with self._lock:
            self._failures += 1
            trying, self._trying = self._trying, False
            if self._failures < FAILURES_MAX and not trying:
                return False
            opens = self._closed_until is None
            self._closed_until = self._monotonic() + self._pause_s
            self._pause_s = min(PAUSE_S_MAX, self._pause_s * 2)
            return opens


class GuardedBackend:
    """`backend` behind deadlines and a breaker. Raises BackendFailedError where it does not answer in time, where it is left
    alone because it did not lately, or where an earlier call about the same lease has not come back."""

    def __init__(self, backend: Backend, deadlines: Deadlines | None = None, breaker: Breaker | None = None) -> None:
        self.name = backend.name
        self._backend = backend
        self._deadlines = deadlines or Deadlines()
        self._breaker = breaker or Breaker()
        self._lock = threading.Lock()
        self._pending: dict[int, tuple[str, float]] = {}
        self._number = 0
        self._last_error: str | None = None
        self._last_s = 0.0

    @property
    def tenants_max(self) -> int | None:
        return self._backend.tenants_max

    def served_max(self) -> int | None:
        return self._backend.served_max()

    @property
    def traits(self) -> Traits:
        return self._backend.traits

    def introduce(self, tenants: frozenset[str]) -> None:
        self._about("tenants", self._deadlines.run_s, lambda: self._backend.introduce(tenants))

    def reserve(self, order: ReserveOrder) -> Observation:
        return self._about(order.lease_id, self._deadlines.terms_s, lambda: self._backend.reserve(order))

    def release(self, lease_id: str) -> None:
        self._about(lease_id, self._deadlines.terms_s, lambda: self._backend.release(lease_id))

    def inventory(self) -> Inventory | None:
        return self._about("its inventory", self._deadlines.look_s, self._backend.inventory)

    def health(self) -> tuple[NodeHealth, ...]:
        return self._about("its nodes", self._deadlines.look_s, self._backend.health)

    def demand(self) -> Demand | None:
        return self._about("its queue", self._deadlines.terms_s, self._backend.demand)

    def start(self, order: StartOrder) -> Observation:
        return self._about(order.lease_id, self._deadlines.run_s, lambda: self._backend.start(order))

    def observe(self, lease_id: str) -> Observation:
        return self._about(lease_id, self._deadlines.look_s, lambda: self._backend.observe(lease_id))

    def observe_all(self) -> dict[str, Observation]:
        """The one call whose own failure counts against the backend: another may fail for its lease alone."""
        return self._about("all leases", self._deadlines.look_s, self._backend.observe_all, error_answers=False)

    def notice(self, lease_id: str, reclaim_at: datetime, text: str, *, comes_back: bool | None = None) -> Observation:
        return self._about(
            lease_id,
            self._deadlines.terms_s,
            lambda: self._backend.notice(lease_id, reclaim_at, text, comes_back=comes_back),
        )

    def withdraw_notice(self, lease_id: str) -> Observation:
        return self._about(lease_id, self._deadlines.terms_s, lambda: self._backend.withdraw_notice(lease_id))

    def extend(self, lease_id: str, ends_at: datetime) -> Observation:
        return self._about(lease_id, self._deadlines.terms_s, lambda: self._backend.extend(lease_id, ends_at))

    def stop(self, lease_id: str, reason: str, grace_s: float = 2.0) -> Observation:
        deadline_s = self._deadlines.run_s + grace_s
        return self._about(lease_id, deadline_s, lambda: self._backend.stop(lease_id, reason, grace_s))

    def pause(self, lease_id: str) -> Observation:
        return self._about(lease_id, self._deadlines.run_s, lambda: self._backend.pause(lease_id))

    def forget(self, lease_id: str) -> None:
        self._about(lease_id, self._deadlines.terms_s, lambda: self._backend.forget(lease_id))

    def reap(self, known: frozenset[str]) -> list[Observation]:
        return self._about("orphans", self._deadlines.run_s, lambda: self._backend.reap(known))

    def make_volume(self, volume_id: str, size_mib: int) -> None:
        """Raises BackendFailedError too where the backend keeps no volumes."""
        self._about(volume_id, self._deadlines.run_s, lambda: self._keeper().make_volume(volume_id, size_mib))

    def remove_volume(self, volume_id: str) -> None:
        self._about(volume_id, self._deadlines.run_s, lambda: self._keeper().remove_volume(volume_id))

    def receive_copy(self, volume_id: str, copy_id: str, offset: int, content: bytes) -> int:
        """Raises BackendFailedError too where the backend's volumes have no files."""
        files = self._files()
        return self._about(
            copy_id, self._deadlines.run_s, lambda: files.receive_copy(volume_id, copy_id, offset, content)
        )

    def remove_copy(self, volume_id: str, copy_id: str) -> None:
        self._about(copy_id, self._deadlines.run_s, lambda: self._files().remove_copy(volume_id, copy_id))

    def work_on(self, work: VolumeWork) -> WorkResult:
        subject = f"{work.kind} of {work.subject_id}"
        return self._about(subject, self._deadlines.terms_s, lambda: self._files().work_on(work))

    def remove_snapshot(self, volume_id: str, snapshot_id: str) -> None:
        self._about(snapshot_id, self._deadlines.run_s, lambda: self._files().remove_snapshot(volume_id, snapshot_id))

    def volume_content(self, volume_id: str, path: str) -> Iterator[bytes]:
        """The first part has a deadline; the others come as fast as they are taken."""
        subject = f"files of {volume_id}"
        return self._about(subject, self._deadlines.run_s, lambda: self._files().volume_content(volume_id, path))

    def _files(self) -> KeepsFiles:
        if not isinstance(self._backend, KeepsFiles):
            raise BackendFailedError(f"the volumes of backend {self.name} have no files to copy")
        return self._backend

    def job_log(self, lease_id: str, offset: int) -> LogPart:
        """Raises BackendFailedError too where the backend runs no jobs."""
        runner = self._backend
        if not isinstance(runner, RunsJobs):
            raise BackendFailedError(f"backend {self.name} runs no jobs")
        return self._about(f"{lease_id} log", self._deadlines.look_s, lambda: runner.job_log(lease_id, offset))

    def _keeper(self) -> KeepsVolumes:
        if not isinstance(self._backend, KeepsVolumes):
            raise BackendFailedError(f"backend {self.name} does not support volumes")
        return self._backend

    def status(self) -> dict[str, Any]:
        """Whether it answers, for anyone who watches: state closed (it does), open (it is left alone) or half-open."""
        with self._lock:
            return {
                "name": self.name,
                "state": self._breaker.state,
                "failures": self._breaker.failures,
                "hanging_calls": len(self._pending),
                "last_answer_s": round(self._last_s, 3),
                "last_error": self._last_error,
            }

    def _about(self, subject: str, deadline_s: float, call: Callable[[], T], *, error_answers: bool = True) -> T:
        wait_s = self._breaker.wait_s()
        if wait_s > 0:
            raise UnansweredError(
                f"backend {self.name} is not responding ({self._last_error}); Sublet tries again in {wait_s:.0f} s"
            )
        began = time.monotonic()
        number = self._admit(subject, began)
        answer: Future[T] = Future()
        # Threads of their own and daemons: a pool's would all be taken by calls that hang, and would keep the process alive.
        threading.Thread(
            target=self._carry_out, args=(number, call, answer), name=f"backend-{self.name}", daemon=True
        ).start()
        try:
            found = answer.result(deadline_s)
        except Exception as error:
            if not answer.done():
                self._note_failure(f"no answer about {subject} within {deadline_s:.0f} s")
                raise UnansweredError(
                    f"backend {self.name} did not respond about {subject} within {deadline_s:.0f} s"
                ) from None
            if error_answers:
                self._note_answer(began)
            else:
                self._note_failure(str(error))
            raise
        self._note_answer(began)
        return found

    def _admit(self, subject: str, began: float) -> int:
        """The number of a call that may be made. Raises UnansweredError where an earlier one about the same hangs."""
        with self._lock:
            same = any(known == subject and began - since < STUCK_S for known, since in self._pending.values())
            if not same and len(self._pending) < CALLS_MAX:
                self._number += 1
                self._pending[self._number] = (subject, began)
                return self._number
        what = f"a call about {subject} has not come back" if same else f"{CALLS_MAX} calls have not come back"
        self._note_failure(what)
        raise UnansweredError(f"backend {self.name}: {what}")

    def _carry_out(self, number: int, call: Callable[[], T], answer: Future[T]) -> None:
        try:
            found = call()
        except BaseException as error:
            self._came_back(number)
            answer.set_exception(error)
        else:
            self._came_back(number)
            answer.set_result(found)

    def _came_back(self, number: int) -> None:
        with self._lock:
            self._pending.pop(number, None)

    def _note_answer(self, began: float) -> None:
        self._last_s = time.monotonic() - began
        if self._breaker.answered():
            _log.info("backend_answers_again", backend=self.name)

    def _note_failure(self, error: str) -> None:
        self._last_error = error[:300]
        if self._breaker.failed():
            _log.warning("backend_silent", backend=self.name, reason=self._last_error)


def guarded(backends: Mapping[str, Backend], deadlines: Deadlines | None = None) -> dict[str, Backend]:
    """Each behind a guard of its own."""
    return {name: GuardedBackend(backend, deadlines) for name, backend in backends.items()}


def observe_each(
    backends: Mapping[str, Backend], *, together: bool
) -> tuple[dict[str, dict[str, Observation]], frozenset[str]]:
    """What each backend knows, by its name, and which did not answer. `together` asks all at once; one after another keeps
    a simulation deterministic."""
    found: dict[str, dict[str, Observation]] = {}
    silent: set[str] = set()

    def ask(name: str, backend: Backend) -> None:
        try:
            found[name] = backend.observe_all()
        except (BackendFailedError, OSError):
            silent.add(name)

    if not together or len(backends) < 2:
        for name, backend in backends.items():
            ask(name, backend)
        return found, frozenset(silent)
    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in backends.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, frozenset(silent - found.keys())
