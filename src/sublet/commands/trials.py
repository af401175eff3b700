"""`sublet backtest` and `sublet shadow`: what selling would have come to, on files of one's own or on what was recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.client.remote import LONG_S, connect
from sublet.output import JsonFlag, note, print_json, print_rows, progress, say, waiting, write_page
from sublet.shown import time_text
from sublet.values.errors import InvalidInputError

if TYPE_CHECKING:
    from sublet.surplus.backtest.backtest import Backtest
    from sublet.surplus.backtest.classes import Asked
    from sublet.surplus.backtest.scoring import Trace

FILES_MAX = 200
WINDOWS = "1,4,12,24"
MINUTES_OF_PATIENCE = 60
"""Shadows live by the hour: less patience than that breaks as none."""

Windows = Annotated[str, typer.Option(help="Window lengths in hours, separated by commas.")]
Broken = Annotated[float, typer.Option("--broken-per-1000", help="Accepted broken promises per 1,000.")]
LongShare = Annotated[
    float | None,
    typer.Option(
        "--long-share",
        help="Share of the capacity for the shortest window that may be sold for longer; by default as in live selling.",
    ),
]


def backtest(
    files: Annotated[list[Path], typer.Argument(help="CSV files with time,capacity,in_use, one per pool.")],
    windows: Windows = WINDOWS,
    per_1000: Broken = 10.0,
    long_share: LongShare = None,
    warmup_days: Annotated[
        int | None, typer.Option(min=1, help="Days before scoring begins; 28, or fewer for a short series.")
    ] = None,
    page_file: Annotated[Path | None, typer.Option("--page", help="Write a page with charts to this file.")] = None,
    class_name: Annotated[
        str, typer.Option("--class", help="Score only this class, as its record would limit it: firm or deadline.")
    ] = "",
    within: Annotated[str, typer.Option(help="With --class deadline: deadline of the orders, such as 24h.")] = "24h",
    patience: Annotated[int, typer.Option(min=0, max=1440, help="Minutes that the owner's own work can wait.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Score Sublet and simpler policies on past demand: what each would have sold, and how many promises it broke.

    With --class, one class as the budget and the monitor sell it, and where its record would stand. Nothing is sold and
    nothing is stored. The same files give the same numbers to the last digit.
    """
    from sublet.demand.feeds.csv_series import read_series
    from sublet.surplus.backtest import backtest as benchmark
    from sublet.surplus.backtest.classes import Asked
    from sublet.surplus.backtest.page import page
    from sublet.surplus.backtest.trial import checked_shares, checked_windows
    from sublet.values.service_classes import LONG_SHARE

    lengths, share = _window_lengths(windows), LONG_SHARE if long_share is None else long_share
    checked_windows(lengths)
    checked_shares(per_1000, share)
    if page_file is not None and (page_file.is_dir() or not page_file.absolute().parent.is_dir()):
        raise InvalidInputError(f"{page_file} can't be written; choose a file in a directory that exists")
    if len(files) > FILES_MAX:
        raise InvalidInputError(f"{len(files)} files were given; use at most {FILES_MAX} at once")
    prepared = [benchmark.prepare(read_series(file), warmup_days) for file in files]
    names = [trace.name for trace, _ in prepared]
    if len(set(names)) < len(names):
        raise InvalidInputError(
            "two files have the same name; each pool is named after its file, so rename one of them"
        )
    if class_name or patience:
        asked = Asked(class_name or "firm", lengths, per_1000 / 1000, _within(within), patience >= MINUTES_OF_PATIENCE)
        _try_class([trace for trace, _ in prepared], asked, page_file, as_json)
        return
    pieces, done = benchmark.pieces(len(files), len(lengths)), 0
    with progress("backtest") as tell:

        def advance(what: str) -> None:
            nonlocal done
            done += 1
            tell(done / pieces)

        result = benchmark.backtest(
            [trace for trace, _ in prepared], lengths, per_1000 / 1000, advance, long_share=share
        )
    result.notes += [item for _, notes in prepared for item in notes]
    write_page(page_file, lambda: page(result, per_1000 / 1000))
    if as_json:
        print_json(result.as_dict())
        return
    _print_backtest(result)
    if page_file is not None:
        say(f"charts: {page_file}")


