"""`sublet volume`: disks that outlive leases."""

from __future__ import annotations

import time as clock
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.commands import volume_files
from sublet.commands.asking import pool_names, usual_pool
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, time
from sublet.values.ids import new_id

if TYPE_CHECKING:
    from sublet.client.clients import Client

app = typer.Typer(
    no_args_is_help=True, help="Volumes: disks that outlive leases. In a lease, a volume is at /volumes/NAME."
)

Name = Annotated[str, typer.Argument(help="Name or id of a volume, as shown by `sublet volume ls`.")]

_COLUMNS: Columns = {
    "name": "volume",
    "size_mib": "MiB",
    "state": "state",
    "lease_id": "lease",
    "busy_with": "busy",
    "pool": "pool",
    "created_at": time("since"),
    "id": "id",
}


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Lowercase letters, digits and hyphens.")],
    gib: Annotated[float, typer.Option("--gib", help="Size in GiB; all of it is allocated and billed.")] = 1.0,
    pool: Annotated[
        str | None, typer.Option(help="Pool whose machine stores it; by default the first one that is not simulated.")
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait until it is ready.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Create a volume. Only leases on the same pool can use it."""
    remote = connect()
    body = {"name": name, "size_mib": round(gib * 1024), "pool": pool or usual_pool(remote)}
    made = remote.document("volumes.create", body=body, idempotency_key=new_id("req"))
    deadline = clock.monotonic() + volume_files.WAIT_S
    while wait and made["state"] == "making" and not made["last_error"] and clock.monotonic() < deadline:
        clock.sleep(volume_files.POLL_S)
        made = remote.document("volumes.show", made["id"])
    _shown(remote, made, as_json)


@app.command("ls")
def list_volumes(as_json: JsonFlag = False) -> None:
    """List volumes and the lease that each is attached to."""
    remote = connect()
    found = remote.collected("volumes.list_volumes")
    if as_json:
        print_json(found)
        return
    print_rows(
        _rows(remote, found["volumes"]), _COLUMNS, "no volumes; create one with `sublet volume create NAME --gib 1`"
    )


@app.command()
def show(name: Name, as_json: JsonFlag = False) -> None:
    """Show a volume."""
    remote = connect()
    _shown(remote, remote.document("volumes.show", name), as_json)


@app.command()
def rm(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Wipe and delete a volume, and end its billing. Refused while it is attached to a lease."""
    remote: Client = connect()
    if not yes:
        typer.confirm(f"Wipe {name} and everything in it?", abort=True, err=True)
    _shown(remote, remote.document("volumes.remove", name), as_json)


volume_files.register(app)


def _rows(remote: Client, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = pool_names(remote) if found else {}
    return [{**item, "pool": names.get(item["pool_id"], item["pool_id"])} for item in found]


def _shown(remote: Client, found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    print_rows(_rows(remote, [found]), _COLUMNS, "")
    if found["last_error"]:
        say(f"last error: {found['last_error']}")
