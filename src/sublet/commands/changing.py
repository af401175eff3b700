"""Commands that change a lease which one holds: `sublet lease extend`, `shorten`, `shrink`, `move`, `rename`, `label`."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.commands.running import OnlyLeaseId, only
from sublet.output import JsonFlag, print_json, say
from sublet.shown import cost_text
from sublet.values.clock import as_utc, format_time, parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.ids import new_id

if TYPE_CHECKING:
    from sublet.client.clients import Client

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what it would cost and save; change nothing.")]
Until = Annotated[str | None, typer.Option(help="The new end, as 2026-07-02T14:00:00Z.")]
AtMost = Annotated[
    str | None, typer.Option("--at-most", help="Refuse if the added time costs more than this per accelerator-hour.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to `sublet lease`."""
    for command in (extend, shorten, shrink, move, rename, label):
        app.command(command.__name__)(command)


def extend(
    lease_id: OnlyLeaseId = None,
    until: Until = None,
    minutes: Annotated[int | None, typer.Option("--minutes", "-m", min=1, help="By so many minutes.")] = None,
    at_most: AtMost = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Keep a lease for longer, on the same accelerators. The added time costs today's price; the rest keeps its own."""
    remote = connect()
    lease_id = only(remote, lease_id, "extend")
    if (until is None) == (minutes is None):
        raise InvalidInputError("give either --until or --minutes")
    if minutes is not None:
        lease = remote.document("leases.show", lease_id)
        end = format_time(parse_time(lease["end"]) + timedelta(minutes=minutes))
    else:
        end = _moment(until or "", "--until")
    seen = _preview(remote, lease_id, {"end": end})
    most = at_most or seen["price_per_accelerator_hour"]
    _carry_out(remote, lease_id, {"end": end, "max_price_per_accelerator_hour": most}, seen, dry_run, as_json)


def shorten(
    lease_id: OnlyLeaseId = None, until: Until = None, dry_run: DryRun = False, as_json: JsonFlag = False
) -> None:
    """End a lease earlier, at a time to come; `sublet lease end` ends it now."""
    remote = connect()
    lease_id = only(remote, lease_id, "shorten")
    if until is None:
        raise InvalidInputError("give the new end with --until")
    body = {"end": _moment(until, "--until")}
    _carry_out(remote, lease_id, body, _preview(remote, lease_id, body), dry_run, as_json)


def shrink(
    lease_id: OnlyLeaseId = None,
    accelerators: Annotated[int, typer.Option("--accelerators", "-n", min=1, help="How many it is to keep.")] = 1,
    at: Annotated[str | None, typer.Option(help="From when on, as 2026-07-02T14:00:00Z; now if left out.")] = None,
    device: Annotated[
        list[str] | None, typer.Option("--device", help="Give this one back; repeatable. The last ones if left out.")
    ] = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Give some accelerators of a lease back. A lease that runs restarts then, with its home directory."""
    remote = connect()
    lease_id = only(remote, lease_id, "shrink")
    body: dict[str, Any] = {"accelerators": accelerators}
    if at is not None:
        body["at"] = _moment(at, "--at")
    if device:
        body["devices"] = device
    _carry_out(remote, lease_id, body, _preview(remote, lease_id, body), dry_run, as_json)


def move(
    lease_id: OnlyLeaseId = None,
    project: Annotated[str, typer.Option(help="Project that it counts for from now on; empty for none.")] = "",
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Move a lease to another project of your organization: its usage from now on, and what its rest may cost."""
    remote = connect()
    lease_id = only(remote, lease_id, "move")
    body = {"project": project}
    _carry_out(remote, lease_id, body, _preview(remote, lease_id, body), dry_run, as_json)


def rename(
    name: Annotated[str, typer.Argument(help="What it is to be called, in any script; empty for no name.")],
    lease_id: OnlyLeaseId = None,
    as_json: JsonFlag = False,
) -> None:
    """Give a lease a name."""
    remote = connect()
    lease_id = only(remote, lease_id, "rename")
    found = remote.document("leases.set_name", lease_id, body={"name": name})
    if as_json:
        print_json(found)
        return
    say(f"{lease_id} is called {found['name']}" if found["name"] else f"{lease_id} has no name")


def label(
    labels: Annotated[list[str], typer.Argument(help="KEY=VALUE to set a label, KEY- to remove it.")],
    lease_id: Annotated[str | None, typer.Option("--lease", help="Lease; the only one that runs if left out.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set and remove labels of a lease."""
    remote = connect()
    lease_id = only(remote, lease_id, "label")
    found, seen = remote.tagged("leases.show_name", lease_id)
    wanted = dict(found.labels)
    for text in labels:
        key, equals, value = text.partition("=")
        if equals and key:
            wanted[key] = value
        elif text.endswith("-") and text[:-1] in wanted:
            del wanted[text[:-1]]
        else:
            raise InvalidInputError(f"{text!r} is no label to set (KEY=VALUE), or to remove (KEY-) that the lease has")
    body = {"labels": [{"key": key, "value": value} for key, value in wanted.items()]}
    made = remote.document("leases.set_name", lease_id, body=body, if_match=seen)
    if as_json:
        print_json(made)
        return
    told = ", ".join(f"{key}={value}" for key, value in made["labels"].items())
    say(f"{lease_id}: {told or 'no labels'}")


def say_change(found: dict[str, Any]) -> None:
    """What a change comes to, for people."""
    say(found["sentence"])
    for name, what in (("costs", "it costs"), ("saves", "it saves"), ("fee", "fee")):
        if Decimal(found[name]):
            say(f"{what}: {cost_text(found[name], found['currency'])}")


def _preview(remote: Client, lease_id: str, body: dict[str, Any]) -> dict[str, Any]:
    return dict(remote.document("leases.preview_change", lease_id, body=body))


def _carry_out(
    remote: Client, lease_id: str, body: dict[str, Any], seen: dict[str, Any], dry_run: bool, as_json: bool
) -> None:
    """The price is shown first; a dry run ends there."""
    found = seen if dry_run else remote.post(f"/v1/leases/{lease_id}/changes", body, new_id("req"))
    if as_json:
        print_json(found)
        return
    say_change(found)
    if dry_run:
        say("nothing was changed")


def _moment(text: str, option: str) -> str:
    try:
        return format_time(as_utc(parse_time(text)))
    except ValueError as error:
        raise InvalidInputError(f"{option}: {error}") from error