def _try_class(traces: Sequence[Trace], asked: Asked, page_file: Path | None, as_json: bool) -> None:
    """One class as its record would have sold it, and what the monitor says of it at the end."""
    from sublet.surplus.backtest.classes import try_class
    from sublet.surplus.backtest.page import class_page

    done = 0
    with progress("backtest") as tell:

        def advance() -> None:
            nonlocal done
            done += 1
            tell(done / (len(traces) * len(asked.kept_hours)))

        tried = try_class(traces, asked, advance)
    write_page(page_file, lambda: class_page(tried, asked.risk))
    told = [item.as_dict() for item in tried]
    if as_json:
        print_json({"class": asked.class_name, "promised_per_1000": 1000 * asked.risk, "kinds": told})
        return
    rows = [
        {
            "pool": item["pool"],
            "kind": item["kind"],
            "share": f"{item['share']:.3f}",
            "idle": f"{item['sold_share_of_idle']:.3f}",
            "rate": f"{item['broken_per_1000']:.1f}",
            "broken": f"{item['broken']:,} of {item['promised']:,}",
            "worst": f"{item['worst_hour']:,}",
            "state": item["state"],
        }
        for item in told
    ]
    columns = {
        "pool": "pool",
        "kind": "kind",
        "share": "of the bound",
        "idle": "of all idle",
        "rate": "broken /1000",
        "broken": "broken",
        "worst": "worst hour",
        "state": "state",
    }
    print_rows(rows, columns, "nothing was tried")
    for item in told:
        stops = f"; the monitor raised {item['alarms']} alarms" if item["alarms"] else ""
        note(f"{item['pool']}, {item['kind']}: {item['verdict']}{stops}")
    if page_file is not None:
        say(f"charts: {page_file}")


def _within(text: str) -> int:
    try:
        return int(text.removesuffix("h"))
    except ValueError as error:
        raise InvalidInputError(f"--within is {text!r}; use a number of hours such as 24h") from error


def shadow(
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="CSV files with time,capacity,in_use; by default the history of the running system."),
    ] = None,
    pool: Annotated[str | None, typer.Option(help="Use only this pool of the running system, by id or name.")] = None,
    windows: Windows = WINDOWS,
    per_1000: Broken = 10.0,
    long_share: LongShare = None,
    price: Annotated[str, typer.Option(help="Price of an accelerator-hour.")] = "1.00",
    currency: Annotated[str, typer.Option(help="ISO 4217 code of the price.")] = "USD",
    warmup_days: Annotated[
        int | None, typer.Option(min=1, help="Days of history to learn from before selling starts.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Simulate selling and report what would have been sold, earned and taken back.

    Run it on the demand that the running system has recorded, without what the settings keep in reserve, or on CSV files
    of one's own. A window that breaks would be credited in full.
    """
    if files and pool is not None:
        raise InvalidInputError(
            "--pool and files can't be combined: --pool uses the history of a pool of the running system"
        )
    query = {
        "window_h": list(_window_lengths(windows)),
        "broken_per_1000": per_1000,
        "long_share": long_share,
        "price": price,
        "currency": currency,
        "warmup_days": warmup_days,
    }
    if files:
        found = _tried(files, query)
    else:
        with waiting("simulating on the recorded history"):
            found = connect(LONG_S).document("surplus.shadow", query=query | {"pool": pool})
    if as_json:
        print_json(found)
        return
    for report in found["pools"]:
        _print_shadow(report)
    for item in found["left_out"]:
        note(f"left out: {item['why']}", "")


def _tried(files: list[Path], query: Mapping[str, Any]) -> dict[str, Any]:
    """The same of files, computed here."""
    from sublet.demand.feeds.csv_series import read_series
    from sublet.surplus.backtest.trial import trial, tried
    from sublet.values.money import Money
    from sublet.values.service_classes import LONG_SHARE

    share = LONG_SHARE if query["long_share"] is None else query["long_share"]
    price = Money.of(query["price"], query["currency"])
    asked = trial(query["window_h"], query["broken_per_1000"], share, price, query["warmup_days"])
    found = [read_series(file) for file in files]
    with progress("shadow") as tell:
        return tried(found, asked, {}, lambda done, of: tell(done / of), or_refuse=True)


def _window_lengths(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as error:
        raise InvalidInputError(f"--windows is {text!r}; use whole hours such as {WINDOWS}") from error


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
        note(
            f"ladder, {order.replace('_', ' ')}: {found['sold_share_of_idle']:.3f} of idle hours sold; "
            f"broken per 1,000: {broken}; {found['lost_hours']} h of work lost",
            "",
        )
    for sentence in result.notes:
        note(sentence)


def _print_shadow(report: Mapping[str, Any]) -> None:
    note(
        f"{report['pool']}: {time_text(report['since'])} to {time_text(report['until'])}: "
        f"{100 * report['sold_share_of_idle']:.1f} % of {report['idle_hours']:,} idle hours would have been sold and kept, "
        f"which earns {report['earned']}; broken windows worth {report['credited']} would have been credited",
        "",
    )
    rows = [
        {
            "window": window,
            "started": by["started"],
            "honored": by["honored"],
            "broken": by["broken"],
            "promised": f"{by['promised_broken_per_1000']:g}",
            "happened": f"{by['broken_per_1000']:.1f}",
            "ratio": f"{report['broken_over_expected'][window]:.2f}",
        }
        for window, by in report["windows"].items()
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
    if report["reclaim_hours"] > len(report["reclaims"]):
        note(
            f"the {len(report['reclaims'])} largest of {report['reclaim_hours']} hours in which something was taken back:"
        )
    for item in report["reclaims"]:
        note(f"{time_text(item['at'])}: {item['accelerators']} taken back")
    for sentence in report["notes"]:
        note(sentence)
