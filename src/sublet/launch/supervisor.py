"""`sublet up`: starts the control plane, the gateway and the engine host, restarts what dies, and ends all it started.

The supervisor owns the listening sockets and hands them down, so that a killed process comes back on the same port and
callers in between wait in the socket's queue instead of being refused. Children live on a pipe: when the supervisor
dies, even by SIGKILL, they see its end and go. The sandboxes of leases are not children: they keep their own deadlines
and are found again at the next start.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import math
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import structlog

from sublet.config.data_dir import STATE_NAME, running_system, unfinished_restore
from sublet.config.settings import Settings
from sublet.store.ballast import Ballast
from sublet.tls.files import address
from sublet.values.clock import SystemClock, format_time
from sublet.values.errors import ConflictError, StorageFullError, UnavailableError

log = structlog.get_logger(__name__)

PROCESSES = ("control", "gateway", "engines")
SUPERVISED = "--supervised"
LOCK_ATTEMPTS_MAX = 20
FREE_BYTES_MIN = 64 * 1024 * 1024
STOP_S_MAX = 4.0
ORPHANS_S_MAX = STOP_S_MAX + 1.0
PORTS_S_MAX = 2.0
STDERR_BYTES_MAX = 1024 * 1024
BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
CALM_S = 30.0
READY_S_MAX = 60.0
WORDS_S_MAX = 2.0
"""What a process wrote longer than this before its end says nothing about its end."""


class AlreadyRunningError(ConflictError):
    """Sublet is already running on this data directory; stop it first, or set another data_dir."""

    code = "already_running"


class HalfRestoredError(ConflictError):
    """A restore of a backup was cut short here; repeat `sublet admin restore`, and then start Sublet."""

    code = "half_restored"


class PortTakenError(ConflictError):
    """Another program is listening on the port; stop it, or set another port."""

    code = "port_taken"


@dataclass
class Child:
    """One process of the system and how often it had to be started."""

    name: str
    fd: int | None
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0
    stderr_bytes: int = 0
    spoke_at: float = -math.inf
    end: str = ""
    """How the last process of this name ended."""


@dataclass
class Supervisor:
    """Everything that `sublet up` started."""

    settings: Settings
    config: Path | None = None
    children: dict[str, Child] = field(default_factory=dict)
    sockets: dict[str, socket.socket] = field(default_factory=dict)
    _lock: IO[str] | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _hurry: threading.Event = field(default_factory=threading.Event)

    def take(self) -> None:
        """Take the lock and the ports. Raises AlreadyRunningError, PortTakenError, StorageFullError, UnavailableError,
        CertificateError; nothing is held then."""
        folder = self.settings.data_dir
        if self.settings.tls.files is not None:
            self.settings.tls.files.context()
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_disk(folder)
            refuse_half_restored(folder)
            self._lock = take_lock(folder)
        except OSError as error:
            raise UnavailableError(
                f"data_dir {folder} can't be used ({error.strerror}); make it writable by this user, or set SUBLET_DATA_DIR"
            ) from error
        try:
            # The kernel takes its time to close the sockets of what was killed.
            patience_s = PORTS_S_MAX if end_orphans(folder) else 0.0
            control, gateway = self.settings.control, self.settings.gateway
            self.sockets["control"] = bind(control.host, control.port, "control.port", patience_s)
            self.sockets["gateway"] = bind(gateway.host, gateway.port, "gateway.port", patience_s)
            self._publish()
        except BaseException:
            self._release()
            raise

    def launch(self) -> None:
        """Start the processes; the lock and the ports must have been taken."""
        for name in PROCESSES:
            held = self.sockets.get(name)
            self.children[name] = Child(name, held.fileno() if held else None)
            self._launch(self.children[name])

    def address(self, name: str) -> str:
        """`http://host:port` of the control plane or the gateway; `https:` where the settings name a certificate."""
        return address(*self.sockets[name].getsockname()[:2], secured=self.settings.tls.files is not None)

    def wait_ready(self, is_ready: Callable[[str], bool]) -> None:
        """Return when `is_ready(name)` holds for every process, or when `stop` was called. Raises UnavailableError after
        READY_S_MAX seconds, or where one keeps dying."""
        deadline = time.monotonic() + READY_S_MAX
        waiting = list(PROCESSES)
        while waiting and not self._stop.is_set():
            self.tend()
            waiting = [name for name in waiting if not is_ready(name)]
            dying = [child.name for child in self.children.values() if child.failures >= 3]
            if dying or time.monotonic() > deadline:
                name = dying[0] if dying else waiting[0] if waiting else ""
                end = self.children[name].end if dying else ""
                why = f"it {end}" if end else self.last_words(name)
                raise UnavailableError(f"{name} did not start: {why}")
            if waiting:
                self._stop.wait(0.05)

    def last_words(self, name: str) -> str:
        """The last line that a process wrote to its standard error."""
        try:
            lines = self._stderr(name).read_text(errors="replace").strip().splitlines()
        except OSError:
            lines = []
        return lines[-1] if lines else f"it said nothing; see {self.settings.data_dir}/logs/{name}.log"

    def how_it_ended(self, child: Child, code: int) -> str:
        """What to say of a process that ended with `code`, as `Popen.returncode` has it; what it wrote just before that is
        quoted where it ended by itself."""
        words = f": {self.last_words(child.name)}" if time.monotonic() - child.spoke_at <= WORDS_S_MAX else ""
        if code >= 0:
            return f"ended with exit code {code}{words}"
        # The C library's abort() has its say first; anyone who is sent any other signal is not asked.
        return f"was ended by signal {-code} ({_signal_name(-code)}){words if -code == signal.SIGABRT else ''}"

    def run(self) -> None:
        """Tend the processes until `stop` is called from another thread or a signal handler."""
        while not self._stop.wait(0.1):
            self.tend()

    def stop(self) -> None:
        self._stop.set()

    def tend(self) -> None:
        """Start again, after a growing pause, what has died."""
        now = time.monotonic()
        for child in self.children.values():
            process = child.process
            if process is not None and process.poll() is not None:
                self._listen(child)
                child.end = self.how_it_ended(child, process.returncode)
                log.warning(
                    "process_died", name=child.name, code=process.returncode, reason=f"{child.name} {child.end}"
                )
                _close_pipe(process)
                child.process = None
                child.failures = 0 if now - child.started > CALM_S else child.failures + 1
                child.start_at = now + BACKOFF_S[min(child.failures, len(BACKOFF_S) - 1)]
            if child.process is None and now >= child.start_at:
                self._launch_again(child)
            self._listen(child)
            self._bound_stderr(child)

    def hurry(self) -> None:
        """Let `end` wait no longer for answers under way."""
        self._hurry.set()

    def end(self) -> None:
        """End every process that was started: politely, then, after STOP_S_MAX seconds, by SIGKILL.

        The gateway finishes the answers under way first, for up to `gateway.drain_s_max` seconds or until `hurry`; the engines
        that give them run until then.
        """
        self._drain()
        alive = [child.process for child in self.children.values() if child.process is not None]
        for process in alive:
            _signal(process, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S_MAX
        for process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                _signal(process, signal.SIGKILL)
                process.wait()
            _close_pipe(process)
        self.children.clear()
        self._release()

    def _drain(self) -> None:
        """Tell everybody but the engines to end, and wait for the gateway."""
        for child in self.children.values():
            if child.name != "engines" and child.process is not None:
                _signal(child.process, signal.SIGTERM)
        gateway = self.children["gateway"].process if "gateway" in self.children else None
        deadline = time.monotonic() + self.settings.gateway.drain_s_max
        while gateway is not None and gateway.poll() is None and time.monotonic() < deadline:
            if self._hurry.wait(0.02):
                # A second word ends a server that finishes its answers.
                _signal(gateway, signal.SIGINT)
                return

    def command(self, name: str) -> list[str]:
        """What runs a process of the system."""
        return [sys.executable, "-m", "sublet", "serve", name, SUPERVISED]

    def _launch_again(self, child: Child) -> None:
        try:
            self._launch(child)
        except OSError as error:
            # A full disk or no process left must not end the others: it is tried again, ever more slowly.
            child.failures += 1
            child.start_at = time.monotonic() + BACKOFF_S[min(child.failures, len(BACKOFF_S) - 1)]
            log.warning("process_not_started", name=child.name, reason=str(error))

    def _listen(self, child: Child) -> None:
        """Note when a process wrote to its standard error."""
        with contextlib.suppress(OSError):
            size = self._stderr(child.name).stat().st_size
            if size != child.stderr_bytes:
                child.stderr_bytes, child.spoke_at = size, time.monotonic()

    def _bound_stderr(self, child: Child) -> None:
        path = self._stderr(child.name)
        with contextlib.suppress(OSError):
            if path.stat().st_size > STDERR_BYTES_MAX:
                os.truncate(path, 0)
                child.stderr_bytes = 0

    def _stderr(self, name: str) -> Path:
        return self.settings.data_dir / "logs" / f"{name}.stderr"

    def _launch(self, child: Child) -> None:
        self._stderr(child.name).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        command = self.command(child.name)
        environment = {**os.environ, "SUBLET_DATA_DIR": str(self.settings.data_dir)}
        if self.config is not None:
            environment["SUBLET_CONFIG"] = str(self.config)
        if child.name == "control" and self.settings.gateway.port == 0:
            # The playground calls the gateway, whose port only the supervisor knows.
            environment["SUBLET_GATEWAY__PORT"] = self.address("gateway").rpartition(":")[2]
        passed: tuple[int, ...] = ()
        if child.fd is not None:
            command += ["--fd", str(child.fd)]
            passed = (child.fd,)
        self._stderr(child.name).unlink(missing_ok=True)
        # Appended to, so that what is cut off while the process writes stays cut off.
        with open(self._stderr(child.name), "ab") as stderr:
            child.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=passed,
                env=environment,
                start_new_session=True,
            )
        child.started = time.monotonic()
        child.stderr_bytes, child.spoke_at = 0, -math.inf
        self._publish()

    def _publish(self) -> None:
        """Write who runs here, for people and for the next start's message."""
        state = {
            "pid": os.getpid(),
            "control": self.address("control"),
            "gateway": self.address("gateway"),
            "processes": {name: child.process.pid for name, child in self.children.items() if child.process},
            "written_at": format_time(SystemClock().now()),
        }
        path = self.settings.data_dir / STATE_NAME
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(state))
        fresh.replace(path)

    def _release(self) -> None:
        for held in self.sockets.values():
            held.close()
        self.sockets.clear()
        if self._lock is not None:
            (self.settings.data_dir / STATE_NAME).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None


