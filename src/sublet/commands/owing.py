"""`sublet owe`: what an organization owes at this moment."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sublet.client.remote import connect, organization_id
from sublet.output import JsonFlag, print_fields, print_json, print_rows, say
from sublet.shown import Columns, cost_text, money, time_text


def owe(
    organization: Annotated[str, typer.Argument(help="Id or name; your own organization without it.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Show what an organization owes now: used so far, credits, what is open, the forecast, and the next invoice."""
    client = connect()
    query = {"organization_id": organization_id(client, organization) if organization else None}
    found = client.document("ledger.read_owed", query=query)
    if as_json:
        print_json(found)
        return
    currency = found["currency"]

    def shown(amount: Any) -> str:
        return cost_text(amount, currency)

    say(f"{found['period']}, {time_text(found['as_of'])}")
    columns: Columns = {"product": "used so far", "amount": money(currency)}
    print_rows(found["products"], columns, "nothing used yet that is not invoiced")
    if any(share["project"] for share in found["projects"]):
        projects = [share | {"project": share["project"] or "no project"} for share in found["projects"]]
        print_rows(projects, {"project": "of it by project", "amount": money(currency)}, "")
    forecast = found["forecast"]
    fields = {"used so far": shown(found["used"])}
    fields |= {f"credit: {used['reason'] or used['kind']}": shown(used["amount"]) for used in found["credits"]}
    fields |= {f"{tax['name']} {tax['percent']} %": shown(tax["amount"]) for tax in found["taxes"]}
    fields |= {
        "total": shown(found["total"]),
        "due of it after prepaid money": shown(found["due"]),
        "open on invoices": shown(found["open"]),
        "of that overdue": shown(found["overdue"]),
        "owed to you": shown(found["owed_back"]),
        "credit left": shown(found["credit_left"]),
        "forecast for the month, net": shown(forecast["net"]) if forecast else "after the first day of the month",
        "next invoice": time_text(found["next_invoice_at"]),
    }
    print_fields(fields)
