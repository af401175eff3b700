"""`sublet org` and `sublet key`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.commands.limits import Concurrency, InputTokens, Models, OutputTokens, Requests, values_of
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, short, time
from sublet.values.clock import format_time, parse_time
from sublet.values.errors import InvalidInputError

org = typer.Typer(no_args_is_help=True, help="Organizations: the operator, internal teams, customers.")
key = typer.Typer(no_args_is_help=True, help="API keys: create, list, revoke. A secret is shown once.")


@org.command("create")
def create_organization(
    name: Annotated[str, typer.Argument(help="A name that no other organization has.")],
    kind: Annotated[str, typer.Option(help="customer, internal or operator.")] = "customer",
    currency: Annotated[str, typer.Option(help="ISO 4217 code; it can't be changed later.")] = "USD",
    timezone: Annotated[str, typer.Option(help="Time zone in which its months begin, e.g. Europe/Berlin.")] = "UTC",
    as_json: JsonFlag = False,
) -> None:
    """Create an organization."""
    wanted = {"name": name, "kind": kind, "currency": currency, "timezone": timezone}
    made = connect().document("accounts.create_organization", body=wanted)
    if as_json:
        print_json(made)
    else:
        say(f"{made['id']}  {made['name']} ({made['kind']}, {made['currency']})")


@org.command("ls")
def list_organizations(as_json: JsonFlag = False) -> None:
    """List organizations."""
    found = connect().collected("accounts.list_organizations")
    if as_json:
        print_json(found)
    else:
        columns: Columns = {
            "name": "name",
            "kind": "kind",
            "currency": "currency",
            "timezone": "zone",
            "status": "status",
            "id": short("id"),
        }
        print_rows(found["organizations"], columns, "no organizations yet; create one with `sublet org create NAME`")


@key.command("create")
def create_key(
    organization: Annotated[str, typer.Argument(help="Id or name.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "default",
    scope: Annotated[
        list[str] | None, typer.Option(help="Repeat for several; default: all of the organization's kind.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="RFC 3339 time with offset.")] = None,
    project: Annotated[str, typer.Option(help="Its usage counts toward this project and its budget.")] = "",
    role: Annotated[
        str, typer.Option(help="Its role; by default, the first role of the organization's kind, narrowed.")
    ] = "",
    rpm: Requests = None,
    input_tpm: InputTokens = None,
    output_tpm: OutputTokens = None,
    concurrency: Concurrency = None,
    models: Models = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a key and print its secret, once."""
    try:
        expires_at = parse_time(expires) if expires else None
    except ValueError as error:
        raise InvalidInputError(f"--expires: {error}") from error
    wanted: dict[str, Any] = {
        "name": name,
        "scopes": scope,
        "expires_at": format_time(expires_at) if expires_at else None,
        "project": project,
        "role": role,
    }
    limits = {
        name: value
        for name, value in values_of(rpm, input_tpm, output_tpm, concurrency, models).items()
        if value is not None
    }
    if limits:
        wanted["limits"] = limits
    made = connect().document("accounts.create_key", organization, body=wanted)
    if as_json:
        print_json(made)
    else:
        narrowed = f", narrowed to {', '.join(made['scopes'])}" if made["scopes"] else ""
        say(
            f"{made['id']}  role {made['role']}{narrowed}\n{made['secret']}\nIt is shown only once, because only its hash is stored.\n"
            f"For requests signed with SigV4: access key id {made['id']}, secret access key {made['signing_secret']}"
        )


@key.command("ls")
def list_keys(organization: Annotated[str, typer.Argument(help="Id or name.")], as_json: JsonFlag = False) -> None:
    """List an organization's keys, without their secrets."""
    found = connect().collected("accounts.list_keys", organization)
    if as_json:
        print_json(found)
    else:
        columns: Columns = {
            "id": "key",
            "name": "name",
            "hint": "ends in",
            "role": "role",
            "scopes": "scopes",
            "project": "project",
            "expires_at": time("expires"),
            "revoked_at": time("revoked"),
        }
        print_rows(found["keys"], columns, "no keys yet; create one with `sublet key create ORGANIZATION`")


@key.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="Id of the key, as shown by `sublet key ls`.")]) -> None:
    """Revoke a key, immediately and permanently."""
    connect().document("accounts.revoke_key", key_id)
    say(f"{key_id} is revoked")


@org.command("suspend")
def suspend_organization(organization: Annotated[str, typer.Argument(help="Id or name.")]) -> None:
    """Suspend an organization: its keys and people lose access. Its leases and models keep running and are billed."""
    made = connect().document("accounts.suspend", organization)
    say(f"{made['name']} is {made['status']}")


@org.command("resume")
def resume_organization(organization: Annotated[str, typer.Argument(help="Id or name.")]) -> None:
    """Resume a suspended organization."""
    made = connect().document("accounts.resume", organization)
    say(f"{made['name']} is {made['status']}")
