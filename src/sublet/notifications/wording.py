"""Events in words, for people: a headline, and the facts as lines."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from sublet.notifications.kinds import kind_named
from sublet.store.outbox import Event
from sublet.values.clock import parse_time

VALUE_CHARS_MAX = 300


def headline(event: Event) -> str:
    """What happened, to what: one line."""
    kind = kind_named(event.kind)
    sentence = kind.description.rstrip(".") if kind is not None else event.kind
    return _line(f"{sentence} ({event.subject})" if event.subject else sentence)


def facts(event: Event, timezone: str) -> list[tuple[str, str]]:
    """Each field of the event by its name in words, times as the reader's clock shows them."""
    found = [("time", local_time(event.at, timezone))]
    if event.organization_id is not None:
        found.append(("organization", event.organization_id))
    for name, value in event.payload.items():
        if value not in (None, "", []):
            found.append((name.replace("_", " "), _shown(value, timezone)))
    found.append(("event", event.id))
    return found


def local_time(moment: datetime, timezone: str) -> str:
    """To the second, with the zone."""
    try:
        zone = ZoneInfo(timezone)
    except (ZoneInfoNotFoundError, ValueError):
        zone = ZoneInfo("UTC")
    return moment.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z")


def _shown(value: Any, timezone: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return _line(", ".join(str(item) for item in value))
    if isinstance(value, str) and len(value) >= 20 and value[4:5] == "-" and value[10:11] == "T":
        try:
            return local_time(parse_time(value), timezone)
        except ValueError:
            pass
    return _line(str(value))


def _line(text: str) -> str:
    return " ".join("".join(sign if sign.isprintable() else " " for sign in text).split())[:VALUE_CHARS_MAX]
