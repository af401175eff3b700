"""`sublet surplus`: what is on sale, and why the rest is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from sublet.client.remote import connect
from sublet.config import settings
from sublet.demand.feeds.csv_series import read_series
from sublet.demand.model import Series
from sublet.demand.service import Demand
from sublet.fleet.service import Fleet
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.surplus.backtest.backtest import Backtest, pieces, prepare
from sublet.surplus.backtest.backtest import backtest as run_backtest
from sublet.surplus.backtest.page import page
from sublet.surplus.backtest.scoring import Trace
from sublet.surplus.backtest.shadow import Report, Terms
from sublet.surplus.backtest.shadow import shadow as run_shadow
from sublet.values.clock import SystemClock
from sublet.values.errors import InvalidInputError
from sublet.values.money import Money
from sublet.values.service_classes import LONG_SHARE

if TYPE_CHECKING:
    from rich.progress import Progress

FILES_MAX = 200
WINDOW_HOURS_MAX = 168


def surplus(
    pool: Annotated[str | None, typer.Argument(help="Pool, by id or name; all pools if left out.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what is on sale now per class and window, and the reason for each accelerator withheld.

    Asks the running service, with an operator's or a team's key.
    """
    remote = connect()
    pools = [
        item
        for item in remote.collected("fleet.list_pools")["pools"]
        if pool is None or pool in (item["id"], item["name"])
    ]
    if pool is not None and not pools:
        raise InvalidInputError(f"there is no pool {pool!r}; `sublet pool ls` lists them")
    ladders = [{"pool": item["name"], **remote.get(f"/v1/surplus/{item['id']}")} for item in pools]
    if as_json:
        print_json({"pools": ladders})
        return
    for ladder in ladders:
        _print_ladder(ladder)


def record(
    pool: Annotated[str | None, typer.Argument(help="Pool, by id or name; all pools if left out.")] = None,
    days: Annotated[int, typer.Option(min=1, max=400, help="How many days back.")] = 90,
    as_json: JsonFlag = False,
) -> None:
    """Show what was promised against what happened, per class and window length.

    Two sources, side by side: the leases that were sold and are over, and the shadow that sells on paper, hour by hour, what
    the same rule would have sold. And how far each length is tightened or loosened by its record now, since when, and why.
    """
    found = connect().collected("surplus.list_record", query={"days": days, "pool": pool})
    if as_json:
        print_json(found)
        return
    for item in found["pools"]:
        _print_record(item)
    if not found["pools"]:
        say("no pools yet; `sublet up` finds this machine's own")


