"""`sublet block`: what the owner sells by its own decision."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.client.clients import Client
from sublet.client.remote import connect
from sublet.output import JsonFlag, note, print_fields, print_json, print_rows, say, write_page
from sublet.shown import Columns, counted, money, money_text, price, price_text, time, time_text
from sublet.values.clock import SystemClock, format_time, parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.ids import new_id
from sublet.values.money import nano_from_decimal

app = typer.Typer(
    no_args_is_help=True,
    help="Blocks: parts of pools that the owner sells for up to three years, regardless of its own demand.",
)

PoolName = Annotated[str, typer.Argument(help="Pool, by id or name.")]
BlockId = Annotated[str, typer.Argument(help="Id of a block, as shown by `sublet block ls`.")]
Count = Annotated[int, typer.Option("--accelerators", "-n", min=1, help="How many accelerators.")]
Reason = Annotated[str, typer.Option(help="Reason, shown in the history.")]
Force = Annotated[bool, typer.Option("--force", help="Also evict sold leases; the penalty is shown first.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation before evicting sold leases.")]


@app.command("create")
def create(
    pool: PoolName,
    accelerators: Count,
    until: Annotated[str | None, typer.Option("--to", help="When it ends, as 2027-07-01T00:00:00Z.")] = None,
    days: Annotated[float | None, typer.Option(min=0.01, help="Length in days, instead of --to.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Start; now if omitted.")] = None,
    min_price: Annotated[str | None, typer.Option(help="Minimum price per accelerator-hour of its leases.")] = None,
    organization: Annotated[
        str | None, typer.Option("--to-organization", help="Sell all of it at once to this organization.")
    ] = None,
    price_each: Annotated[
        str | None,
        typer.Option("--price", help="Price per accelerator-hour of that sale; the price book's if omitted."),
    ] = None,
    key: Annotated[
        list[Path] | None, typer.Option("--key", help="Public key that can log in to the sold lease.")
    ] = None,
    reason: Reason = "",
    as_json: JsonFlag = False,
) -> None:
    """Put a part of a pool up for sale; with --to-organization, sell all of it in the same step."""
    begin = _moment("--from", start)
    if (until is None) == (days is None):
        raise InvalidInputError("use either --to or --days, not both")
    end = _moment("--to", until) or format_time(parse_time(begin or _now()) + timedelta(days=days or 0))
    wanted: dict[str, Any] = {"pool": pool, "accelerators": accelerators, "end": end, "reason": reason}
    wanted |= {"start": begin} if begin else {}
    wanted |= {"min_price_per_accelerator_hour": _amount("--min-price", min_price)} if min_price is not None else {}
    if organization is not None:
        from sublet.leases.login import client_key

        if not key:
            raise InvalidInputError("--key: specify the public key that the organization will log in with")
        wanted |= {"to_organization": organization, "ssh_public_keys": [client_key(path).public for path in key]}
    if price_each is not None:
        wanted["price_per_accelerator_hour"] = _amount("--price", price_each)
    made = connect().document("blocks.create", body=wanted, idempotency_key=new_id("req"))
    if as_json:
        print_json(made)
        return
    say(
        f"{made['id']}: {counted(accelerators, 'accelerator')} of {pool} from {time_text(made['start'])} "
        f"to {time_text(made['end'])}"
    )
    lease = made["lease"]
    if lease is not None:
        say(
            f"{lease['id']}: sold entirely to {organization} at {price_text(lease['price_per_accelerator_hour'])} "
            f"{lease['currency']} per accelerator-hour"
        )
    else:
        say(
            "firm leases of any length within it are now on sale; capacity that nobody rents stays on sale in every class"
        )
    for text in made["notes"]:
        note(text)


@app.command("ls")
def list_blocks(
    pool: Annotated[str | None, typer.Option(help="Only this pool, by id or name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Include ended and withdrawn blocks.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Maximum number of entries, newest first.")] = 50,
    after: Annotated[str | None, typer.Option(help="The `next` value of the previous page.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List blocks, newest first."""
    client = connect()
    query = {"pool": pool, "live": not everything, "limit": limit, "after": after}
    found = client.document("blocks.list_blocks", query=query)
    if as_json:
        print_json(found)
        return
    names = _pool_names(client)
    rows = [{**item, "pool": names.get(item["pool_id"], item["pool_id"])} for item in found["blocks"]]
    columns: Columns = {
        "id": "block",
        "pool": "pool",
        "state": "state",
        "accelerators": "count",
        "sold": "sold now",
        "start": time("start"),
        "end": time("end"),
        "min_price_per_accelerator_hour": price("minimum price/h"),
        "reason": "reason",
    }
    print_rows(rows, columns, "no blocks; create one with `sublet block create POOL --accelerators N --days D`")
    if found["next"]:
        say(f"more: sublet block ls --after {found['next']}")


