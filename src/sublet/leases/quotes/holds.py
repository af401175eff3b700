"""How long a quote holds capacity: long enough to accept it, but not as a way to keep capacity without paying.

A quote has a price until it expires, and a hold, which may be shorter or missing. A quote without a hold can be accepted while
capacity is available, so limits on holds never prevent a customer from renting.
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
    """Limits on the holds of one organization's open quotes.

    `hold_s` is how long a quote holds capacity for a window of at most `window_s`. A longer window is held for proportionally
    less time. `idle_share_max` limits the share of a pool's accelerator-time in the last hour that was held by quotes that did
    not become leases. `pool_share_max` limits the share of the pool that is held at one moment.
    """

    open_max: int = 20
    hold_s: int = 60
    window_s: int = 24 * 3600
    idle_share_max: float = 0.10
    pool_share_max: float = 1.0


@dataclass(frozen=True, slots=True)
class Hold:
    """The hold of a quote that did not become a lease: `accelerators` over `[start, end)`."""

    accelerators: int
    start: datetime
    end: datetime


def hold_s(
    limits: HoldLimits, accelerators: int, window: Window, capacity: int, holds: Iterable[Hold], now: datetime
) -> int:
    """Seconds for which a new quote holds `accelerators` of a pool of `capacity`, given the organization's `holds` on that
    pool; 0 if it holds nothing. Past holds count for one hour, regardless of their windows."""
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
