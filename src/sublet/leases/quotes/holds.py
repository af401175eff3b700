"""For how long a quote holds capacity: long enough to accept it, and never a way to keep capacity without paying.

A quote is a price, which stands until it expires, and a hold, which may be shorter or none. A quote without a hold can be
accepted as long as the capacity is there, so no limit on holds keeps a customer from renting.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from sublet.values.windows import Window

ROLLING_S = 3600
HOLD_S_MIN = 10
"""A shorter hold helps nobody to accept a quote."""


@dataclass(frozen=True, slots=True)
class HoldLimits:
    """What the open quotes of one organization may hold.

    `hold_s` is how long a quote holds capacity for a window of at most `window_s`; a longer window is held for
    proportionally less. `idle_share_max` is the share of a pool's accelerator-time of the last hour that quotes which
    became no lease may have held; `pool_share_max` the share of the pool that may be held at one moment.
    """

    open_max: int = 20
    hold_s: int = 60
    window_s: int = 24 * 3600
    idle_share_max: float = 0.10
    pool_share_max: float = 1.0


@dataclass(frozen=True, slots=True)
class Hold:
    """What a quote that became no lease holds or held: `accelerators` over `[start, end)`."""

    accelerators: int
    start: datetime
    end: datetime


def hold_s(
    limits: HoldLimits, accelerators: int, window: Window, capacity: int, holds: Iterable[Hold], now: datetime
) -> int:
    """For how many seconds a new quote holds `accelerators` of a pool of `capacity`, given the organization's `holds` on that
    pool; 0 where it holds nothing. Seconds that were held count for an hour, whatever the windows were."""
    since = now - timedelta(seconds=ROLLING_S)
    listed = list(holds)
    held_now = sum(hold.accelerators for hold in listed if hold.end > now)
    if held_now + accelerators > limits.pool_share_max * capacity:
        return 0
    used_s = sum(
        hold.accelerators * max(0.0, (hold.end - max(hold.start, since)).total_seconds())
        for hold in listed
        if hold.end > since
    )
    left_s = max(0, int(limits.idle_share_max * capacity * ROLLING_S - used_s)) // accelerators
    full_s = limits.hold_s
    if window.seconds > limits.window_s:
        full_s = max(HOLD_S_MIN, int(Fraction(limits.hold_s * limits.window_s) / Fraction(window.seconds)))
    seconds = min(full_s, left_s)
    return seconds if seconds >= min(HOLD_S_MIN, limits.hold_s) else 0
