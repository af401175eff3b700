"""`sublet pool`: what is owned."""

from __future__ import annotations

from typing import Annotated

import typer

from sublet.config import settings
from sublet.fleet.service import Fleet
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.store import Store
from sublet.store.schema import migrate

app = typer.Typer(no_args_is_help=True, help="Pools: what is owned, where, of which generation, at how many watts.")


def _fleet() -> Fleet:
    store = Store(settings.load().database_url)
    migrate(store)
    return Fleet(store)


@app.command("ls")
def list_pools(as_json: JsonFlag = False) -> None:
    """List pools."""
    rows = [pool.as_dict() for pool in _fleet().pools()]
    if as_json:
        print_json({"pools": rows})
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
    print_rows(rows, columns, "no pools yet; `sublet up` discovers this machine")


@app.command("show")
def show_pool(pool: Annotated[str, typer.Argument(help="Id or name.")], as_json: JsonFlag = False) -> None:
    """Show a pool and every accelerator in it."""
    fleet = _fleet()
    found = fleet.pool(pool)
    units = [unit.as_dict() for unit in fleet.units(found.id)]
    if as_json:
        print_json({**found.as_dict(), "units": units})
        return
    for name, value in found.as_dict().items():
        say(f"{name:28} {value if value is not None else '–'}")
    print_rows(units, {"id": "accelerator", "device": "device", "in_service": "in service", "out_reason": "reason"}, "")


@app.command("drain")
def drain(
    unit: Annotated[str, typer.Argument(help="The accelerator's id, as `sublet pool show` has it.")],
    reason: Annotated[str, typer.Argument(help="The reason, for the record.")],
) -> None:
    """Take an accelerator out of service and out of its lease, which moves, shrinks or ends as its tenant chose."""
    _fleet().set_service(unit, False, reason)
    say(f"{unit} is out of service: {reason}")


@app.command("restore")
def restore(unit: Annotated[str, typer.Argument(help="The accelerator's id.")]) -> None:
    """Put an accelerator back on sale."""
    _fleet().set_service(unit, True)
    say(f"{unit} is in service")
