"""What a block would have cost its owner: accelerator-hours of its own work that would have had to wait. Pure.

For a block of N accelerators beside standing ones, an hour with demand U of capacity C displaces

    max(0, U - (C - standing - N)) - max(0, U - (C - standing))

accelerator-hours: what waits because of this block alone. How much that is over some days is a distribution, known by what was
observed. Where history has too few spans of that length, whole weeks of it are drawn at random (a block bootstrap, with a fixed
seed), which keeps days and weekdays together and knows neither growth nor seasons; where it has too few weeks, nothing is said.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sublet.demand.model import Floats, Slots

LEVELS = (50, 90, 99)
"""Percent of spans in which no more was displaced."""

DAYS_DEFAULT = (7, 30, 90, 365)
SHARES_DEFAULT = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
COUNTS_MAX = 32
DAYS_MAX = 1098
WEEK_H = 7 * 24
DRAWS = 4_000
SEED = 11
WEEKS_MIN = {50: 4, 90: 8, 99: 26}
"""Whole weeks of history without which a level is not drawn from weeks: a rare week must have had a chance to be among them."""

SEEN_MIN = 0.9
"""The share of the hours of a span that must have been seen."""

GROWTH_MIN = 0.1
RECENT_H = 4 * WEEK_H


@dataclass(frozen=True, slots=True)
class Cost:
    """Accelerator-hours that a block of `accelerators` over `days` would have displaced, by level; None where too little is known.

    `basis` is "observed", "weeks" (drawn from whole weeks), or "unknown". `share` is what that is of the block's hours.
    """

    accelerators: int
    days: int
    displaced_h: dict[int, float | None]
    basis: str
    sentence: str

    def as_dict(self) -> dict[str, Any]:
        whole = self.accelerators * self.days * 24
        return {
            "accelerators": self.accelerators,
            "days": self.days,
            "block_h": whole,
            **{f"displaced_h_{level}": self.displaced_h[level] for level in LEVELS},
            "share_90": None if self.displaced_h[90] is None else self.displaced_h[90] / whole,
            "basis": self.basis,
            "sentence": self.sentence,
        }


@dataclass(frozen=True, slots=True)
class Advice:
    """What blocks of several sizes and lengths would have cost, by `history_days` days of history."""

    capacity: int
    standing: int
    history_days: float
    weeks: int
    costs: tuple[Cost, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        return {
            "capacity": self.capacity,
            "standing": self.standing,
            "history_days": round(self.history_days, 2),
            "weeks": self.weeks,
            "rows": [cost.as_dict() for cost in self.costs],
            "notes": list(self.notes),
        }


def counts_of(capacity: int, standing: int) -> tuple[int, ...]:
    """The sizes that are looked at where nobody names any: a sixteenth to a half of the pool, as far as they fit."""
    found = {max(1, round(capacity * share)) for share in SHARES_DEFAULT}
    return tuple(sorted(count for count in found if count + standing <= capacity))


def advise(slots: Slots, capacity: int, standing: int, counts: Sequence[int], days: Sequence[int]) -> Advice:
    """The cost of each size and length of block, from the hourly demand in `slots`. `standing` accelerators are in blocks now."""
    seen = int(slots.seen.sum())
    weeks = seen // WEEK_H
    hours = [(count, _displaced(slots, standing, count)) for count in counts]
    costs = tuple(_cost(count, length, wasted, weeks) for count, wasted in hours for length in days)
    return Advice(capacity, standing, seen / 24, weeks, costs, tuple(_notes(slots, seen, weeks, days)))


def _displaced(slots: Slots, standing: int, count: int) -> Floats:
    """By hour, NaN where nothing was seen."""
    rest = slots.capacity - standing
    waits = np.maximum(0.0, slots.in_use - np.maximum(0.0, rest - count))
    found: Floats = waits - np.maximum(0.0, slots.in_use - np.maximum(0.0, rest))
    return found


def _cost(count: int, days: int, wasted: Floats, weeks: int) -> Cost:
    span = days * 24
    spans = _spans(wasted, span)
    apart = int(np.isfinite(wasted).sum()) // span
    drawn = _drawn(wasted, span) if days >= 7 and weeks >= min(WEEKS_MIN.values()) else np.empty(0)
    found: dict[int, float | None] = {}
    bases = set()
    for level in LEVELS:
        if spans.size and apart >= math.ceil(100 / (100 - level)):
            found[level] = round(float(np.quantile(spans, level / 100)), 1)
            bases.add("observed")
        elif drawn.size and weeks >= WEEKS_MIN[level]:
            found[level] = round(float(np.quantile(drawn, level / 100)), 1)
            bases.add("weeks")
        else:
            found[level] = None
    basis = "weeks" if "weeks" in bases else "observed" if bases else "unknown"
    return Cost(count, days, found, basis, _sentence(found, days, apart, weeks, basis))


def _sentence(found: dict[int, float | None], days: int, apart: int, weeks: int, basis: str) -> str:
    missing = [level for level in LEVELS if found[level] is None]
    lack = ""
    if missing:
        needed = max(WEEKS_MIN[level] for level in missing) if days >= 7 else None
        longer = f"{needed} weeks" if needed else f"{math.ceil(days * 100 / (100 - missing[-1]))} days"
        lack = f"; {', '.join(f'{level} %' for level in missing)} need {longer} of history"
    if basis == "unknown":
        return "too little history" + lack
    if basis == "weeks":
        return f"drawn from {weeks} weeks of history, as if every week to come were one of them" + lack
    return f"from {apart} spans of {days} d that do not overlap" + lack


def _spans(wasted: Floats, span: int) -> Floats:
    """What was displaced over each span of so many hours that was seen well enough, scaled to all of its hours."""
    if wasted.size < span:
        return np.empty(0)
    known = np.isfinite(wasted)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, wasted, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    total, many = sums[span:] - sums[:-span], counts[span:] - counts[:-span]
    enough = many >= SEEN_MIN * span
    found: Floats = total[enough] * span / many[enough]
    return found


def _drawn(wasted: Floats, span: int) -> Floats:
    """What would be displaced over a span that is made of weeks of history, drawn with a fixed seed."""
    weekly = _spans(wasted, WEEK_H)
    if not weekly.size:
        return weekly
    many = math.ceil(span / WEEK_H)
    chance = np.random.default_rng(SEED)
    total = np.zeros(DRAWS)
    for _ in range(many):
        total += weekly[chance.integers(0, weekly.size, DRAWS)]
    found: Floats = total * span / (many * WEEK_H)
    return found


def _notes(slots: Slots, seen: int, weeks: int, days: Sequence[int]) -> list[str]:
    notes = []
    longest = max(days, default=0)
    if seen < 24 * longest:
        notes.append(
            f"{seen / 24:.0f} days of history: longer spans are made of its weeks, so that growth, seasons and anything that has "
            "not happened yet are not in them"
        )
    if weeks < WEEKS_MIN[99]:
        notes.append(f"{weeks} whole weeks of history are too few to say what one span in a hundred would cost")
    known = slots.in_use[slots.seen]
    if known.size >= 3 * RECENT_H:
        before, lately = float(known[:-RECENT_H].mean()), float(known[-RECENT_H:].mean())
        if before > 0 and abs(lately / before - 1) >= GROWTH_MIN:
            change = "grew" if lately > before else "fell"
            notes.append(
                f"demand {change} by {abs(lately / before - 1):.0%} in the last four weeks against those before: what comes may "
                "differ from these figures"
            )
    return notes
