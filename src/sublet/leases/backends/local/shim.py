"""One detached process per lease: it owns the sandbox, the SSH port and the deadline, and survives the control plane.

    python -m sublet.leases.backends.local.shim LEASE_DIRECTORY

The control plane finds it again by the lease's directory: a lock that is held while it lives, a state document replaced at
least each second, and a control socket. Standard library only, so that a lease costs little memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import json
import os
import signal
import socket
import struct
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.job import JOB_DONE
from sublet.leases.backends.local import door as doors
from sublet.leases.backends.local.disk import keep_allocated
from sublet.leases.backends.local.egress import EGRESS_LOGS, Egress, Log, Traffic, listen_inside
from sublet.leases.backends.local.files import (
    PROTOCOL,
    LeaseFiles,
    Run,
    Spec,
    State,
    boot_id,
    process_started,
    short_path,
    unix_listener,
)
from sublet.leases.backends.local.jobs import JobFiles, JobLog, running_job
from sublet.leases.backends.local.notices import Countdown
from sublet.leases.backends.local.sandbox import Sandbox
from sublet.leases.backends.local.stage import Shown
from sublet.leases.backends.local.teardown import tear_down, tenant_pids

TICK_S = 1.0
DISK_CHECK_TICKS = 60
# A longer pause between two ticks means that we were stopped and served nobody: that time is not evidence of delivery.
TICK_GAP_US_MAX = 5_000_000
# How long the door must have been fit to be used again before its time is billed again.
DOOR_CALM_US = 5_000_000
# Beyond this many interruptions the evidence would outgrow its document; nothing is closed for the door's sake then.
RUNS_MAX = 5_000
DOOR_SHUT = "so many strangers come to the SSH door that nobody can count on getting in; this time is not billed"
RESTARTS_MAX = 50
RESTART_PAUSE_S_MAX = 10.0
START_ATTEMPTS_MAX = 3
REQUEST_BYTES_MAX = 65_536
REQUEST_TIMEOUT_S = 5.0
LOCK_TIMEOUT_S = 2.0
GRACE_S_DEFAULT = 2.0
GRACE_S_MAX = 60.0
PAUSE_GRACE_S_MAX = 10.0
"""For a job that is paused at once; one that is paused or over at a time that was set hears of it earlier."""
OUTPUT_BYTES_MAX = 1 << 16
_SECOND_US = 1_000_000
_PR_SET_CHILD_SUBREAPER = 36


def now_us() -> int:
    return time.time_ns() // 1000


def steady_us() -> int:
    """Time that no administrator can set and that goes on while the machine sleeps."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000


class Deadline:
    """When the lease must be over. The earlier of wall clock and steady clock decides: a clock that is set back must not
    keep the owner from his accelerator."""

    def __init__(self, at_us: int) -> None:
        self.at_us = at_us
        self._steady_us = steady_us() + at_us - now_us()

    @property
    def remaining_us(self) -> int:
        return min(self.at_us - now_us(), self._steady_us - steady_us())


