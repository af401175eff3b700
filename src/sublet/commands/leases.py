"""`sublet lease`: rent raw capacity from a running Sublet, over its HTTP interface."""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.client.remote import connect
from sublet.commands import changing, lease_login
from sublet.commands.asking import Wanted, body_of_quote
from sublet.commands.asking import usual_pool as usual_pool
from sublet.commands.deadlines import By, Hours, progress_of, say_progress, say_promise
from sublet.commands.running import READY_S_MAX, LeaseId, OnlyLeaseId, checked_id, only, wait_ready
from sublet.commands.taking import INTERRUPTED, Taking
from sublet.output import JsonFlag, print_json, print_rows, say
from sublet.shown import Columns, cost_text, counted, money, price, price_text, seconds, time, time_text
from sublet.values.clock import parse_time
from sublet.values.errors import InvalidInputError, LimitExceededError
from sublet.values.ids import new_id

if TYPE_CHECKING:
    from sublet.client.clients import Client

app = typer.Typer(
    no_args_is_help=True,
    help="Raw capacity for a time window, with SSH.",
)

Count = Annotated[int, typer.Option("--accelerators", "-n", min=1, help="How many accelerators.")]
ClassName = Annotated[
    str | None,
    typer.Option(
        "--class",
        "-c",
        help="Class of service, as listed by `sublet lease classes`; by default the operator's choice.",
    ),
]
Minutes = Annotated[int, typer.Option("--minutes", "-m", min=1, help="How long.")]
Start = Annotated[str | None, typer.Option(help="Start, such as 2026-07-02T14:00:00Z; now if omitted.")]
FinishBy = Annotated[
    str | None,
    typer.Option("--finish-by", help="It may start at any time from --start on, as long as it is over by then."),
]
PoolName = Annotated[
    str | None, typer.Option("--pool", help="Pool, by id or name; by default the first one that is not simulated.")
]
Generation = Annotated[str | None, typer.Option(help="Any pool of this generation, instead of --pool.")]
KeyFile = Annotated[Path | None, typer.Option("--key", help="Public key that can log in; by default yours.")]
Moving = Annotated[
    str,
    typer.Option(
        "--on-reclaim",
        help="If the owner needs the accelerators: end (with credit), or move to another pool of the same generation that has room, "
        "with the home directory and at the same price. Without room, the lease ends.",
    ),
]
Failing = Annotated[
    str,
    typer.Option(
        "--on-failure",
        help="If an accelerator fails and no equal one is free: shrink (continue with fewer, at a lower cost), replace or end "
        "(end with credit). With `end`, the lease ends even if an equal one is free.",
    ),
]
Notice = Annotated[
    float | None,
    typer.Option(
        "--notice",
        min=0,
        help="Minutes of notice before the owner takes the accelerators back, if you need more than the class gives; the price is "
        "higher. `sublet lease classes` shows the longest.",
    ),
]
QuoteId = Annotated[str, typer.Argument(help="Id of a quote, as shown by `sublet lease quotes`.")]

Networks = Annotated[
    list[str] | None,
    typer.Option(
        "--network",
        help="Allow list of hosts that the lease can reach, as listed by `sublet lease networks`; can be repeated.",
    ),
]

OfVolumes = Annotated[
    list[str] | None,
    typer.Option(
        "--volume", help="Volume to attach as /volumes/NAME; can be repeated. The lease runs on the volume's pool."
    ),
]

OnImage = Annotated[
    str | None,
    typer.Option(
        "--image", help="Image to run on, as listed by `sublet image ls`; without one, the machine's programs."
    ),
]

_COLUMNS: Columns = {
    "id": "lease",
    "name": "name",
    "state": "state",
    "class": "class",
    "accelerators": "count",
    "start": time("start"),
    "end": time("end"),
    "reclaim_at": time("taken back"),
    "price_per_accelerator_hour": price("price/h", "currency"),
}


_CLASS_COLUMNS = {
    "name": "class",
    "notice": "taken back",
    "longest": "longest notice",
    "price_ratio": "price factor",
    "credit_ratio": "credit",
    "default": "default",
    "description": "promise",
}


@app.command()
def classes(as_json: JsonFlag = False) -> None:
    """List the classes of service on sale, strictest first: what each promises and costs."""
    found = connect().get("/v1/classes")
    if as_json:
        print_json(found)
        return
    rows = [
        {**item, "notice": _notice_of(item), "longest": _longest_of(item), "default": item["name"] == found["default"]}
        for item in found["classes"]
    ]
    print_rows(rows, _CLASS_COLUMNS, "no classes of service are on sale")


@app.command("networks")
def list_networks(as_json: JsonFlag = False) -> None:
    """List the allow lists of hosts for --network. Without one, a lease has no network access."""
    found = connect().get("/v1/networks")
    if as_json:
        print_json(found)
        return
    rows = [{**item, "hosts": ", ".join(item["hosts"])} for item in found["networks"]]
    print_rows(rows, {"name": "list", "open": "open to you", "hosts": "hosts"}, "there are no allow lists")