@app.command("show")
def show(block_id: BlockId, as_json: JsonFlag = False) -> None:
    """Show a block: its leases, how much of it is sold when, and every change."""
    client = connect()
    found = client.document("blocks.show", block_id)
    if as_json:
        print_json(found)
        return
    least = found["min_price_per_accelerator_hour"]
    print_fields({
        "block": found["id"],
        "pool": _pool_names(client).get(found["pool_id"], found["pool_id"]),
        "state": found["state"],
        "accelerators": found["accelerators"],
        "sold now": found["sold"],
        "start": time_text(found["start"]),
        "end": time_text(found["end"]),
        "minimum price": f"{price_text(least)} {found['currency']} per accelerator-hour" if least else None,
        "reason": found["reason"],
    })  # fmt: skip
    spans: Columns = {"start": time("from"), "end": time("to"), "sold": "sold", "unsold": "unsold"}
    print_rows(found["schedule"], spans, "")
    leases: Columns = {
        "id": "lease",
        "organization_id": "tenant",
        "state": "state",
        "accelerators": "count",
        "start": time("start"),
        "end": time("end"),
    }
    print_rows(found["leases"], leases, "none of it is rented")
    history: Columns = {
        "at": time("when"),
        "kind": "what",
        "accelerators": "count",
        "end": time("end"),
        "actor": "by",
        "reason": "why",
    }
    print_rows(found["history"], history, "")


@app.command("widen")
def widen(block_id: BlockId, accelerators: Count, reason: Reason = "", as_json: JsonFlag = False) -> None:
    """Add accelerators to a block: `--accelerators` is its new total."""
    client = connect()
    if accelerators <= client.document("blocks.show", block_id)["accelerators"]:
        raise InvalidInputError(
            f"{block_id} already has that many accelerators; to remove some, use `sublet block shrink`"
        )
    _change(client, block_id, {"accelerators": accelerators, "reason": reason}, as_json=as_json)


@app.command("shrink")
def shrink(
    block_id: BlockId,
    accelerators: Count,
    reason: Reason = "",
    force: Force = False,
    yes: Yes = False,
    as_json: JsonFlag = False,
) -> None:
    """Remove unsold accelerators from a block: `--accelerators` is its new total."""
    client = connect()
    if accelerators >= client.document("blocks.show", block_id)["accelerators"]:
        raise InvalidInputError(
            f"{block_id} does not have more accelerators than that; to add some, use `sublet block widen`"
        )
    wanted = {"accelerators": accelerators, "reason": reason, "force": force}
    _change(client, block_id, wanted, yes=yes, as_json=as_json)


@app.command("move")
def move(
    block_id: BlockId,
    start: Annotated[str | None, typer.Option("--from", help="New start, for a block that has not begun.")] = None,
    until: Annotated[str | None, typer.Option("--to", help="When it ends.")] = None,
    reason: Reason = "",
    force: Force = False,
    yes: Yes = False,
    as_json: JsonFlag = False,
) -> None:
    """Change a block's end, or the start of a block that has not begun."""
    wanted: dict[str, Any] = {"reason": reason, "force": force}
    wanted |= {"start": _moment("--from", start)} if start else {}
    wanted |= {"end": _moment("--to", until)} if until else {}
    _change(connect(), block_id, wanted, yes=yes, as_json=as_json)


@app.command("reprice")
def reprice(
    block_id: BlockId,
    min_price: Annotated[str, typer.Option(help="Minimum price per accelerator-hour of new leases.")],
    reason: Reason = "",
    as_json: JsonFlag = False,
) -> None:
    """Change the minimum price of a block; sold leases keep their price."""
    wanted = {"min_price_per_accelerator_hour": _amount("--min-price", min_price), "reason": reason}
    _change(connect(), block_id, wanted, as_json=as_json)


@app.command("withdraw")
def withdraw(
    block_id: BlockId, reason: Reason = "", force: Force = False, yes: Yes = False, as_json: JsonFlag = False
) -> None:
    """Withdraw a block; leases sold from it are evicted only with --force. It is safe to repeat."""
    _change(connect(), block_id, {"withdraw": True, "reason": reason, "force": force}, yes=yes, as_json=as_json)


