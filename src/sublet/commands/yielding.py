"""`sublet yield`: the best use of idle capacity, and what an hour of it is worth."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, note, print_json, print_rows, say
from sublet.shown import counted

app = typer.Typer(no_args_is_help=True, help="Yield: the best mix of models and raw classes on idle capacity.")

STATES = ("internal", "external", "starting", "draining", "withheld", "unsold", "unavailable")
CAUSES = {
    "withheld": "withheld",
    "load_misjudged": "load misjudged",
    "unsold": "unsold",
    "broken": "broken",
    "priced_low": "priced low",
}
OFF = "yield is off for every pool; set allocation.mode (or pools.allocation) to advise or act"


@app.command("plan")
def plan(as_json: JsonFlag = False) -> None:
    """Show the best mix now, and why. Nothing is changed: pools in mode `act` follow it every ten minutes."""
    found = connect().document("allocation.plan")
    if as_json:
        print_json(found)
        return
    if not found["pools"]:
        say(OFF)
        return
    how = found["note"] or "by a linear program"
    say(f"worth {found['value_per_hour']:.2f} {found['currency']} an hour, {how}")
    for item in found["moves"]:
        say(f"- {item['sentence']}")
    for pool in found["pools"]:
        _print_pool(pool, found["currency"])
    for sentence in found["broken_limits"]:
        note(sentence)
    _print_left_out(found)
    for sentence in found["notes"]:
        note(sentence)


@app.command("explain")
def explain(
    pool: Annotated[str, typer.Argument(help="Pool, by id or name.")],
    as_json: JsonFlag = False,
) -> None:
    """Show what an hour of a pool is worth: each class and model, with its source."""
    found = connect().document("allocation.explain", pool)
    if as_json:
        print_json(found)
        return
    currency = found["currency"]
    idle = ", ".join(f"{item:g}" for item in found["idle"]) or "unknown"
    say(f"{found['pool']} ({found['mode']}): idle in the next hours {idle}")
    for key, words in (
        ("next_accelerator", "one accelerator more would earn"),
        ("last_accelerator", "one fewer would lose"),
    ):
        if found[key] is not None:
            say(f"in the next hour, {words} {_amount(found[key])} {currency}")
    products = [
        {
            "class": f"{item['class']} {item['hours']:g} h",
            "price": _amount(item["price"]),
            "net": _amount(item["net"]),
            "asked": _estimate(item["asked_per_hour"]),
            "accepted": _estimate(item["accepted_share"]),
            "quota": item["quota"],
            "advice": _amount(item["advice"]["price"]) if item["advice"] else "none",
            "source": item["asked_per_hour"]["source"],
        }
        for item in found["products"]
    ]
    columns = {
        "class": "class",
        "price": f"price, {currency} an hour",
        "net": "net",
        "asked": "asked for an hour",
        "accepted": "accepted",
        "quota": "quota",
        "advice": "advised price",
        "source": "from",
    }
    print_rows(products, columns, "nothing is sold here")
    models = [
        {
            "model": item["model"],
            "replicas": f"{item['running']} to {item['wanted']}",
            "load": _estimate(item["load"]) if item["load"] else "unknown",
            "full": _amount(item["full_per_hour"]),
            "next": _amount(item["next_replica"]),
            "last": _amount(item["last_replica"]),
            "source": item["value_source"],
        }
        for item in found["models"]
    ]
    columns = {
        "model": "model",
        "replicas": "replicas",
        "load": "tokens a second",
        "full": f"full, {currency} an hour",
        "next": "next replica",
        "last": "last replica",
        "source": "value from",
    }
    print_rows(models, columns, "no model is deployed here")
    _print_left_out(found)


@app.command("report")
def report(
    weeks: Annotated[int, typer.Option(min=1, max=26, help="Weeks back, the running one with them.")] = 4,
    pool: Annotated[str, typer.Option(help="Pool, by id or name; by default, all.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Show what pools earned by week against what they could have earned, and where the difference went."""
    found = connect().document("allocation.report", query={"weeks": weeks, "pool": pool or None})
    if as_json:
        print_json(found)
        return
    rows = [
        {
            "week": item["week"][:10],
            "pool": item["pool"],
            "currency": item["currency"],
            "realized": _amount(item["realized"]),
            "attainable": _amount(item["attainable"]),
            "share": "unknown" if item["share"] is None else f"{item['share']:.0%}",
            **{cause: _amount((item["lost"] or {}).get(cause)) for cause in CAUSES},
        }
        for item in found["weeks"]
    ]
    columns = {
        "week": "week of",
        "pool": "pool",
        "currency": "",
        "realized": "realized",
        "attainable": "attainable",
        "share": "share",
        **{cause: f"lost: {words}" for cause, words in CAUSES.items()},
    }
    print_rows(rows, columns, "no hour is booked yet: hours are booked ten minutes after they are over")
    uses = [
        {
            "week": item["week"][:10],
            "pool": item["pool"],
            "use": use["use"],
            "hours": f"{use['accelerator_hours']:,.1f}",
            "hour": _amount(use["per_accelerator_hour"]),
            "watt": _amount(use["per_watt_year"]),
        }
        for item in found["weeks"]
        for use in item["uses"]
        if use["accelerator_hours"]
    ]
    columns = {
        "week": "week of",
        "pool": "pool",
        "use": "use",
        "hours": "accelerator-hours",
        "hour": "per hour",
        "watt": "per watt-year",
    }
    if uses:
        print_rows(uses, columns, "")
    partly = sum(item["valued_hours"] < item["hours"] for item in found["weeks"])
    if partly:
        note(
            f"{counted(partly, 'row')} estimated from a part of the hours: yield was off in the others, or they were booked late"
        )


