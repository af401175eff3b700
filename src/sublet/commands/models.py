"""`sublet models`: what is on offer as a service, asked of the running Sublet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.client.remote import LONG_S, connect
from sublet.commands import model_check, model_routes
from sublet.output import JsonFlag, print_json, print_rows, say, waiting
from sublet.shown import short_id, time_text
from sublet.values.errors import InvalidInputError

app = typer.Typer(no_args_is_help=True, help="Managed models: the catalog, deployments and their replicas.")

app.add_typer(model_routes.app, name="route")
app.command("check")(model_check.check)

Name = Annotated[str, typer.Argument(help="Name of the model, as shown by `sublet models ls`.")]
FILE_BYTES_MAX = 256 * 1024
SAID_CHARACTERS = 160


@app.command("ls")
def list_models(
    offered: Annotated[
        bool, typer.Option("--offered", help="What your key may call and what it costs, as customers see it.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """List the models that you may call, with prices and limits; for the operator, the catalog and its replicas."""
    client = connect()
    permissions = client.document("accounts.whoami")["permissions"]
    if offered or "deployments:read" not in permissions:
        _list_offered(client.collected("models.list_models"), as_json)
        return
    found = client.collected("models.list_deployments")
    if as_json:
        print_json(found)
        return
    names = {pool["id"]: pool["name"] for pool in client.collected("fleet.list_pools")["pools"]}
    columns = {
        "name": "model",
        "engine": "engine",
        "file": "file",
        "context": "context",
        "slots": "slots",
        "replicas": "replicas",
        "pools": "pools",
        "state": "state",
        "trouble": "trouble",
    }
    print_rows(
        [line_of(row, names) for row in found["models"]], columns, "no models; add some with `sublet models add FILE`"
    )


@app.command("pull")
def pull(name: Name, as_json: JsonFlag = False) -> None:
    """Download a model's file to the machine where Sublet runs, and check it; an intact file is left unchanged."""
    with waiting(f"downloading and checking {name}"):
        found = connect(LONG_S).document("models.pull", name)
    if as_json:
        print_json(found)
    elif found["path"] is None:
        say(f"{name} is served elsewhere, so there is nothing to download")
    else:
        say(f"{name} is at {found['path']}; its SHA-256 is correct")


@app.command("add")
def add(
    file: Annotated[Path, typer.Argument(help="TOML file with one [[models]] table per model; see docs/models.md.")],
    as_json: JsonFlag = False,
) -> None:
    """Add a file's models to the catalog; a model of the same name is replaced."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{file}: {error.strerror}; specify a readable TOML file") from error
    if len(content) > FILE_BYTES_MAX:
        raise InvalidInputError(f"{file}: larger than {FILE_BYTES_MAX} bytes; split it")
    client = connect()
    try:
        added = client.document("models.add_models", body=content, content_type="application/toml")
    except InvalidInputError as error:
        # The service does not know what its caller's file is called.
        raise type(error)(error.message.replace("the file", str(file), 1), **error.details) from error
    if as_json:
        print_json(added)
        return
    rows = client.collected("models.list_deployments")["models"]
    deployed = {row["name"] for row in rows if row["deployment"]}
    for name in (entry["name"] for entry in added["models"]):
        say(
            f"{name} was changed; replicas are replaced if their engines now run differently"
            if name in deployed
            else f"{name} is in the catalog; `sublet models scale {name} 1` deploys it"
        )


@app.command("scale")
def scale(
    name: Name,
    replicas: Annotated[str, typer.Argument(help="Number of replicas, or `auto`.")],
    pool: Annotated[
        list[str] | None,
        typer.Option(
            help="Id or name of a pool, the preferred one first; required if there are several pools. Repeatable."
        ),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set the number of replicas. If capacity is short, fewer run; a model that is not deployed is deployed."""
    wanted = _replicas(replicas)
    client = connect()
    pools = pool or []
    if _deployed(client.collected("models.list_deployments"), name):
        if pools:
            raise InvalidInputError(
                f"{name} is deployed already; to change its pools, run `sublet models place {name} {' '.join(pools)}`"
            )
        found = client.document("models.scale", name, body={"replicas": wanted})
    else:
        found = client.document("models.deploy", body={"model": name, "pool_ids": pools, "scale": wanted})
    if as_json:
        print_json(found)
    elif wanted is None:
        say(f"{name}: as many replicas as its load needs, if there is spare capacity")
    else:
        say(f"{name}: {wanted} {'replica' if wanted == 1 else 'replicas'} wanted, if there is spare capacity")


