"""`sublet waitlist`: requests that wait for capacity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.commands.asking import Wanted, body_of_quote, pool_names
from sublet.commands.deadlines import By, Hours
from sublet.commands.leases import (
    ClassName,
    Count,
    Failing,
    FinishBy,
    Generation,
    Minutes,
    Moving,
    Networks,
    Notice,
    OfVolumes,
    OnImage,
    PoolName,
    Start,
)
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, price, price_text, seconds, time, time_text
from sublet.values.clock import as_utc, format_time, parse_time
from sublet.values.ids import new_id

app = typer.Typer(no_args_is_help=True, help="Requests that wait until there is capacity for them.")

EntryId = Annotated[str, typer.Argument(help="Id of an entry, as `sublet waitlist ls` shows it.")]

_COLUMNS: Columns = {
    "id": "entry",
    "state": "state",
    "accelerators": "count",
    "class": "class",
    "wanted": "wanted",
    "max_price_per_accelerator_hour": price("at most/h", "currency"),
    "accepts": "buys",
    "expires_at": time("until"),
    "offer": "offer",
    "reason": "why",
}


@app.command()
def join(
    accelerators: Count = 1,
    class_name: ClassName = None,
    minutes: Minutes = 60,
    start: Start = None,
    pool: PoolName = None,
    generation: Generation = None,
    on_failure: Failing = "shrink",
    on_reclaim: Moving = "end",
    network: Networks = None,
    hours: Hours = None,
    by: By = None,
    volume: OfVolumes = None,
    finish_by: FinishBy = None,
    image: OnImage = None,
    notice: Notice = None,
    max_price: Annotated[
        str | None, typer.Option("--max-price", help="Per accelerator-hour; nothing above it is offered.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="How long to wait, such as 2026-07-02T14:00:00Z; 7 days if omitted.")
    ] = None,
    buy: Annotated[
        bool, typer.Option("--buy", help="Accept the first offer by itself; use --max-price to limit its price.")
    ] = False,
    key: Annotated[Path | None, typer.Option(help="With --buy: public key that can log in; by default yours.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Keep a request that can't be met now. You are notified when capacity is held for it."""
    body: dict[str, Any] = {}
    pair = None
    if buy:
        from sublet.leases.login import client_key

        pair = client_key(key)
        body["accept_with_ssh_public_keys"] = [pair.public]
    remote = connect()
    wanted = Wanted(
        accelerators, class_name, minutes, start, pool, generation, on_failure, tuple(network or ()), hours, by,
        tuple(volume or ()), finish_by, image, on_reclaim, notice,
    )  # fmt: skip
    body["quote"] = body_of_quote(remote, wanted)
    if max_price is not None:
        body["max_price_per_accelerator_hour"] = max_price
    if until is not None:
        body["expires_at"] = format_time(as_utc(parse_time(until)))
    made = remote.document("waitlist.join", body=body, idempotency_key=new_id("req"))
    if as_json:
        print_json(made)
        return
    say(f"{made['id']} waits until {time_text(made['expires_at'])}; `sublet waitlist show {made['id']}` says why")
    if made["accepts"]:
        limit = made["max_price_per_accelerator_hour"]
        at_most = f"up to {price_text(limit)} per accelerator-hour" if limit is not None else "at any price"
        say(f"its first offer becomes a lease by itself, {at_most}")
    else:
        say("nothing is bought by itself: accept the offer when you are notified (event waitlist.offered)")


@app.command("ls")
def list_entries(as_json: JsonFlag = False) -> None:
    """List requests that wait, and those of the last month, the newest first."""
    remote = connect()
    found = remote.collected("waitlist.list_entries")
    if as_json:
        print_json(found)
        return
    _show(found["entries"], pool_names(remote))


@app.command()
def show(entry: EntryId, as_json: JsonFlag = False) -> None:
    """Show a request, why it waits, and its offer."""
    remote = connect()
    found = remote.document("waitlist.show", entry)
    if as_json:
        print_json(found)
        return
    _show([found], pool_names(remote))
    if found["state"] == "offered":
        say(f"accept the offer with: sublet lease take --quote {found['quote_id']}")


@app.command()
def leave(entry: EntryId, as_json: JsonFlag = False) -> None:
    """Take a request off the list, and cancel its open offer."""
    found = connect().document("waitlist.leave", entry)
    if as_json:
        print_json(found)
        return
    say(f"{found['id']} is {found['state']}: {found['reason']}")


@app.command()
def unmet(as_json: JsonFlag = False) -> None:
    """List what waits, by generation or pool and class: demand that nobody has met."""
    found = connect().document("waitlist.unmet_demand")
    if as_json:
        print_json(found)
        return
    rows = [{**item, "limits": _limits(item)} for item in found["unmet"]]
    columns: Columns = {
        "wanted": "wanted",
        "class": "class",
        "entries": "requests",
        "organizations": "organizations",
        "accelerators": "accelerators",
        "accelerator_hours": "accelerator-hours",
        "limits": "price limits/h",
        "oldest": seconds("oldest"),
    }
    print_rows(rows, columns, "nothing waits")


def _show(found: list[dict[str, Any]], names: dict[str, str]) -> None:
    rows = [
        {
            **item,
            "wanted": item["generation"] or names.get(item["pool"], item["pool"]),
            "accepts": "by itself" if item["accepts"] else "",
            "offer": item["lease_id"] or (item["quote_id"] if item["state"] == "offered" else "") or "",
        }
        for item in found
    ]
    print_rows(rows, _COLUMNS, "nothing waits; `sublet waitlist join` keeps a request")


def _limits(item: dict[str, Any]) -> str:
    told = []
    for limit in item["price_limits"]:
        least, most = price_text(limit["lowest"]), price_text(limit["highest"])
        told.append(f"{least if least == most else f'{least} to {most}'} {limit['currency']}")
    return ", ".join(told)