class Shim:
    def __init__(self, files: LeaseFiles, spec: Spec, state: State, shown: Shown) -> None:
        self.files, self.spec, self.state, self.shown = files, spec, state, shown
        self.deadline = Deadline(_end(state))
        self.countdown = Countdown(files, spec, state)
        self.sandbox: Sandbox | None = None
        self.wake = asyncio.Event()
        self.ending: str | None = None
        self.pausing = False
        self.grace_s = GRACE_S_DEFAULT
        self._steady_at_start_us = 0
        self._last_tick_us = 0
        self._ticks = 0
        self._shut_until_us = 0
        self.egress = _egress(files, spec, state)
        self.job = running_job(files.root.parent, spec)
        self.log = JobLog(JobFiles(files.root.parent, spec.lease_id))
        if self.job is not None:
            self.grace_s = min(PAUSE_GRACE_S_MAX, float(self.job.order.grace_s))
            # What an earlier shim did not live to tell.
            self.ending = JOB_DONE if self.job.over else None

    def _save(self, *, durable: bool = False) -> bool:
        """Write the state; False where the disk has no room. The next tick tries again: a full disk must not end a lease."""
        try:
            self.files.write_state(self.state, durable=durable)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            return False
        return True

    async def run(self) -> None:
        """Live until the lease is over or paused."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._pause_soon)
        self.files.control.mkdir(mode=0o700, exist_ok=True)
        control = await asyncio.start_unix_server(
            self._answer, sock=unix_listener(self.files.control / "socket", 16), limit=REQUEST_BYTES_MAX
        )
        self.listener = unix_listener(self.files.root / "ssh.socket", doors.BACKLOG)
        try:
            tcp = doors.listen(
                self.spec.bind_host, self.spec.port_first, self.spec.port_last, self.state.port, self.spec.lease_id
            )
            with short_path(self.files.root / "ssh.socket") as inner:
                door = doors.Door(tcp, inner)
                self.state.port = door.port
                await door.open()
                self.door = door
                await self._serve()
                await door.close()
        except BackendFailedError as error:
            self.state.error = error.message
        control.close()
        self._finish()

    async def _serve(self) -> None:
        """Keep the sandbox running until something ends it, starting it again when it dies."""
        restarts = 0
        while not self._over():
            try:
                await self._start()
            except BackendFailedError as error:
                self.state.error = error.message
                restarts += 1
                never_ran = not self.state.runs
                if restarts >= (START_ATTEMPTS_MAX if never_ran else RESTARTS_MAX):
                    return
            else:
                await self._watch()
                restarts += 1
            if self.sandbox is not None and not self._over():
                self.door.drop_connections()
                await asyncio.to_thread(self.sandbox.kill)
                self.state.state = "starting"
                self._save()
                await self._sleep(min(RESTART_PAUSE_S_MAX, 0.1 * 2 ** min(restarts, 8)))

    async def _start(self) -> None:
        """Start the sandbox with the first door that greets a customer. Raises BackendFailedError."""
        failures = []
        for name in self.spec.doors:
            sandbox = Sandbox(self.spec, self.files, self.listener, self.job, own_time=self.shown.own_time)
            self.sandbox = sandbox
            try:
                sandbox.start(name)
                self.state.init_pid, self.state.init_started = sandbox.init_pid, sandbox.init_started
                self._save()
                if self.egress is not None:
                    await self.egress.open(listen_inside(sandbox.init_pid))
                if await doors.banner_seen(self.spec.bind_host, self.door.port):
                    sandbox.verify()
                    self._running(name)
                    return
                failures.append(f"{name}: no SSH server answered ({sandbox.errors() or 'it said nothing'})")
            except BackendFailedError as error:
                failures.append(f"{name}: {error.message}")
            await asyncio.to_thread(sandbox.kill)
        raise BackendFailedError("; ".join(failures))

    def _running(self, door: str) -> None:
        assert self.sandbox is not None
        # Evidence never overlaps, even where the clock was set back between two runs.
        started = max(now_us(), self.state.runs[-1].alive_us if self.state.runs else 0)
        self.state.runs.append(Run(started, started, accelerators=len(self.spec.devices)))
        self._steady_at_start_us = self._last_tick_us = steady_us()
        self.state.guarantees = {**self.sandbox.guarantees, "ssh": {"level": "hard", "how": f"{door}, inside"}}
        self.state.state, self.state.error = "running", None
        self.countdown.publish()
        self._save(durable=True)
        if self.job is not None:
            self.job.asked = False
            self.sandbox.signal_init(signal.SIGHUP)

    async def _watch(self) -> None:
        """Tick until the sandbox dies or the lease is over."""
        assert self.sandbox is not None
        loop = asyncio.get_running_loop()
        loop.add_reader(self.sandbox.pidfd, self.wake.set)
        loop.add_reader(self.sandbox.reports, self._hear, self.sandbox)
        if self.sandbox.output:
            loop.add_reader(self.sandbox.output, self._keep_output, self.sandbox)
        try:
            while self.sandbox.alive and not self._over():
                await self._sleep(min(TICK_S, max(0.0, self.deadline.remaining_us / _SECOND_US)))
                self._tick()
        finally:
            loop.remove_reader(self.sandbox.pidfd)
            loop.remove_reader(self.sandbox.reports)
            if self.sandbox.output:
                loop.remove_reader(self.sandbox.output)
            self.state.runs[-1].closed = True
            self._after_job()
            self._save()

    def _tick(self) -> None:
        assert self.sandbox is not None
        if not self.sandbox.alive:
            return
        self.door.tend()
        self.shown.sync()
        if self.sandbox.proc is not None:
            self.sandbox.proc.refresh()
        if self.egress is not None:
            self.state.traffic = asdict(self.egress.traffic)
        self._witness(steady_us())
        if self.countdown.due():
            self.sandbox.signal_init(signal.SIGUSR1)
        self._ask_job()
        self._ticks += 1
        if self._ticks % DISK_CHECK_TICKS == 0 and self.sandbox.disk_allocated:
            keep_allocated(self.files.image, self.spec.disk_bytes)
        self._save()

    def _witness(self, steady: int) -> None:
        """Note that the tenant could log in until now, or that it could not: because we were stopped and served nobody, or
        because strangers held every place at the door."""
        run = self.state.runs[-1]
        stopped = steady - self._last_tick_us > TICK_GAP_US_MAX
        self._last_tick_us = steady
        if self.door.was_shut() and len(self.state.runs) < RUNS_MAX:
            self._shut_until_us = steady + DOOR_CALM_US
        if steady < self._shut_until_us:
            run.closed = True
            self.state.error = DOOR_SHUT
            return
        if run.closed or stopped:
            run.closed = True
            started = max(now_us(), run.alive_us)
            run = Run(started, started, accelerators=len(self.spec.devices))
            self.state.runs.append(run)
            self._steady_at_start_us = steady
            self.state.error = None
        alive = run.started_us + steady - self._steady_at_start_us
        run.alive_us = max(run.alive_us, min(alive, _end(self.state)))

    def _hear(self, sandbox: Sandbox) -> None:
        try:
            said = os.read(sandbox.reports, doors.CHUNK_BYTES)
        except BlockingIOError:
            return
        if not said:
            asyncio.get_running_loop().remove_reader(sandbox.reports)
        self.door.hear(said)

    def _keep_output(self, sandbox: Sandbox) -> bool:
        """Write down what the command and the drain hooks have printed; False where there is nothing more for now."""
        try:
            said = os.read(sandbox.output, OUTPUT_BYTES_MAX)
        except BlockingIOError:
            return False
        if not said:
            asyncio.get_running_loop().remove_reader(sandbox.output)
            return False
        self.log.write(said)
        return True

    def _ask_job(self) -> None:
        """Tell the command, in time, that the lease is about to be paused or over; once all of it has ended, so has the lease."""
        assert self.sandbox is not None
        if self.job is None or self.deadline.remaining_us > self.job.order.grace_s * _SECOND_US:
            return
        if not self.job.asked:
            self.job.asked = True
            self.sandbox.signal_init(signal.SIGUSR2)
        elif len(tenant_pids(self.sandbox.init_pid)) <= 1:
            self._leave_early()

    def _leave_early(self) -> None:
        reclaim_at_us = self.state.reclaim_at_us
        if self.spec.pausable and reclaim_at_us is not None and reclaim_at_us < self.state.ends_at_us:
            self._pause_soon()
        else:
            self.ending = self.ending or _reason(self.state)
            self.wake.set()

    def _after_job(self) -> None:
        """The sandbox is gone, or about to be: keep the last words, and see whether the command is done."""
        self._drain_output()
        if self.job is not None and self.job.over:
            self.ending = self.ending or JOB_DONE

    def _drain_output(self) -> None:
        while self.sandbox is not None and self.sandbox.output and self._keep_output(self.sandbox):
            pass

    def _over(self) -> bool:
        return self.ending is not None or self.pausing or self.deadline.remaining_us <= 0

    async def _sleep(self, seconds: float) -> None:
        self.wake.clear()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.wake.wait(), seconds)

    def _pause_soon(self) -> None:
        self.pausing = True
        self.wake.set()

    def _finish(self) -> None:
        """End the sandbox; then either keep the tenant's files (paused) or remove them and prove it."""
        if self.egress is not None:
            self.egress.close()
            self.state.traffic = asdict(self.egress.traffic)
        if self.sandbox is not None:
            if self.sandbox.alive:
                self.sandbox.signal_init(signal.SIGUSR2)
                deadline = time.monotonic() + self.grace_s
                while len(tenant_pids(self.sandbox.init_pid)) > 1 and time.monotonic() < deadline:
                    self._drain_output()
                    time.sleep(0.02)
            self._drain_output()
            self.sandbox.kill()
        if self.ending is None and self._pauses():
            self.state.state = "paused"
            self._save(durable=True)
            return
        failed = self.state.error is not None and not self.state.runs and self.ending is None
        self.state.state = "failed" if failed else "stopped"
        self.state.reason = self.ending or ("start_failed" if failed else _reason(self.state))
        (self.files.root / "ssh.socket").unlink(missing_ok=True)
        self.state.left = tear_down(self.spec, self.files, self.state)
        self.state.clean = not self.state.left
        self._save(durable=True)

    def _pauses(self) -> bool:
        """Whether the lease comes back later: it was paused before its end, or its notice was of a pause."""
        reclaim_at_us = self.state.reclaim_at_us
        if self.spec.pausable and reclaim_at_us is not None and reclaim_at_us < self.state.ends_at_us:
            return self.pausing or self.deadline.remaining_us <= 0
        return self.pausing and self.deadline.remaining_us > 0

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One request, one answer, each a line of JSON."""
        try:
            if not _from_us(writer):
                return
            line = await asyncio.wait_for(reader.readline(), REQUEST_TIMEOUT_S)
            answer = self._obey(json.loads(line))
        except (ValueError, KeyError, TypeError, TimeoutError) as error:
            answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
        except OSError as error:
            answer = {"ok": False, "error": str(error)}
        with contextlib.suppress(OSError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()

    def _obey(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = request["op"]
        if operation == "stop":
            self.ending = self.ending or str(request["reason"])
            self.grace_s = min(GRACE_S_MAX, max(0.0, float(request.get("grace_s", GRACE_S_DEFAULT))))
            self.wake.set()
        elif operation == "pause":
            self._pause_soon()
        elif operation == "terms":
            self.spec.pausable = bool(request.get("pausable", self.spec.pausable))
            self._change_terms(int(request["ends_at_us"]), request["reclaim_at_us"], str(request.get("text", "")))
        elif operation != "status":
            raise ValueError(f"unknown operation {operation!r}")
        return {"ok": True}

    def _change_terms(self, ends_at_us: int, reclaim_at_us: int | None, text: str) -> None:
        self.state.ends_at_us = ends_at_us
        self.state.reclaim_at_us = None if reclaim_at_us is None else int(reclaim_at_us)
        self.deadline = Deadline(_end(self.state))
        self.wake.set()
        self.countdown.publish(text)
        if self.sandbox is not None and text:
            self.sandbox.signal_init(signal.SIGUSR1)
        if not self._save(durable=True):
            # It holds already; the caller tells it again until it is written down.
            raise OSError(errno.ENOSPC, "the new end is in effect but could not be saved, because the disk is full")


def _egress(files: LeaseFiles, spec: Spec, state: State) -> Egress | None:
    """The way out, where the lease has one; it goes on counting where an earlier shim stopped."""
    if not spec.egress:
        return None
    traffic = Traffic(**(state.traffic or {}))
    log = Log(files.root.parent / EGRESS_LOGS, spec.lease_id, spec.tenant)
    return Egress(spec.egress, spec.egress_permitted, spec.egress_denied, traffic, log)


def _end(state: State) -> int:
    return state.ends_at_us if state.reclaim_at_us is None else min(state.ends_at_us, state.reclaim_at_us)


def _reason(state: State) -> str:
    if state.reclaim_at_us is not None and state.reclaim_at_us <= state.ends_at_us:
        return "reclaimed"
    return "sandbox_failed" if state.error is not None and state.ends_at_us > now_us() else "window_over"


def _from_us(writer: asyncio.StreamWriter) -> bool:
    peer: socket.socket = writer.get_extra_info("socket")
    _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return uid in (0, os.geteuid())


def main(directory: str) -> None:
    root = Path(directory)
    files = LeaseFiles(root.parent, root.name)
    lock = files.lock_within(LOCK_TIMEOUT_S)
    if lock is None:
        return
    spec = files.read_spec()
    if spec is None or not files.contents.is_dir():
        return
    state = files.read_state()
    if state is not None and state.state in ("stopped", "failed"):
        return
    if state is None:
        state = State(spec.lease_id, "starting", spec.ends_at_us, spec.reclaim_at_us)
    # Of a shim that began again: what it can do now.
    state.protocol = PROTOCOL
    # The spec is what the control plane wants now; the state may be from before it wanted something else.
    state.ends_at_us, state.reclaim_at_us = spec.ends_at_us, spec.reclaim_at_us
    for run in state.runs:
        run.closed = True
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    state.state, state.reason, state.clean, state.error = "starting", None, None, None
    state.pid, state.boot_id = os.getpid(), boot_id()
    state.pid_started = process_started(state.pid)
    state.init_pid, state.init_started = 0, ""
    files.write_state(state)
    asyncio.run(Shim(files, spec, state, Shown(files, spec)).run())


def detach() -> None:
    """Leave the starter's session and terminal, so that nothing that ends it ends this."""
    if os.fork():
        os._exit(0)
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.chdir("/")


if __name__ == "__main__":
    detach()
    main(sys.argv[1])
