"""PID 1 of a sandbox. Standard library only.

    init.py LISTEN_FD openssh SSHD_ARGV...      each connection gets its own `sshd -i`
    init.py LISTEN_FD asyncssh PYTHON_ARGV...   one SSH server takes them all, and is started again when it dies

Anyone who has logged in is told on the descriptor that SUBLET_REPORTS names: a line with the name of the connection's socket.

Where SUBLET_JOB names descriptors and a number, SIGHUP starts the command of /run/sublet-etc/job.json. Once it has exited by
itself, that is written down and PID 1 ends, and with it everything in here.

LISTEN_FD is a unix stream socket made outside. A TCP socket would stay in the host's network namespace and could be aimed
anywhere from in here; a unix socket can't be. PID 1 can't be killed from inside its own PID namespace, and when it dies
the kernel kills everything in it, so every session is a child of this process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

LOG_BYTES_MAX = 1 << 20
ACCEPTED = b"Accepted "
NOTICE = "/run/sublet/notice.txt"
DOOR_LOG = "/run/door.log"
DOOR_RETRY_S = 0.5
JOB = "/run/sublet-etc/job.json"
LEASE = "/run/sublet/lease.json"
DRAIN = "/opt/sublet/drain.py"
DRAIN_BEFORE_END_S = 310.0
"""So long before the lease's own end, where nobody gave notice, the hooks are run: at the step of the countdown then."""
DRAINS_MAX = 100
_PR_SET_DUMPABLE = 4
_OOM_SCORE_OF_SESSIONS = "500"


