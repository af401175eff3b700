"""`sublet up`, `serve`, `demo`, `doctor`, `plan`, `status` and `db`: the system as a whole."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.config import settings as settings_module
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError, UnavailableError
from sublet.values.plan import Plan, plan_from_dict

DOWN_S_MAX = 20.0

database = typer.Typer(no_args_is_help=True, help="The database.")


def _config() -> Path | None:
    named = os.environ.get(settings_module.FILE_VARIABLE)
    return Path(named) if named else None


def up(as_json: JsonFlag = False) -> None:
    """Run the system until Ctrl-C: control plane, gateway and engines. Leases run on when it ends, and the next start finds them."""
    from sublet.launch.running import Running
    from sublet.screen import Screen

    running = Running(settings_module.load(), _config())
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
        with screen.status("Sublet ends: answers under way are finished (Ctrl-C again: at once) …"):
            running.end()
    say("Sublet has ended. Leases run on until their windows end; `sublet down --end-leases` ends them.", err=True)


def down(
    end_leases: Annotated[
        bool, typer.Option("--end-leases", help="Also end every lease of this machine, at once and for good.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Stop the system that runs on this data directory. Leases run on, unless --end-leases says otherwise."""
    from sublet.launch import running

    settings = settings_module.load()
    stopped = running.stop_running(settings.data_dir, settings.gateway.drain_s_max + DOWN_S_MAX)
    ended = running.end_leases(settings) if end_leases else []
    if as_json:
        print_json({"stopped": stopped, "leases_ended": ended})
        return
    say("Sublet has ended." if stopped else f"nothing runs on {settings.data_dir}")
    if end_leases:
        say(f"{len(ended)} leases ended" + (f": {', '.join(ended)}" if ended else ""))


def demo(
    as_json: JsonFlag = False,
    keep: Annotated[bool, typer.Option(help="Keep the demo's data when it is over.")] = False,
) -> None:
    """Play the whole story on this machine: own, need, spare, sell, reclaim, earn, worth."""
    from sublet.story.demo import play

    play(settings_module.load(), as_json=as_json, keep=keep)


def doctor(as_json: JsonFlag = False) -> None:
    """Say what this machine can do, what is missing, and what follows from it. Exit code 1 if something is missing."""
    from rich.markup import escape

    from sublet.launch import doctor as examination
    from sublet.screen import Screen

    settings = settings_module.load()
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
    """Show whether the system runs here, and where."""
    from sublet.config.data_dir import running_system

    settings = settings_module.load()
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


def plan(
    since: Annotated[
        Path | None, typer.Option(help="An earlier plan, saved from --json: show only what changed since.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what the system will do next, before it does it, and every change that waits; nothing is carried out.

    With SUBLET_KEY the running system at SUBLET_URL is asked; without, or where none runs, the database of these settings.
    """
    from sublet.values.plan import diff

    before = _saved_plan(since) if since is not None else None
    made = _next_plan()
    if before is not None:
        lines = diff(before, made)
        if as_json:
            print_json({"since": format_time(before.made_at), "changes": lines})
        else:
            say("\n".join(lines) or "nothing changed")
        return
    if as_json:
        print_json(made.as_dict())
        return
    columns = {"at": "when", "kind": "step", "subject": "what", "reason": "why"}
    rows: list[dict[str, Any]] = [step.as_dict() for step in made.steps]
    waiting: list[dict[str, Any]] = [step.as_dict() for step in made.pending]
    print_rows(
        rows, columns, "nothing to do now" if waiting else "nothing to do: all is as intended, and nothing waits"
    )
    if waiting:
        say("waiting for their time, for room, or for somebody else:")
        print_rows(waiting, columns, "")


def _next_plan() -> Plan:
    """Only the running system knows what its backends hold; a system that does not run is told by its database."""
    from sublet.client.profiles import KEY_VARIABLE
    from sublet.client.remote import connect
    from sublet.wiring.system import Sublet

    if os.environ.get(KEY_VARIABLE):
        try:
            return plan_from_dict(connect().get("/v1/plan")["next"])
        except UnavailableError as error:
            say(f"{error.message}; this is the plan by the database", err=True)
    system = Sublet(settings_module.load())
    try:
        return system.plan()
    finally:
        system.close()


def _saved_plan(path: Path) -> Plan:
    """A plan as `--json` printed it. Raises InvalidInputError."""
    try:
        return plan_from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidInputError(f"{path} can't be read ({error.strerror}); name a plan saved from --json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path} is no plan; save one with `sublet plan --json > {path.name}`") from error


def serve(
    process: Annotated[str, typer.Argument(help="control, gateway or engines.")],
    fd: Annotated[int | None, typer.Option(help="Listening socket handed down by `sublet up`.", hidden=True)] = None,
    supervised: Annotated[bool, typer.Option(help="End with the parent.", hidden=True)] = False,
) -> None:
    """Run one process of the system on its own, for example several gateways against one PostgreSQL."""
    from sublet.launch import processes, supervisor

    if supervised:
        supervisor.live_on_pipe()
    processes.run(process, settings_module.load(), fd)


@database.command("migrate")
def migrate() -> None:
    """Migrate the database to the schema of this version; `sublet up` does this too."""
    from sublet.store import Store
    from sublet.store.schema import migrate as upgrade

    settings = settings_module.load()
    store = Store(settings.database_url)
    upgrade(store)
    store.close()
    say("the database has the schema of this version")
