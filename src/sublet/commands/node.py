"""`sublet node`: the machines that serve one database."""

from __future__ import annotations

from typing import Annotated

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, seconds, short

app = typer.Typer(
    no_args_is_help=True, help="Nodes: the machines that serve this database, each with a data directory."
)


@app.command("ls")
def list_nodes(as_json: JsonFlag = False) -> None:
    """List nodes, whether their control plane still sends heartbeats, and how many pools they have."""
    found = connect().collected("fleet.list_nodes")
    if as_json:
        print_json(found)
        return
    shown = [{**row, "pools": len(row["pool_ids"])} for row in found["nodes"]]
    columns: Columns = {
        "name": "node",
        "state": "state",
        "seen_at": seconds("last seen"),
        "version": "version",
        "pools": "pools",
        "id": short("id"),
    }
    print_rows(shown, columns, "no nodes yet; `sublet up` makes this machine a node")


@app.command("forget")
def forget(node: Annotated[str, typer.Argument(help="Id or name.")]) -> None:
    """Forget a machine that was removed permanently: its pools go offline until another node defines them."""
    connect().document("fleet.forget_node", node)
    say(f"{node} is forgotten")