@app.command("place")
def place(
    name: Name,
    pools: Annotated[list[str], typer.Argument(help="Ids or names of its pools, the preferred one first.")],
    as_json: JsonFlag = False,
) -> None:
    """Set the pools that a deployed model is served on; replicas on other pools drain once others answer."""
    found = connect().document("models.place", name, body={"pool_ids": pools})
    if as_json:
        print_json(found)
    else:
        say(f"{name}: served on {', then '.join(pools)}")


@app.command("rm")
def remove(name: Name) -> None:
    """Drain a deployed model's replicas; remove a model that is not deployed from the catalog."""
    client = connect()
    deployed = _deployed(client.collected("models.list_deployments"), name)
    client.document("models.remove", name)
    say(f"{name} drains" if deployed else f"{name} was removed from the catalog")


def _list_offered(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    columns = {
        "name": "model",
        "state": "state",
        "context_tokens": "context",
        "capabilities": "capabilities",
        "tier": "tier",
        "input": "input/M",
        "input_cached": "cached/M",
        "output": "output/M",
        "limits": "limits",
    }
    print_rows(
        [line for row in found["models"] for line in _offered_lines(row)], columns, "no model is offered to you now"
    )


def _offered_lines(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A line for each tier of a model; what is the same for all of them stands in the first one."""
    words = {
        "requests_per_minute": "requests/min",
        "input_tokens_per_minute": "input/min",
        "output_tokens_per_minute": "output/min",
        "concurrency": "at once",
    }
    limits = ", ".join(
        f"{row['limits'][name]:,} {word}" for name, word in words.items() if row["limits"][name] is not None
    )
    lines = []
    for number, tier in enumerate(row["tiers"]):
        most = "up to " if tier["at_most"] else ""
        prices = {
            name: f"{most}{tier[name]} {row['currency']}" if tier[name] is not None else None
            for name in ("input", "input_cached", "output")
        }
        about = {
            "name": row["name"],
            "state": row["state"],
            "context_tokens": row["context_tokens"],
            "capabilities": ", ".join(row["capabilities"]),
            "limits": limits or None,
        }
        kept = about if not number else {name: "" for name in about}
        lines.append(kept | {"tier": tier["tier"]} | prices)
    return lines


def _deployed(found: Mapping[str, Any], name: str) -> bool:
    return any(row["name"] == name and row["deployment"] for row in found["models"])


def line_of(row: Mapping[str, Any], pool_names: Mapping[str, str]) -> dict[str, Any]:
    """A model of the catalog as its line in the list."""
    states = [replica["state"] for replica in row["replicas"]]
    said = [
        f"lost: {replica['lost_node'] or 'its node was removed'}" if replica["state"] == "lost" else replica["state"]
        for replica in row["replicas"]
    ]
    serving = Counter(replica["pool_id"] for replica in row["replicas"] if replica["state"] == "ready")
    deployment = row["deployment"]
    ready = states.count("ready")
    troubles = [_trouble(replica["id"], item) for replica in row["replicas"] for item in replica["troubles"]]
    return {
        "name": row["name"],
        "engine": row["engine"],
        "file": "there" if row["present"] else "missing",
        "context": row["context_tokens"],
        "slots": row["slots"],
        "replicas": None
        if not deployment
        else f"{ready}, automatic"
        if deployment["scale"] is None
        else f"{ready} of {deployment['scale']}",
        "pools": ", ".join(
            f"{pool_names.get(pool_id, pool_id)} ({serving[pool_id]})" for pool_id in deployment["pool_ids"] if pool_id
        )
        if deployment
        else None,
        "state": ", ".join(f"{said.count(state)} {state}" for state in dict.fromkeys(said)) or "not running",
        "trouble": "; ".join(troubles) or row["ended"] or None,
    }


def _trouble(replica_id: str, trouble: Mapping[str, Any]) -> str:
    """What a replica failed with, in the engine's own words, and how often."""
    status = str(trouble["status"]) if trouble["status"] else "no answer"
    words = f": {trouble['said'][:SAID_CHARACTERS]}" if trouble["said"] else ""
    often = f"{trouble['failures']} in a row since {time_text(trouble['since'], to_the_second=True)}"
    return f"{short_id(replica_id)}: {trouble['kind']}, {status}{words} ({often})"


def _replicas(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or len(text) > 6:
        raise InvalidInputError(f"replicas must be a number or `auto`, not {text!r}")
    return int(text)
