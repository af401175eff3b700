"""What a lease's job runs on each node: the tenant's sandbox with its own SSH server, as on a machine of Sublet's own.

    python -m sublet.leases.backends.slurm.holder DIRECTORY GENERATION

It reads the order, obeys it, and reports at least once a second. The deadline is the sandbox's own: it ends there though nobody
calls. SIGUSR1 is Slurm's word that the job is preempted; SIGTERM ends the job and keeps the tenant's files.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from sublet.leases.backends.base import BackendFailedError, Observation, RunState, StartOrder
from sublet.leases.backends.local import shim
from sublet.leases.backends.local.backend import LocalBackend, LocalSettings
from sublet.leases.backends.local.control import wait_until
from sublet.leases.backends.local.files import LeaseFiles
from sublet.leases.backends.slurm.commands import Commands
from sublet.leases.backends.slurm.files import Order, Report, SlurmFiles
from sublet.leases.backends.slurm.records import moment, record
from sublet.values.clock import from_micros, to_micros
from sublet.values.errors import SubletError

_PR_SET_PDEATHSIG = 1
POLL_S = 0.1
REPORT_S = 0.5
STARTED_WITHIN_S = 10.0
RESTARTS_MAX = 20
ASK_S = 3.0
PORT_SLICES = 8
PAUSED_WITHIN_S = 5.0


class NodeBackend(LocalBackend):
    """The local backend with shims that end when this process does: what Slurm ends is over, whatever tracks its processes. They
    are forked, which saves each lease an interpreter's start; nothing here has threads."""

    def _spawn(self, files: LeaseFiles) -> None:
        parent = os.getpid()
        child = os.fork()
        if child == 0:
            _be_shim(files, parent)
        wait_until(lambda: files.held() or _ended(child), STARTED_WITHIN_S)


