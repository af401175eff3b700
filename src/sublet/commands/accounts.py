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
service_account = typer.Typer(
    no_args_is_help=True, help="Service accounts: programs whose keys no person's leaving ends."
)
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
    service_account: Annotated[
        str, typer.Option(help="Id or name of the service account that it belongs to, which gives it its role.")
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
        "service_account": service_account,
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
        owner = f" for {made['owner_name']}" if made["owner_name"] else ""
        narrowed = f", narrowed to {', '.join(made['scopes'])}" if made["scopes"] else ""
        say(f"{made['id']}{owner}  role {made['role']}{narrowed}\n{made['secret']}")
        say("It is shown only once, because only its hash is stored.")
        say(f"For requests signed with SigV4: access key id {made['id']}, secret access key {made['signing_secret']}")


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
            "owner": "belongs to",
            "role": "role",
            "scopes": "scopes",
            "models": "models",
            "project": "project",
            "last_used_at": time("last used"),
            "expires_at": time("expires"),
            "revoked_at": time("revoked"),
        }
        rows = [{**item, "owner": _owner_of(item)} for item in found["keys"]]
        print_rows(rows, columns, "no keys yet; create one with `sublet key create ORGANIZATION`")


def _owner_of(key: dict[str, Any]) -> str:
    """Whom a key belongs to, by name where there is one."""
    if key["owner"] == "organization":
        return "organization"
    return f"{key['owner'].replace('_', ' ')} {key['owner_name'] or key['owner_id']}"


@service_account.command("create")
def create_service_account(
    organization: Annotated[str, typer.Argument(help="Id or name.")],
    name: Annotated[str, typer.Argument(help="A name that no other service account of the organization has.")],
    role: Annotated[str, typer.Option(help="The role of its keys.")],
    project: Annotated[str, typer.Option(help="The usage of its keys counts toward this project.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Create a service account. Then create keys for it with `sublet key create ORGANIZATION --service-account NAME`."""
    wanted = {"name": name, "role": role, "project": project}
    made = connect().document("accounts.create_service_account", organization, body=wanted)
    if as_json:
        print_json(made)
    else:
        say(f"{made['id']}  {made['name']} (role {made['role']})")


@service_account.command("ls")
def list_service_accounts(
    organization: Annotated[str, typer.Argument(help="Id or name.")], as_json: JsonFlag = False
) -> None:
    """List an organization's service accounts."""
    found = connect().collected("accounts.list_service_accounts", organization)
    if as_json:
        print_json(found)
    else:
        columns: Columns = {
            "id": "service account",
            "name": "name",
            "role": "role",
            "project": "project",
            "live_keys": "keys",
            "last_used_at": time("last used"),
        }
        print_rows(
            found["service_accounts"],
            columns,
            "no service accounts yet; create one with `sublet service-account create ORGANIZATION NAME --role ROLE`",
        )


@service_account.command("rm")
def remove_service_account(
    service_account_id: Annotated[str, typer.Argument(help="Id, as shown by `sublet service-account ls`.")],
) -> None:
    """Remove a service account and revoke its keys, immediately and permanently."""
    connect().document("accounts.remove_service_account", service_account_id)
    say(f"{service_account_id} is removed, and its keys are revoked")


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
