"""`sublet limit`: how much of the model API an organization, a project, a key or a model may use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.client.remote import connect, organization_id
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, time
from sublet.values.clock import format_time, parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.text import checked_line

if TYPE_CHECKING:
    from sublet.client.clients import Client

app = typer.Typer(
    no_args_is_help=True,
    help="Limits of the model API, for organizations, projects, keys and models; shared by all gateways.",
)

Requests = Annotated[int | None, typer.Option("--rpm", help="Requests per minute.")]
InputTokens = Annotated[int | None, typer.Option("--input-tpm", help="Input tokens per minute.")]
OutputTokens = Annotated[int | None, typer.Option("--output-tpm", help="Output tokens per minute.")]
Concurrency = Annotated[int | None, typer.Option(help="Requests under way at once.")]
Models = Annotated[str | None, typer.Option(help="The only models that may be called, separated by commas.")]
Spend = Annotated[str | None, typer.Option(help="What may be spent per period, like 500: a hard budget.")]
Period = Annotated[str, typer.Option(help="With --spend: day, month or ever.")]


@dataclass(frozen=True, slots=True)
class Place:
    """Whom a limit is for."""

    organization_id: str
    scope: str
    scope_id: str
    model: str

    def of(self, item: dict[str, Any]) -> bool:
        """Whether a limit of the list is for the same."""
        mine = (self.organization_id, self.scope, self.scope_id, self.model)
        return mine == (item["organization_id"] or "", item["scope"], item["scope_id"], item["model"])


@app.command("set")
def set_limit(
    organization: Annotated[str, typer.Argument(help="Id or name; leave it out to limit a model for everybody.")] = "",
    project: Annotated[str, typer.Option(help="Limit this project alone.")] = "",
    key: Annotated[str, typer.Option(help="Limit this key alone, by its id.")] = "",
    model: Annotated[str, typer.Option(help="Count calls of this model only.")] = "",
    rpm: Requests = None,
    input_tpm: InputTokens = None,
    output_tpm: OutputTokens = None,
    concurrency: Concurrency = None,
    models: Models = None,
    expires: Annotated[
        str | None, typer.Option(help="RFC 3339 time with offset, after which no model may be called.")
    ] = None,
    spend: Spend = None,
    period: Period = "month",
    as_json: JsonFlag = False,
) -> None:
    """Set a limit, from the next request on. One that is there for the same is replaced: what is left out is not limited anymore."""
    if project and key:
        raise InvalidInputError("a limit is for a project or for a key; leave one of them out")
    scope = "key" if key else "project" if project else "organization" if organization else "model"
    client = connect()
    place = Place(
        organization_id(client, organization) if organization else "",
        scope,
        checked_line(key or project, "the name", 80),
        model.strip(),
    )
    values = values_of(rpm, input_tpm, output_tpm, concurrency, models) | {"expires_at": _moment(expires)}
    made: dict[str, Any] | None = None
    if any(value is not None for value in values.values()) or spend is None:
        made = put(client, place, {name: value for name, value in values.items() if value is not None})
    if spend is not None:
        _budget(client, place, spend, period)
    if as_json:
        print_json(made or {})
    else:
        say(
            "\n".join(
                ([f"{made['id']}  {text_of(made)}"] if made else []) + ([f"{spend} per {period}"] if spend else [])
            )
        )


def values_of(
    rpm: int | None, input_tpm: int | None, output_tpm: int | None, concurrency: int | None, models: str | None
) -> dict[str, Any]:
    """The options as the API's fields."""
    return {
        "requests_per_minute": rpm,
        "input_tokens_per_minute": input_tpm,
        "output_tokens_per_minute": output_tpm,
        "concurrency": concurrency,
        "models": [name.strip() for name in models.split(",") if name.strip()] if models is not None else None,
    }


def put(client: Client, place: Place, values: dict[str, Any]) -> dict[str, Any]:
    """Set the limit of a place, whether it has one already or not."""
    query = {"organization_id": place.organization_id} if place.organization_id else {}
    there = client.collected("accounts.list_limits", query=query)["limits"]
    for item in there:
        if place.of(item):
            return client.document("accounts.change_limit", item["id"], body=values)
    where = {"scope": place.scope, "scope_id": place.scope_id, "model": place.model}
    if place.organization_id:
        where["organization_id"] = place.organization_id
    return client.document("accounts.create_limit", body=where | values)


@app.command("ls")
def list_limits(
    organization: Annotated[
        str, typer.Argument(help="Id or name; your own, or for the operator all, if left out.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """List limits."""
    client = connect()
    query = {"organization_id": organization_id(client, organization)} if organization else {}
    found = client.collected("accounts.list_limits", query=query)
    if as_json:
        print_json(found)
        return
    columns: Columns = {
        "id": "limit",
        "organization_id": "organization",
        "scope": "scope",
        "scope_id": "of",
        "model": "model",
        "requests_per_minute": "requests/min",
        "input_tokens_per_minute": "input/min",
        "output_tokens_per_minute": "output/min",
        "concurrency": "at once",
        "models": "models",
        "expires_at": time("expires"),
    }
    print_rows(found["limits"], columns, "no limits yet; `sublet limit set ORGANIZATION --rpm 60` sets one")


@app.command("rm")
def remove_limit(limit_id: Annotated[str, typer.Argument(help="As `sublet limit ls` shows it.")]) -> None:
    """Remove a limit."""
    connect().document("accounts.remove_limit", limit_id)
    say(f"{limit_id} is removed")


def text_of(limit: dict[str, Any]) -> str:
    """A limit in a line."""
    words = {
        "requests_per_minute": "requests a minute",
        "input_tokens_per_minute": "input tokens a minute",
        "output_tokens_per_minute": "output tokens a minute",
        "concurrency": "at once",
    }
    parts = [f"{limit[name]:,} {word}" for name, word in words.items() if limit[name] is not None]
    if limit["models"] is not None:
        parts.append("only " + ", ".join(limit["models"]))
    if limit["expires_at"] is not None:
        parts.append(f"until {limit['expires_at']}")
    whose = f" for {limit['scope']} {limit['scope_id']}".rstrip() + (f", {limit['model']}" if limit["model"] else "")
    return "; ".join(parts) + whose


def _budget(client: Client, place: Place, spend: str, period: str) -> None:
    """A hard budget of the same place, whether it has one already or not."""
    if place.scope == "model" or place.model:
        raise InvalidInputError("--spend is for all models of an organization, a project or a key; leave --model out")
    found = client.collected("ledger.list_budgets", query={"organization_id": place.organization_id})["budgets"]
    for item in found:
        if (item["scope"], item["scope_id"], item["period"], item["hard"]) == (
            place.scope,
            place.scope_id,
            period,
            True,
        ):
            client.document("ledger.change_budget", item["id"], body={"limit": spend})
            return
    wanted = {"organization_id": place.organization_id, "scope": place.scope, "scope_id": place.scope_id}
    client.document("ledger.create_budget", body=wanted | {"limit": spend, "period": period})


def _moment(text: str | None) -> str | None:
    try:
        return format_time(parse_time(text)) if text else None
    except ValueError as error:
        raise InvalidInputError(f"--expires: {error}") from error
