"""`sublet up`, `down`, `serve`, `demo`, `doctor` and `status`: the system on this machine."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sublet.output import JsonFlag, print_json, say

if TYPE_CHECKING:
    from sublet.config.settings import Settings

DOWN_S_MAX = 20.0
CONFIG_VARIABLE = "SUBLET_CONFIG"


def _config() -> Path | None:
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named) if named else None


def _settings() -> Settings:
    # Reading settings takes longer than a command's help should.
    from sublet.config import settings

    return settings.load()


def up(as_json: JsonFlag = False) -> None:
    """Run the system until Ctrl-C: control plane, gateway and engines. Leases keep running after it ends, and the next
    start finds them."""
    from sublet.launch.running import Running
    from sublet.screen import Screen

    running = Running(_settings(), _config())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: running.stop())
    screen = Screen(stderr=True)
    try:
        with screen.status("Sublet starts …"):
            running.start()
        if as_json:
            print_json(running.as_dict())
        else:
            say(running.welcome())
        running.run()
    finally:
        with screen.status("Stopping: requests in progress are finished (press Ctrl-C again to stop immediately) …"):
            running.end()
    say("Stopped. Leases keep running until their windows end; to end them, use `sublet down --end-leases`.", err=True)


def down(
    end_leases: Annotated[
        bool, typer.Option("--end-leases", help="Also end every lease on this machine immediately and permanently.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Stop the system that runs on this data directory. Leases keep running unless --end-leases is set."""
    from sublet.launch import running

    settings = _settings()
    stopped = running.stop_running(settings.data_dir, settings.gateway.drain_s_max + DOWN_S_MAX)
    ended = running.end_leases(settings) if end_leases else []
    if as_json:
        print_json({"stopped": stopped, "leases_ended": ended})
        return
    say("Sublet has ended." if stopped else f"nothing is running on {settings.data_dir}")
    if end_leases:
        say(f"{len(ended)} leases ended" + (f": {', '.join(ended)}" if ended else ""))


def demo(
    as_json: JsonFlag = False,
    keep: Annotated[bool, typer.Option(help="Keep the demo's data afterwards.")] = False,
    watch: Annotated[
        bool,
        typer.Option("--watch", help="Keep the system running after the story, with the console open, until Ctrl-C."),
    ] = False,
) -> None:
    """Play the whole story on this machine: own, need, spare, sell, reclaim, earn, worth; then some days on a simulated fleet."""
    from sublet.story.demo import play

    play(_settings(), as_json=as_json, keep=keep, watch=watch)


def doctor(as_json: JsonFlag = False) -> None:
    """Check what this machine can do, what is missing, and the consequences. Exit code 1 if something is missing."""
    from rich.markup import escape

    from sublet.launch import doctor as examination
    from sublet.screen import Screen

    settings = _settings()
    if as_json:
        checks = list(examination.examine(settings))
        print_json({"checks": [check.as_dict() for check in checks]})
    else:
        checks = []
        screen = Screen(soft_wrap=True, highlight=False)
        marks = {"ok": "[green]✓[/green]", "warning": "[yellow]![/yellow]", "missing": "[red]✗[/red]"}
        for check in examination.examine(settings):
            checks.append(check)
            screen.print(f"{marks[check.status]} [bold]{check.name:18}[/bold] {escape(check.found)}")
            if check.follows:
                screen.print(f"  {'':18} → {escape(check.follows)}")
            if check.cure:
                screen.print(f"  {'':18} [dim]to change that: {escape(check.cure)}[/dim]")
    if any(check.status == examination.BAD for check in checks):
        raise typer.Exit(1)


def status(as_json: JsonFlag = False) -> None:
    """Show whether the system is running on this machine, and where."""
    from sublet.config.data_dir import running_system

    settings = _settings()
    found = running_system(settings.data_dir)
    if as_json:
        print_json({"running": found is not None, "data_dir": str(settings.data_dir), **(found or {})})
    elif found is None:
        say(f"not running on {settings.data_dir}; `sublet up` starts it")
    else:
        say(f"running on {settings.data_dir}: process {found['pid']}\nconsole and API  {found['control']}")
        say(f"model API        {found['gateway']}/v1")
    if found is None:
        raise typer.Exit(1)


def serve(
    process: Annotated[str, typer.Argument(help="control, gateway or engines.")],
    fd: Annotated[int | None, typer.Option(help="Listening socket handed down by `sublet up`.", hidden=True)] = None,
    supervised: Annotated[bool, typer.Option(help="Exit when the parent process exits.", hidden=True)] = False,
) -> None:
    """Run one process of the system on its own, for example several gateways against one PostgreSQL."""
    from sublet.launch import processes, supervisor

    if supervised:
        supervisor.live_on_pipe()
    processes.run(process, _settings(), fd)
