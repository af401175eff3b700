"""Hours of service by a deadline, as `sublet lease` asks for them and shows them."""

from __future__ import annotations

import math
import re
from datetime import datetime, time, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sublet.output import say
from sublet.shown import span_text, time_text
from sublet.values.clock import SystemClock, as_utc, format_time, parse_time
from sublet.values.errors import InvalidInputError

if TYPE_CHECKING:
    from sublet.client.clients import Client

SOONEST_HOURS = 1 / 60
DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
EXAMPLES = '"tomorrow 08:00", "friday 18:00", "in 20h", or 2026-07-02T08:00:00Z'
_AT = re.compile(r"(?:(?P<day>[a-z]+) )?(?P<hour>\d{1,2}):(?P<minute>\d{2})")
_IN = re.compile(r"in (?P<count>\d{1,5}(?:\.\d{1,3})?) ?(?P<unit>h|d|min)")
_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "min": timedelta(minutes=1)}

Hours = Annotated[
    float | None,
    typer.Option("--hours", help="Hours of service on all accelerators, for a class that is sold with a deadline."),
]
By = Annotated[str | None, typer.Option("--by", help=f"Deadline for --hours, in local time: {EXAMPLES}.")]


def deadline_of(text: str, now: datetime) -> datetime:
    """The moment that `text` says, as a person would at `now` in the terminal's own zone. Raises InvalidInputError."""
    words = " ".join(text.lower().split())
    if found := _IN.fullmatch(words):
        return as_utc(now + float(found["count"]) * _UNITS[found["unit"]])
    if found := _AT.fullmatch(words):
        return _clock_time(found, now.astimezone(), text)
    try:
        return as_utc(parse_time(text))
    except ValueError as error:
        raise InvalidInputError(f"--by {text!r} is not a time; use {EXAMPLES}") from error


def _clock_time(found: re.Match[str], here: datetime, text: str) -> datetime:
    day, hour, minute = found["day"], int(found["hour"]), int(found["minute"])
    if hour > 23 or minute > 59 or (day is not None and day not in (*DAYS, "today", "tomorrow")):
        raise InvalidInputError(f"--by {text!r} is not a time; use {EXAMPLES}")
    date = here.date()
    if day == "tomorrow":
        date += timedelta(days=1)
    elif day in DAYS:
        date += timedelta(days=(DAYS.index(day) - date.weekday()) % 7)
    # Without an offset the terminal's own zone is meant, with the offset that holds then.
    moment = datetime.combine(date, time(hour, minute)).astimezone()
    if moment <= here and day is None:
        moment = datetime.combine(date + timedelta(days=1), time(hour, minute)).astimezone()
    elif moment <= here and day in DAYS:
        moment = datetime.combine(date + timedelta(days=7), time(hour, minute)).astimezone()
    return as_utc(moment)


def body_of(remote: Client, class_name: str | None, hours: float | None, by: str | None) -> dict[str, Any]:
    """What a request for `hours` by a deadline says of its time and class. Raises InvalidInputError."""
    if hours is None or by is None:
        raise InvalidInputError(f"use --hours and --by together, for example --hours 12 --by {EXAMPLES.split(',')[0]}")
    if not math.isfinite(hours) or hours < SOONEST_HOURS:
        raise InvalidInputError(f"--hours is {hours:g}; use a number of hours, at least one minute, such as 12 or 0.5")
    body: dict[str, Any] = {
        "service_s": round(hours * 3600),
        "end": format_time(deadline_of(by, SystemClock().now())),
    }
    name = class_name or _class_by_deadline(remote)
    return body if name is None else {**body, "class": name}


def _class_by_deadline(remote: Client) -> str | None:
    """The strictest class on sale that is sold by a deadline."""
    found = remote.get("/v1/classes")["classes"]
    return next((str(item["name"]) for item in found if item["take_back"] == "pause"), None)


def say_promise(quote: dict[str, Any]) -> None:
    """What a quote with a deadline promises."""
    deadline = quote["deadline"]
    likely = "" if deadline["likely"] is None else f"; on time in {deadline['likely']:.0%} of the forecast's scenarios"
    say(
        f"{deadline['service_s'] / 3600:g} h of service, done by {time_text(quote['end'])}, "
        f"started by {time_text(deadline['latest_start'])} at the latest{likely}"
    )


def say_progress(lease: dict[str, Any]) -> None:
    """How far a lease with a deadline is."""
    deadline = lease["deadline"]
    done, whole = deadline["delivered_s"], deadline["service_s"]
    pauses = deadline["pauses"]
    say(
        f"delivered: {done / 3600:.2f} of {whole / 3600:g} h ({done / whole:.0%}), done by {time_text(lease['end'])}; paused "
        f"{pauses} time{'' if pauses == 1 else 's'}"
    )
    if lease["state"] in ("scheduled", "paused"):
        slack_s = (parse_time(deadline["latest_start"]) - SystemClock().now()).total_seconds()
        say(f"waiting for idle accelerators; it can wait another {span_text(max(0, slack_s))} and still finish on time")


def progress_of(lease: dict[str, Any]) -> str:
    """How far it is, for a table."""
    deadline = lease.get("deadline")
    return "" if deadline is None else f"{deadline['delivered_s'] / 3600:.1f}/{deadline['service_s'] / 3600:g} h"
