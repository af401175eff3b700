"""What is booked of a pool over future time as a drawing: stacked steps, in percent of the plot, for a template to write as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sublet.console.chart import CLASS_STYLES, Mark, Scale, area_path, edge_path, x_mark
from sublet.console.figures import axis_count
from sublet.console.timeline import x_ticks, y_ticks
from sublet.surplus.bookings import SOLD, CalendarStep, PoolCalendar

_HEADROOM = 1.06
_GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("away", "away", ("maintenance", "quarantined")),
    ("owner", "own", ("claimed", "reclaimed")),
    ("models", "model", ("model_floors", "model_replicas")),
    ("sold_from_blocks", "class-g", ("sold_from_blocks",)),
)
"""Names, styles and parts of the layers from the bottom, up to what is sold by class."""
_LAST_GROUPS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("held", "class-h", ("held",)),
    ("unsold_in_blocks", "sale", ("unsold_in_blocks",)),
)


@dataclass(frozen=True, slots=True)
class Layer:
    """One area of the stack. `class_name` names the class whose leases it shows; None for any other. `counts` has its height in
    each step."""

    name: str
    class_name: str | None
    style: str
    path: str
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class BookedChart:
    """Everything that the template draws. `layers` are those that occur, and the table has a column for each of them."""

    calendar: PoolCalendar
    layers: tuple[Layer, ...]
    capacity_path: str
    x: tuple[Mark, ...]
    y: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class _Span:
    start: float
    end: float


def draw_booked(calendar: PoolCalendar) -> BookedChart:
    """The chart of a calendar."""
    steps = calendar.steps
    groups = [*_GROUPS, *_of_classes(steps), *_LAST_GROUPS]
    peak = max(max(step.capacity, step.capacity + step.excess) for step in steps)
    ticks = y_ticks(peak)
    window = calendar.window
    scale = Scale(window.start.timestamp(), window.end.timestamp(), max(ticks[-1].value, peak * _HEADROOM))
    spans = [_Span(step.window.start.timestamp(), step.window.end.timestamp()) for step in steps]
    floor, layers = [0] * len(steps), []
    for name, style, parts in groups:
        counts = tuple(sum(step.parts[part] for part in parts) for step in steps)
        if not any(counts):
            continue
        ceiling = [low + count for low, count in zip(floor, counts, strict=True)]
        seen = [place for place, count in enumerate(counts) if count]
        path = area_path([spans[at] for at in seen], [floor[at] for at in seen], [ceiling[at] for at in seen], scale)
        class_name = name.removeprefix(SOLD) if name.startswith(SOLD) else None
        layers.append(Layer(name, class_name, style, path, counts))
        floor = ceiling
    return BookedChart(
        calendar,
        tuple(layers),
        edge_path(spans, [step.capacity for step in steps], scale),
        tuple(x_mark(tick, scale) for tick in x_ticks(window)),
        tuple(
            Mark(round(100 * (1 - tick.value / scale.top), 2), axis_count(tick.value, ticks[-1].value), "end")
            for tick in ticks
        ),
    )


def _of_classes(steps: Sequence[CalendarStep]) -> list[tuple[str, str, tuple[str, ...]]]:
    """The layers of the classes, in the colors that the overview's charts give them."""
    names = [part for part in steps[0].parts if part.startswith(SOLD)]
    return [(name, CLASS_STYLES[place % len(CLASS_STYLES)], (name,)) for place, name in enumerate(names)]


Booked = Callable[[str, datetime], PoolCalendar]
"""The calendar of the pool of that id from now until a moment."""
