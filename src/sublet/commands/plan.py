"""`sublet plan`: what the running Sublet will do next."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, seconds, with_local_times
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError
from sublet.values.plan import Plan, diff, plan_from_dict


def plan(
    since: Annotated[
        Path | None, typer.Option(help="An earlier plan, saved from --json: show only what changed since.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what the system will do next and every change that is waiting, without carrying anything out.

    Only the running system knows what its backends hold, so it is asked, with an operator's key.
    """
    before = _saved_plan(since) if since is not None else None
    made = plan_from_dict(connect().document("system.next_plan")["next"])
    if before is not None:
        lines = diff(before, made)
        if as_json:
            print_json({"since": format_time(before.made_at), "changes": lines})
        else:
            say(with_local_times("\n".join(lines)) or "nothing changed")
        return
    if as_json:
        print_json(made.as_dict())
        return
    columns: Columns = {"at": seconds("when"), "kind": "step", "subject": "what", "reason": "why"}
    rows: list[dict[str, Any]] = [step.as_dict() for step in made.steps]
    waiting: list[dict[str, Any]] = [step.as_dict() for step in made.pending]
    print_rows(rows, columns, "nothing to do now" if waiting else "nothing to do, and nothing is waiting")
    if waiting:
        say("waiting for their time, for capacity, or for somebody else:")
        print_rows(waiting, columns, "")


def _saved_plan(path: Path) -> Plan:
    """A plan as `--json` printed it. Raises InvalidInputError."""
    try:
        return plan_from_dict(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InvalidInputError(f"{path} can't be read ({error.strerror}); specify a plan saved with --json") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(f"{path} is not a plan; save one with `sublet plan --json > {path.name}`") from error
