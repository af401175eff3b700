"""What of a pool is taken and booked over future time, as steps in which nothing changes. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sublet.values.clock import format_time, from_micros, to_micros
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window

STEPS_MAX = 200
"""Steps of one calendar. Where more changes, neighbors are merged."""
SPAN_DEFAULT = timedelta(days=30)
SPAN_MAX = timedelta(days=3 * 366)

CAPACITY, MAINTENANCE, QUARANTINED, FLOORS, REPLICAS, CLAIMED, RECLAIMED, BLOCKS, SOLD_FROM_BLOCKS, HELD, HELD_FROM_BLOCKS = (
    "capacity", "maintenance", "quarantined", "model_floors", "model_replicas", "claimed", "reclaimed", "blocks",
    "sold_from_blocks", "held", "held_from_blocks",
)  # fmt: skip
SOLD = "sold:"
"""How the kind of what was sold outside blocks begins; the rest is its class."""

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Booking:
    """`count` accelerators of one kind over `window`; the kinds are the constants of this module."""

    kind: str
    count: int
    window: Window


@dataclass(frozen=True, slots=True)
class CalendarStep:
    """What of a pool is taken in `window`, in accelerators. `capacity + excess` is the sum of the parts and `left`.

    `blocks` is what is put up for sale in blocks, sold or not; it is no part. `unsold_in_blocks` is what of it nobody holds.
    `excess` is by how much more is taken than there is. `merged` steps were made one: the figures are those of the fullest.
    """

    window: Window
    capacity: int
    maintenance: int
    quarantined: int
    model_floors: int
    model_replicas: int
    claimed: int
    reclaimed: int
    blocks: int
    sold_from_blocks: int
    unsold_in_blocks: int
    sold: Mapping[str, int]
    held: int
    left: int
    excess: int
    merged: int = 1

    @property
    def parts(self) -> dict[str, int]:
        """What the capacity is divided into, without what is left, by its name; of what is sold, by its class."""
        return {
            "maintenance": self.maintenance,
            "quarantined": self.quarantined,
            "claimed": self.claimed,
            "reclaimed": self.reclaimed,
            "model_floors": self.model_floors,
            "model_replicas": self.model_replicas,
            "sold_from_blocks": self.sold_from_blocks,
            **{SOLD + name: count for name, count in self.sold.items()},
            "held": self.held,
            "unsold_in_blocks": self.unsold_in_blocks,
        }

    def as_dict(self) -> dict[str, Any]:
        return {
            "start": format_time(self.window.start),
            "end": format_time(self.window.end),
            "capacity": self.capacity,
            "maintenance": self.maintenance,
            "quarantined": self.quarantined,
            "model_floors": self.model_floors,
            "model_replicas": self.model_replicas,
            "claimed": self.claimed,
            "reclaimed": self.reclaimed,
            "blocks": self.blocks,
            "sold_from_blocks": self.sold_from_blocks,
            "unsold_in_blocks": self.unsold_in_blocks,
            "sold": dict(self.sold),
            "held": self.held,
            "left": self.left,
            "excess": self.excess,
            "merged": self.merged,
        }


@dataclass(frozen=True, slots=True)
class PoolCalendar:
    """The steps of a pool, in order and without gaps. `waiting_hours` are accelerator-hours promised by a deadline and not yet
    delivered: they hold accelerators in a step only while they run."""

    pool_id: str
    pool: str
    window: Window
    classes: tuple[str, ...]
    waiting_hours: float
    steps: tuple[CalendarStep, ...]

    @property
    def merged(self) -> bool:
        """Whether some step stands for several."""
        return any(step.merged > 1 for step in self.steps)

    def as_dict(self) -> dict[str, Any]:
        return {
            "pool_id": self.pool_id,
            "pool": self.pool,
            "start": format_time(self.window.start),
            "end": format_time(self.window.end),
            "classes": list(self.classes),
            "deadline_accelerator_hours": round(self.waiting_hours, 2),
            "merged": self.merged,
            "steps": [step.as_dict() for step in self.steps],
        }


def calendar_window(now: datetime, since: datetime | None, until: datetime | None) -> Window:
    """The time that a calendar covers: from now on, as the past is not booked any more. Raises InvalidInputError."""
    start = max(now, since or now)
    if start - now > SPAN_MAX:
        raise InvalidInputError(
            f"since is {format_time(start)}; nothing is booked more than three years ahead, so start earlier",
            field="since",
        )
    end = until or start + SPAN_DEFAULT
    if end <= start:
        raise InvalidInputError(
            f"until is {format_time(end)}; it must be after {format_time(start)}, where the calendar starts",
            field="until",
        )
    if end - start > SPAN_MAX:
        raise InvalidInputError(
            f"a calendar covers at most three years; end it by {format_time(start + SPAN_MAX)}", field="until"
        )
    return Window(start, end)


def steps_of(bookings: Iterable[Booking], window: Window, classes: Sequence[str]) -> tuple[CalendarStep, ...]:
    """The steps of `window`, at most STEPS_MAX. What is sold of a class that is not in `classes` makes a place of its own."""
    inside = [item for item in bookings if item.count > 0 and item.window.overlaps(window)]
    moments, counts = _counted(inside, window)
    names = list(dict.fromkeys([*classes, *(kind.removeprefix(SOLD) for kind in counts if kind.startswith(SOLD))]))
    columns = _divided(counts, names, moments.size)
    rows = np.stack(list(columns.values()))
    changes = np.flatnonzero(np.concatenate([[True], np.any(rows[:, 1:] != rows[:, :-1], axis=0)]))
    groups = _groups(moments[changes], window)
    room = columns["left"] + columns["unsold_in_blocks"] - columns["excess"]
    ends = [*(from_micros(int(moments[changes[group[0]]])) for group in groups[1:]), window.end]
    made, start = [], window.start
    for group, end in zip(groups, ends, strict=True):
        places = changes[group[0] : group[-1] + 1]
        fullest = int(places[np.argmin(room[places])])
        made.append(_step(columns, names, fullest, Window(start, end), len(group)))
        start = end
    return tuple(made)


def _counted(inside: Sequence[Booking], window: Window) -> tuple[Integers, dict[str, Integers]]:
    """When anything begins or ends within `window`, and how many of each kind there are from each moment on."""
    start, end = to_micros(window.start), to_micros(window.end)
    spans = [(max(start, to_micros(item.window.start)), min(end, to_micros(item.window.end))) for item in inside]
    moments = np.unique(np.array([start, *(moment for span in spans for moment in span)], dtype=np.int64))
    moments = moments[moments < end]
    counts: dict[str, Integers] = {}
    firsts = np.searchsorted(moments, np.array([first for first, _ in spans], dtype=np.int64))
    lasts = np.searchsorted(moments, np.array([last for _, last in spans], dtype=np.int64))
    for item, first, last in zip(inside, firsts.tolist(), lasts.tolist(), strict=True):
        changes = counts.setdefault(item.kind, np.zeros(moments.size + 1, dtype=np.int64))
        changes[first] += item.count
        changes[last] -= item.count
    return moments, {kind: np.cumsum(changes)[:-1] for kind, changes in counts.items()}


def _divided(counts: Mapping[str, Integers], names: Sequence[str], many: int) -> dict[str, Integers]:
    """The columns of the steps: the parts, what is left, and the excess."""

    def of(kind: str) -> Integers:
        found = counts.get(kind)
        return np.zeros(many, dtype=np.int64) if found is None else found

    zero = np.zeros(many, dtype=np.int64)
    capacity = of(CAPACITY)
    # What is away twice is away once, and replicas of a floor leave when their accelerators do.
    maintenance = np.minimum(of(MAINTENANCE), capacity)
    quarantined = np.minimum(of(QUARANTINED), capacity - maintenance)
    working = capacity - maintenance - quarantined
    floors = np.minimum(of(FLOORS), working)
    sold = {SOLD + name: of(SOLD + name) for name in names}
    from_blocks = of(SOLD_FROM_BLOCKS) + of(HELD_FROM_BLOCKS)
    kept = np.maximum(0, np.minimum(of(BLOCKS), working) - from_blocks)
    # Leases of the ladder may run in unsold hours of a block, and do so where there is no room beside it. The owner may not.
    beside = sum(sold.values(), of(HELD) + of(REPLICAS))
    others = floors + of(CLAIMED) + of(RECLAIMED) + from_blocks
    lent = np.minimum(kept, np.maximum(0, beside - np.maximum(0, working - others - kept)))
    unsold = kept - lent
    free = working - others - beside - unsold
    return {
        CAPACITY: capacity,
        MAINTENANCE: maintenance,
        QUARANTINED: quarantined,
        FLOORS: floors,
        REPLICAS: of(REPLICAS),
        CLAIMED: of(CLAIMED),
        RECLAIMED: of(RECLAIMED),
        BLOCKS: of(BLOCKS),
        SOLD_FROM_BLOCKS: of(SOLD_FROM_BLOCKS),
        "unsold_in_blocks": unsold,
        HELD: of(HELD) + of(HELD_FROM_BLOCKS),
        "left": np.maximum(zero, free),
        "excess": np.maximum(zero, -free),
        **sold,
    }


def _groups(starts: Integers, window: Window) -> list[list[int]]:
    """Which steps become one: each for itself, or those that begin in the same of STEPS_MAX equal parts of the window."""
    if starts.size <= STEPS_MAX:
        return [[place] for place in range(starts.size)]
    first, last = to_micros(window.start), to_micros(window.end)
    parts = (starts - first) * STEPS_MAX // (last - first)
    places = [*np.flatnonzero(np.concatenate([[True], parts[1:] != parts[:-1]])).tolist(), int(starts.size)]
    return [list(range(begin, end)) for begin, end in pairwise(places)]


def _step(columns: Mapping[str, Integers], names: Sequence[str], at: int, window: Window, merged: int) -> CalendarStep:
    fields = {name: int(column[at]) for name, column in columns.items() if not name.startswith(SOLD)}
    sold = {name: int(columns[SOLD + name][at]) for name in names}
    return CalendarStep(window=window, sold=sold, merged=merged, **fields)
