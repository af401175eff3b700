"""The engine host: the process that owns this machine's engines, keeps them running, and stores their endpoints."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection

from sublet.fleet.reach import Reach
from sublet.models import store as sql
from sublet.models.catalog import BUILT_IN
from sublet.models.engines import Engine, make_engine
from sublet.models.events import record_lost
from sublet.models.model import CatalogEntry, HostRunningError, Replica
from sublet.models.service import Models
from sublet.store import Store
from sublet.values.errors import SubletError

log = structlog.get_logger(__name__)

LIVE = ("starting", "ready", "draining")
HEALTH_INTERVAL_S = 2.0
UNHEALTHY_MAX = 3
START_S_MAX = 120.0
REACH_S_MAX = 5.0
"""Seconds after which a server elsewhere that answers nothing is given up for now: requests should not wait for it."""
RESTART_S_MAX = 30.0
# An engine that ends this often in a row without ever responding will not start.
FAILURES_MAX = 5
# Gateways learn of a drain within a second; until then they may still send requests.
DRAIN_S_MIN = 2.0
SOCKET_DIR_BYTES_MAX = 80

EngineFactory = Callable[[CatalogEntry, str, Path, int], Engine]


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The operator's settings for the engine host. `threads` is per engine; 0 means all cores but one."""

    data_dir: Path
    interval_s: float = 0.2
    threads: int = 0
    built_in: CatalogEntry = BUILT_IN

    @property
    def engine_threads(self) -> int:
        # llama.cpp's threads spin, so one core is left for everything else.
        return self.threads or max(1, len(os.sched_getaffinity(0)) - 1)


class _Seat:
    """One replica's engine on this host."""

    def __init__(self, engine: Engine, now: float) -> None:
        self.engine = engine
        self.started_at = now
        self.ready = False
        self.unhealthy = 0
        self.checked_at = 0.0


