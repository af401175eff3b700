"""`sublet ledger budget`: who may spend how much."""

from __future__ import annotations

from typing import Annotated

import typer

from sublet.ledger.assembly import Organization, open_ledger, organization_id
from sublet.ledger.budgets import THRESHOLDS
from sublet.ledger.service import new_budget
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.values.money import nano_from_decimal

app = typer.Typer(no_args_is_help=True, help="Budgets: hard ones refuse work, soft ones raise alerts.")


@app.command("create")
def create_budget(
    organization: Organization,
    limit: Annotated[str, typer.Argument(help="In the organization's currency, like 500.")],
    scope: Annotated[str, typer.Option(help="organization, project or key.")] = "organization",
    scope_id: Annotated[str, typer.Option(help="The project's name or the key's id.")] = "",
    period: Annotated[str, typer.Option(help="day, month or ever.")] = "month",
    soft: Annotated[bool, typer.Option("--soft", help="Raise alerts, refuse nothing.")] = False,
    threshold: Annotated[
        list[int] | None,
        typer.Option(help="Percent of the limit that raises an alert; repeat it. 50, 80 and 100 if left out."),
    ] = None,
    webhook: Annotated[str, typer.Option(help="Where alerts are posted, signed.")] = "",
    secret: Annotated[str, typer.Option(help="Secret that signs the alerts; whsec_ and base64, or any text.")] = "",
    email: Annotated[str, typer.Option(help="Where alerts are mailed.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Create a budget; spending of its scope in the current period already counts."""
    ledger = open_ledger()
    wanted = new_budget(
        organization_id(ledger, organization),
        nano_from_decimal(limit),
        scope=scope,
        scope_id=scope_id,
        period=period,
        hard=not soft,
        thresholds=tuple(threshold) if threshold else THRESHOLDS,
        webhook_url=webhook,
        webhook_secret=secret,
        email=email,
    )
    made = ledger.create_budget(wanted)
    if as_json:
        print_json(made.as_dict())
    else:
        say(f"{made.id}  {made.as_dict()['limit']} a {made.period}, {'hard' if made.hard else 'soft'}")


@app.command("ls")
def list_budgets(organization: Organization, as_json: JsonFlag = False) -> None:
    """List an organization's budgets with what is spent, held and free."""
    ledger = open_ledger()
    rows = [state.as_dict() for state in ledger.budgets(organization_id(ledger, organization))]
    if as_json:
        print_json({"budgets": rows})
        return
    columns = {
        name: name for name in ("id", "scope", "scope_id", "period", "kind", "limit", "spent", "held", "free", "hard")
    }
    print_rows(rows, columns, "no budgets yet; `sublet ledger budget create ORGANIZATION LIMIT` makes one")


@app.command("set")
def change_budget(
    budget_id: Annotated[str, typer.Argument(help="As `sublet ledger budget ls` shows it.")],
    limit: Annotated[str, typer.Argument(help="In the organization's currency, like 500.")],
) -> None:
    """Change a budget's limit immediately; spent and held amounts stay."""
    changed = open_ledger().change_budget(budget_id, nano_from_decimal(limit))
    say(f"{budget_id}  {changed.as_dict()['limit']} a {changed.period}")


@app.command("end")
def end_budget(budget_id: Annotated[str, typer.Argument(help="As `sublet ledger budget ls` shows it.")]) -> None:
    """End a budget, which from then on limits nothing."""
    open_ledger().end_budget(budget_id)
    say(f"{budget_id} ended")
