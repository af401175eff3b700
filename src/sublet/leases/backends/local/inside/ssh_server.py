"""The SSH server inside a sandbox where the host has no OpenSSH server: asyncssh, on the unix listener at fd 3.

    ssh_server.py AUTHORIZED_KEYS HOST_KEY SHELL

Exec, terminal, sftp, scp and forwarding to the sandbox's own loopback. It runs as the tenant, so a fault in it opens nothing
that the tenant does not have.
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

LISTEN_FD = 3
# One thread waits for the program of each session, and one writes to its terminal.
THREADS_MAX = 512
HOME = "/home/tenant"
SHELL = sys.argv[3] if len(sys.argv) > 3 else "/bin/sh"


class Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return dest_host in ("127.0.0.1", "localhost", "::1")


class Files(asyncssh.SFTPServer):  # type: ignore[misc,unused-ignore]
    """File transfer that ends with exit status 0: scp takes a missing one for a failure."""

    def exit(self) -> None:
        self.channel.exit(0)


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
    return {**os.environ, "HOME": HOME, "SHELL": SHELL, "TERM": process.get_terminal_type() or "dumb"}


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
        authorized_client_keys=sys.argv[1],
        process_factory=serve_session,
        sftp_factory=Files,
        allow_scp=True,
        encoding=None,
        keepalive_interval=30,
        login_timeout=20,
        agent_forwarding=False,
        x11_forwarding=False,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    os.environ.pop("LD_LIBRARY_PATH", None)
    os.chdir(HOME)
    asyncio.run(main())
