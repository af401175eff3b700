"""A week of a pool: what was attainable, what was earned, and the causes of the difference, which add up to it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sublet.allocation.chargeback.book import Book, Use
from sublet.allocation.chargeback.displaced import HOUR_S, RAW
from sublet.allocation.report.hours import MODEL, HourWorth
from sublet.values.clock import format_time

WEEK = timedelta(days=7)
HOURS_PER_YEAR = 8760
CAUSES = ("withheld", "load_misjudged", "unsold", "broken", "priced_low")
"""Kept off sale; replicas that were too few, too many, or of the wrong model; on sale and not sold, or sold for less than something
else would have paid; credits for broken promises; prices that were not the best ones."""
USES = (("raw", RAW), ("managed", (MODEL,)))


def week_of(moment: datetime) -> datetime:
    """The Monday, in UTC, with which the week of `moment` begins."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return day - timedelta(days=day.weekday())


@dataclass(frozen=True, slots=True)
class Earnings:
    """What the ledger says of a pool's week, in major units: earned by use (`raw`, `managed`), and credits given for broken
    promises."""

    by_use: Mapping[str, float] = field(default_factory=dict)
    credits: float = 0.0


@dataclass(slots=True)
class Week:
    """A pool's week, summed up hour by hour. `watts` are of one accelerator."""

    pool_id: str
    start: datetime
    currency: str
    watts: float
    energy: float
    book: Book = field(default_factory=Book)
    hours: int = 0
    valued: int = 0
    attainable: float = 0.0
    sellable: float = 0.0
    standing: float = 0.0
    priced_low: float = 0.0

    def add(self, hour: Book, worth: HourWorth | None) -> None:
        self.book.add(hour)
        self.hours += 1
        if worth is not None:
            self.valued += 1
            self.attainable += worth.attainable
            self.sellable += worth.sellable
            self.standing += worth.standing
            self.priced_low += worth.priced_low

    def as_dict(self, name: str, earned: Earnings) -> dict[str, Any]:
        """The week for people and programs. Hours whose worth nobody knows count as the average of the others; without any, what was
        attainable is unknown."""
        uses = [self._use(use, starts, earned) for use, starts in USES]
        used = sum(item["accelerator_hours"] for item in uses)
        realized = sum(earned.by_use.values()) - earned.credits - used * self.energy
        factor = self.hours / self.valued if self.valued else None
        attainable = (self.attainable + self.priced_low) * factor if factor is not None else None
        return {
            "pool": name,
            "pool_id": self.pool_id,
            "week": format_time(self.start),
            "currency": self.currency,
            "hours": self.hours,
            "valued_hours": self.valued,
            "realized": round(realized, 6),
            "attainable": round(attainable, 6) if attainable is not None else None,
            "share": round(realized / attainable, 6) if attainable else None,
            "lost": self._lost(earned, realized, factor) if factor is not None else None,
            "idle_hours": round((self.book.capacity_s - self.book.of(Use.INTERNAL) - self.book.of(Use.UNAVAILABLE)) / HOUR_S, 6),
            "uses": uses,
        }  # fmt: skip

    def _lost(self, earned: Earnings, realized: float, factor: float) -> dict[str, float]:
        """By cause. What nothing else explains was on sale and not sold; below zero, more was sold than the estimates expected."""
        found = {
            "withheld": (self.attainable - self.sellable) * factor,
            "load_misjudged": (self.sellable - self.standing) * factor,
            "unsold": self.standing * factor - realized - earned.credits,
            "broken": earned.credits,
            "priced_low": self.priced_low * factor,
        }
        return {cause: round(found[cause], 6) for cause in CAUSES}

    def _use(self, use: str, starts: tuple[str, ...], earned: Earnings) -> dict[str, Any]:
        seconds = sum(
            count
            for (state, _, product), count in self.book.seconds.items()
            if state is Use.EXTERNAL and product.startswith(starts)
        )
        hours, amount = seconds / HOUR_S, earned.by_use.get(use, 0.0)
        per_hour = amount / hours if hours else None
        return {
            "use": use,
            "accelerator_hours": round(hours, 6),
            "earned": round(amount, 6),
            "per_accelerator_hour": round(per_hour, 6) if per_hour is not None else None,
            "per_watt_year": round(per_hour * HOURS_PER_YEAR / self.watts, 6)
            if per_hour is not None and self.watts
            else None,
        }
