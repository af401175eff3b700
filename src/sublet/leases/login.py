"""From a lease to a shell in it: the customer's key, the lease's host key, and the SSH client of this machine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sublet.values.errors import InvalidInputError, UnavailableError

OWN_KEY = "id_ed25519"
_USUAL_KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")
_HOST = re.compile(r"[0-9A-Za-z]([0-9A-Za-z._:-]{0,252}[0-9A-Za-z])?|::1?")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,31}")
_HOST_KEY = re.compile(r"[a-z0-9@.-]{1,60} [A-Za-z0-9+/=]{4,8192}")
_LEASE_ID = re.compile(r"lse_[a-z0-9_]{1,40}")


@dataclass(frozen=True, slots=True)
class ClientKey:
    """A key pair of the customer: the line that a lease is given, and the file that `ssh -i` takes. That file is the public one
    where the private key is elsewhere, in an agent or a token: OpenSSH then asks the agent for exactly that key."""

    public: str
    identity: Path


def own_directory() -> Path:
    """Where the commands keep a key of their own, which key opens which lease, and the host keys of leases."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "sublet"


def client_key(path: Path | None) -> ClientKey:
    """The key at `path`, else the user's usual one, else one that is made now. Raises InvalidInputError."""
    if path is not None:
        path = path.expanduser().absolute()
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidInputError(
                f"{path} can't be read; specify a public key such as ~/.ssh/id_ed25519.pub"
            ) from error
        if "PRIVATE KEY" in text:
            raise InvalidInputError(f"{path} is a private key; use the .pub file next to it")
        return ClientKey(text, _identity_beside(path))
    own = own_directory() / f"{OWN_KEY}.pub"
    for candidate in (own, *_usual_keys()):
        if candidate.is_file():
            return ClientKey(candidate.read_text(encoding="utf-8").strip(), _identity_beside(candidate))
    return ClientKey(_new_key(own_directory() / OWN_KEY), own_directory() / OWN_KEY)


def remember(lease_id: str, key: ClientKey) -> None:
    """Keep which key opens the lease, for `identity_of`."""
    path = _own_file("identities", lease_id)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.write_text(f"{key.identity}\n", encoding="utf-8")


def identity_of(lease_id: str, public_keys: Sequence[str] = ()) -> Path | None:
    """The file of the key that opens the lease: the one it was taken with here, else one of this user's that is among
    `public_keys`; None where none is known."""
    path = _own_file("identities", lease_id)
    if path.is_file():
        found = Path(path.read_text(encoding="utf-8").strip())
        if found.is_file():
            return found
    wanted = {_blob(line) for line in public_keys}
    for candidate in (own_directory() / f"{OWN_KEY}.pub", *_usual_keys()):
        if candidate.is_file() and _blob(candidate.read_text(encoding="utf-8", errors="replace")) in wanted:
            return _identity_beside(candidate)
    return None


def shell(lease_id: str, door: Mapping[str, Any], command: Sequence[str], identity: Path | None = None) -> int:
    """Log in and run `command`, or a shell; returns its exit status. The host key is checked against the lease's.

    Raises UnavailableError where no SSH client can be had.
    """
    program = shutil.which("ssh")
    if program is not None:
        arguments = [program, *ssh_arguments(lease_id, door, identity), *command]
        return subprocess.run(arguments, check=False).returncode
    # Loaded only where there is no ssh.
    import asyncio

    return asyncio.run(_without_client(checked_door(door), command, identity))


def ssh_arguments(lease_id: str, door: Mapping[str, Any], identity: Path | None = None) -> list[str]:
    """Arguments for OpenSSH's client; writes the lease's known_hosts file."""
    door = checked_door(door)
    arguments = ["-p", str(door["port"]), "-o", f"HostKeyAlias={lease_id}",
                 "-o", f"UserKnownHostsFile={quoted(write_known_host(lease_id, door))}",
                 "-o", "StrictHostKeyChecking=yes", "-o", "LogLevel=ERROR"]  # fmt: skip
    if identity is not None:
        # OpenSSH expands percent signs in what `-i` names, after it has looked for the file under the name as it is.
        plain = "%" not in str(identity)
        arguments += ["-i", str(identity)] if plain else ["-o", f"IdentityFile={quoted(identity)}"]
        arguments += ["-o", "IdentitiesOnly=yes"]
    return [*arguments, f"{door['user']}@{door['host']}"]


def command_line(lease_id: str, door: Mapping[str, Any], identity: Path | None) -> str:
    """The same as one line for a shell, to copy."""
    return shlex.join(["ssh", *ssh_arguments(lease_id, door, identity)])


def write_known_host(lease_id: str, door: Mapping[str, Any]) -> Path:
    """The lease's own known_hosts file: its host key under its id, whatever address and port it has."""
    known = _own_file("known_hosts", lease_id)
    known.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    known.write_text(f"{lease_id} {door['host_key']}\n", encoding="utf-8")
    return known


def checked_door(door: Mapping[str, Any]) -> Mapping[str, Any]:
    """`door`, if it can stand on a command line and in an SSH configuration without meaning more than an address. A service
    must not be able to run programs on its customer's machine. Raises UnavailableError."""
    good = (
        isinstance(door.get("port"), int)
        and 0 < door["port"] < 65536
        and all(
            isinstance(door.get(name), str) and pattern.fullmatch(door[name])
            for name, pattern in (("host", _HOST), ("user", _USER), ("host_key", _HOST_KEY))
        )
    )
    if not good:
        raise UnavailableError("the service returned an invalid SSH address; report this to the operator")
    return door


def _own_file(folder: str, lease_id: str) -> Path:
    if not _LEASE_ID.fullmatch(lease_id):
        raise InvalidInputError(f"{lease_id!r} is not a lease id; `sublet lease ls` lists yours")
    return own_directory() / folder / lease_id


def _usual_keys() -> list[Path]:
    return [Path.home() / ".ssh" / name for name in _USUAL_KEYS]


def _identity_beside(public: Path) -> Path:
    private = public.with_suffix("")
    return private if public.suffix == ".pub" and private.is_file() else public


def _blob(line: str) -> str:
    """Type and key of a public key line, without its comment."""
    return " ".join(line.split()[:2])


def quoted(path: Path, *, expanded: bool = True) -> str:
    """A file name as OpenSSH's options take it: quoted, for it may have spaces, and its percent signs doubled for those that
    are `expanded`; Include is not."""
    text = str(path).replace("%", "%%") if expanded else str(path)
    if '"' in text or "\n" in text:
        raise InvalidInputError(
            f"the path {path} can't be passed to OpenSSH because it contains a quote or a line break; set XDG_CONFIG_HOME"
        )
    return f'"{text}"'


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


async def _without_client(door: Mapping[str, Any], command: Sequence[str], identity: Path | None) -> int:
    """A plain session where this machine has no `ssh`."""
    import asyncssh

    hosts = asyncssh.import_known_hosts(f"[{door['host']}]:{door['port']} {door['host_key']}\n")
    terminal = sys.stdin.isatty() and not command
    try:
        async with asyncssh.connect(
            door["host"],
            port=int(door["port"]),
            username=str(door["user"]),
            known_hosts=hosts,
            client_keys=[str(identity)] if identity is not None else (),
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
        raise UnavailableError(f"the SSH port of the lease does not accept connections: {error}") from error