def _be_shim(files: LeaseFiles, parent: int) -> NoReturn:
    """After fork. SIGTERM has a shim stop its sandbox and keep the tenant's files."""
    status = 1
    try:
        os.setsid()
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        null = os.open("/dev/null", os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() == parent:
            shim.main(str(files.root))
            status = 0
    finally:
        os._exit(status)


def _ended(child: int) -> bool:
    """Whether a shim is over; it is then no zombie any more."""
    with contextlib.suppress(ChildProcessError):
        return os.waitpid(child, os.WNOHANG)[0] == child
    return True


class Holder:
    """One rank of one generation of a lease."""

    def __init__(self, files: SlurmFiles, order: Order, generation: int, rank: int, node: str) -> None:
        self._files, self._order, self._rank = files, order, rank
        self._report = Report(generation, rank, node, _now_us(), os.getpid())
        self._report.accelerators = int(order.node.get("accelerators", 1))
        self._backend = NodeBackend(_local_settings(order, files.base(rank)))
        self._runs_before = 0
        self._restarts = 0
        self._applied: tuple[Any, ...] = ()
        self._terminated = self._preempted = False

    def run(self) -> None:
        """Until the lease is over here, or is to go on elsewhere."""
        signal.signal(signal.SIGTERM, self._terminate)
        signal.signal(signal.SIGUSR1, self._preempt)
        self._write()
        try:
            self._runs_before = len(self._backend.observe(self._order.lease_id).deliveries)
            if self._order.wanted == "stop":
                self._stop()
                return
            self._start()
            self._serve()
        except Exception as error:
            # Whatever is wrong with a node's installation, the lease says so instead of starting again and again.
            self._report.error = (
                error.message if isinstance(error, SubletError) else f"{type(error).__name__}: {error}"
            )[:500]
            self._report.over = True
            if self._runs_before or self._report.runs:
                # There is a home by now, which is the tenant's: the lease comes back with it.
                self._report.state = "paused"
            else:
                self._report.state, self._report.clean = "failed", self._left_clean()
            self._write(durable=True)

    def _serve(self) -> None:
        reported = 0.0
        while True:
            order = self._files.order()
            if order is not None:
                self._order = order
            if (
                order is None
                or order.generation != self._report.generation
                or order.wanted == "pause"
                or self._terminated
            ):
                self._pause()
                return
            if order.wanted == "stop":
                self._stop()
                return
            if self._preempted and self._report.taken_at_us is None:
                self._report.taken_at_us = self._taken_at_us()
            self._apply(order)
            if time.monotonic() - reported >= REPORT_S or self._report.state != "running":
                reported = time.monotonic()
                if self._look():
                    return
            time.sleep(POLL_S)

    def _look(self) -> bool:
        """Report what is; True once it is over here. A sandbox whose shim died is started again, as the same lease."""
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        seen = self._backend.observe(self._order.lease_id)
        if seen.state is RunState.PAUSED and self._restarts < RESTARTS_MAX:
            self._restarts += 1
            self._start()
            seen = self._backend.observe(self._order.lease_id)
        over = seen.state in (RunState.STOPPED, RunState.FAILED)
        self._say(seen, over=over)
        if over:
            self._forget()
        return over

    def _start(self) -> None:
        order, taken = self._order, self._report.taken_at_us
        kind, many = order.node.get("device", "cpu"), self._report.accelerators
        ends = [at for at in (order.reclaim_at_us, taken) if at is not None]
        started = StartOrder(
            order.lease_id,
            order.tenant,
            tuple(f"{kind}:{number}" for number in range(many)),
            tuple(order.keys),
            from_micros(order.ends_at_us),
            order.class_name,
            from_micros(min(ends)) if ends else None,
            tuple(order.egress),
        )
        self._backend.start(started)
        self._applied = (order.ends_at_us, min(ends) if ends else None, tuple(order.keys))

    def _apply(self, order: Order) -> None:
        """Tell the sandbox its terms and keys where they have changed."""
        ends = [at for at in (order.reclaim_at_us, self._report.taken_at_us) if at is not None]
        reclaim_at_us = min(ends) if ends else None
        wanted = (order.ends_at_us, reclaim_at_us, tuple(order.keys))
        if wanted == self._applied or self._report.state not in ("running", "starting"):
            return
        before = self._applied
        try:
            if wanted[2] != before[2]:
                self._start()
            if wanted[0] != before[0]:
                self._backend.extend(order.lease_id, from_micros(order.ends_at_us))
            if reclaim_at_us is None and before[1] is not None:
                self._backend.withdraw_notice(order.lease_id)
            elif reclaim_at_us is not None and reclaim_at_us != before[1]:
                text = order.text or "*** NOTICE: the cluster takes this lease back. Save your work now. ***"
                self._backend.notice(order.lease_id, from_micros(reclaim_at_us), text)
        except BackendFailedError as error:
            # Told again at the next look; the deadline that holds is the one that was told before.
            self._report.error = error.message[:500]
            return
        self._applied = wanted
        self._say(self._backend.observe(order.lease_id))

    def _pause(self) -> None:
        seen = self._paused()
        over = seen.state.over
        self._say(seen, over=True)
        if over:
            self._forget()

    def _paused(self) -> Observation:
        """Slurm's SIGTERM reaches the shim too, which then ends by itself and may not answer any more."""
        deadline = time.monotonic() + PAUSED_WITHIN_S
        while True:
            try:
                return self._backend.pause(self._order.lease_id)
            except BackendFailedError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(POLL_S)

    def _stop(self) -> None:
        """End it, with what earlier generations left under ranks that this one does not have."""
        order = self._order
        seen = self._backend.stop(order.lease_id, order.reason or "ended", order.grace_s)
        self._say(seen, over=True, write=False)
        self._report.state, self._report.clean = "stopped", self._forget() and seen.clean is not False
        if self._rank == 0:
            ranks = int(os.environ.get("SLURM_NTASKS", "1"))
            for rank in self._files.ranks():
                if rank >= ranks:
                    self._report.clean = _end_rank(order, self._files.base(rank)) and self._report.clean
        self._write(durable=True)

    def _forget(self) -> bool:
        """Give back the files and the user id of a lease that is proved clean here; False where it is not."""
        seen = self._backend.observe(self._order.lease_id)
        if seen.state is RunState.ABSENT:
            return True
        if not seen.state.over or not seen.clean:
            return False
        self._backend.forget(self._order.lease_id)
        return True

    def _left_clean(self) -> bool:
        try:
            seen = self._backend.stop(self._order.lease_id, "start_failed", 0.0)
            return seen.clean is not False and self._forget()
        except (SubletError, OSError):
            return False

    def _say(self, seen: Observation, *, over: bool = False, write: bool = True) -> None:
        report = self._report
        report.state, report.over = seen.state.value, over
        runs = seen.deliveries[self._runs_before :]
        if seen.state is not RunState.ABSENT:
            report.runs = [(to_micros(run.start), to_micros(run.end), not run.open) for run in runs]
        if seen.endpoint is not None:
            report.port, report.user = seen.endpoint.port, seen.endpoint.user
            report.host_key, report.fingerprint = seen.endpoint.host_key, seen.endpoint.fingerprint
        report.ends_at_us = to_micros(seen.ends_at) if seen.ends_at else self._order.ends_at_us
        report.reclaim_at_us = to_micros(seen.reclaim_at) if seen.reclaim_at else None
        report.guarantees = {name: dict(value) for name, value in seen.guarantees.items()} or report.guarantees
        report.reason, report.clean, report.error = seen.reason, seen.clean, seen.error
        report.keys = seen.keys
        report.traffic = dict(seen.traffic) if seen.traffic is not None else report.traffic
        if write:
            self._write(durable=over)

    def _write(self, *, durable: bool = False) -> None:
        self._report.at_us = _now_us()
        self._files.write_report(self._report, durable=durable)

    def _taken_at_us(self) -> int:
        """When Slurm ends the job that it preempts. Where it does not say, in no time at all."""
        conf = self._order.node.get("conf") or ""
        job = os.environ.get("SLURM_JOB_ID", "")
        try:
            said = Commands(Path(conf) if conf else None, ASK_S).run("scontrol", "-o", "show", "job", job)
        except BackendFailedError:
            return _now_us()
        found = moment(record(said).get("EndTime", ""))
        return min(to_micros(found), self._order.ends_at_us) if found is not None else _now_us()

    def _terminate(self, number: int, frame: object) -> None:
        self._terminated = True

    def _preempt(self, number: int, frame: object) -> None:
        self._preempted = True


def _end_rank(order: Order, base: Path) -> bool:
    """End what a rank has left that no node runs any more; True where nothing is left."""
    backend = NodeBackend(_local_settings(order, base))
    seen = backend.stop(order.lease_id, order.reason or "ended", 0.0)
    if seen.state is not RunState.ABSENT and seen.clean:
        backend.forget(order.lease_id)
    return seen.state is RunState.ABSENT or bool(seen.clean)


def _local_settings(order: Order, base: Path) -> LocalSettings:
    known = set(LocalSettings.__dataclass_fields__)
    values = {name: value for name, value in order.node.items() if name in known}
    stated = replace(LocalSettings(base=base), **values)
    first, last = stated.port_first, stated.port_last
    width = (last - first + 1) // PORT_SLICES
    if width >= PORT_SLICES:
        # Several nodes may be one machine: ranks that start at once then don't race for each other's port.
        place = int(base.name.removeprefix("rank")) % PORT_SLICES
        values |= {"port_first": first + place * width, "port_last": first + (place + 1) * width - 1}
    # A node is one tenant's alone for as long as the lease lasts.
    return replace(stated, **values, allow_soft_isolation=True)


def _now_us() -> int:
    return time.time_ns() // 1000


def main(directory: str, generation: int) -> None:
    root = Path(directory)
    files = SlurmFiles(root.parent, root.name)
    order = files.order()
    if order is None or order.generation != generation:
        return
    rank, node = int(os.environ.get("SLURM_PROCID", "0")), os.environ.get("SLURMD_NODENAME", "")
    Holder(files, order, generation, rank, node).run()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
