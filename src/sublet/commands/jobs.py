"""`sublet job`: commands that run on leases of their own, to their end."""

from __future__ import annotations

import re
import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.commands.deadlines import By, Hours, body_of, say_promise
from sublet.commands.leases import (
    ClassName,
    Count,
    Generation,
    Minutes,
    Networks,
    OfVolumes,
    OnImage,
    PoolName,
    usual_pool,
)
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, counted, time
from sublet.values.errors import InvalidInputError, SubletError
from sublet.values.ids import new_id

if TYPE_CHECKING:
    from sublet.client.clients import Client

app = typer.Typer(no_args_is_help=True, help="Commands that run on leases of their own, to their end.")

JobId = Annotated[str, typer.Argument(help="Id of a job, as `sublet job ls` shows it.")]
Command = Annotated[
    list[str],
    typer.Argument(metavar="-- COMMAND", help="Program and its arguments, behind `--`; run in the home directory."),
]
POLL_S = 1.0
OVER = ("succeeded", "failed", "canceled", "stopped")
EXIT_STOPPED = 1
_RANGE = re.compile(r"([0-9]{1,7})(?:-([0-9]{1,7}))?")

_COLUMNS: Columns = {
    "id": "job",
    "name": "name",
    "state": "state",
    "exit_code": "exit",
    "tries": "exits",
    "array_index": "index",
    "class": "class",
    "accelerators": "count",
    "end": time("by"),
    "lease_id": "lease",
}


@app.command()
def submit(
    command: Command,
    accelerators: Count = 1,
    class_name: ClassName = None,
    minutes: Minutes = 60,
    hours: Hours = None,
    by: By = None,
    pool: PoolName = None,
    generation: Generation = None,
    network: Networks = None,
    volume: OfVolumes = None,
    image: OnImage = None,
    name: Annotated[str, typer.Option(help="What to call it.")] = "",
    env: Annotated[list[str] | None, typer.Option("--env", help="NAME=VALUE for the command; repeatable.")] = None,
    retries: Annotated[int, typer.Option(min=0, max=10, help="How often to try again after an exit other than 0.")] = 0,
    grace: Annotated[
        int, typer.Option(min=0, max=300, help="Seconds between SIGTERM and a pause or the end of the lease.")
    ] = 30,
    array: Annotated[str | None, typer.Option(help="One job for each index, such as 0-9 or 1,3,5-7.")] = None,
    max_price: Annotated[
        str | None, typer.Option("--max-price", help="Per accelerator-hour; accepted without asking up to it.")
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="Public key that may log in while it runs; nobody if left out.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Accept the price without asking.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Run a command: by a deadline (--hours and --by), or for a window of --minutes. When it ends, so does its billing."""
    # What is mistyped is refused before anybody is asked for a price.
    job: dict[str, Any] = {"command": list(command), "name": name, "retries": retries, "grace_s": grace}
    job["environment"] = _environment(env or [])
    if array is not None:
        job["array"] = _indexes(array)
    if key is not None:
        from sublet.leases.login import client_key

        job["ssh_public_keys"] = [client_key(key).public]
    remote = connect()
    body: dict[str, Any] = {"accelerators": accelerators}
    if pool is None and generation is None:
        pool = remote.document("volumes.show", volume[0])["pool_id"] if volume else usual_pool(remote)
    body |= {"pool": pool} if generation is None else {"generation": generation}
    if network:
        body["network"] = [item for text in network for item in text.split(",")]
    if volume:
        body["volumes"] = list(volume)
    if image is not None:
        body["image"] = image
    if class_name is not None:
        body["class"] = class_name
    body |= {"duration_s": minutes * 60} if hours is None and by is None else body_of(remote, class_name, hours, by)
    if max_price is None:
        max_price = _agreed_price(remote, body, quiet=yes)
    body |= job | {"max_price_per_accelerator_hour": max_price}
    made = remote.document("jobs.submit", body=body, idempotency_key=new_id("req"))
    if as_json:
        print_json(made)
        return
    _show(made["jobs"])
    say(f"follow it with: sublet job logs -f {made['jobs'][0]['id']}")


@app.command("ls")
def list_jobs(as_json: JsonFlag = False) -> None:
    """List jobs, the newest first."""
    found = connect().collected("jobs.list_jobs")
    if as_json:
        print_json(found)
        return
    _show(found["jobs"])


@app.command()
def show(job: JobId, as_json: JsonFlag = False) -> None:
    """Show a job, and how its attempts have exited."""
    found = connect().document("jobs.show", job)
    if as_json:
        print_json(found)
        return
    _show([found])
    for item in found["exits"]:
        say(f"attempt {item['attempt']}: exit {item['code']}")
    if found["state"] == "stopped":
        say(f"its lease is over and the command had not ended: {found['end_reason'] or 'no reason given'}")


@app.command()
def logs(
    job: JobId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job is over, and exit as it did.")
    ] = False,
) -> None:
    """Print what a job has printed."""
    remote, offset = connect(), 0
    while True:
        part = remote.document("jobs.log", job, query={"offset": offset})
        if part["offset"] > offset:
            say(f"({part['offset'] - offset} bytes that are no longer kept)")
        say(part["text"], nl=False)
        offset = part["next"]
        if part["complete"] or (not part["text"] and not follow):
            break
        if not part["text"]:
            clock.sleep(POLL_S)
    if follow:
        raise typer.Exit(_exit_code(remote.document("jobs.show", job)))


@app.command()
def cancel(
    job: Annotated[str, typer.Argument(help="Id of a job, or of an array for all of its jobs.")],
    as_json: JsonFlag = False,
) -> None:
    """End a job, and its billing."""
    found = connect().document("jobs.cancel", job)
    if as_json:
        print_json(found)
        return
    _show(found["jobs"])


def _agreed_price(remote: Client, body: dict[str, Any], *, quiet: bool) -> str:
    """The price at this moment, which the person has seen and agreed to."""
    quote = remote.post("/v1/quotes", body, new_id("req"))
    try:
        remote.post(f"/v1/quotes/{quote['id']}/cancel", None, new_id("req"))
    except SubletError as error:
        say(f"the quote stays open until it expires: {error.message}", err=True)
    price = str(quote["price_per_accelerator_hour"])
    if not quiet:
        say(f"{price} {quote['currency']} per accelerator-hour, {quote['total']} {quote['currency']} at most", err=True)
        if quote["deadline"] is not None:
            say_promise(quote)
        typer.confirm("Run it?", abort=True, err=True)
    return price


def _environment(given: list[str]) -> dict[str, str]:
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidInputError(f"--env {text!r} is no NAME=VALUE")
        found[name] = value
    return found


def _indexes(text: str) -> list[int]:
    found: list[int] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part.strip())
        if match is None:
            raise InvalidInputError(f"--array {text!r} is no list of indexes; write 0-9 or 1,3,5-7")
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last < first + 1_000:
            raise InvalidInputError(
                f"--array: {part!r} is no range; write the smaller index first, and at most 64 in all"
            )
        found += range(first, last + 1)
    return found


def _exit_code(found: dict[str, Any]) -> int:
    return EXIT_STOPPED if found["exit_code"] is None else int(found["exit_code"])


def _show(found: list[dict[str, Any]]) -> None:
    rows = [{**item, "tries": len(item["exits"]) or ""} for item in found]
    print_rows(rows, _COLUMNS, "no jobs; `sublet job submit -- COMMAND` runs one")
    if len(found) > 1 and found[0].get("array_id") and all(item["array_id"] == found[0]["array_id"] for item in found):
        say(f"{counted(len(found), 'job')} of array {found[0]['array_id']}")
