"""`sublet surplus` and `sublet record`: what is on sale and why the rest is not, and what was promised before."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sublet.client.remote import connect, pool_named
from sublet.output import JsonFlag, note, print_json, print_rows, say
from sublet.shown import counted, history_text, span_text, time_text
from sublet.values.clock import parse_time

NO_POOLS = "no pools yet; `sublet up` detects this machine's own, and [[pools]] in sublet.toml defines others"


def surplus(
    pool: Annotated[str | None, typer.Argument(help="Pool, by id or name; by default all pools.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what is on sale now per class and window, and the reason for each accelerator withheld.

    Asks the running service, with an operator's or a team's key.
    """
    remote = connect()
    pools = [pool_named(remote, pool)] if pool is not None else remote.collected("fleet.list_pools")["pools"]
    ladders = [{"pool": item["name"], **remote.document("surplus.ladder", item["id"])} for item in pools]
    if as_json:
        print_json({"pools": ladders})
        return
    for ladder in ladders:
        _print_ladder(ladder)
    if not ladders:
        say(NO_POOLS)


def record(
    pool: Annotated[str | None, typer.Argument(help="Pool, by id or name; by default all pools.")] = None,
    days: Annotated[int, typer.Option(min=1, max=400, help="Number of past days.")] = 90,
    as_json: JsonFlag = False,
) -> None:
    """Show what was promised against what happened, per class and window length.

    Two sources, side by side: the leases that were sold and are over, and the shadow that sells on paper, hour by hour, what
    the same rule would have sold. Also shows how far each length is currently tightened or loosened by its record,
    since when, and why.
    """
    found = connect().collected("surplus.list_record", query={"days": days, "pool": pool})
    if as_json:
        print_json(found)
        return
    for item in found["pools"]:
        _print_record(item)
    if not found["pools"]:
        say(NO_POOLS)


def _print_ladder(ladder: dict[str, Any]) -> None:
    evidence = ladder["evidence"]
    uses = "is not yet known" if evidence["in_use"] is None else f"uses {evidence['in_use']:g}"
    history = history_text(evidence["history_s"])
    note(
        f"{ladder['pool']}: {counted(ladder['capacity'], 'accelerator')}, the owner {uses}, {ladder['sold']} sold, "
        f"{ladder['on_sale']} on sale ({history} of history)",
        "",
    )
    rows = [
        {
            "class": rung["class"],
            "window": span_text(rung["window_s"]),
            "count": rung["count"],
            "alone": rung["alone"],
            "withheld": "; ".join(item["sentence"] for item in rung["withheld"]),
        }
        for rung in ladder["rungs"]
    ]
    columns = {"class": "class", "window": "window", "count": "on sale", "alone": "if alone", "withheld": "withheld"}
    print_rows(rows, columns, "nothing is on sale")
    if ladder["orders"]:
        rows = [
            {
                "class": item["class"],
                "hours": f"{item['hours']} h within {item['within']} h",
                "count": item["count"],
                "limit": item["sentence"],
            }
            for item in ladder["orders"]
        ]
        print_rows(rows, {"class": "by a deadline", "hours": "service", "count": "on sale", "limit": "limited by"}, "")
    for item in ladder["promises"]:
        note(item["sentence"])
    for sentence in ladder["notes"]:
        note(sentence)


def _print_record(told: dict[str, Any]) -> None:
    leases, shadow = told["leases"], told["shadow"]
    say(f"{told['pool']}, the last {told['days']} days")
    say(f"\n  past leases, ended since {leases['since'][:10]}")
    _print_figures(leases["figures"], "no lease has ended yet")
    lived = (
        f"{shadow['hours']:,} h since {shadow['since'][:10]}" if shadow["since"] else "no demand has been recorded yet"
    )
    if shadow["hours_without_samples"]:
        lived += f", {shadow['hours_without_samples']:,} h of them without samples"
    if shadow["hours_to_come"]:
        lived += f"; {shadow['hours_to_come']:,} h remain to be simulated"
    say()
    note(f"the shadow (simulated sales): {lived}")
    _print_figures(shadow["figures"], "nothing would have been sold")
    _print_promises(told["promises"])
    for item in told["tuning"]:
        note(item["sentence"])
    say()


def _print_promises(promises: list[dict[str, Any]]) -> None:
    """What each kind of promise has earned, whether it was stopped, and when it opens."""
    if not promises:
        return
    say()
    note("What each kind of promise has earned in simulation, and how much may be at risk at once")
    rows = [
        {
            "promise": f"{item['class']} {item['hours']} h" + (f" within {item['within']} h" if item["within"] else ""),
            "state": item["state"],
            "supports": f"{item['supports']:,}",
            "sold": f"{item['sold']:,}",
            "broken": f"{item['broken']:,}",
            "rate": "" if item["broken_per_1000"] is None else f"{item['broken_per_1000']:.1f}",
            "opens": time_text(parse_time(item["opens_at"])) if item["opens_at"] else "",
        }
        for item in promises
    ]
    columns = {
        "promise": "promise",
        "state": "state",
        "supports": "supports",
        "sold": "sold",
        "broken": "broken",
        "rate": "broken /1000",
        "opens": "opens further",
    }
    print_rows(rows, columns, "")
    for item in promises:
        note(item["sentence"])


def _print_figures(figures: list[dict[str, Any]], empty: str) -> None:
    rows = [
        {
            "class": item["class"],
            "window": span_text(item["window_s"]),
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
