"""`sublet org` and `sublet key`: on the database of this machine's settings, for whoever may read it."""

from __future__ import annotations

from typing import Annotated

import typer

from sublet.accounts.service import Accounts
from sublet.config import settings
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.clock import parse_time
from sublet.values.errors import InvalidInputError

org = typer.Typer(no_args_is_help=True, help="Organizations: the operator, internal teams, customers.")
key = typer.Typer(no_args_is_help=True, help="API keys: made, listed, revoked. A secret is shown once.")


def _accounts() -> Accounts:
    store = Store(settings.load().database_url)
    migrate(store)
    return Accounts(store)


@org.command("create")
def create_organization(
    name: Annotated[str, typer.Argument(help="A name that no other organization has.")],
    kind: Annotated[str, typer.Option(help="customer, internal or operator.")] = "customer",
    currency: Annotated[str, typer.Option(help="ISO 4217 code; one for life.")] = "USD",
    timezone: Annotated[str, typer.Option(help="Its months begin here, e.g. Europe/Berlin.")] = "UTC",
    as_json: JsonFlag = False,
) -> None:
    """Create an organization."""
    made = _accounts().create_organization(name, kind, currency, timezone)
    if as_json:
        print_json(made.as_dict())
    else:
        say(f"{made.id}  {made.name} ({made.kind}, {made.currency})")


@org.command("ls")
def list_organizations(as_json: JsonFlag = False) -> None:
    """List organizations."""
    rows = [item.as_dict() for item in _accounts().organizations()]
    if as_json:
        print_json({"organizations": rows})
    else:
        columns = {
            "id": "id",
            "name": "name",
            "kind": "kind",
            "currency": "currency",
            "timezone": "zone",
            "status": "status",
        }
        print_rows(rows, columns, "no organizations yet; `sublet org create NAME` makes one")


@key.command("create")
def create_key(
    organization: Annotated[str, typer.Argument(help="Id or name.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "default",
    scope: Annotated[
        list[str] | None, typer.Option(help="Repeat for several; default: all of the organization's kind.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="RFC 3339 time with offset.")] = None,
    project: Annotated[str, typer.Option(help="What is used with it counts for this project and its budget.")] = "",
    role: Annotated[
        str, typer.Option(help="Its role; without one, the first of the organization's kind, narrowed.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Create a key and print its secret, once."""
    try:
        expires_at = parse_time(expires) if expires else None
    except ValueError as error:
        raise InvalidInputError(f"--expires: {error}") from error
    made, secret = _accounts().create_key(organization, name, scope, expires_at, project, role)
    if as_json:
        print_json({**made.as_dict(), "secret": secret})
    else:
        narrowed = f", narrowed to {', '.join(made.scopes)}" if made.scopes else ""
        say(f"{made.id}  role {made.role}{narrowed}\n{secret}\nThis is shown once: only its hash is kept.")


@key.command("ls")
def list_keys(organization: Annotated[str, typer.Argument(help="Id or name.")], as_json: JsonFlag = False) -> None:
    """List an organization's keys, without their secrets."""
    accounts = _accounts()
    rows = [item.as_dict() for item in accounts.keys(accounts.organization(organization).id)]
    if as_json:
        print_json({"keys": rows})
    else:
        columns = {
            "id": "id",
            "name": "name",
            "hint": "ends in",
            "role": "role",
            "scopes": "scopes",
            "project": "project",
            "expires_at": "expires",
            "revoked_at": "revoked",
        }
        print_rows(rows, columns, "no keys yet; `sublet key create ORGANIZATION` makes one")


@key.command("revoke")
def revoke_key(key_id: Annotated[str, typer.Argument(help="As `sublet key ls` shows it.")]) -> None:
    """Revoke a key, immediately and permanently."""
    _accounts().revoke_key(key_id)
    say(f"{key_id} is revoked")