class Host:
    """Makes this machine's engines match the replicas in the database. `step` runs one round and never blocks for long."""

    def __init__(
        self,
        settings: HostSettings,
        store: Store,
        run_dir: Path,
        make: EngineFactory = make_engine,
        monotonic: Callable[[], float] = time.monotonic,
        reach: Reach | None = None,
    ) -> None:
        """`reach` says which pools' engines are on this machine. By default, it is the only machine."""
        self._reach = reach
        self._settings = settings
        self._store = store
        self._models = Models(store, settings.built_in)
        self._run_dir = run_dir
        self._make = make
        self._monotonic = monotonic
        self._name = socket.gethostname()
        self._seats: dict[str, _Seat] = {}
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._drained_since: dict[str, float] = {}
        self._away = False

    def step(self) -> None:
        """One round: start, watch, drain and stop engines, then store the result in the database."""
        try:
            replicas = self._models.replicas(self._reach)
            catalog = self._models.catalog()
            self._away = False
        except SubletError as error:
            if not self._away:
                log.warning("the database is away; the engines go on", error=error.message)
            self._away = True
            self._restart_silently()
            return
        wanted = {replica.id for replica in replicas}
        for replica_id in [known for known in self._seats if known not in wanted]:
            self._stop(replica_id)
        for replica in replicas:
            try:
                self._reconcile(replica, catalog.get(replica.model))
            except SubletError as error:
                self._fail(replica, error.message)

    def take_over(self) -> None:
        """At the start: replicas that a previous host marked as ready are not ready, because their engines ended with it."""
        for replica in self._models.replicas(self._reach):
            if self._reach is not None or replica.host == self._name:
                self._update(replica.id, ("ready",), state="starting", endpoint=None, pid=None)
                self._update(replica.id, ("starting", "draining"), endpoint=None, pid=None)

    def stop_all(self) -> None:
        """At the end: stop all engines, and store that."""
        for replica_id in list(self._seats):
            self._stop(replica_id)
            with contextlib.suppress(SubletError):
                self._update(replica_id, ("ready",), state="starting", endpoint=None, pid=None)
                self._update(replica_id, ("starting", "draining"), endpoint=None, pid=None)

    # One replica

    def _reconcile(self, replica: Replica, entry: CatalogEntry | None) -> None:
        if self._reach is None and replica.host not in (None, self._name):
            return
        seat = self._seats.get(replica.id)
        if replica.state == "draining":
            self._drain(replica, seat)
        elif entry is None:
            self._fail(replica, f"{replica.model} is no longer in the catalog")
        elif seat is None:
            self._start(replica, replica.entry or entry)
        elif not seat.engine.running():
            self._ended(replica, seat)
        else:
            self._watch(replica, seat)

    def _start(self, replica: Replica, entry: CatalogEntry) -> None:
        now = self._monotonic()
        if now < self._not_before.get(replica.id, 0.0):
            return
        engine = self._make(entry, replica.id, self._run_dir, self._settings.engine_threads)
        engine.start()
        self._seats[replica.id] = _Seat(engine, now)
        self._note_child(replica.id, engine.pid)
        self._update(replica.id, LIVE, host=self._name, pid=engine.pid, endpoint=None)
        log.info("engine started", replica=replica.id, model=replica.model, pid=engine.pid)

    def _watch(self, replica: Replica, seat: _Seat) -> None:
        now = self._monotonic()
        if seat.ready and replica.state == "ready" and now - seat.checked_at < HEALTH_INTERVAL_S:
            return
        seat.checked_at = now
        if seat.engine.health():
            seat.unhealthy = 0
            if not seat.ready or replica.state != "ready":
                self._ready(replica, seat)
            else:
                self._update(replica.id, ("ready",), healthy_at=self._store.clock.now())
            return
        if not seat.ready:
            if seat.engine.pid is None and now - seat.started_at > REACH_S_MAX:
                self._fail(replica, seat.engine.last_words())
            elif now - seat.started_at > START_S_MAX:
                seat.engine.stop()
            return
        seat.unhealthy += 1
        if seat.unhealthy >= UNHEALTHY_MAX:
            log.warning("engine does not answer; it is restarted", replica=replica.id)
            seat.ready = False
            self._update(replica.id, ("ready",), state="starting", endpoint=None)
            seat.engine.stop(grace_s=0.0)

    def _ready(self, replica: Replica, seat: _Seat) -> None:
        seat.ready = True
        self._failures.pop(replica.id, None)
        now = self._store.clock.now()
        self._update(
            replica.id,
            ("starting", "ready"),
            state="ready",
            endpoint=seat.engine.endpoint,
            pid=seat.engine.pid,
            host=self._name,
            ready_at=now,
            healthy_at=now,
        )
        log.info("replica ready", replica=replica.id, model=replica.model, endpoint=seat.engine.endpoint)

    def _ended(self, replica: Replica, seat: _Seat) -> None:
        """The engine ended: start another one, after a longer delay each time that it ended before it was ready."""
        words = seat.engine.last_words()
        self._stop(replica.id)
        failures = 0 if seat.ready else self._failures.get(replica.id, 0) + 1
        self._failures[replica.id] = failures
        log.warning("engine ended", replica=replica.id, model=replica.model, words=words)
        if failures >= FAILURES_MAX:
            self._fail(replica, f"the engine ended {failures} times before it answered ({words})")
            return
        pause_s = 0.0 if seat.ready else min(RESTART_S_MAX, 0.25 * 2**failures)
        self._not_before[replica.id] = self._monotonic() + pause_s
        self._lose(
            replica,
            words,
            ("starting", "ready"),
            state="starting",
            endpoint=None,
            pid=None,
            restarts=replica.restarts + 1,
            reason=f"restarted: {words}"[:500],
        )

    def _drain(self, replica: Replica, seat: _Seat | None) -> None:
        now = self._monotonic()
        since = self._drained_since.setdefault(replica.id, now)
        late = replica.drain_deadline is not None and self._store.clock.now() >= replica.drain_deadline
        if seat is not None and seat.engine.running() and not late:
            if now - since < DRAIN_S_MIN:
                return
            with contextlib.suppress(OSError):
                metrics = seat.engine.metrics()
                if metrics.processing or metrics.waiting:
                    return
        self._stop(replica.id)
        self._drained_since.pop(replica.id, None)
        self._update(replica.id, LIVE, state="stopped", endpoint=None, pid=None, stopped_at=self._store.clock.now())
        log.info("replica stopped", replica=replica.id, model=replica.model, late=late)

    def _fail(self, replica: Replica, reason: str) -> None:
        self._stop(replica.id)
        self._failures.pop(replica.id, None)
        with contextlib.suppress(SubletError):
            self._lose(
                replica,
                reason,
                LIVE,
                state="failed",
                endpoint=None,
                pid=None,
                stopped_at=self._store.clock.now(),
                reason=reason[:500],
            )
        log.error("replica failed", replica=replica.id, model=replica.model, reason=reason)

    def _stop(self, replica_id: str) -> None:
        seat = self._seats.pop(replica_id, None)
        self._not_before.pop(replica_id, None)
        if seat is not None:
            seat.engine.stop()
        (self._run_dir / f"{replica_id}.child").unlink(missing_ok=True)

    def _restart_silently(self) -> None:
        """If the database is unreachable, restart an ended engine at the endpoint that gateways know."""
        for seat in self._seats.values():
            if seat.ready and not seat.engine.running():
                with contextlib.suppress(SubletError):
                    seat.engine.start()

    def _update(self, replica_id: str, states: tuple[str, ...], **values: Any) -> bool:
        return self._store.write(lambda connection: sql.update_replica(connection, replica_id, states, **values))

    def _lose(self, replica: Replica, why: str, states: tuple[str, ...], **values: Any) -> None:
        """Store that a replica no longer responds. Record an event unless it was still starting and is restarted."""

        def write(connection: Connection) -> None:
            restarting = values["state"] == "starting"
            if sql.update_replica(connection, replica.id, states, **values) and not (
                restarting and replica.state == "starting"
            ):
                record_lost(connection, replica, why, self._store.clock.now(), restarting=restarting)

        self._store.write(write)

    def _note_child(self, replica_id: str, pid: int | None) -> None:
        if pid is not None and (started := process_start(pid)) is not None:
            (self._run_dir / f"{replica_id}.child").write_text(json.dumps({"pid": pid, "started": started}))


