"""`sublet lease ssh`, `keys` and `ssh-config`: how a person, an editor or rsync gets into a lease, and who else may."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.commands.running import AnyLeaseId, checked_id, only, running, wait_ready
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.values.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from sublet.client.clients import Client

KeyToUse = Annotated[
    Path | None,
    typer.Option("--key", help="Public key to log in with; by default the one that the lease was taken with."),
]


def register(app: typer.Typer) -> None:
    """Add the commands to `sublet lease`."""
    app.command("ssh", context_settings={"ignore_unknown_options": True})(ssh)
    app.command("keys")(keys)
    app.command("ssh-config")(ssh_config)


def ssh(
    lease_id: AnyLeaseId = None,
    command: Annotated[
        list[str] | None, typer.Argument(help="Command to run in the lease; by default a shell.")
    ] = None,
    key: KeyToUse = None,
) -> None:
    """Log in to a lease, or run a command in it: `sublet lease ssh -- nvidia-smi`."""
    from sublet.leases import login, ssh_config

    remote = connect()
    words = list(command or [])
    if lease_id is not None and not lease_id.startswith("lse_"):
        words, lease_id = [lease_id, *words], None
    if lease_id is None:
        lease_id = running(remote)[0]["id"]
    lease = wait_ready(remote, checked_id(str(lease_id)), quiet=True)
    if key is not None:
        login.remember(lease["id"], login.client_key(key))
    identity = login.identity_of(lease["id"], lease["ssh_public_keys"])
    ssh_config.write_host(lease["id"], lease["ssh"], identity)
    raise typer.Exit(login.shell(lease["id"], lease["ssh"], words, identity))


def keys(
    lease_id: Annotated[str | None, typer.Argument(help="Id of a lease; can be omitted if you have only one.")] = None,
    add: Annotated[list[Path] | None, typer.Option("--add", help="Public key file to add.")] = None,
    remove: Annotated[
        list[str] | None, typer.Option("--remove", help="Fingerprint, comment or file of a key to remove.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show or change the keys that can log in to a running lease. Open sessions are not affected."""
    from sublet.leases import login

    remote = connect()
    lease_id = only(remote, lease_id, "show")
    found, seen = _keys_of(remote, lease_id)
    if add or remove:
        wanted = [line for line in found if not any(_means(text, line) for text in remove or [])]
        unknown = [text for text in remove or [] if not any(_means(text, line) for line in found)]
        if unknown:
            raise NotFoundError(
                f"lease {lease_id} has no key {unknown[0]!r}; `sublet lease keys {lease_id}` lists its keys"
            )
        added = [login.client_key(path) for path in add or []]
        wanted += [key.public for key in added if not any(_same(key.public, line) for line in wanted)]
        if not wanted:
            raise InvalidInputError(
                "this would remove the last key, and nobody could log in; add another key first, or end the lease"
            )
        body = {"ssh_public_keys": wanted}
        found = remote.document("leases.set_ssh_keys", lease_id, body=body, if_match=seen)["ssh_public_keys"]
    if as_json:
        print_json({"lease_id": lease_id, "ssh_public_keys": found})
        return
    columns = {"type": "type", "fingerprint": "fingerprint", "comment": "comment"}
    print_rows([_row(line) for line in found], columns, "")


def ssh_config(
    install: Annotated[bool, typer.Option("--install", help="Add the line at the top of ~/.ssh/config.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Add your running leases as SSH hosts, for rsync, Git and editors such as VS Code. Then `ssh lse_…` works."""
    from sublet.leases import login
    from sublet.leases import ssh_config as config

    remote = connect()
    live = remote.collected("leases.list_leases", query={"live": True})["leases"]
    ready = [lease for lease in live if lease["ssh"]]
    for lease in ready:
        shown = remote.get(f"/v1/leases/{lease['id']}")
        config.write_host(lease["id"], lease["ssh"], login.identity_of(lease["id"], shown["ssh_public_keys"]))
    config.forget_all_but(frozenset(lease["id"] for lease in live))
    installed = config.install() if install else False
    if as_json:
        print_json({"hosts": [lease["id"] for lease in ready], "line": config.include_line(), "installed": installed})
        return
    for lease in ready:
        say(f"ssh {lease['id']}")
    if not ready:
        say("no lease is running; each lease that you take or log in to is added automatically")
    if installed:
        say("~/.ssh/config now includes them")
    elif not install:
        say(f"add this line at the top of ~/.ssh/config, or run this command with --install: {config.include_line()}")


def _keys_of(remote: Client, lease_id: str) -> tuple[list[str], str]:
    """The lease's keys and the tag of that state."""
    found, tag = remote.tagged("leases.list_ssh_keys", lease_id)
    return list(found.ssh_public_keys), tag


def _row(line: str) -> dict[str, Any]:
    kind, _, comment = line.partition(" ")[0], None, line.split(None, 2)[2:]
    return {"type": kind, "fingerprint": _fingerprint(line), "comment": " ".join(comment)}


def _fingerprint(line: str) -> str:
    """As `ssh-keygen -l` prints it."""
    import base64
    import hashlib

    digest = hashlib.sha256(base64.b64decode(line.split()[1])).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _same(one: str, other: str) -> bool:
    return one.split()[:2] == other.split()[:2]


def _means(text: str, line: str) -> bool:
    """Whether `text` names the key: by its fingerprint, its comment, or a file that holds it."""
    if text == _fingerprint(line) or text == " ".join(line.split(None, 2)[2:]):
        return True
    path = Path(text).expanduser()
    try:
        return path.is_file() and _same(path.read_text(encoding="utf-8"), line)
    except (OSError, UnicodeDecodeError):
        return False
