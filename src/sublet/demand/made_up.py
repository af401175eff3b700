"""A made-up demand history, for machines that have none yet: four weeks, hourly, from a seed."""

from __future__ import annotations

import random
from datetime import datetime, timedelta

from sublet.values.clock import format_time

WEEKS = 4
SEED = 7
SOURCE = "made up, to try Sublet"


def history(capacity: int, until: datetime) -> str:
    """CSV of `time,capacity,in_use` up to `until`: an owner who works by day and on weekdays."""
    chance = random.Random(SEED)
    last = until.replace(minute=0, second=0, microsecond=0)
    hours = WEEKS * 7 * 24
    rows = ["time,capacity,in_use"]
    for hour in range(hours):
        moment = last - timedelta(hours=hours - hour)
        busy = 0.30 if moment.weekday() < 5 and 8 <= moment.hour < 18 else 0.08
        in_use = min(capacity, max(0.0, capacity * (busy + chance.gauss(0, 0.03))))
        rows.append(f"{format_time(moment)},{capacity},{in_use:.2f}")
    return "\n".join(rows) + "\n"
