"""Shadow mode: decide as if selling, on live or imported demand, and report what would have come of it."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import numpy as np

from sublet.surplus.backtest.own import Sublet
from sublet.surplus.backtest.scoring import Book, Trace, bound, least_value_first, run
from sublet.values.clock import format_time, from_micros
from sublet.values.errors import InvalidInputError
from sublet.values.money import Money
from sublet.values.service_classes import LONG_SHARE

HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Terms:
    """At what risk (share of promises that may break) and price per accelerator-hour the shadow would sell.

    `broken_credit` is the share of a broken window's price that its customer would get back, `long_share` what may be sold
    for longer than the shortest window, of what could be sold for that.
    """

    risk: float
    price: Money
    broken_credit: Decimal = Decimal("1")
    long_share: float = LONG_SHARE

    def __post_init__(self) -> None:
        if self.price.nano < 0:
            raise InvalidInputError(f"the price is {self.price}; it must be 0 or more")


@dataclass(frozen=True, slots=True)
class Report:
    """What would have been sold, earned and taken back. `breaks` are the largest of the `break_hours` hours in which
    something was."""

    pool: str
    since: str
    until: str
    hours: int
    windows: dict[str, dict[str, Any]]
    idle_hours: int
    honored_hours: int
    earned: Money
    credited: Money
    breaks: list[dict[str, Any]]
    break_hours: int
    calibration: dict[str, float]
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        return {
            "pool": self.pool,
            "since": self.since,
            "until": self.until,
            "hours": self.hours,
            "windows": self.windows,
            "idle_hours": self.idle_hours,
            "honored_hours": self.honored_hours,
            "sold_share_of_idle": self.honored_hours / self.idle_hours if self.idle_hours else 0.0,
            "earned": str(self.earned),
            "credited": str(self.credited),
            "reclaims": self.breaks,
            "reclaim_hours": self.break_hours,
            "broken_over_expected": self.calibration,
            "notes": list(self.notes),
        }


class Watched(Sublet):
    """The policy, with a note of how much of each class it started and what it expected to break."""

    def __init__(self, trace: Trace, windows: tuple[int, ...], risk: float, long_share: float) -> None:
        super().__init__(trace, windows, risk, long_share)
        self.started = dict.fromkeys(self.windows, 0)

    def starts(self, t: int, book: Book) -> dict[int, int]:
        found = super().starts(t, book)
        for window, count in found.items():
            self.started[window] += count
        return found


def shadow(trace: Trace, windows: tuple[int, ...], terms: Terms, reclaims_max: int = 20) -> Report:
    """Live through the trace after its warm-up, selling nothing for real, in the order that destroys least value."""
    policy = Watched(trace, windows, terms.risk, terms.long_share)
    outcome = run(trace, policy, least_value_first)
    per_class: dict[str, dict[str, Any]] = {}
    honored = credited_hours = 0
    for window in policy.windows:
        tally = outcome.tallies[window]
        hours = bound(trace, window)
        honored += tally.honored_hours
        credited_hours += tally.broken * window
        per_class[f"{window}h"] = {
            "started": policy.started[window],
            "honored": tally.finished,
            "broken": tally.broken,
            "promised_broken_per_1000": 1000 * terms.risk,
            "broken_per_1000": tally.broken_per_1000,
            "honored_hours": tally.honored_hours,
            "survival": {f"{after}h": round(share, 6) for after, share in tally.survival().items()},
            "share_of_bound_alone": tally.honored_hours / hours if hours else 0.0,
        }
    worst = sorted(np.flatnonzero(outcome.broken), key=lambda slot: (-outcome.broken[slot], slot))[:reclaims_max]
    return Report(
        pool=trace.name,
        since=_when(trace, trace.warmup),
        until=_when(trace, len(trace)),
        hours=len(trace) - trace.warmup,
        windows=per_class,
        idle_hours=int(trace.idle[trace.warmup :].sum()),
        honored_hours=honored,
        earned=Money(terms.price.nano * honored, terms.price.currency),
        credited=_share(Money(terms.price.nano * credited_hours, terms.price.currency), terms.broken_credit),
        breaks=[
            {"at": _when(trace, trace.warmup + int(slot)), "accelerators": int(outcome.broken[slot])}
            for slot in sorted(worst)
        ],
        break_hours=sum(count > 0 for count in outcome.broken),
        calibration={f"{window}h": round(seller.ratio, 3) for window, seller in policy.sellers.items()},
    )


def _share(amount: Money, share: Decimal) -> Money:
    return Money(int(amount.nano * share), amount.currency)


def _when(trace: Trace, slot: int) -> str:
    return format_time(from_micros((trace.first_hour + slot) * HOUR_US))
