"""What was earned: `sublet ledger revenue`, and what `sublet desk actuals` prints."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sublet.client.remote import LONG_S, connect, organization_id
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, money, money_text

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
    by: Annotated[
        str, typer.Option(help="Divide it by customer, product, pool or model; several separated by commas.")
    ] = "",
    as_json: JsonFlag = False,
) -> None:
    """Show revenue, deferred revenue, and contract balances by month and currency; with --by, revenue by customer, product, pool
    or model."""
    client = connect(LONG_S)
    query = {
        "since": since or None,
        "until": until or None,
        "organization_id": organization_id(client, organization) if organization else None,
    }
    if by:
        _show_breakdown(client.collected("ledger.read_revenue_breakdown", query=query | {"by": by}), by, as_json)
        return
    found = client.document("ledger.read_revenue", query=query)
    if as_json:
        print_json(found)
        return
    rows = [month | {"deferred_closing": month["deferred"]["closing"]} for month in found["months"]]
    columns: Columns = {"period": "month", "net": money("net revenue", "currency")}
    columns |= {name: money(text, "currency") for name, text in _BALANCES.items()}
    print_rows(rows, columns, "nothing was booked in these months")


def _show_breakdown(found: dict[str, Any], by: str, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    columns: Columns = {"period": "month"}
    columns |= {"organization" if name.strip() == "customer" else name.strip(): name.strip() for name in by.split(",")}
    rows = [row | {"pool": row["pool"] or "–", "model": row["model"] or "–"} for row in found["revenue"]]
    print_rows(rows, columns | {"amount": money("revenue", "currency")}, "nothing was booked in these months")
    for named, total in found["totals"].items():
        sums = ", ".join(f"{name} {money_text(total[name])}" for name in ("total", "journal"))
        # Not rounded: a billionth that is missing is a defect too.
        say(f"{named}: {sums}, difference {total['difference']}")


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


def show_actuals(found: dict[str, Any], days: int) -> None:
    """What was earned in one currency: by pool and channel, then all of it against the journal."""
    amounts = ("revenue", "credits", "per_accelerator_hour", "per_watt_year")
    rows = [
        {
            "pool": row["pool"],
            "channel": row["channel"],
            **{key: money_text(row[key]["value"]) for key in amounts},
            "utilization": _percent(row["utilization"]["value"]),
        }
        for row in found["pools"]
    ]
    currency = found["currency"]
    heads = {
        "pool": "pool", "channel": "channel", "revenue": f"revenue, {currency}", "credits": f"credits, {currency}",
        "per_accelerator_hour": f"{currency} per accelerator-hour", "per_watt_year": f"{currency}/W-yr in use",
        "utilization": "share sold",
    }  # fmt: skip
    print_rows(rows, heads, f"nothing was sold from any pool in the last {days} days")
    statement = found["statement"]
    if statement is not None:
        told = {
            **statement["parts"],
            "total": statement["total"],
            **statement["moved"],
            "journal": statement["journal"],
        }
        lines = [{"what": name, "amount": amount} for name, amount in told.items()]
        print_rows(lines, {"what": "earned", "amount": currency}, "")
        say(statement["sentence"])


def _percent(share: float | None) -> str:
    return (
        money_text(None)
        if share is None
        else f"{100 * share:.2g} %"
        if share < 0.1
        else f"{share:.0%}".replace("%", " %")
    )