def refuse_half_restored(data_dir: Path) -> None:
    """Raises HalfRestoredError where a restore was cut short: a new database beside old journals would be taken for the truth."""
    if unfinished_restore(data_dir) is not None:
        raise HalfRestoredError()


def take_lock(data_dir: Path) -> IO[str]:
    """Hold data_dir for this process until the file is closed. Raises AlreadyRunningError."""
    handle = open(data_dir / "up.lock", "a+")  # noqa: SIM115  held for the life of the process
    for _ in range(LOCK_ATTEMPTS_MAX):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError:
            other = running_system(data_dir)
            if other is not None:
                break
            # Somebody who only looks whether Sublet runs holds the lock for a moment too.
            time.sleep(0.01)
    handle.close()
    other = other or {}
    raise AlreadyRunningError(
        f"Sublet is already running on {data_dir} (process {other.get('pid', '?')}, {other.get('control', 'address unknown')}); "
        "stop it, or set SUBLET_DATA_DIR to another directory"
    )


def end_orphans(data_dir: Path) -> bool:
    """Wait for what a killed supervisor left behind, for they hold its ports; those that do not go are killed.

    Returns whether a supervisor was killed: one that ends in order leaves no state. The caller holds the lock, so that
    the process that wrote the state is dead.
    """
    try:
        named = set(json.loads((data_dir / STATE_NAME).read_text())["processes"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    left = {process for process in named if _is_ours(process)}
    for patience_s in (ORPHANS_S_MAX, 1.0):
        deadline = time.monotonic() + patience_s
        # Gone, and not just without a command line: a process that ends closes its sockets after that.
        while (left := {process for process in left if _is_alive(process)}) and time.monotonic() < deadline:
            time.sleep(0.02)
        for process in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
    return True


def _is_ours(process: Any) -> bool:
    """Whether that process is one that a supervisor started: its number may be another's by now."""
    try:
        words = Path(f"/proc/{int(process)}/cmdline").read_bytes().split(b"\0")
    except (OSError, TypeError, ValueError):
        return False
    return SUPERVISED.encode() in words


def _is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state not in "ZX"


def check_disk(data_dir: Path) -> None:
    """Raises StorageFullError where too little is free to keep honest books; the reserve beside them counts as free."""
    free = shutil.disk_usage(data_dir).free + Ballast(data_dir).held_bytes
    if free < FREE_BYTES_MIN:
        raise StorageFullError(
            f"{data_dir} has {free // 2**20} MiB free and Sublet needs {FREE_BYTES_MIN // 2**20} MiB; free some space, or set data_dir"
        )


def bind(host: str, port: int, setting: str, patience_s: float = 0.0) -> socket.socket:
    """A listening socket. Raises PortTakenError naming who is there where that can be seen, if it stays so for
    `patience_s`."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        with contextlib.suppress(PortTakenError):
            return bind(host, port, setting)
        time.sleep(0.05)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    held = socket.socket(family, socket.SOCK_STREAM)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((host, port))
        held.listen(1024)
    except OSError as error:
        held.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTakenError(
                f"port {port} on {host} is in use by {_holder(port)}; stop it, or set {setting} to another port"
            ) from error
        raise PortTakenError(f"{host}:{port} can't be bound ({error.strerror}); set {setting}") from error
    return held


def _holder(port: int) -> str:
    """Who listens on the port, as far as this user may see: from /proc, `name (process N)`."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                inodes.add(f"socket:[{fields[9]}]")
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            for handle in (process / "fd").iterdir():
                if str(handle.readlink()) in inodes:
                    return f"{(process / 'comm').read_text().strip()} (process {process.name})"
        except OSError:
            continue
    return "another program"


def live_on_pipe() -> None:
    """In a supervised process: end when the supervisor does, seen as the end of standard input."""

    def watch() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(0, selectors.EVENT_READ)
            while True:
                selector.select()
                if not os.read(0, 4096):
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(STOP_S_MAX)
                    os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="pipe", daemon=True).start()


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"


def _close_pipe(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()