def main() -> None:
    # Not dumpable: the tenant, who has the same uid, can't trace PID 1 or take its file descriptors.
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # Where a relocated interpreter finds its own library: for the packaged server alone, never for what a tenant runs.
    libraries = os.environ.pop("LD_LIBRARY_PATH", "")
    os.environ.pop("LC_CTYPE", None)
    # Absent where an older shim started us.
    reports = int(os.environ.pop("SUBLET_REPORTS", "0"))
    drains = int(os.environ.pop("SUBLET_DRAIN", "0"))
    job = Job(os.environ.pop("SUBLET_JOB", ""))
    servers: dict[int, Server] = {}
    # A copy: the job closes its own when it starts.
    drain_hooks = DrainHooks(os.dup(drains) if drains else 0)
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.setblocking(False)
    one_per_connection, argv = sys.argv[2] == "openssh", sys.argv[3:]
    wakeup, wakeup_write = os.pipe()
    for descriptor in (wakeup, wakeup_write):
        os.set_blocking(descriptor, False)
    signal.set_wakeup_fd(wakeup_write, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(number, lambda *_: None)
    door = 0
    door_not_before, ending = 0.0, False
    while True:
        if not one_per_connection and door == 0 and not ending and time.monotonic() >= door_not_before:
            door_not_before = time.monotonic() + DOOR_RETRY_S
            door = start_server(argv, listener.fileno(), reports, libraries)
        watched: list[Any] = [listener, wakeup] if one_per_connection and not ending else [wakeup]
        watched += servers
        ready, _, _ = select.select(watched, [], [], None if one_per_connection else DOOR_RETRY_S)
        gone = reap_children()
        if door in gone:
            door = 0
        if job.pid in gone and not ending:
            # Before anything is told to end: what is gone by now has ended by itself.
            job.record(gone[job.pid])
            return
        if wakeup in ready:
            signals = drain(wakeup)
            if signal.SIGUSR1 in signals:
                write_to_terminals()
                drain_hooks.start(libraries, ending)
            if signal.SIGHUP in signals and not ending:
                job.start()
            if signal.SIGUSR2 in signals:
                ending = True
                terminate_everybody()
        for descriptor in [item for item in ready if item in servers]:
            if not servers[descriptor].listen(reports):
                del servers[descriptor]
        if listener in ready and not ending:
            accept_one(listener, argv, servers)


class Job:
    """The command of a lease that runs one: `told` is where it prints, where its exit is written down, and its attempt."""

    def __init__(self, told: str) -> None:
        self.output, self.descriptor, self.attempt = (int(part) for part in (told or "0 0 0").split())
        self.pid = -1

    def start(self) -> None:
        """Once: a tenant who has logged in can send the signal too. Where fork fails, PID 1 ends, and all is tried again."""
        if not self.output or self.pid >= 0:
            return
        import json

        with open(JOB, encoding="utf-8") as file:
            order = json.load(file)
        null = os.open("/dev/null", os.O_RDONLY)
        environment = {**order["environment"], "SUBLET_ATTEMPT": str(self.attempt)}
        self.pid = start(order["command"], (null, self.output, self.output), environment)
        os.close(null)
        os.close(self.output)
        if self.pid == 0:
            sys.exit(1)

    def record(self, status: int) -> None:
        """On disk before anybody is told: a line with the attempt, the exit code, and when, in microseconds since the epoch."""
        code = os.waitstatus_to_exitcode(status)
        line = f"{self.attempt} {code if code >= 0 else 128 - code} {time.time_ns() // 1000}\n"
        os.write(self.descriptor, line.encode())
        os.fsync(self.descriptor)


class DrainHooks:
    """Starts the tenant's hooks when notice is given, or shortly before the lease's own end: once for each end. They run beside
    everything else, so nothing waits for them. What they print also goes to `output`, unless that is 0."""

    def __init__(self, output: int = 0) -> None:
        self._begun: set[float] = set()
        self._output = output

    def start(self, libraries: str, ending: bool) -> None:
        if ending:
            return
        import json
        from datetime import datetime

        try:
            with open(LEASE, encoding="utf-8") as file:
                told = json.load(file)
            reason = told["action"] if told["reclaim_at"] else "window_over"
            text = told["reclaim_at"] or told["ends_at"]
            end = datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
        except (OSError, ValueError, KeyError, TypeError):
            return
        own_end = not told["reclaim_at"] and end - time.time() > DRAIN_BEFORE_END_S
        if own_end or end in self._begun or len(self._begun) >= DRAINS_MAX:
            return
        environment = {"LD_LIBRARY_PATH": libraries} if libraries else {}
        null = os.open("/dev/null", os.O_RDWR)
        # The words by which PID 1 itself was started, up to its own program: the interpreter is no part of the tenant's root.
        words = interpreter_words()
        if words and start([*words, DRAIN, str(end), reason], (null, self._output or null, null), environment):
            self._begun.add(end)
        os.close(null)


def interpreter_words() -> list[str]:
    """How this program was started, without its own name and arguments."""
    with open("/proc/self/cmdline", "rb") as file:
        words = [word.decode() for word in file.read().split(b"\0")]
    return words[: words.index("/opt/sublet/init.py")] if "/opt/sublet/init.py" in words else []


class Server:
    """What the SSH server of one connection says on its standard error: it tells when a key was accepted."""

    def __init__(self, descriptor: int, name: bytes) -> None:
        self.descriptor, self.name, self.line = descriptor, name, b""

    def listen(self, reports: int) -> bool:
        """Read what there is; False once the server is gone."""
        try:
            said = os.read(self.descriptor, 4096)
        except BlockingIOError:
            return True
        if not said:
            os.close(self.descriptor)
            return False
        *lines, self.line = (self.line + said).split(b"\n")
        self.line = self.line[:4096]
        if reports and any(line.startswith(ACCEPTED) for line in lines):
            with contextlib.suppress(OSError):
                os.write(reports, self.name + b"\n")
        log(said)
        return True


def log(said: bytes) -> None:
    """For anyone who looks inside why a login failed. Bounded: /run is small, and the tenant's programs need it too."""
    with contextlib.suppress(OSError):
        descriptor = os.open(DOOR_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.fstat(descriptor).st_size < LOG_BYTES_MAX:
                os.write(descriptor, said)
        finally:
            os.close(descriptor)


def accept_one(listener: socket.socket, argv: list[str], servers: dict[int, Server]) -> None:
    try:
        connection, name = listener.accept()
        reading, writing = os.pipe()
    except OSError:
        return
    os.set_blocking(reading, False)
    if start(argv, (connection.fileno(), connection.fileno(), writing)):
        servers[reading] = Server(reading, bytes(name)[1:])
    else:
        os.close(reading)
    os.close(writing)
    connection.close()


def start_server(argv: list[str], listener: int, reports: int, libraries: str) -> int:
    """The one server for all connections; 0 where fork fails. It listens at descriptor 3 and reports at 4."""
    try:
        null, log_file = (
            os.open("/dev/null", os.O_RDWR),
            os.open(DOOR_LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600),
        )
    except OSError:
        return 0
    environment = {"LD_LIBRARY_PATH": libraries} if libraries else {}
    if reports:
        environment["SUBLET_REPORTS"] = "4"
    child = start(argv, (null, null, log_file, listener, reports or null), environment, session=False)
    os.close(null)
    os.close(log_file)
    return child


def start(
    argv: list[str], descriptors: tuple[int, ...], environment: dict[str, str] | None = None, *, session: bool = True
) -> int:
    """Fork and exec with these descriptors as 0, 1, 2 and so on; 0 where fork fails. The tenant can make it fail by
    reaching its process limit: that may cost a login, never PID 1."""
    try:
        child = os.fork()
    except OSError:
        return 0
    if child:
        return child
    try:
        os.setsid()
        # A session is dumpable again, as any login is; where memory runs out, it goes before PID 1 and the server.
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)
        if session:
            with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
                score.write(_OOM_SCORE_OF_SESSIONS)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        # Out of the way first: a descriptor may stand where another has to go.
        moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 64) for descriptor in descriptors]
        for place, descriptor in enumerate(moved):
            os.dup2(descriptor, place)
        os.closerange(len(moved), 1024)
        os.execvpe(argv[0], argv, {**os.environ, **(environment or {})})  # noqa: S606
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def drain(descriptor: int) -> set[int]:
    try:
        return set(os.read(descriptor, 4096))
    except BlockingIOError:
        return set()


def reap_children() -> dict[int, int]:
    """The status of each child that has ended."""
    gone: dict[int, int] = {}
    while True:
        try:
            child, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return gone
        if child == 0:
            return gone
        gone[child] = status


def terminate_everybody() -> None:
    try:
        os.kill(-1, signal.SIGTERM)
        os.kill(-1, signal.SIGCONT)
    except ProcessLookupError:
        return


def write_to_terminals() -> None:
    try:
        with open(NOTICE, encoding="utf-8") as file:
            text = "\r\n" + file.read(4096).replace("\n", "\r\n")
    except OSError:
        return
    for terminal in Path("/dev/pts").glob("[0-9]*"):
        try:
            descriptor = os.open(terminal, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK)
        except OSError:
            continue
        try:
            os.write(descriptor, text.encode())
        except OSError:
            pass
        finally:
            os.close(descriptor)


if __name__ == "__main__":
    main()
