"""`sublet node`: the machines that serve one database."""

from __future__ import annotations

from typing import Annotated

import typer

from sublet.config import settings
from sublet.fleet.nodes import Nodes
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.store import Store
from sublet.store.schema import migrate

app = typer.Typer(
    no_args_is_help=True, help="Nodes: the machines that serve this database, each with a data directory."
)


def _nodes() -> tuple[Nodes, Store]:
    store = Store(settings.load().database_url)
    migrate(store)
    return Nodes(store), store


@app.command("ls")
def list_nodes(as_json: JsonFlag = False) -> None:
    """List nodes: whether their control plane still sends heartbeats, and how many pools they have."""
    nodes, store = _nodes()
    now = store.clock.now()
    rows = [node.as_dict(now) for node in nodes.nodes()]
    if as_json:
        print_json({"nodes": rows})
        return
    shown = [{**row, "pools": len(row["pool_ids"])} for row in rows]
    columns = {
        "name": "node",
        "id": "id",
        "state": "state",
        "seen_at": "last seen",
        "version": "version",
        "pools": "pools",
    }
    print_rows(shown, columns, "no nodes yet; `sublet up` makes this machine one")


@app.command("forget")
def forget(node: Annotated[str, typer.Argument(help="Id or name.")]) -> None:
    """Forget a machine that is gone for good: its pools go offline, or become those of the node that states them next."""
    nodes, _ = _nodes()
    gone = nodes.forget(node)
    say(f"{gone.name} ({gone.id}) is forgotten")