def backtest(
    files: Annotated[list[Path], typer.Argument(help="CSV files with time,capacity,in_use, one pool each.")],
    windows: Annotated[str, typer.Option(help="Window lengths in hours, separated by commas.")] = "1,4,12,24",
    per_1000: Annotated[float, typer.Option("--broken-per-1000", help="Promises per 1,000 that may break.")] = 10.0,
    long_share: Annotated[
        float,
        typer.Option(
            "--long-share", help="Of what could be sold for the shortest window, how much may be sold longer."
        ),
    ] = LONG_SHARE,
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
    _accepted(per_1000, long_share)
    if page_file is not None and (page_file.is_dir() or not page_file.absolute().parent.is_dir()):
        raise InvalidInputError(f"{page_file} can't be written; name a file in a directory that is there")
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

        result = run_backtest(
            [trace for trace, _ in prepared], lengths, per_1000 / 1000, advance, long_share=long_share
        )
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
        say(f"charts: {page_file}")


def shadow(
    files: Annotated[
        list[Path] | None, typer.Argument(help="CSV files with time,capacity,in_use; the database's pools if left out.")
    ] = None,
    pool: Annotated[str | None, typer.Option(help="Only this pool of the database, by id or name.")] = None,
    windows: Annotated[str, typer.Option(help="Window lengths in hours, separated by commas.")] = "1,4,12,24",
    per_1000: Annotated[float, typer.Option("--broken-per-1000", help="Promises per 1,000 that may break.")] = 10.0,
    long_share: Annotated[
        float,
        typer.Option(
            "--long-share", help="Of what could be sold for the shortest window, how much may be sold longer."
        ),
    ] = LONG_SHARE,
    price: Annotated[str, typer.Option(help="Price of an accelerator-hour.")] = "1.00",
    currency: Annotated[str, typer.Option(help="ISO 4217 code of the price.")] = "USD",
    warmup_days: Annotated[
        int | None, typer.Option(min=1, help="Days of history to learn from before selling.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Decide as if selling, sell nothing, and report what would have been sold, earned and taken back.

    Run it on the demand that the running system has recorded, without what the settings keep in reserve, or on CSV files
    of one's own. A window that breaks would be credited in full.
    """
    lengths = _window_lengths(windows)
    _accepted(per_1000, long_share)
    terms = Terms(per_1000 / 1000, Money.of(price, currency), long_share=long_share)
    if files and pool is not None:
        raise InvalidInputError("--pool names a pool of the database; leave it out where there are files, or the files")
    kept: dict[str, int] = {}
    found = [read_series(file) for file in files] if files else _recorded(pool, kept)
    prepared, left_out = _prepared(found, warmup_days, or_refuse=bool(files) or len(found) == 1)
    reports = []
    with _progress() as progress:
        task = progress.add_task("shadow", total=len(prepared))
        for trace, notes in prepared:
            progress.update(task, description=f"shadow {trace.name}")
            if kept.get(trace.name):
                notes.append(f"{trace.name}: {kept[trace.name]} accelerators are kept in reserve and were not sold")
            reports.append(replace(run_shadow(trace, lengths, terms), notes=tuple(notes)))
            progress.update(task, advance=1)
    if as_json:
        print_json({"pools": [report.as_dict() for report in reports], "left_out": left_out})
        return
    for report in reports:
        _print_shadow(report)
    for item in left_out:
        say(f"left out: {item['why']}")


def _prepared(
    found: Sequence[Series], warmup_days: int | None, *, or_refuse: bool
) -> tuple[list[tuple[Trace, list[str]]], list[dict[str, str]]]:
    """The traces of all that have enough history, and why others have not. Refuses the first such with `or_refuse`, and
    where none has enough."""
    prepared, left_out = [], []
    for series in found:
        try:
            prepared.append(prepare(series, warmup_days))
        except InvalidInputError as error:
            if or_refuse:
                raise
            left_out.append({"pool": series.pool, "why": error.message})
    if not prepared:
        raise InvalidInputError(f"no pool has enough history: {'; '.join(item['why'] for item in left_out)}")
    return prepared, left_out


def _accepted(per_1000: float, long_share: float) -> None:
    if not 0 < per_1000 <= 1000:
        raise InvalidInputError(f"--broken-per-1000 is {per_1000}; write a number above 0, at most 1000")
    if not 0 <= long_share <= 1:
        raise InvalidInputError(f"--long-share is {long_share}; write a number from 0 to 1")


def _recorded(pool: str | None, kept: dict[str, int]) -> list[Series]:
    """The demand of the database's pools, over what their reserves leave of them; `kept` is told what that is."""
    loaded = settings.load()
    store = Store(loaded.database_url)
    migrate(store)
    demand, fleet = Demand(store, loaded.demand.history_days), Fleet(store)
    # Of an hour that is not over nobody knows yet how much of it was needed.
    now = SystemClock().now().replace(minute=0, second=0, microsecond=0)
    pools = [fleet.pool(pool)] if pool else fleet.pools()
    found = []
    for item in pools:
        series = demand.history(item.id, now - timedelta(days=loaded.demand.history_days), now)
        if len(series):
            stated = next((one for one in loaded.pools if one.name == item.name), None)
            kept[item.name] = stated.reserve + stated.failure_reserve if stated else 0
            capacity = np.maximum(series.capacity - kept[item.name], 0.0)
            found.append(replace(series, pool=item.name, capacity=capacity))
    if not found:
        raise InvalidInputError("no demand is recorded yet; import a CSV with `sublet demand import`, or name files")
    return found


def _print_shadow(report: Report) -> None:
    told = report.as_dict()
    say(
        f"{report.pool}: {report.since} to {report.until}: {100 * told['sold_share_of_idle']:.1f} % of "
        f"{report.idle_hours} idle hours would have been sold and kept, which earns {report.earned}; "
        f"broken windows of another {report.credited} would have been credited back"
    )
    rows = [
        {
            "window": window,
            "started": by["started"],
            "honored": by["honored"],
            "broken": by["broken"],
            "promised": f"{by['promised_broken_per_1000']:g}",
            "happened": f"{by['broken_per_1000']:.1f}",
            "ratio": f"{report.calibration[window]:.2f}",
        }
        for window, by in report.windows.items()
    ]
    columns = {
        "window": "window",
        "started": "started",
        "honored": "honored",
        "broken": "broken",
        "promised": "promised /1000",
        "happened": "happened /1000",
        "ratio": "broken ÷ expected",
    }
    print_rows(rows, columns, "nothing would have been sold")
    if report.break_hours > len(report.breaks):
        say(f"  the {len(report.breaks)} largest of {report.break_hours} hours in which something was taken back:")
    for item in report.breaks:
        say(f"  {item['at']}: {item['accelerators']} taken back")
    for note in report.notes:
        say(f"  {note}")


def _window_lengths(text: str) -> tuple[int, ...]:
    try:
        lengths = tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise InvalidInputError(f"--windows is {text!r}; write whole hours such as 1,4,12,24") from error
    if not lengths or lengths[0] < 1 or lengths[-1] > WINDOW_HOURS_MAX:
        raise InvalidInputError(f"--windows is {text!r}; use from 1 to {WINDOW_HOURS_MAX} hours")
    return lengths


def _progress() -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from sublet.screen import Screen

    columns = (TextColumn("{task.description:40}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=Screen(stderr=True), transient=True)


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
        say(f"\n{name}: share of the hindsight bound @ broken per 1,000 (displaced)")
        print_rows(rows, {key: key for key in rows[0]}, "")
    for order, found in result.ladder.items():
        broken = ", ".join(f"{window} {by['broken_per_1000']:.1f}" for window, by in found["windows"].items())
        say(
            f"ladder, {order.replace('_', ' ')}: {found['sold_share_of_idle']:.3f} of idle hours sold; "
            f"broken per 1,000: {broken}; {found['lost_hours']} h of work lost"
        )
    for note in result.notes:
        say(f"  {note}")


def _print_ladder(ladder: dict[str, Any]) -> None:
    evidence = ladder["evidence"]
    say(
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
        say(f"  {note}")


def _print_record(told: dict[str, Any]) -> None:
    leases, shadow = told["leases"], told["shadow"]
    say(f"{told['pool']}, the last {told['days']} days")
    say(f"\n  leases that were sold, over since {leases['since'][:10]}")
    _print_figures(leases["figures"], "no lease is over yet")
    lived = f"{shadow['hours']:,} h since {shadow['since'][:10]}" if shadow["since"] else "no demand is recorded yet"
    if shadow["hours_without_samples"]:
        lived += f", {shadow['hours_without_samples']:,} h of them without samples"
    if shadow["hours_to_come"]:
        lived += f"; {shadow['hours_to_come']:,} h are still to be lived through"
    say(f"\n  the shadow, which sells on paper alone: {lived}")
    _print_figures(shadow["figures"], "nothing would have been sold")
    for item in told["tuning"]:
        say(f"  {item['sentence']}")
    say("")


def _print_figures(figures: list[dict[str, Any]], empty: str) -> None:
    rows = [
        {
            "class": item["class"],
            "window": f"{item['window_s'] / 3600:g} h",
            "over": f"{item['windows']:,}",
            "kept": f"{item['kept'] + item['released']:,}",
            "broken": f"{item['broken']:,}",
            "bound": f"{item['share_of_bound']:.3f}" if item["share_of_bound"] is not None else "",
            "says": item["sentence"],
        }
        for item in figures
    ]
    columns = {
        "class": "class",
        "window": "window",
        "over": "over",
        "kept": "kept",
        "broken": "broken",
        "bound": "of the bound",
        "says": "what it says",
    }
    print_rows(rows, columns, empty)
