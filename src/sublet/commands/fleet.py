"""`sublet pool`: what is owned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.commands.maintenance import moment
from sublet.output import JsonFlag, note, print_fields, print_json, print_rows, say
from sublet.shown import Columns, price, price_text, short, time, time_text

BAR_WIDTH = 16
KEPT_SIGN, SOLD_SIGN, FOR_SALE_SIGN, LEFT_SIGN = "▒", "█", "░", "·"
app = typer.Typer(no_args_is_help=True, help="Pools: what is owned, where, of which generation, at how many watts.")


@app.command("ls")
def list_pools(as_json: JsonFlag = False) -> None:
    """List pools."""
    found = connect().collected("fleet.list_pools")
    if as_json:
        print_json(found)
        return
    columns: Columns = {
        "name": "pool",
        "site": "site",
        "generation": "generation",
        "accelerators": "owned",
        "in_service": "in service",
        "watts_per_accelerator": "W each",
        "price_per_accelerator_hour": price("price/h", "currency"),
        "backend": "backend",
    }
    print_rows(
        [pool | {"in_service": "offline"} if pool["offline_at"] else pool for pool in found["pools"]],
        columns,
        "no pools yet; `sublet up` detects this machine's own, and [[pools]] in sublet.toml defines others",
    )


@app.command("show")
def show_pool(pool: Annotated[str, typer.Argument(help="Id or name.")], as_json: JsonFlag = False) -> None:
    """Show a pool and each of its accelerators."""
    client = connect()
    found = client.document("fleet.show_pool", pool)
    units = client.collected("fleet.list_units", pool)["units"]
    if as_json:
        print_json({**found, "units": units})
        return
    cost = f"{price_text(found['price_per_accelerator_hour'])} {found['currency']}"
    print_fields({
        "pool": found["name"],
        "id": found["id"],
        "site": found["site"],
        "generation": found["generation"],
        "backend": found["backend"],
        "owned": found["accelerators"],
        "in service": f"none: offline since {time_text(found['offline_at'])}"
        if found["offline_at"]
        else found["in_service"],
        "power": f"{found['watts_per_accelerator']} W each",
        "price": f"{cost} per accelerator-hour",
    })  # fmt: skip
    shown = [{**unit, "in_service": bool(unit["in_service"])} for unit in units]
    columns: Columns = {"id": "accelerator", "device": "device", "in_service": "in service", "out_reason": "reason"}
    print_rows(shown, columns, "it has no accelerators")


@app.command("calendar")
def show_calendar(
    pool: Annotated[str, typer.Argument(help="Id or name.")],
    start: Annotated[str | None, typer.Option("--from", help="When it starts; now if omitted.")] = None,
    until: Annotated[
        str | None, typer.Option("--to", help="When it ends, as 2027-07-01T00:00:00Z; 30 days later if omitted.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what is booked of a pool over future time: claims, maintenance, blocks, leases, and what is left."""
    since = None if start is None else moment("--from", start)
    end = None if until is None else moment("--to", until)
    found = connect().document("fleet.calendar", query={"pool": pool, "since": since, "until": end})
    if as_json:
        print_json(found)
        return
    columns: Columns = {
        "start": time("from"),
        "end": time("to"),
        "bar": "",
        "capacity": "capacity",
        "away": "away",
        "owner": "owner",
        "models": "models",
        "sold_from_blocks": "sold from blocks",
        "unsold_in_blocks": "unsold in blocks",
        **{f"class {name}": f"sold {name}" for name in found["classes"]},
        "held": "held",
        "left": "left",
        "excess": "too many",
    }
    print_rows([_step_row(step) for step in found["steps"]], columns, "")
    say(
        f"{SOLD_SIGN} sold or held  {FOR_SALE_SIGN} unsold in blocks  {KEPT_SIGN} owner, models, away  {LEFT_SIGN} left"
    )
    if found["merged"]:
        note("Neighboring times are merged, and show the figures of the fullest moment.", "")
    if found["deadline_accelerator_hours"]:
        note(
            f"{found['deadline_accelerator_hours']:,} accelerator-hours are promised by a deadline and not yet delivered; "
            "they are shown only while they run.",
            "",
        )


def _step_row(step: Mapping[str, Any]) -> dict[str, Any]:
    """A step as the table shows it. What is 0 is left empty, except what is left."""
    row = {
        "away": step["maintenance"] + step["quarantined"],
        "owner": step["claimed"] + step["reclaimed"],
        "models": step["model_floors"] + step["model_replicas"],
        **{name: step[name] for name in ("sold_from_blocks", "unsold_in_blocks", "held", "excess")},
        **{f"class {name}": count for name, count in step["sold"].items()},
    }
    sold = step["sold_from_blocks"] + step["held"] + sum(step["sold"].values())
    kept = row["away"] + row["owner"] + row["models"]
    bar = _bar({KEPT_SIGN: kept, SOLD_SIGN: sold, FOR_SALE_SIGN: step["unsold_in_blocks"], LEFT_SIGN: step["left"]})
    shown = {name: count or None for name, count in row.items()}
    return {**shown, **{name: step[name] for name in ("start", "end", "capacity", "left")}, "bar": bar}


def _bar(counts: Mapping[str, int]) -> str:
    """BAR_WIDTH signs, each sign by its share of the accelerators."""
    total, bar, reached = sum(counts.values()), "", 0
    for sign, count in counts.items():
        reached += count
        bar += sign * (round(BAR_WIDTH * reached / total) - len(bar) if total else 0)
    return bar


@app.command("drain")
def drain(
    unit: Annotated[str, typer.Argument(help="Id of the accelerator, as shown by `sublet pool show`.")],
    reason: Annotated[str, typer.Argument(help="The reason, for the record.")],
) -> None:
    """Take an accelerator out of service. A lease that uses it moves, shrinks or ends, as its tenant chose."""
    connect().document("fleet.set_service", unit, body={"in_service": False, "reason": reason})
    say(f"{unit} is out of service: {reason}")


@app.command("restore")
def restore(unit: Annotated[str, typer.Argument(help="The accelerator's id.")]) -> None:
    """Put an accelerator back on sale."""
    connect().document("fleet.set_service", unit, body={"in_service": True})
    say(f"{unit} is in service")


@app.command("quarantine")
def list_quarantine(as_json: JsonFlag = False) -> None:
    """List accelerators that are not sold until they are proved clean of data from an earlier lease."""
    client = connect()
    found = client.collected("leases.list_quarantine")
    if as_json:
        print_json(found)
        return
    names = {item["id"]: item["name"] for item in client.collected("fleet.list_pools")["pools"]}
    rows = [{**item, "pool": names.get(item["pool_id"], item["pool_id"])} for item in found["accelerators"]]
    columns: Columns = {"id": "accelerator", "pool": "pool", "lease_id": short("lease"), "reason": "reason"}
    print_rows(rows, columns, "no accelerator is in quarantine")


@app.command("release")
def release(
    unit: Annotated[str, typer.Argument(help="Id of the accelerator, as shown by `sublet pool quarantine`.")],
    reason: Annotated[str, typer.Argument(help="How you verified that it is clean, for the record.")],
) -> None:
    """Release an accelerator from quarantine. You confirm that no tenant data is left on it."""
    connect().document("leases.release", unit, body={"reason": reason})
    say(f"{unit} is out of quarantine: {reason}")
