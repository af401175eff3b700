"""`sublet models route`: public names that several models serve."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, note, print_json, print_rows, say
from sublet.values.errors import InvalidInputError

app = typer.Typer(no_args_is_help=True, help="Routes: public names that several models serve, changed at run time.")

Name = Annotated[str, typer.Argument(help="The public name, as callers write it.")]
Upstreams = Annotated[
    list[str],
    typer.Argument(
        metavar="MODEL[,weight=N][,priority=N]…",
        help="Models of the catalog. A larger weight takes more requests; a smaller priority is tried first.",
    ),
]
Spill = Annotated[
    bool | None,
    typer.Option(
        "--spill/--no-spill",
        help="Also use the next priority while the models before it are busy, and not only when they fail.",
    ),
]
Affinity = Annotated[
    bool | None,
    typer.Option("--affinity/--no-affinity", help="Send prompts that begin alike to the same replica (the default)."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show what it comes to.")]


@app.command("add")
def add(
    name: Name,
    upstreams: Upstreams,
    spill: Spill = None,
    affinity: Affinity = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Serve a new name by several models, on all gateways within a second."""
    stated = {"spill": spill, "affinity": affinity}
    body = {"name": name, "upstreams": [upstream_of(text) for text in upstreams], "preview": dry_run}
    body |= {key: value for key, value in stated.items() if value is not None}
    _show(connect().document("models.add_route", body=body), as_json, dry_run=dry_run)


@app.command("set")
def set_route(
    name: Name,
    upstreams: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL[,weight=N][,priority=N]…]", help="The models that serve it now; if left out, they stay."
        ),
    ] = None,
    spill: Spill = None,
    affinity: Affinity = None,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Change a route. What is left out stays; a route in the settings is replaced until `rm`."""
    client = connect()
    before = client.document("models.show_route", name)
    kept = [{key: item[key] for key in ("model", "weight", "priority")} for item in before["upstreams"]]
    body = {
        "upstreams": [upstream_of(text) for text in upstreams] if upstreams else kept,
        "spill": before["spill"] if spill is None else spill,
        "affinity": before["affinity"] if affinity is None else affinity,
        "preview": dry_run,
    }
    _show(client.document("models.change_route", name, body=body), as_json, dry_run=dry_run)


@app.command("ls")
def list_routes(as_json: JsonFlag = False) -> None:
    """List the routes in force, those in the settings among them."""
    found = connect().collected("models.list_routes")
    if as_json:
        print_json(found)
        return
    columns = {
        "name": "name",
        "upstreams": "served by",
        "spill": "spill",
        "affinity": "affinity",
        "context": "context",
        "capabilities": "capabilities",
        "source": "from",
    }
    print_rows(
        [_line_of(row) for row in found["routes"]], columns, "no routes; `sublet models route add NAME MODEL…` adds one"
    )
    for row in found["routes"]:
        for sentence in row["notes"]:
            note(f"{row['name']}: {sentence}", "")


@app.command("rm")
def remove(name: Name) -> None:
    """Remove a route that was made at run time. One of the same name in the settings is used again."""
    connect().document("models.remove_route", name)
    say(f"{name} was removed")


def upstream_of(text: str) -> dict[str, Any]:
    """`MODEL,weight=3,priority=1` as the API's fields. Raises InvalidInputError."""
    model, *settings = text.split(",")
    found: dict[str, Any] = {"model": model.strip()}
    for setting in settings:
        name, equals, value = (part.strip() for part in setting.partition("="))
        if name not in ("weight", "priority") or not equals or name in found:
            raise InvalidInputError(
                f"{text!r} must be a model, then at most one ,weight=NUMBER and one ,priority=NUMBER"
            )
        try:
            found[name] = float(value) if name == "weight" else int(value)
        except ValueError as error:
            kind = "number" if name == "weight" else "whole number"
            raise InvalidInputError(f"{text!r}: the {name} must be a {kind}, not {value!r}") from error
    return found


def _show(route: Mapping[str, Any], as_json: bool, *, dry_run: bool) -> None:
    if as_json:
        print_json(route)
        return
    would = " would be" if dry_run else ""
    say(f"{route['name']}{would or ' is'} served by {_served_by(route['upstreams'])}")
    say(f"  context {route['context_tokens']:,} tokens; {', '.join(route['capabilities'])}")
    for sentence in route["notes"]:
        note(sentence)


def _served_by(upstreams: Sequence[Mapping[str, Any]]) -> str:
    """Those of one priority together, the ones that are tried first in front."""
    groups: dict[int, list[str]] = {}
    for item in sorted(upstreams, key=lambda item: item["priority"]):
        weight = f" × {item['weight']:g}" if item["weight"] != 1 else ""
        groups.setdefault(item["priority"], []).append(item["model"] + weight)
    return ", then ".join(" + ".join(group) for group in groups.values())


def _line_of(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": row["name"],
        "upstreams": _served_by(row["upstreams"]),
        "spill": "yes" if row["spill"] else "no",
        "affinity": "yes" if row["affinity"] else "no",
        "context": row["context_tokens"],
        "capabilities": ", ".join(row["capabilities"]),
        "source": row["source"],
    }
