"""`sublet demo`: the story on a system of its own, shown as it happens, with a one-screen summary at the end."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import typer

from sublet.config.settings import Settings
from sublet.fleet import discovery
from sublet.leases.backends.local.host import probe
from sublet.output import print_json, say
from sublet.screen import Screen
from sublet.shown import counted, money_text, with_local_times
from sublet.simulation.week import RECLAIM_SHARE, play_week
from sublet.story.stage import Stage, UpProcess
from sublet.story.steps import STEPS, plain
from sublet.values.errors import SubletError
from sublet.wiring.system import local_backend

TITLES = {
    "own": "Own: what is there",
    "need": "Need: what the owner uses",
    "spare": "Spare: what may be sold, and why the rest is not",
    "sell_raw": "Sell raw: a lease with SSH",
    "sell_managed": "Sell managed: the model API",
    "reclaim": "The owner needs it back",
    "earn": "Earn: to the last cent, and proved",
    "worth": "Worth: what it comes to",
    "week": "Thursday to Monday on a simulated fleet",
}
NEEDS_ISOLATION = ("sell_raw", "reclaim")
NOTICE_S = 10
SLICES_PER_CORE = 2


def play(settings: Settings, *, as_json: bool, keep: bool, watch: bool = False) -> None:
    """Play the story and print the summary. Exit code 0 where every step that this machine allows was played. With `watch`, the
    system stays until Ctrl-C, before the summary."""
    screen = Screen(stderr=True, soft_wrap=True, highlight=False)
    folder = settings.data_dir / "demo"
    started = time.monotonic()
    clear(folder)
    theatre = UpProcess(write_settings(folder))
    stage = Stage(theatre, lambda sentence: screen.print(f"   {with_local_times(sentence)}", markup=False))
    results: dict[str, Any] = {}
    problem: SubletError | None = None
    try:
        with screen.status("the system starts: control plane, gateway, engine …"):
            theatre.start()
        screen.print(
            f"Sublet runs for this demo: console {theatre.address('control')}, model API {theatre.address('gateway')}"
        )
        problem = _steps(stage, screen, results)
        if problem is None:
            results["week"] = _week(stage, screen, folder / "week")
            if watch:
                _stay(stage, screen)
    except SubletError as error:
        problem = error
        screen.print(f"   {error.message}", style="red", markup=False)
    finally:
        stage.close()
        with screen.status("everything that was started is ended …"):
            results["ended_in_s"] = round(theatre.stop(), 1)
            left = clear(folder, keep=keep or problem is not None)
    results["left_behind"] = left
    results["seconds"] = round(time.monotonic() - started, 1)
    results["ok"] = problem is None and not left
    if problem is not None:
        results["problem"] = problem.message
    if as_json:
        print_json(results)
    else:
        screen.print("")
        say(summary(results, folder if keep or problem is not None else None))
    if not results["ok"]:
        raise typer.Exit(1)


def _steps(stage: Stage, screen: Screen, results: dict[str, Any]) -> SubletError | None:
    can = probe()
    for number, (name, step) in enumerate(STEPS.items(), 1):
        screen.print(f"\n[bold]{number}. {TITLES[name]}[/bold]")
        if name in NEEDS_ISOLATION and can.reason:
            refusal = f"raw leases are refused on this machine: {can.reason}. {can.cure}"
            stage.say(refusal)
            results[name] = {"refused": refusal}
            continue
        began = time.monotonic()
        try:
            results[name] = played(step, stage, refused=bool(can.reason))
        except SubletError as error:
            screen.print(f"   {error.message}", style="red", markup=False)
            return error
        results[name]["seconds"] = round(time.monotonic() - began, 1)
    return None


def _week(stage: Stage, screen: Screen, folder: Path) -> dict[str, Any]:
    """Days on a simulated fleet, in seconds."""
    screen.print(f"\n[bold]{len(STEPS) + 1}. {TITLES['week']}[/bold]")
    began = time.monotonic()
    with screen.status("days of demand are replayed …"):
        found = play_week(folder)
    stage.say(
        f"{found.accelerators:,} simulated accelerators for Thursday to Monday: {found.leases} leases of "
        f"{len(found.bills)} customers, decided and billed by the same code"
    )
    stage.say(
        f"sold: {found.sold_share:.0%} of the idle hours; a static reserve at the owner's highest demand: {found.reserve_share:.0%}"
    )
    stage.say(
        f"Monday, 9:00: a training run claims {RECLAIM_SHARE:.0%} of the fleet; {counted(found.reclaimed, 'lease')} made way, "
        f"{found.late or 'nobody'} late"
    )
    for bill in found.bills:
        stage.say(f"  invoice {bill.number}, {bill.customer}: {money_text(bill.total)} {bill.currency}")
    return {**found.as_dict(), "seconds": round(time.monotonic() - began, 1)}


def _stay(stage: Stage, screen: Screen) -> None:
    """Keep the system running until Ctrl-C."""
    console = stage.theatre.address("control").replace("//127.0.0.1:", "//localhost:", 1)
    screen.print(
        f"\nThe console is open at {console}; under *Sign in with a key*, paste {stage.operator.key}", markup=False
    )
    screen.print("Ctrl-C ends the demo and removes its data.")
    with contextlib.suppress(KeyboardInterrupt):
        threading.Event().wait()


def played(step: Callable[[Stage], dict[str, Any]], stage: Stage, *, refused: bool) -> dict[str, Any]:
    """One step. Where raw leases are refused, the bill has only the model's part."""
    if refused:
        stage.facts.setdefault("lease", {"accelerator_seconds": 0})
    return step(stage)


