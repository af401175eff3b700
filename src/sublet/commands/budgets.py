"""`sublet ledger budget`: who may spend how much."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sublet.client.remote import connect, organization_id
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, money, money_text

Organization = Annotated[str, typer.Argument(help="Id or name.")]

app = typer.Typer(no_args_is_help=True, help="Budgets: hard ones refuse work, soft ones raise alerts.")


@app.command("create")
def create_budget(
    organization: Organization,
    limit: Annotated[str, typer.Argument(help="Amount in the organization's currency, such as 500.")],
    scope: Annotated[str, typer.Option(help="organization, project or key.")] = "organization",
    scope_id: Annotated[str, typer.Option(help="The project's name or the key's id.")] = "",
    period: Annotated[str, typer.Option(help="day, month or ever.")] = "month",
    credit: Annotated[
        bool, typer.Option("--credit", help="A credit limit: on unpaid, unbilled and reserved amounts together.")
    ] = False,
    soft: Annotated[bool, typer.Option("--soft", help="Raise alerts only; refuse nothing.")] = False,
    threshold: Annotated[
        list[int] | None,
        typer.Option(help="Percentage of the limit that raises an alert; can be repeated. By default 50, 80 and 100."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Create a budget; spending of its scope in the current period already counts. `sublet notifications add` and `sublet webhook add`
    say who is told when a threshold is reached."""
    client = connect()
    wanted = {
        "organization_id": organization_id(client, organization),
        "limit": limit,
        "scope": scope,
        "scope_id": scope_id,
        "period": period,
        "hard": not soft,
        "kind": "credit" if credit else "budget",
    }
    made = client.document("ledger.create_budget", body=wanted | ({"thresholds": threshold} if threshold else {}))
    if as_json:
        print_json(made)
    else:
        say(f"{made['id']}  {_terms(made)}{'' if credit else ', hard' if made['hard'] else ', soft'}")


def _terms(budget: dict[str, Any]) -> str:
    if budget["kind"] == "credit":
        return f"credit limit {money_text(budget['limit'])}"
    return f"{money_text(budget['limit'])} a {budget['period']}"


@app.command("ls")
def list_budgets(organization: Organization, as_json: JsonFlag = False) -> None:
    """List an organization's budgets with the amounts spent, held and available."""
    client = connect()
    found = client.collected("ledger.list_budgets", query={"organization_id": organization_id(client, organization)})
    if as_json:
        print_json(found)
        return
    columns: Columns = {
        "id": "budget",
        "scope": "scope",
        "scope_id": "of",
        "period": "period",
        "kind": "kind",
        "limit": money("limit"),
        "spent": money("spent"),
        "held": money("held"),
        "free": money("free"),
        "hard": "hard",
    }
    print_rows(
        found["budgets"], columns, "no budgets yet; create one with `sublet ledger budget create ORGANIZATION LIMIT`"
    )


@app.command("set")
def change_budget(
    budget_id: Annotated[str, typer.Argument(help="Id of the budget, as shown by `sublet ledger budget ls`.")],
    limit: Annotated[str, typer.Argument(help="Amount in the organization's currency, such as 500.")],
) -> None:
    """Change a budget's limit immediately; spent and held amounts are kept."""
    changed = connect().document("ledger.change_budget", budget_id, body={"limit": limit})
    say(f"{budget_id}  {_terms(changed)}")


@app.command("end")
def end_budget(
    budget_id: Annotated[str, typer.Argument(help="Id of the budget, as shown by `sublet ledger budget ls`.")],
) -> None:
    """End a budget; from then on it has no effect."""
    connect().document("ledger.end_budget", budget_id)
    say(f"{budget_id} ended")
