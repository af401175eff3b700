"""A real SSH client (asyncssh) for the story: it checks the host key, logs in, and looks around."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import asyncssh

from sublet.values.errors import UnavailableError

LOGIN_S_MAX = 20.0
COMMAND_S_MAX = 20.0


@dataclass(frozen=True)
class ClientKey:
    """A key pair of the story's customer."""

    private: Any
    public: str

    @classmethod
    def new(cls) -> ClientKey:
        pair = asyncssh.generate_private_key("ssh-ed25519", comment="story")
        return cls(pair, pair.export_public_key().decode().strip())


def run(endpoint: dict[str, Any], key: ClientKey, command: str) -> str:
    """Log in and run `command`; what it printed. Tries again while the door is not open yet. Raises UnavailableError."""
    return asyncio.run(_run(endpoint, key, command))


def refused(endpoint: dict[str, Any], key: ClientKey) -> bool:
    """Whether the door is shut."""

    async def knock() -> bool:
        try:
            connection = await asyncio.wait_for(_connect(endpoint, key), 5)
        except (OSError, asyncssh.Error, TimeoutError):
            return True
        connection.close()
        return False

    return asyncio.run(knock())


def watch_terminal(endpoint: dict[str, Any], key: ClientKey, until: str, seconds_max: float) -> str:
    """Hold a terminal open inside the sandbox, and return what was shown there once it contains `until`."""

    async def watch() -> str:
        seen = ""
        async with await _connect(endpoint, key) as connection:
            process = await connection.create_process(f"sleep {int(seconds_max)}", term_type="xterm")
            deadline = time.monotonic() + seconds_max
            while until not in seen and time.monotonic() < deadline:
                try:
                    piece = await asyncio.wait_for(process.stdout.read(4096), deadline - time.monotonic())
                except TimeoutError:
                    break
                if not piece:
                    break
                seen += piece
        return seen

    try:
        return asyncio.run(watch())
    except (OSError, asyncssh.Error):
        return ""


async def _connect(endpoint: dict[str, Any], key: ClientKey) -> Any:
    # The lease names its host key, so that not even the first login is taken on trust.
    host = f"[{endpoint['host']}]:{endpoint['port']}"
    return await asyncssh.connect(
        endpoint["host"],
        endpoint["port"],
        username=endpoint["user"],
        client_keys=[key.private],
        known_hosts=asyncssh.import_known_hosts(f"{host} {endpoint['host_key']}\n"),
        config=[],
        agent_path=None,
    )


async def _run(endpoint: dict[str, Any], key: ClientKey, command: str) -> str:
    deadline = time.monotonic() + LOGIN_S_MAX
    while True:
        try:
            async with await asyncio.wait_for(_connect(endpoint, key), LOGIN_S_MAX) as connection:
                done = await asyncio.wait_for(connection.run(command), COMMAND_S_MAX)
                return str(done.stdout or "") + str(done.stderr or "")
        except (OSError, asyncssh.Error, TimeoutError) as error:
            if time.monotonic() > deadline:
                raise UnavailableError(f"the SSH port of the lease does not accept connections: {error}") from error
            await asyncio.sleep(0.2)
