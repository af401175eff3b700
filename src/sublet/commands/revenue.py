"""`sublet ledger revenue`: what was earned, what is deferred, and what is not billed yet."""

from __future__ import annotations

from typing import Annotated

import typer

from sublet.client.remote import LONG_S, connect, organization_id
from sublet.output import JsonFlag, print_json, print_rows
from sublet.shown import Columns, money

_BALANCES = {
    "deferred_closing": "deferred",
    "unbilled": "unbilled",
    "contract_assets": "contract assets",
    "contract_liabilities": "contract liabilities",
}


def revenue(
    since: Annotated[str, typer.Argument(help="First month, such as 2026-01; by default, the current one.")] = "",
    until: Annotated[str, typer.Argument(help="Last month; by default, the first.")] = "",
    organization: Annotated[str, typer.Option(help="Only this organization, by id or name.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Show revenue, deferred revenue, and contract balances by month and currency."""
    client = connect(LONG_S)
    query = {
        "since": since or None,
        "until": until or None,
        "organization_id": organization_id(client, organization) if organization else None,
    }
    found = client.document("ledger.read_revenue", query=query)
    if as_json:
        print_json(found)
        return
    rows = [month | {"deferred_closing": month["deferred"]["closing"]} for month in found["months"]]
    columns: Columns = {"period": "month", "net": money("net revenue", "currency")}
    columns |= {name: money(text, "currency") for name, text in _BALANCES.items()}
    print_rows(rows, columns, "nothing was booked in these months")


def checklist(
    label: Annotated[str, typer.Argument(help="The month, such as 2026-01.")], as_json: JsonFlag = False
) -> None:
    """Show what is left to do before a month can be handed to accounting. Exit code 1 if anything is."""
    found = connect(LONG_S).document("ledger.read_checklist", label)
    if as_json:
        print_json(found)
    else:
        rows = [step | {"state": "done" if step["done"] else "open"} for step in found["steps"]]
        print_rows(rows, {"name": "step", "state": "state", "missing": "missing"}, "no steps")
    if not found["ready"]:
        raise typer.Exit(1)