@app.command()
def quote(
    accelerators: Count = 1,
    class_name: ClassName = None,
    minutes: Minutes = 60,
    start: Start = None,
    pool: PoolName = None,
    generation: Generation = None,
    on_failure: Failing = "shrink",
    on_reclaim: Moving = "end",
    network: Networks = None,
    hours: Hours = None,
    by: By = None,
    volume: OfVolumes = None,
    finish_by: FinishBy = None,
    image: OnImage = None,
    notice: Notice = None,
    as_json: JsonFlag = False,
) -> None:
    """Request a price, valid for 60 seconds; the output shows how long the capacity is held."""
    named = tuple(network or ())
    wanted = Wanted(
        accelerators,
        class_name,
        minutes,
        start,
        pool,
        generation,
        on_failure,
        named,
        hours,
        by,
        tuple(volume or ()),
        finish_by,
        image,
        on_reclaim,
        notice,
    )
    found = _quote(connect(), wanted)
    if as_json:
        print_json(found)
        return
    say(
        f"{counted(found['accelerators'], 'accelerator')} as {found['class']} from {time_text(found['start'])} to "
        f"{time_text(found['end'])}: {cost_text(found['total'], found['currency'])} at "
        f"{price_text(found['price_per_accelerator_hour'])} per accelerator-hour"
    )
    if found["deadline"] is not None:
        say_promise(found)
    held, expires = found["held_until"], time_text(found["expires_at"], to_the_second=True)
    if held is None:
        say(f"not held: others may take it first; the price is valid until {expires}")
    elif held == found["expires_at"]:
        say(f"held at this price until {expires}")
    else:
        say(f"held until {time_text(held, to_the_second=True)}; the price is valid until {expires}")
    if found["notice_rule"]:
        say(found["notice_rule"])
    say(found["give_back"]["sentence"])
    say(f"take it with: sublet lease take --quote {found['id']}")


@app.command("quotes")
def list_quotes(as_json: JsonFlag = False) -> None:
    """List your open quotes."""
    found = connect().collected("leases.list_quotes")
    if as_json:
        print_json(found)
        return
    columns: Columns = {
        "id": "quote",
        "class": "class",
        "accelerators": "count",
        "start": time("start"),
        "end": time("end"),
        "total": money("total", "currency"),
        "held_until": seconds("held until"),
        "expires_at": seconds("expires"),
    }
    print_rows(found["quotes"], columns, "no open quotes; request one with `sublet lease quote`")


@app.command("cancel-quote")
def cancel_quote(quote_id: QuoteId, as_json: JsonFlag = False) -> None:
    """Cancel a quote and release the capacity that it holds."""
    if not quote_id.startswith("quo_") or not quote_id.replace("_", "").isalnum():
        raise InvalidInputError(f"{quote_id!r} is not a quote id; `sublet lease quotes` lists yours")
    found = connect().post(f"/v1/quotes/{quote_id}/cancel")
    if as_json:
        print_json(found)
        return
    say(f"{found['id']} is canceled")


@app.command()
def take(
    accelerators: Count = 1,
    class_name: ClassName = None,
    minutes: Minutes = 60,
    start: Start = None,
    pool: PoolName = None,
    generation: Generation = None,
    on_failure: Failing = "shrink",
    on_reclaim: Moving = "end",
    network: Networks = None,
    hours: Hours = None,
    by: By = None,
    volume: OfVolumes = None,
    finish_by: FinishBy = None,
    image: OnImage = None,
    notice: Notice = None,
    quote_id: Annotated[
        str | None, typer.Option("--quote", help="Quote to accept, instead of requesting a new one.")
    ] = None,
    key: KeyFile = None,
    wait: Annotated[bool, typer.Option(help="Wait until you can log in.")] = True,
    as_json: JsonFlag = False,
) -> None:
    """Request a quote and accept it."""
    from sublet.leases import login, ssh_config

    remote, pair = connect(), login.client_key(key)
    taking = Taking(remote, quote_id)
    try:
        if quote_id is None:
            taking.made = _quote(
                remote,
                Wanted(
                    accelerators,
                    class_name,
                    minutes,
                    start,
                    pool,
                    generation,
                    on_failure,
                    tuple(network or ()),
                    hours,
                    by,
                    tuple(volume or ()),
                    finish_by,
                    image,
                    on_reclaim,
                    notice,
                ),
            )
            lease = taking.lease = _accept_new(remote, taking.made, pair.public)
        else:
            lease = taking.lease = _accept(remote, quote_id, pair.public)
        login.remember(lease["id"], pair)
        begins_later = parse_time(lease["start"]).timestamp() > clock.time() + READY_S_MAX / 2
        if wait and not begins_later and lease["deadline"] is None:
            lease = wait_ready(remote, lease["id"], quiet=as_json)
            ssh_config.write_host(lease["id"], lease["ssh"], pair.identity)
    except KeyboardInterrupt:
        taking.leave()
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(lease)
        return
    _show(lease)


