"""What a class that can't be taken back may promise at once by its record, and when it may promise more."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sublet.surplus.kept import LONG_WINDOW_S, budgeted, record_hours, too_long, weight
from sublet.surplus.model import HOUR_S, Sold, Stood
from sublet.surplus.rule.view import View
from sublet.values.clock import format_time, from_micros, to_micros
from sublet.values.service_classes import ServiceClass, class_in_book
from sublet.values.windows import Window

BEHIND_HOURS_MAX = 6
"""A record that is so far behind says nothing about now: it lives by the hour, and an outage of the service is made up soon."""

UNUSED = (
    "its owner has not used half of the pool at any time in its history, so nobody knows what is left when it does; so long orders "
    "can be sold from a block"
)

Step = tuple[float, str, Callable[[int], str]]
"""The most that may be sold, the reason code, and the sentence that says why so many are withheld."""


def earned_steps(view: View, policy: ServiceClass, window: Window, sold: Sequence[Sold]) -> list[Step]:
    """What the record and the operator's setting leave of a class that can't be taken back; nothing for other classes."""
    if not budgeted(policy) or view.standings is None:
        return []
    start = max(window.start, view.at)
    length_s = (window.end - start).total_seconds()
    hours = record_hours(policy, length_s)
    stood = view.standings.get((policy.name, hours, 0))
    return [
        (
            _most(view, policy, length_s, sold, stood),
            "not_earned",
            lambda count: f"{count} because {_why(view, hours, stood)}",
        )
    ]


def long_steps(view: View, policy: ServiceClass, window: Window) -> list[Step]:
    """That nothing so long is sold by a forecast, where that is so."""
    length_s = (window.end - max(window.start, view.at)).total_seconds()
    if view.standings is None or not too_long(policy, length_s):
        return []
    return [(0.0, "long_window", _too_long)]


def running(policy: ServiceClass, sold: Sequence[Sold], hours: int) -> float:
    """Promises of the class that stand on the record of so many hours, those that are booked for later included."""
    return sum(
        item.count * weight(policy, item.window.seconds)
        for item in sold
        if class_in_book(item.class_name) == policy.name and record_hours(policy, item.window.seconds) == hours
    )


def behind_hours(stood: Stood, at: datetime) -> int:
    """How many whole hours before `at` the record has not lived through yet, but for the last, which it is living through."""
    return max(0, to_micros(at) // (HOUR_S * 1_000_000) - stood.hour - 2)


def catching_up(stood: Stood, at: datetime) -> bool:
    """Whether the record is so far behind that nothing is promised on it."""
    return behind_hours(stood, at) > BEHIND_HOURS_MAX


def _most(view: View, policy: ServiceClass, length_s: float, sold: Sequence[Sold], stood: Stood | None) -> float:
    if stood is None or catching_up(stood, view.at):
        return 0.0
    return stood.standing.left(stood.pace, running(policy, sold, stood.hours)) / weight(policy, length_s)


def _why(view: View, hours: int, stood: Stood | None) -> str:
    kind = f"windows of {hours} h"
    if stood is None:
        return f"the pool has no record of {kind} yet: its shadow begins after {hours_text(4 * 24 * HOUR_S)} of history"
    if catching_up(stood, view.at):
        return f"the record of {kind} is {behind_hours(stood, view.at)} h behind; it is catching up"
    supports = math.floor(stood.standing.most(stood.pace))
    return f"the record of {kind} supports {supports} at once: {opens(stood, view.at)}"


def opens(stood: Stood, at: datetime) -> str:
    """When more may be promised as of `at`, and whether the monitor stopped the kind: one sentence without a full stop.

    A record that is still catching up can't say when: the hours that it has to live through have passed already.
    """
    standing = stood.standing
    if catching_up(stood, at):
        return f"its record is {behind_hours(stood, at)} h behind and is catching up; nothing is promised until then"
    if standing.unused:
        return UNUSED
    after = ""
    if standing.alarm_hour is not None and standing.most(stood.pace) < max(1.0, standing.running):
        by = f" with {standing.stopped_by}" if standing.stopped_by else ""
        what = f": {standing.alarm_broken:g} broke in one hour" if standing.alarm_broken else ""
        after = f", stopped{by} at {format_time(_moment(standing.alarm_hour))}{what}"
    wanted = 1.0 if standing.most(stood.pace) < 1 else max(1.0, standing.running)
    if standing.wary:
        wanted = max(1.0, math.floor(standing.mean_held))
        why = (
            "its owner did not use half of the pool before"
            if standing.unused_hours
            else "its orders came near their deadlines"
        )
        after = f", since {why} and all {wanted:g} that it holds must be earned first{after}"
    missing = standing.hours_until(stood.pace, wanted)
    if missing is None:
        return f"its shadow sells too little to earn more{after}"
    if missing == 0:
        return f"all that its shadow sells is earned{after}"
    then = format_time(_moment(stood.hour) + timedelta(hours=missing + 1))
    return f"not yet, {missing} more hours of history without a broken promise until {wanted:g}, at {then}{after}"


def as_dict(stood: Stood, at: datetime) -> dict[str, Any]:
    """One kind of promise as of `at`, for people and machines: what it has earned, whether it was stopped, and when it opens
    further."""
    standing, pace = stood.standing, stood.pace
    total = standing.sold + (standing.broken if stood.within else 0)
    late = catching_up(stood, at)
    supports = 0 if late else math.floor(standing.most(pace))
    wanted = 1.0 if supports < 1 else max(1.0, standing.running)
    missing = None if late else standing.hours_until(pace, wanted)
    return {
        "class": stood.class_name,
        "hours": stood.hours,
        "within": stood.within or None,
        "state": state_of(stood, at),
        "supports": supports,
        "running": math.floor(standing.running),
        "sold": math.floor(total),
        "broken": math.floor(standing.broken),
        "broken_per_1000": round(1000 * standing.broken / total, 3) if total else None,
        "promised_per_1000": 1000 * pace.risk,
        "worst_hour": math.floor(standing.worst),
        "alarms": standing.alarms,
        "stopped_at": None if standing.alarm_hour is None else format_time(_moment(standing.alarm_hour)),
        "stopped_by": standing.stopped_by or None,
        "hours_to_open": missing,
        "opens_at": None if not missing else format_time(_moment(stood.hour) + timedelta(hours=missing + 1)),
        "sentence": f"{kind_text(stood)}: supports {supports} at once; {opens(stood, at)}",
    }


def state_of(stood: Stood, at: datetime) -> str:
    """`stopped` after an alarm until one promise is earned again, `earning` before anything is, `open`, or `full`."""
    standing = stood.standing
    most = 0.0 if catching_up(stood, at) else standing.most(stood.pace)
    if most < 1:
        return "earning" if standing.alarm_hour is None else "stopped"
    return "full" if most >= standing.running else "open"


def kind_text(stood: Stood) -> str:
    """The kind in words, such as `firm 4 h` or `deadline 4 h within 24 h`."""
    return f"{stood.class_name} {stood.hours} h" + (f" within {stood.within} h" if stood.within else "")


def hours_text(seconds: float) -> str:
    """A duration for people."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * HOUR_S:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / HOUR_S:.0f} h"


def _too_long(count: int) -> str:
    return (
        f"{count} because uninterrupted windows of {hours_text(LONG_WINDOW_S)} and more are not sold by a forecast: order with a "
        "deadline, buy from a block, or set long_windows of the class"
    )


def _moment(hour: int) -> datetime:
    return from_micros(hour * HOUR_S * 1_000_000)
