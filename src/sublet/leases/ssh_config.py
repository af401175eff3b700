"""Leases as hosts of OpenSSH's client, so that `ssh lse_…`, rsync, Git and editors reach them by name.

Every lease has a small file of its own; one file includes them all, and the customer's `~/.ssh/config` includes that one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sublet.leases import login
from sublet.values.errors import InvalidInputError

FOLDER = "ssh"
INCLUDED = "ssh_config"


def host_entry(lease_id: str, door: Mapping[str, Any], identity: Path | None) -> str:
    """What OpenSSH has to know of the lease: where it is, who logs in with which key, and which host key to expect."""
    door = login.checked_door(door)
    lines = [
        f"Host {lease_id}",
        f"  HostName {door['host']}",
        f"  Port {door['port']}",
        f"  User {door['user']}",
        f"  HostKeyAlias {lease_id}",
        f"  UserKnownHostsFile {login.quoted(login.write_known_host(lease_id, door))}",
        "  StrictHostKeyChecking yes",
    ]
    if identity is not None:
        lines += [f"  IdentityFile {login.quoted(identity)}", "  IdentitiesOnly yes"]
    return "\n".join(lines) + "\n"


def write_host(lease_id: str, door: Mapping[str, Any], identity: Path | None) -> None:
    """Make or renew the lease's entry."""
    entry = host_entry(lease_id, door, identity)
    folder = login.own_directory() / FOLDER
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _replace(folder / lease_id, entry)
    _replace(login.own_directory() / INCLUDED, f"Include {login.quoted(folder / 'lse_*', expanded=False)}\n")


def forget_all_but(lease_ids: frozenset[str]) -> None:
    """Drop what is kept of leases that are over."""
    for name in (FOLDER, "known_hosts", "identities"):
        folder = login.own_directory() / name
        for path in folder.glob("lse_*") if folder.is_dir() else ():
            if path.name not in lease_ids:
                path.unlink(missing_ok=True)


def include_line() -> str:
    """What belongs at the top of `~/.ssh/config`."""
    return f"Include {login.quoted(login.own_directory() / INCLUDED, expanded=False)}"


def install() -> bool:
    """Put the line at the top of `~/.ssh/config`, where it holds for every host; False where it is there already.

    What else is in the file stays as it is. Raises InvalidInputError where it can't be changed.
    """
    path, line = Path.home() / ".ssh" / "config", include_line()
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        before = path.read_text(encoding="utf-8") if path.exists() else ""
        if line in before.splitlines():
            return False
        # A link, as people have who keep their settings in a repository, stays a link.
        _replace(path.resolve(), f"{line}\n\n{before}" if before else f"{line}\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path} can't be changed ({error}); add this line at the top: {line}") from error
    return True


def _replace(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
