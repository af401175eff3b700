"""`sublet reclaim`: the owner takes capacity back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, note, print_fields, print_json, print_rows, say
from sublet.shown import Columns, counted, money, money_text, short, time, time_text
from sublet.values.clock import SystemClock, format_time, parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.ids import new_id

app = typer.Typer(no_args_is_help=True, help="Reclaims: capacity that the owner takes back from leases and replicas.")

ReclaimId = Annotated[str, typer.Argument(help="Id of a reclaim, as shown by `sublet reclaim ls`.")]
HOURS_MAX = 90 * 24


@app.command("create")
def create(
    pool: Annotated[str, typer.Argument(help="Pool, by id or name.")],
    accelerators: Annotated[int, typer.Argument(min=1, help="How many accelerators.")],
    reason: Annotated[
        str, typer.Option(help="Reason for the record; tenants are told only that the owner needs the accelerators.")
    ],
    hours: Annotated[float, typer.Option(min=0.01, max=HOURS_MAX, help="For how long.")] = 24.0,
    start: Annotated[str | None, typer.Option(help="Start, such as 2026-07-02T14:00:00Z; now if omitted.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Also evict firm leases and model floors.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", "--dry-run", help="Show the plan without reclaiming anything.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Reclaim accelerators: the plan shows which leases lose them, when, and for what credit. Their tenants get notice."""
    wanted: dict[str, Any] = {"pool": pool, "accelerators": accelerators, "reason": reason, "force": force}
    wanted |= {"duration_s": max(1, round(hours * 3600))}
    if start is not None:
        try:
            begin = parse_time(start)
        except ValueError as error:
            raise InvalidInputError(f"--start: {error}") from error
        wanted["start"] = format_time(begin)
    client = connect()
    if preview:
        plan = client.document("leases.preview", body=wanted)
    else:
        plan = client.document("leases.reclaim", body=wanted, idempotency_key=new_id("req"))
    if as_json:
        print_json(plan)
        return
    if not preview:
        say(f"{plan['id']}: {counted(accelerators, 'accelerator')} of {pool} for {hours:g} h: {reason}")
    _print_plan(plan)
    if preview:
        say("nothing was reclaimed; to do it, run this without --preview")
    else:
        say(f"if they are not needed after all: sublet reclaim release {plan['id']}")


@app.command("waits")
def list_waits(
    pool: Annotated[str | None, typer.Argument(help="Pool, by id or name; all pools if left out.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List what the owner's own work waited for within its patience, by day and team."""
    client = connect()
    found = client.collected("leases.list_owner_waits", query={"pool": pool})
    if as_json:
        print_json(found)
        return
    names = {item["id"]: item["name"] for item in client.collected("fleet.list_pools")["pools"]}
    rows = found["owner_waits"]
    for row in rows:
        row["pool"] = names.get(row["pool_id"], row["pool_id"])
        row["who"] = row["team"] or "the pool's own demand"
        row["waited_h"] = f"{row['waited_s'] / 3600:.2f}"
        row["accelerator_h"] = f"{row['accelerator_s'] / 3600:.2f}"
    columns: Columns = {
        "day": "day",
        "pool": "pool",
        "who": "team",
        "waits": "waits",
        "waited_h": "hours",
        "accelerator_h": "accelerator-hours",
    }
    print_rows(rows, columns, "nothing waited; set pools.patience_s, or claim with --patience")


@app.command("ls")
def list_reclaims(as_json: JsonFlag = False) -> None:
    """List reclaims, newest first."""
    client = connect()
    found = client.collected("leases.list_reclaims")
    if as_json:
        print_json(found)
        return
    names = {item["id"]: item["name"] for item in client.collected("fleet.list_pools")["pools"]}
    rows = [
        {**item, "pool": names.get(item["pool_id"], item["pool_id"]), "state": _state(item)}
        for item in found["reclaims"]
    ]
    columns: Columns = {
        "id": "reclaim",
        "pool": "pool",
        "accelerators": "count",
        "start": time("start"),
        "end": time("end"),
        "state": "state",
        "reason": "reason",
    }
    print_rows(rows, columns, "no reclaims; create one with `sublet reclaim create POOL COUNT --reason WHY`")


@app.command("show")
def show(reclaim_id: ReclaimId, as_json: JsonFlag = False) -> None:
    """Show a reclaim and the plan that frees its capacity."""
    found = connect().document("leases.show_reclaim", reclaim_id)
    if as_json:
        print_json(found)
        return
    print_fields({
        "reclaim": found["id"],
        "state": _state(found),
        "accelerators": found["accelerators"],
        "start": time_text(found["start"]),
        "end": time_text(found["end"]),
        "asked by": found["actor"],
        "reason": found["reason"],
        "with force": found["forced"],
    })  # fmt: skip
    _print_plan(found["plan"])


@app.command("release")
def release(reclaim_id: ReclaimId, as_json: JsonFlag = False) -> None:
    """Put reclaimed capacity back on sale; notices that are not yet due are withdrawn. It is safe to repeat."""
    found = connect().document("leases.withdraw", reclaim_id)
    if as_json:
        print_json(found)
        return
    kept = found["leases"]
    say(f"{reclaim_id} is released" + (f"; {counted(len(kept), 'lease')} kept" if kept else ""))


def _state(reclaim: Mapping[str, Any]) -> str:
    if reclaim["withdrawn"]:
        return "released"
    now = SystemClock().now()
    if parse_time(reclaim["end"]) <= now:
        return "over"
    return "stands" if parse_time(reclaim["start"]) <= now + timedelta(seconds=1) else "to come"


def _print_plan(plan: Mapping[str, Any]) -> None:
    moves = any(victim.get("move_to") for victim in plan["victims"])
    names = {item["id"]: item["name"] for item in connect().collected("fleet.list_pools")["pools"]} if moves else {}
    rows = [
        {
            **victim,
            "who": victim.get("lease_id") or victim.get("replica_id"),
            "tenant": victim.get("organization_id"),
            "then": f"moves to {names.get(victim['move_to'], victim['move_to'])}" if victim.get("move_to") else "ends",
        }
        for victim in plan["victims"]
    ]
    columns: Columns = {
        "who": "gives back",
        "tenant": short("tenant"),
        "class": "class",
        "accelerators": "count",
        "reclaim_at": time("at the latest"),
        "then": "then",
        "credit": money("credit", "currency"),
        "sentence": "why",
    }
    print_rows(rows, columns, "enough accelerators are free, so no lease is affected")
    if plan["short"]:
        note(f"{plan['short']} of them can't be freed in time")
    if plan["victims"]:
        currency = plan["victims"][0]["currency"]
        note(
            f"everything is available at {time_text(plan['back_at'])}; the cost is {money_text(plan['destroyed'])} {currency}"
        )
