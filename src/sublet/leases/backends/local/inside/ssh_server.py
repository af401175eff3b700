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
from typing import Any

sys.path.insert(0, "/opt/sublet/packages")

import asyncssh

LISTEN_FD = 3
CONNECTIONS_MAX = 64
HOME = "/home/tenant"
SHELL = sys.argv[3] if len(sys.argv) > 3 else "/bin/sh"


class Door(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return True

    def connection_requested(self, dest_host: str, dest_port: int, orig_host: str, orig_port: int) -> bool:
        return dest_host in ("127.0.0.1", "localhost", "::1")


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
    )
    await process.redirect(stdin=child.stdin, stdout=child.stdout, stderr=child.stderr)
    process.exit(exit_status(await asyncio.to_thread(child.wait)))


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
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
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
    typing = asyncio.create_task(copy_typed(process, master, child))
    status = await asyncio.to_thread(child.wait)
    # A background process may keep the terminal open; the session does not wait for it.
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(closed.wait(), 1)
    loop.remove_reader(master)
    typing.cancel()
    process.exit(exit_status(status))
    os.close(master)


async def copy_typed(process: Any, master: int, child: subprocess.Popen[bytes]) -> None:
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
            break
        await asyncio.to_thread(os.write, master, data)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGHUP)


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
    await asyncssh.listen(
        sock=socket.socket(fileno=LISTEN_FD),
        server_factory=Door,
        server_host_keys=[sys.argv[2]],
        authorized_client_keys=sys.argv[1],
        process_factory=serve_session,
        sftp_factory=True,
        allow_scp=True,
        encoding=None,
        keepalive_interval=30,
        login_timeout=20,
        agent_forwarding=False,
        x11_forwarding=False,
    )
    await asyncio.Event().wait()


if __name__ == "__main__":
    os.chdir(HOME)
    asyncio.run(main())
