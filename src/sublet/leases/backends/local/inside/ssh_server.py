"""The SSH server inside a sandbox where the host has no OpenSSH server: asyncssh, on the unix listener at fd 3.

    ssh_server.py AUTHORIZED_KEYS HOST_KEY SHELL

Its policy is that of the sshd_config in etc.py: one user, public keys alone, exec, terminal, sftp, scp, connections to the
sandbox's own loopback, and nothing that lets a program inside reach out through the customer's connection. It runs as the
tenant, so a fault in it opens nothing that the tenant does not have.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import termios
from concurrent.futures import ThreadPoolExecutor
from typing import Any

sys.path.insert(0, "/opt/sublet/packages")

import asyncssh
from asyncssh.process import SSHServerProcess

LISTEN_FD = 3
# Absent where an older PID 1 started us.
REPORTS = int(os.environ.pop("SUBLET_REPORTS", "0"))
# One thread waits for the program of each session, and one writes to its terminal.
THREADS_MAX = 512
SESSIONS_MAX = 64
USER = "tenant"
HOME = "/home/tenant"
AUTHORIZED_KEYS = sys.argv[1] if len(sys.argv) > 1 else ""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
SHELL = sys.argv[3] if len(sys.argv) > 3 else "/bin/sh"


class Door(asyncssh.SSHServer):
    """One customer's connection."""

    def __init__(self) -> None:
        self.sessions = 0
        self.connection: Any = None

    def connection_made(self, conn: Any) -> None:
        self.connection = conn

    def begin_auth(self, username: str) -> bool:
        # Read again: the keys of a running lease may change. Any other name is asked for a key too, and no key is right.
        self.connection.set_authorized_keys(AUTHORIZED_KEYS if username == USER else None)
        return True

    def auth_completed(self) -> None:
        """Tell the door outside, by the name of the socket that this connection came through, that it may stay."""
        name = self.connection.get_extra_info("peername")
        if REPORTS and name:
            with contextlib.suppress(OSError):
                os.write(REPORTS, os.fsencode(name)[1:] + b"\n")

    def public_key_auth_supported(self) -> bool:
        return True

    def session_requested(self) -> Any:
        if self.sessions >= SESSIONS_MAX:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_RESOURCE_SHORTAGE, "too many sessions on one connection")
        self.sessions += 1
        return Session(self)

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        if dest_host not in LOOPBACK:
            raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, "only loopback can be reached")
        return True


class Files(asyncssh.SFTPServer):  # type: ignore[misc,unused-ignore]
    """File transfer that ends with exit status 0: scp takes a missing one for a failure."""

    def exit(self) -> None:
        self.channel.exit(0)


class Session(SSHServerProcess[bytes]):  # type: ignore[misc,unused-ignore]
    """A program, a terminal or a file transfer; it counts until its channel is closed."""

    def __init__(self, door: Door) -> None:
        files: Any = Files
        super().__init__(serve_session, files, 3, True)
        self.door = door

    def subsystem_requested(self, subsystem: str) -> bool:
        return bool(subsystem == "sftp" and super().subsystem_requested(subsystem))

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.sessions -= 1
        super().connection_lost(exc)


async def serve_session(process: Any) -> None:
    if process.get_terminal_type() and not process.subsystem:
        await serve_terminal(process)
        return
    child = subprocess.Popen(
        argv_of(process),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(process),
        cwd=HOME,
        start_new_session=True,
        preexec_fn=go_first,
    )
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    status = await asyncio.to_thread(child.wait)
    await last_words(process)
    process.exit(exit_status(status))


async def last_words(process: Any) -> None:
    """What a program wrote last may still be in its pipes: as with OpenSSH, a session ends when they do, or its connection."""
    said = [asyncio.ensure_future(stream.drain()) for stream in (process.stdout, process.stderr)]
    both, gone = asyncio.gather(*said, return_exceptions=True), asyncio.ensure_future(process.channel.wait_closed())
    await asyncio.wait((both, gone), return_when=asyncio.FIRST_COMPLETED)
    both.cancel()
    gone.cancel()


async def serve_terminal(process: Any) -> None:
    master, slave = os.openpty()
    resize(master, process.get_terminal_size())
    child = subprocess.Popen(
        argv_of(process),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=environment(process),
        cwd=HOME,
        start_new_session=True,
        preexec_fn=take_terminal,
    )
    os.close(slave)
    loop, closed = asyncio.get_running_loop(), asyncio.Event()

    def readable() -> None:
        try:
            data = os.read(master, 65536)
        except OSError:
            data = b""
        if data:
            process.stdout.write(data)
        else:
            loop.remove_reader(master)
            closed.set()

    loop.add_reader(master, readable)
    typing = asyncio.create_task(copy_typed(process, master))
    hanging_up = asyncio.create_task(hang_up(process, child))
    status = await asyncio.to_thread(child.wait)
    # A background process may keep the terminal open; the session does not wait for it.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(closed.wait(), 1)
    loop.remove_reader(master)
    typing.cancel()
    hanging_up.cancel()
    process.exit(exit_status(status))
    os.close(master)


async def copy_typed(process: Any, master: int) -> None:
    while True:
        try:
            data = await process.stdin.read(65536)
        except asyncssh.TerminalSizeChanged as change:
            resize(master, (change.width, change.height, 0, 0))
            continue
        except (asyncssh.BreakReceived, asyncssh.SignalReceived):
            continue
        except asyncssh.Error:
            data = b""
        if not data:
            return
        await asyncio.to_thread(os.write, master, data)


async def hang_up(process: Any, child: subprocess.Popen[bytes]) -> None:
    """A terminal whose connection is gone says so to its programs, as OpenSSH's does."""
    await process.wait_closed()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGHUP)


def take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    go_first()


def go_first() -> None:
    """Where memory runs out, a session goes before this server, which all sessions need."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")


def argv_of(process: Any) -> list[str]:
    command = process.command
    if command is None:
        return [SHELL, "-l"]
    return [SHELL, "-c", command if isinstance(command, str) else command.decode("utf-8", "surrogateescape")]


def environment(process: Any) -> dict[str, str]:
    """What the sandbox sets, and of what the client sends its language alone."""
    sent = {name: value for name, value in process.env.items() if name == "LANG" or name.startswith("LC_")}
    own = {"HOME": HOME, "SHELL": SHELL, "USER": USER, "LOGNAME": USER}
    return {**sent, **os.environ, **own, "TERM": process.get_terminal_type() or "dumb"}


def resize(master: int, size: tuple[int, int, int, int]) -> None:
    width, height, _, _ = size
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))


def exit_status(code: int) -> int:
    return code if code >= 0 else 128 - code


async def main() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(THREADS_MAX))
    await asyncssh.listen(
        sock=socket.socket(fileno=LISTEN_FD),
        server_factory=Door,
        server_host_keys=[sys.argv[2]],
        public_key_auth=True,
        password_auth=False,
        kbdint_auth=False,
        host_based_auth=False,
        gss_host=None,
        encoding=None,
        line_editor=False,
        keepalive_interval=30,
        login_timeout=20,
        agent_forwarding=False,
        x11_forwarding=False,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    # LC_CTYPE is what this interpreter set for itself (PEP 538); no session asked for it.
    for name in ("LD_LIBRARY_PATH", "LC_CTYPE"):
        os.environ.pop(name, None)
    os.chdir(HOME)
    asyncio.run(main())