@app.command("ls")
def list_leases(
    live: Annotated[bool, typer.Option("--live", help="Show only current leases.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=200, help="Maximum number of entries, newest first.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """List leases."""
    found = connect().get("/v1/leases", live=live, limit=limit)
    if as_json:
        print_json(found)
        return
    rows = [{**item, "progress": progress_of(item)} for item in found["leases"]]
    columns = dict(_COLUMNS)
    if any(item["progress"] for item in rows):
        columns["progress"] = "delivered"
    print_rows(rows, columns, "no leases; `sublet lease take` rents one")


@app.command()
def show(lease_id: LeaseId, as_json: JsonFlag = False) -> None:
    """Show a lease, its guarantees and its history."""
    lease = connect().get(f"/v1/leases/{checked_id(lease_id)}")
    if as_json:
        print_json(lease)
        return
    _show(lease)
    guarantees = [{"what": name, **value} for name, value in lease["guarantees"].items()]
    print_rows(guarantees, {"what": "guarantee", "level": "level", "how": "by"}, "")
    print_rows(lease["history"], {"at": seconds("when"), "to": "state", "actor": "by", "reason": "why"}, "")


@app.command()
def log(lease_id: LeaseId) -> None:
    """Print what the lease's drain hooks, and its job, have printed; also after its end."""
    remote, offset = connect(), 0
    while True:
        part = remote.document("leases.log", checked_id(lease_id), query={"offset": offset})
        if part["offset"] > offset:
            say(f"({part['offset'] - offset} bytes that are no longer kept)")
        say(part["text"], nl=False)
        offset = part["next"]
        if part["complete"] or not part["text"]:
            return


@app.command()
def watch(
    lease_id: LeaseId,
    since: Annotated[int | None, typer.Option(min=0, help="Begin after this event number; now if omitted.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Print the events of a lease, such as notices, until it ends or you press Ctrl-C."""
    from sublet.commands.notifications import follow

    follow("notifications.list_lease_events", (checked_id(lease_id),), since, {}, as_json)


@app.command()
def end(lease_id: OnlyLeaseId = None, dry_run: changing.DryRun = False, as_json: JsonFlag = False) -> None:
    """End a lease, or cancel it before it begins."""
    remote = connect()
    lease_id = only(remote, lease_id, "end")
    if dry_run:
        seen = remote.document("leases.preview_end", lease_id)
        if as_json:
            print_json(seen)
        else:
            changing.say_change(seen)
            say("nothing was changed")
        return
    lease = remote.post(f"/v1/leases/{lease_id}/end")
    if as_json:
        print_json(lease)
        return
    say(f"{lease['id']} is {lease['state']}")


def _notice_of(found: dict[str, Any]) -> str:
    """How a class is taken back, in a word or two."""
    if found["notice_s"] is None:
        return "never"
    return f"{found['take_back'].replace('_', ' ')}, {found['notice_s']} s" if found["notice_s"] else "at once"


def _longest_of(found: dict[str, Any]) -> str:
    """The longest notice that a tenant may ask for, and what an hour of it adds to the price."""
    if not found["notice_s"] or found["longest_notice_s"] == found["notice_s"]:
        return ""
    return f"{found['longest_notice_s'] / 60:g} min, +{float(found['longer_notice_ratio']) * 100:g} %/h"


def _quote(remote: Client, wanted: Wanted) -> dict[str, Any]:
    return remote.post("/v1/quotes", body_of_quote(remote, wanted), new_id("req"))


def _accept(remote: Client, quote_id: str, public_key: str) -> dict[str, Any]:
    return remote.post("/v1/leases", {"quote_id": quote_id, "ssh_public_keys": [public_key]}, new_id("req"))


def _accept_new(remote: Client, made: dict[str, Any], public_key: str) -> dict[str, Any]:
    """Accept a quote of which nobody has heard yet; a refusal that leaves it open says how to go on with it."""
    try:
        return _accept(remote, made["id"], public_key)
    except LimitExceededError as error:
        raise type(error)(
            f"{error.message}. The price is valid until {time_text(made['expires_at'], to_the_second=True)}; to continue, run: "
            f"sublet lease take --quote {made['id']}",
            **error.details,
        ) from error


def _show(lease: dict[str, Any]) -> None:
    from sublet.leases import login

    print_rows([lease], _COLUMNS, "")
    if lease["deadline"] is not None:
        say_progress(lease)
    if lease["ssh"]:
        identity = login.identity_of(lease["id"], lease.get("ssh_public_keys") or ())
        say(f"log in with: sublet lease ssh {lease['id']}")
        say(f"         or: {login.command_line(lease['id'], lease['ssh'], identity)}")
        say(f"   host key: {lease['ssh']['fingerprint']}")
    if lease["network"]:
        used = lease["traffic"]
        counts = (
            f"; {used['bytes_out']} bytes out, {used['bytes_in']} in, {used['refused']} requests refused"
            if used
            else ""
        )
        say(f"reaches: {', '.join(lease['network'])}{counts}")
    if lease["image"]:
        say(f"image: {lease['image']['name']} ({lease['image']['digest']})")
    if lease["volumes"]:
        say(f"volumes: {', '.join('/volumes/' + item['name'] for item in lease['volumes'])}")
    if lease["last_error"]:
        say(f"last error: {lease['last_error']}")


lease_login.register(app)
changing.register(app)
