"""From a lease to a shell in it: the customer's key, the lease's host key, and the SSH client of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sublet.values.errors import InvalidInputError, UnavailableError

OWN_KEY = "id_ed25519"
_USUAL_KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")


def own_directory() -> Path:
    """Where the commands keep a key of their own and the host keys of leases."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "sublet"


def public_key(path: Path | None) -> str:
    """The key at `path`, else the user's usual one, else one that is made now. Raises InvalidInputError."""
    if path is not None:
        try:
            text = path.expanduser().read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(f"{path} can't be read; name a public key such as ~/.ssh/id_ed25519.pub") from error
        if "PRIVATE KEY" in text:
            raise InvalidInputError(f"{path} is a private key; name the .pub file beside it")
        return text
    own = own_directory() / f"{OWN_KEY}.pub"
    for candidate in (own, *(Path.home() / ".ssh" / name for name in _USUAL_KEYS)):
        if candidate.is_file():
            return candidate.read_text(encoding="utf-8").strip()
    return _new_key(own_directory() / OWN_KEY)


def shell(lease_id: str, door: Mapping[str, Any], command: Sequence[str]) -> int:
    """Log in and run `command`, or a shell; returns its exit status. The host key is checked against the lease's.

    Raises UnavailableError where no SSH client can be had.
    """
    program = shutil.which("ssh")
    if program is not None:
        return subprocess.run([program, *ssh_arguments(lease_id, door), *command], check=False).returncode
    # Loaded only where there is no ssh.
    import asyncio

    return asyncio.run(_without_client(door, command))


def ssh_arguments(lease_id: str, door: Mapping[str, Any]) -> list[str]:
    """Arguments for OpenSSH's client; writes the lease's known_hosts file."""
    hosts = own_directory() / "known_hosts"
    hosts.mkdir(parents=True, exist_ok=True, mode=0o700)
    known = hosts / lease_id
    known.write_text(f"{lease_id} {door['host_key']}\n", encoding="utf-8")
    arguments = ["-p", str(door["port"]), "-o", f"HostKeyAlias={lease_id}", "-o", f"UserKnownHostsFile={known}",
                 "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR"]  # fmt: skip
    own = own_directory() / OWN_KEY
    if own.is_file():
        arguments += ["-i", str(own)]
    return [*arguments, f"{door['user']}@{door['host']}"]


def _new_key(path: Path) -> str:
    import asyncssh

    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = asyncssh.generate_private_key("ssh-ed25519", comment="sublet")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.export_private_key())
    line: str = key.export_public_key().decode().strip()
    path.with_name(f"{path.name}.pub").write_text(line + "\n", encoding="utf-8")
    return line


async def _without_client(door: Mapping[str, Any], command: Sequence[str]) -> int:
    """A plain session where this machine has no `ssh`."""
    import asyncssh

    own = own_directory() / OWN_KEY
    hosts = asyncssh.import_known_hosts(f"[{door['host']}]:{door['port']} {door['host_key']}\n")
    terminal = sys.stdin.isatty() and not command
    try:
        async with asyncssh.connect(
            door["host"],
            port=int(door["port"]),
            username=str(door["user"]),
            known_hosts=hosts,
            client_keys=[str(own)] if own.is_file() else (),
        ) as connection:
            process = await connection.create_process(
                " ".join(command) or None,
                term_type=os.environ.get("TERM", "xterm") if terminal else None,
                stdin=sys.stdin,
                stdout=sys.stdout,
                stderr=sys.stderr,
            )
            done = await process.wait()
            return int(done.exit_status or 0)
    except (OSError, asyncssh.Error) as error:
        raise UnavailableError(f"the lease's door does not open: {error}") from error
