"""`sublet pool`: what is owned."""

from __future__ import annotations

from typing import Annotated

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, print_fields, print_json, print_rows, say
from sublet.shown import Columns, price, price_text, short, time_text

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
