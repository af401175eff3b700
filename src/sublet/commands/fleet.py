"""`sublet pool`: what is owned."""

from __future__ import annotations

from typing import Annotated

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, print_json, print_rows, say

app = typer.Typer(no_args_is_help=True, help="Pools: what is owned, where, of which generation, at how many watts.")


@app.command("ls")
def list_pools(as_json: JsonFlag = False) -> None:
    """List pools."""
    found = connect().document("fleet.list_pools")
    if as_json:
        print_json(found)
        return
    columns = {
        "name": "pool",
        "site": "site",
        "generation": "generation",
        "accelerators": "owned",
        "in_service": "in service",
        "watts_per_accelerator": "W each",
        "price_per_accelerator_hour": "price/h",
        "backend": "backend",
    }
    print_rows(found["pools"], columns, "no pools yet; `sublet up` discovers this machine")


@app.command("show")
def show_pool(pool: Annotated[str, typer.Argument(help="Id or name.")], as_json: JsonFlag = False) -> None:
    """Show a pool and every accelerator in it."""
    found = connect().document("fleet.show_pool", pool)
    if as_json:
        print_json(found)
        return
    units = found.pop("units")
    for name, value in found.items():
        say(f"{name:28} {value if value is not None else '–'}")
    print_rows(units, {"id": "accelerator", "device": "device", "in_service": "in service", "out_reason": "reason"}, "")


@app.command("drain")
def drain(
    unit: Annotated[str, typer.Argument(help="The accelerator's id, as `sublet pool show` has it.")],
    reason: Annotated[str, typer.Argument(help="The reason, for the record.")],
) -> None:
    """Take an accelerator out of service and out of its lease, which moves, shrinks or ends as its tenant chose."""
    connect().document("fleet.set_service", unit, body={"in_service": False, "reason": reason})
    say(f"{unit} is out of service: {reason}")


@app.command("restore")
def restore(unit: Annotated[str, typer.Argument(help="The accelerator's id.")]) -> None:
    """Put an accelerator back on sale."""
    connect().document("fleet.set_service", unit, body={"in_service": True})
    say(f"{unit} is in service")