def write_settings(folder: Path) -> Path:
    """The demo's own settings: free ports, a short notice, and cores cut into slices so that two cores suffice."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = discovery.discover()
    count = len(found.devices) * (SLICES_PER_CORE if found.generation == "cpu" else 1)
    price = Decimal("0.05") if found.generation == "cpu" else Decimal("2.00")
    path = folder / "sublet.toml"
    path.write_text(
        f'data_dir = "{folder}"\n\n'
        "[control]\nport = 0\ntick_s = 0.5\n\n"
        "[gateway]\nport = 0\n\n"
        "[demand]\nsample_interval_s = 0.5\n\n"
        f"# A real notice is minutes; the demo's is {NOTICE_S} s so that you see it end.\n[classes.notice]\nnotice_s = {NOTICE_S}\n\n"
        f'[[pools]]\nname = "this-machine"\naccelerators = {count}\nprice_per_accelerator_hour = "{price}"\n'
    )
    return path


def clear(folder: Path, keep: bool = False) -> list[str]:
    """End what an earlier run may have left, then remove the folder; what could not be proved gone."""
    config = folder / "sublet.toml"
    if not config.exists():
        return []
    earlier = UpProcess(config)
    for pid in earlier.pids().values():
        try:
            os.kill(pid, 15)
        except OSError:
            continue
    backend = local_backend(earlier.settings)
    left = [f"lease {seen.lease_id}" for seen in backend.reap(frozenset()) if not seen.clean]
    if not keep and not left:
        shutil.rmtree(folder, ignore_errors=True)
    return left


def summary(results: dict[str, Any], kept: Path | None) -> str:
    """The story on one screen."""
    lines = ["", "Sublet on this machine" if results["ok"] else "The story stopped early", ""]
    for name, tell in _TELL.items():
        found = results.get(name)
        title = TITLES[name].split(":")[0].removesuffix(" on a simulated fleet")
        if found is None:
            lines.append(f"  {title:24} not played")
        elif "refused" in found:
            lines.append(f"  {title:24} refused: {found['refused']}")
        else:
            lines.append(f"  {title:24} {with_local_times(tell(found))}")
    left = (
        "nothing was left behind" if not results["left_behind"] else f"left behind: {', '.join(results['left_behind'])}"
    )
    lines += ["", f"  {results['seconds']} s in all; ended in {results['ended_in_s']} s; {left}."]
    if kept is not None:
        lines.append(f"  Its data and logs: {kept}")
    if "problem" in results:
        lines += ["", f"  {results['problem']}"]
    return "\n".join(lines)


_TELL: dict[str, Callable[[dict[str, Any]], str]] = {
    "own": lambda f: f"{f['accelerators']} accelerators ({f['generation']}), {f['watts_per_accelerator']} W each",
    "need": lambda f: f"{f['in_use_now']:g} in use by the owner; {f['imported_hours']} hours of history imported",
    "spare": lambda f: "on sale: " + ", ".join(f"{count} {name}" for name, count in f["on_sale"].items()),
    "sell_raw": lambda f: f"{f['lease']}, {plain(f['quote']['total'])} {f['quote']['currency']} quoted, SSH login seen",
    "sell_managed": lambda f: f"{f['model']}: {f['tokens_input']} tokens in, {f['tokens_output']} out, streamed",
    "reclaim": lambda f: f"notice seen inside, ended {f['ended_at']}, credit {plain(f['credit'])}",
    "earn": lambda f: (
        f"{f['invoice']}: {plain(f['total'])} {f['currency']}; proved from {f['events']} events, "
        f"difference {plain(f['difference'])}"
    ),
    "worth": lambda f: (
        f"{f['per_accelerator_hour']:.4f} USD per accelerator-hour sold on this machine"
        if f.get("per_accelerator_hour") is not None
        else "nothing sold"
    ),
    "week": lambda f: (
        f"{f['accelerators']:,} simulated accelerators: {f['sold_share']:.0%} of the idle hours sold (a static reserve: "
        f"{f['reserve_share']:.0%}), {f['late'] or 'nobody'} late on Monday, invoices of "
        f"{money_text(str(sum(Decimal(bill['total']) for bill in f['bills'])))} {f['bills'][0]['currency']}"
    ),
}
