"""The SSH server that is packaged with Sublet, without the sandbox around it: how its sessions end."""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncssh
import pytest

import sublet.leases.backends.local.inside as inside

PROGRAM = Path(inside.__path__[0]) / "ssh_server.py"
WAIT_S = 60


@asynccontextmanager
async def client_of(serve: Any, **named: Any) -> AsyncIterator[asyncssh.SSHClientConnection]:
    key = asyncssh.generate_private_key("ssh-ed25519")
    ours, theirs = socket.socketpair()
    serving = asyncio.ensure_future(
        asyncssh.run_server(
            ours,
            server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
            authorized_client_keys=asyncssh.import_authorized_keys(key.export_public_key().decode()),
            process_factory=serve,
            encoding=None,
        )
    )
    async with asyncssh.connect(
        "sandbox", sock=theirs, username="tenant", client_keys=[key], known_hosts=None, config=None, **named
    ) as client:
        yield client
    (await serving).abort()


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "argv", ["ssh_server.py", "keys", "host_key", "/bin/sh"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = runpy.run_path(str(PROGRAM))
    found["serve_session"].__globals__["HOME"] = str(tmp_path)
    return found["serve_session"]


def ran(serve: Any, command: str) -> tuple[int | None, str, str]:
    async def run() -> tuple[int | None, str, str]:
        async with client_of(serve) as client:
            done = await asyncio.wait_for(client.run(command), WAIT_S)
            return done.exit_status, str(done.stdout), str(done.stderr)

    return asyncio.run(run())


def test_what_is_written_after_the_program_ended_still_arrives(serve: Any) -> None:
    """A child of the program holds its pipes a while longer, as a pipe's content does."""
    assert ran(serve, "(sleep 0.3; echo late; echo too late >&2) & exit 3") == (3, "late\n", "too late\n")


def test_more_than_a_pipe_holds_arrives_whole(serve: Any) -> None:
    status, said, _ = ran(serve, "head -c 3000000 /dev/zero | tr '\\0' x; exit 1")
    assert status == 1 and said == "x" * 3_000_000


def test_a_session_whose_client_left_ends_though_its_pipes_are_held(serve: Any) -> None:
    sessions: list[asyncio.Task[None]] = []

    async def kept(process: Any) -> None:
        task = asyncio.current_task()
        assert task is not None
        sessions.append(task)
        await serve(process)

    async def run() -> None:
        async with client_of(kept) as client:
            process = await client.create_process("sleep 600 & echo $!", stdin=asyncssh.DEVNULL)
            sleeper = int(await asyncio.wait_for(process.stdout.readline(), WAIT_S))
        await asyncio.wait_for(asyncio.wait(sessions), WAIT_S)
        os.kill(sleeper, signal.SIGKILL)

    asyncio.run(run())
    assert len(sessions) == 1