def run(
    settings: HostSettings,
    store: Store,
    *,
    stop: threading.Event | None = None,
    on_ready: Callable[[], None] | None = None,
    reach: Reach | None = None,
) -> None:
    """Own this machine's engines until SIGTERM or SIGINT, or until `stop` is set. Blocks.

    Without `stop`, call it on the main thread of its own process. Raises HostRunningError if another host uses the same data
    directory, and OSError if data_dir is not writable.
    """
    ending = stop or threading.Event()
    if stop is None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ending.set())
    folder = settings.data_dir / "engines"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = _lock(folder)
    try:
        run_dir = socket_dir(folder)
        end_leftovers(run_dir)
        host = Host(settings, store, run_dir, reach=reach)
        host.take_over()
        if on_ready is not None:
            on_ready()
        try:
            while not ending.wait(settings.interval_s):
                host.step()
        finally:
            host.stop_all()
    finally:
        os.close(lock)


def socket_dir(folder: Path) -> Path:
    """The directory of the engines' sockets: `folder`, or if its path is too long for a socket, a private directory in the
    system's temporary directory, which is noted in `folder`."""
    if len(os.fsencode(folder)) <= SOCKET_DIR_BYTES_MAX:
        return folder
    remembered = folder / "socket_dir"
    with contextlib.suppress(OSError):
        known = Path(remembered.read_text())
        status = known.lstat()
        if known.is_dir() and not known.is_symlink() and status.st_uid == os.getuid() and status.st_mode & 0o077 == 0:
            return known
    made = Path(tempfile.mkdtemp(prefix="sublet-engines-"))
    remembered.write_text(str(made))
    return made


def end_leftovers(run_dir: Path) -> int:
    """End engines that a previous host of this directory left behind: only processes with the recorded id and start time.

    Returns how many. Engines normally end with their host; this is for one that hangs.
    """
    ended = 0
    for note in run_dir.glob("*.child"):
        with contextlib.suppress(OSError, ValueError, KeyError):
            noted = json.loads(note.read_text())
            if process_start(int(noted["pid"])) == noted["started"]:
                os.kill(int(noted["pid"]), signal.SIGKILL)
                ended += 1
                log.warning("an engine that a former host left is ended", pid=noted["pid"])
        note.unlink(missing_ok=True)
    for stale in run_dir.glob("*.sock"):
        stale.unlink(missing_ok=True)
    return ended


def process_start(pid: int) -> str | None:
    """Distinguishes a process from a later one with the same id: the boot id and the start in clock ticks."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return None if fields[0] == "Z" else f"{boot}:{fields[19]}"


def _lock(folder: Path) -> int:
    descriptor = os.open(folder / "host.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise HostRunningError from error
    return descriptor
