"""`sublet surplus`: what is on sale, and why the rest is not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import httpx2
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sublet.demand.csv_series import read_series
from sublet.output import JsonFlag, print_json, print_rows
from sublet.surplus.benchmark.backtest import Backtest, pieces, prepare
from sublet.surplus.benchmark.backtest import backtest as run_backtest
from sublet.surplus.benchmark.page import page
from sublet.values.errors import InvalidInputError, SubletError, UnavailableError, all_error_types

URL_DEFAULT = "http://127.0.0.1:8080"
TIMEOUT_S = 30.0
FILES_MAX = 200
WINDOW_HOURS_MAX = 168


def surplus(
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


def backtest(
    files: Annotated[list[Path], typer.Argument(help="CSV files with time,capacity,in_use, one pool each.")],
    windows: Annotated[str, typer.Option(help="Window lengths in hours, separated by commas.")] = "1,4,12,24",
    per_1000: Annotated[float, typer.Option("--broken-per-1000", help="Promises per 1,000 that may break.")] = 10.0,
    warmup_days: Annotated[
        int | None, typer.Option(min=1, help="Days before scoring begins; 28, or fewer for a short series.")
    ] = None,
    page_file: Annotated[Path | None, typer.Option("--page", help="Write a page with charts to this file.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Score Sublet and simpler policies on past demand: what each would have sold, and how many promises it broke.

    Nothing is sold and nothing is stored. The same files give the same numbers to the last digit.
    """
    lengths = _window_lengths(windows)
    if not 0 < per_1000 <= 1000:
        raise InvalidInputError(f"--broken-per-1000 is {per_1000}; write a number above 0, at most 1000")
    if len(files) > FILES_MAX:
        raise InvalidInputError(f"{len(files)} files; give at most {FILES_MAX} at once")
    prepared = [prepare(read_series(file), warmup_days) for file in files]
    names = [trace.name for trace, _ in prepared]
    if len(set(names)) < len(names):
        raise InvalidInputError("two files have the same name; a pool's name is its file's name, so rename one")
    with _progress() as progress:
        task = progress.add_task("backtest", total=pieces(len(files), len(lengths)))

        def advance(what: str) -> None:
            progress.update(task, advance=1, description=what)

        result = run_backtest([trace for trace, _ in prepared], lengths, per_1000 / 1000, advance)
    result.notes += [note for _, notes in prepared for note in notes]
    if page_file is not None:
        try:
            page_file.write_text(page(result, per_1000 / 1000), encoding="utf-8")
        except OSError as error:
            raise InvalidInputError(f"{page_file} can't be written ({error.strerror}); name another file") from error
    if as_json:
        print_json(result.as_dict())
        return
    _print_backtest(result)
    if page_file is not None:
        typer.echo(f"charts: {page_file}")


def _window_lengths(text: str) -> tuple[int, ...]:
    try:
        lengths = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise InvalidInputError(f"--windows is {text!r}; write whole hours such as 1,4,12,24") from error
    if not lengths or lengths[0] < 1 or lengths[-1] > WINDOW_HOURS_MAX:
        raise InvalidInputError(f"--windows is {text!r}; use from 1 to {WINDOW_HOURS_MAX} hours")
    return lengths


def _progress() -> Progress:
    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)


def _print_backtest(result: Backtest) -> None:
    for name, found in {"all pools": result.pooled, **result.pools}.items():
        if name != "all pools" and len(result.pools) == 1:
            continue
        rows = [
            {
                "policy": policy,
                **{
                    window: f"{by['share']:.3f} @ {by['broken_per_1000']:.1f} ({100 * by['displaced_share']:.2f} %)"
                    for window, by in windows.items()
                },
            }
            for policy, windows in found.items()
        ]
        typer.echo(f"\n{name}: share of the hindsight bound @ broken per 1,000 (displaced)")
        print_rows(rows, {key: key for key in rows[0]}, "")
    for order, found in result.ladder.items():
        broken = ", ".join(f"{window} {by['broken_per_1000']:.1f}" for window, by in found["windows"].items())
        typer.echo(
            f"ladder, {order.replace('_', ' ')}: {found['sold_share_of_idle']:.3f} of idle hours sold; "
            f"broken per 1,000: {broken}; {found['lost_hours']} h of work lost"
        )
    for note in result.notes:
        typer.echo(f"  {note}")


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
