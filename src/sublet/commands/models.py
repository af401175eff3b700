"""`sublet models`: what is on offer as a service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.config import settings
from sublet.fleet.service import Fleet
from sublet.models.catalog import built_in
from sublet.models.model import CatalogEntry, ModelRow
from sublet.models.service import Models
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.screen import Screen
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.errors import InvalidInputError

app = typer.Typer(no_args_is_help=True, help="Managed models: the catalog, deployments and their replicas.")

Name = Annotated[str, typer.Argument(help="The model's name, as `sublet models ls` shows it.")]


def _open() -> tuple[Models, Store]:
    loaded = settings.load()
    store = Store(loaded.database_url)
    migrate(store)
    return Models(store, built_in(loaded.models.slots, loaded.models.context_tokens)), store


@app.command("ls")
def list_models(as_json: JsonFlag = False) -> None:
    """List the catalog, and the replicas that serve it."""
    models, _ = _open()
    rows = models.rows()
    if as_json:
        print_json({"models": [row.as_dict() for row in rows]})
        return
    columns = {
        "name": "model",
        "engine": "engine",
        "file": "file",
        "context": "context",
        "slots": "slots",
        "replicas": "replicas",
        "state": "state",
        "trouble": "trouble",
    }
    print_rows([_line(row) for row in rows], columns, "")


@app.command("pull")
def pull(name: Name, as_json: JsonFlag = False) -> None:
    """Download a model's file and check it; an intact file is left unchanged."""
    models, _ = _open()
    console = Screen(stderr=True)
    with console.status(f"checking {name}", spinner="dots") as status:
        path = models.pull(name, status.update)
    if as_json:
        print_json({"model": name, "path": str(path) if path else None})
    elif path is None:
        say(f"{name} is served elsewhere; there is nothing to fetch")
    else:
        say(f"{name} is at {path}, its SHA-256 is right")


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="TOML with one [[models]] table a model; see docs/models.md.")],
    as_json: JsonFlag = False,
) -> None:
    """Add a file's models to the catalog; a model of the same name is replaced."""
    models, _ = _open()
    entries = models.add(file)
    if as_json:
        print_json({"models": [entry.as_dict() for entry in entries]})
        return
    deployed = {row.entry.name for row in models.rows() if row.deployment}
    for entry in entries:
        say(
            f"{entry.name} is changed; its replicas are replaced where their engines run differently now"
            if entry.name in deployed
            else f"{entry.name} is in the catalog; `sublet models scale {entry.name} 1` deploys it"
        )


@app.command("scale")
def scale(
    name: Name,
    replicas: Annotated[str, typer.Argument(help="How many replicas, or `auto`.")],
    pool: Annotated[str, typer.Option(help="Id or name of the pool; needed where there are several.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """Set the number of replicas. If capacity is short, fewer run; a model that is not deployed is deployed."""
    wanted = _replicas(replicas)
    models, store = _open()
    entry = models.entry(name)
    if not any(row.deployment for row in models.rows() if row.entry.name == name):
        models.deploy(name, _pool(store, entry, pool), scale=wanted)
    deployment = models.scale(name, wanted)
    if as_json:
        print_json(deployment.as_dict())
    else:
        say(f"{name}: {deployment.target} replicas wanted, as far as there is spare capacity")


@app.command("rm")
def remove(name: Name) -> None:
    """Drain a deployed model's replicas; remove a model that is not deployed from the catalog."""
    models, _ = _open()
    deployed = any(row.deployment for row in models.rows() if row.entry.name == name)
    models.remove(name)
    say(f"{name} drains" if deployed else f"{name} is out of the catalog")


def _line(row: ModelRow) -> dict[str, Any]:
    states = [replica.state for replica in row.replicas]
    return {
        "name": row.entry.name,
        "engine": row.entry.engine,
        "file": "there" if row.present else "missing",
        "context": row.entry.context_tokens,
        "slots": row.entry.slots,
        "replicas": f"{states.count('ready')} of {row.deployment.target}" if row.deployment else "–",
        "state": ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states)) or "not running",
        "trouble": "; ".join(f"{item.replica_id}: {item}" for item in row.troubles) or row.ended or "–",
    }


def _replicas(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or len(text) > 6:
        raise InvalidInputError(f"replicas must be a number or `auto`, not {text!r}")
    return int(text)


def _pool(store: Store, entry: CatalogEntry, wanted: str) -> str:
    fleet = Fleet(store)
    if wanted:
        return fleet.pool(wanted).id
    pools = fleet.pools()
    if len(pools) == 1:
        return pools[0].id
    if not pools and entry.accelerators == 0:
        return ""
    raise InvalidInputError(
        "there are several pools; choose one with --pool"
        if pools
        else "there is no pool yet; `sublet up` discovers one"
    )
