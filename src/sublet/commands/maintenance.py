"""`sublet maintenance`: accelerators that are away for a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, counted, money, time, time_text
from sublet.values.clock import format_time, parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.ids import new_id

app = typer.Typer(
    no_args_is_help=True, help="Planned maintenance: accelerators that are away for a time, and what ends for it."
)

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before leases are taken back.")]


@app.command("add")
def add(
    pool: Annotated[str, typer.Argument(help="Pool, by id or name.")],
    until: Annotated[str, typer.Option("--to", help="When it ends, as 2026-12-01T12:00:00Z.")],
    start: Annotated[str | None, typer.Option("--from", help="When it begins; now if left out.")] = None,
    accelerators: Annotated[
        int | None, typer.Option("--accelerators", "-n", min=1, help="How many are away; the whole pool if left out.")
    ] = None,
    reason: Annotated[str, typer.Option(help="Why; shown wherever they are withheld.")] = "maintenance",
    force: Annotated[bool, typer.Option("--force", help="Break firm leases, too; the penalty is shown first.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it takes back.")] = False,
    yes: Yes = False,
    as_json: JsonFlag = False,
) -> None:
    """Plan maintenance: show what it takes back and what that costs, ask, then keep the accelerators from sale."""
    client = connect()
    wanted: dict[str, Any] = {"pool": pool, "end": moment("--to", until), "reason": reason, "force": force}
    wanted |= {"start": moment("--from", start)} if start is not None else {}
    wanted |= {"accelerators": accelerators} if accelerators is not None else {}
    if dry_run or not yes:
        plan = client.document("maintenance.preview", body=wanted)
        if dry_run and as_json:
            print_json(plan)
            return
        if not as_json:
            _print_plan(plan)
        if dry_run:
            return
        if plan["takes_back"] and not plan["short"]:
            typer.confirm("Give notice and plan it?", abort=True, err=True)
    done = client.document("maintenance.add", body=wanted, idempotency_key=new_id("req"))
    if as_json:
        print_json(done)
        return
    made = done["maintenance"]
    say(
        f"{made['id']}: {counted(made['accelerators'], 'accelerator')} of {pool} away from {time_text(made['start'])} "
        f"to {time_text(made['end'])}; {done['sentence']}"
    )


@app.command("ls")
def list_maintenance(
    pool: Annotated[str | None, typer.Option(help="Only this pool, by id or name.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also what is over or canceled.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="How many, newest first.")] = 50,
    after: Annotated[str | None, typer.Option(help="The `next` of the page before.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List maintenance, the newest first; what the settings state comes last."""
    client = connect()
    query = {"pool": pool, "live": not everything, "limit": limit, "after": after}
    found = client.document("maintenance.list_maintenance", query=query)
    if as_json:
        print_json(found)
        return
    names = {item["id"]: item["name"] for item in client.collected("fleet.list_pools")["pools"]}
    stated = [{**item, "id": "", "state": "in the settings"} for item in found["stated"]["windows"]]
    rows = [{**item, "pool": names.get(item["pool_id"], item["pool_id"])} for item in (*found["maintenance"], *stated)]
    columns: Columns = {
        "id": "maintenance",
        "pool": "pool",
        "state": "state",
        "accelerators": "away",
        "start": time("start"),
        "end": time("end"),
        "reason": "reason",
    }
    print_rows(rows, columns, "no maintenance; `sublet maintenance add POOL --from TIME --to TIME` plans some")
    if found["next"]:
        say(f"more: sublet maintenance ls --after {found['next']}")


@app.command("cancel")
def cancel(
    maintenance_id: Annotated[str, typer.Argument(help="Its id, as `sublet maintenance ls` shows it.")],
    as_json: JsonFlag = False,
) -> None:
    """Cancel maintenance, or end it early; notices that are not due yet are withdrawn. Repeating this is harmless."""
    found = connect().document("maintenance.cancel", maintenance_id)
    if as_json:
        print_json(found)
        return
    say(f"{found['id']} is canceled; its accelerators are on sale again")


def _print_plan(plan: Mapping[str, Any]) -> None:
    columns: Columns = {
        "lease_id": "lease",
        "organization_id": "tenant",
        "class": "class",
        "accelerators": "count",
        "reclaim_at": time("ends"),
        "credit": money("credit"),
        "currency": "",
    }
    if plan["takes_back"]:
        print_rows(plan["takes_back"], columns, "")
    say(plan["sentence"])


def moment(option: str, text: str) -> str:
    """A time that was typed, as the API takes it. Raises InvalidInputError, which names the option."""
    try:
        return format_time(parse_time(text))
    except ValueError as error:
        raise InvalidInputError(f"{option}: {error}") from error