def _advice_page(found: Mapping[str, Any]) -> str:
    # Drawing loads the domain and numpy; the command itself starts without them.
    from sublet.surplus.blocks.page import advice_page

    return advice_page(found)


@app.command("advise")
def advise(
    pool: PoolName,
    accelerators: Annotated[
        list[int] | None, typer.Option("--accelerators", "-n", min=1, help="Size of a block; can be repeated.")
    ] = None,
    days: Annotated[list[int] | None, typer.Option(min=1, max=1098, help="Length in days; can be repeated.")] = None,
    page_file: Annotated[Path | None, typer.Option("--page", help="Write a page with charts to this file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Estimate from history how much of the owner's own work would have had to wait because of blocks, in accelerator-hours."""
    query = {"pool": pool, "accelerators": accelerators, "length_days": days}
    found = connect().document("blocks.advise", query=query)
    write_page(page_file, lambda: _advice_page(found))
    if as_json:
        print_json(found)
        return
    say(
        f"{found['pool']}: {counted(found['capacity'], 'accelerator')}, {found['standing']} of them in blocks now; "
        f"{found['history_days']:.0f} days of history"
    )
    rows = [
        {
            "block": f"{row['accelerators']} for {row['days']} d",
            **{f"at_{level}": _hours(row[f"displaced_h_{level}"]) for level in (50, 90, 99)},
            "share": "–" if row["share_90"] is None else f"{row['share_90']:.1%}",
            "basis": row["sentence"],
        }
        for row in found["rows"]
    ]
    columns: Columns = {
        "block": "block",
        "at_50": "displaced h, 50 %",
        "at_90": "90 %",
        "at_99": "99 %",
        "share": "of its hours, 90 %",
        "basis": "from",
    }
    print_rows(rows, columns, "no size fits in addition to the current blocks")
    for text in found["notes"]:
        note(text)
    if page_file is not None:
        say(f"charts: {page_file}")


def _change(
    client: Client, block_id: str, wanted: Mapping[str, Any], *, yes: bool = False, as_json: bool = False
) -> None:
    """Show which leases a forced change evicts and what it costs, ask for confirmation, then change the block."""
    if wanted.get("force") and not yes:
        plan = client.document("blocks.preview", block_id, body=wanted)
        if plan["breaks"]:
            _print_breaks(plan)
            typer.confirm("Break them?", abort=True, err=True)
    done = client.document("blocks.change", block_id, body=wanted, idempotency_key=new_id("req"))
    if as_json:
        print_json(done)
        return
    block = done["block"]
    if done["kind"] == "withdrawn":
        say(f"{block['id']} is withdrawn")
    else:
        say(
            f"{block['id']} was {done['kind']}: {counted(block['accelerators'], 'accelerator')} "
            f"from {time_text(block['start'])} to {time_text(block['end'])}"
        )
    if done["breaks"]:
        say(done["sentence"].replace("would be", "are being"))


def _print_breaks(plan: Mapping[str, Any]) -> None:
    columns: Columns = {
        "lease_id": "lease",
        "organization_id": "tenant",
        "accelerators": "count",
        "reclaim_at": time("ends"),
        "credit": money("credit"),
        "currency": "",
    }
    print_rows(plan["breaks"], columns, "")
    owed = ", ".join(f"{money_text(item['amount'])} {item['currency']}" for item in plan["credits"])
    say(f"credits: {owed}")


def _pool_names(client: Client) -> dict[str, str]:
    return {item["id"]: item["name"] for item in client.document("fleet.list_pools")["pools"]}


def _hours(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,.0f}"


def _now() -> str:
    return format_time(SystemClock().now())


def _moment(option: str, text: str | None) -> str | None:
    if text is None:
        return None
    try:
        return format_time(parse_time(text))
    except ValueError as error:
        raise InvalidInputError(f"{option}: {error}") from error


def _amount(option: str, text: str) -> str:
    """The amount as it crosses the API. Raises InvalidInputError for what is none, or below zero."""
    try:
        nano = nano_from_decimal(text)
    except InvalidInputError as error:
        raise InvalidInputError(f"{option}: {error.message}") from error
    if nano < 0:
        raise InvalidInputError(f"{option} is {text}; it must be 0 or more")
    return text