@app.command("chargeback")
def chargeback(
    month: Annotated[str, typer.Option(help="Month in UTC, such as 2026-11; by default, the current one.")] = "",
    basis: Annotated[
        str, typer.Option(help="cost, market or opportunity; by default, allocation.chargeback_basis.")
    ] = "",
    form: Annotated[str, typer.Option("--format", help="csv or focus: print rows instead of tables.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Show what internal teams used in a month, and what they are charged."""
    query = {"month": month or None, "basis": basis or None}
    if form:
        parts = connect().bytes("allocation.export_chargeback", query={**query, "format": form})
        sys.stdout.write(b"".join(parts).decode())
        return
    found = connect().document("allocation.read_chargeback", query=query)
    if as_json:
        print_json(found)
        return
    if not found["statements"]:
        say(f"no hour of {found['month']} is booked yet: hours are booked ten minutes after they are over")
    for item in found["statements"]:
        _print_statement(item, found)


def _print_statement(item: dict[str, Any], found: dict[str, Any]) -> None:
    currency = item["currency"]
    rows = [
        {
            "team": team["name"],
            "used": _hours(team["used_s"]),
            "claimed": _hours(team["claimed_used_s"]),
            "idle": _hours(team["claimed_idle_s"]),
            "patience": _hours(team["patience_s"]),
            "displaced": team["displaced"],
            "charge": team["charge"],
        }
        for team in item["teams"]
    ]
    columns = {
        "team": "team",
        "used": "hours used",
        "claimed": "of these, claimed",
        "idle": "claimed and idle",
        "patience": "waited",
        "displaced": f"displaced, {currency}",
        "charge": f"charge, {currency}",
    }
    say(f"{found['month']}, charged at {found['basis']}, in accelerator-hours")
    print_rows(rows, columns, "no internal team used or claimed anything")
    if item["total"] is not None:
        say(f"total {item['total']} {currency}; all use displaced {item['displaced']} {currency}")
    states = item["accelerators"]
    if states is not None:
        parts = ", ".join(f"{name} {_hours(states[f'{name}_s'])}" for name in STATES)
        note(f"{parts}; together {_hours(states['total_s'])}")
        if states["internal_without_team_s"]:
            note(f"{_hours(states['internal_without_team_s'])} hours of internal use are of no known team")
    if missing := item["pool_hours_without_opportunity_price"]:
        note(f"{missing} of {counted(item['pool_hours'], 'pool-hour')} have no opportunity price and displace nothing")


def _hours(seconds: int) -> str:
    return f"{seconds / 3600:,.2f}"


def _print_pool(pool: dict[str, Any], currency: str) -> None:
    bids = ", ".join(_amount(item) for item in pool["bids"])
    note(
        f"{pool['pool']} ({pool['mode']}): {counted(pool['idle'], 'idle accelerator')}; next hours bid {bids} {currency}"
    )
    rows = [
        {
            "use": f"model {item['model']}",
            "now": item["running"] * item["accelerators"],
            "then": item["wanted"] * item["accelerators"],
            "bid": "",
        }
        for item in pool["replicas"]
    ]
    rows += [
        {
            "use": f"{item['class']} {item['hours']:g} h",
            "now": "",
            "then": item["count"],
            "bid": _amount(item["bid"]),
        }
        for item in pool["quotas"]
    ]
    columns = {
        "use": "use",
        "now": "accelerators now",
        "then": "in the mix",
        "bid": f"bid, {currency} an hour",
    }
    print_rows(rows, columns, "nothing can be sold here")


def _print_left_out(found: dict[str, Any]) -> None:
    for item in found["left_out"]:
        note(f"left out: {item['what']}, because {item['why']}")


def _amount(value: float | None) -> str:
    """Never `-0.00`."""
    return "unknown" if value is None else f"{round(value, 2) + 0.0:.2f}"


def _estimate(found: dict[str, Any]) -> str:
    return f"{found['value']:.2g} ({found['low']:.2g} to {found['high']:.2g})"
