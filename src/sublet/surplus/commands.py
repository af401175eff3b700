"""`sublet surplus`: what is on sale, and why the rest is not."""

from __future__ import annotations

import os
from typing import Annotated, Any

import httpx2
import typer

from sublet.output import JsonFlag, print_json, print_rows
from sublet.values.errors import InvalidInputError, SubletError, UnavailableError, all_error_types

URL_DEFAULT = "http://127.0.0.1:8080"
TIMEOUT_S = 30.0


def register(app: typer.Typer) -> None:
    """Mount `surplus` on the root command."""
    app.command("surplus")(show_surplus)


def show_surplus(
    pool: Annotated[str | None, typer.Argument(help="Pool, by id or name; all pools if left out.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what is on sale now per class and window, and the reason for each accelerator withheld.

    Asks the running service at SUBLET_URL with the operator's key in SUBLET_KEY.
    """
    pools = [item for item in _get("/v1/pools")["pools"] if pool is None or pool in (item["id"], item["name"])]
    if pool is not None and not pools:
        raise InvalidInputError(f"there is no pool {pool!r}; `sublet pool ls` lists them")
    ladders = [{"pool": item["name"], **_get(f"/v1/surplus/{item['id']}")} for item in pools]
    if as_json:
        print_json({"pools": ladders})
        return
    for ladder in ladders:
        _print_ladder(ladder)


def _print_ladder(ladder: dict[str, Any]) -> None:
    evidence = ladder["evidence"]
    typer.echo(
        f"{ladder['pool']}: {ladder['capacity']} accelerators, the owner uses {evidence['in_use']:g}, "
        f"{ladder['sold']} sold, {ladder['on_sale']} on sale ({evidence['history_s'] / 3600:.0f} h of history)"
    )
    rows = [
        {
            "class": rung["class"],
            "window": f"{rung['window_s'] / 3600:g} h",
            "count": rung["count"],
            "alone": rung["alone"],
            "withheld": "; ".join(item["sentence"] for item in rung["withheld"]),
        }
        for rung in ladder["rungs"]
    ]
    columns = {"class": "class", "window": "window", "count": "on sale", "alone": "if alone", "withheld": "withheld"}
    print_rows(rows, columns, "nothing is on sale")
    for note in ladder["notes"]:
        typer.echo(f"  {note}")


def _get(path: str) -> dict[str, Any]:
    url = os.environ.get("SUBLET_URL", URL_DEFAULT).rstrip("/")
    key = os.environ.get("SUBLET_KEY", "")
    if not key:
        raise InvalidInputError("set SUBLET_KEY to the operator's key (and SUBLET_URL to where Sublet runs)")
    try:
        with httpx2.Client(timeout=TIMEOUT_S, trust_env=False) as client:
            answer = client.get(f"{url}{path}", headers={"Authorization": f"Bearer {key}"})
        found = answer.json()
    except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
        raise UnavailableError(
            f"Sublet does not answer at {url} ({error}); start it with `sublet up` or set SUBLET_URL"
        ) from error
    if not answer.is_success or not isinstance(found, dict):
        told = found.get("error", {}) if isinstance(found, dict) else {}
        kind = all_error_types().get(str(told.get("code")), SubletError)
        raise kind(told.get("message") or f"Sublet answered {answer.status_code}")
    return found
