"""A pool over time as a drawing: areas, lines, ticks and words, in percent of the plot, for a template to write as SVG."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Protocol

from sublet.console.figures import axis_count, count, span_text
from sublet.console.model import AwayView, PoolPoint, PoolView
from sublet.console.timeline import (
    Stretch,
    Tick,
    gaps,
    present,
    split,
    stretches,
    unforeseen,
    window_of,
    x_ticks,
    y_ticks,
)

UNITS = 1000
"""The plot's inner coordinates run from 0 to this on both axes; the browser stretches them to the space there is."""

ROWS_MAX = 24
_HEADROOM = 1.06
_EDGE_PERCENT = 4

CLASS_STYLES = tuple(f"class-{letter}" for letter in "abcdefgh")
"""The style sheet's names for the classes of service, by their order."""


@dataclass(frozen=True, slots=True)
class Area:
    """What is stacked: a name, a name for the style sheet, a label for people, and the height."""

    name: str
    style: str
    label: str
    height: Callable[[PoolPoint], float]
    drawn: Callable[[PoolPoint], float] | None = None
    """What is drawn of `height`; None for all of it."""


def areas_of(classes: Sequence[str]) -> tuple[Area, ...]:
    """The areas of a pool's chart from the bottom: own demand, each class of service, models, and what is on sale."""
    sold = [
        Area(name, CLASS_STYLES[index % len(CLASS_STYLES)], f"Sold {name}", partial(_sold_as, name))
        for index, name in enumerate(classes)
    ]
    return (
        Area("own", "own", "Own demand", lambda point: point.own_demand or 0, _own_beside_sale),
        *sold,
        Area("model", "model", "Sold as models", lambda point: point.sold.model),
        Area("sale", "sale", "On sale", lambda point: point.on_sale or 0),
    )


def _own_beside_sale(point: PoolPoint) -> float:
    """A block is on sale whatever the owner wants: demand beyond the rest of the pool waits, and only its edge is drawn."""
    own = point.own_demand or 0
    return min(own, max(0.0, point.capacity - point.sold.total - point.on_sale)) if point.on_sale else own


def _sold_as(name: str, point: PoolPoint) -> float:
    return point.sold.by_class.get(name, 0)


@dataclass(frozen=True, slots=True)
class Layer:
    """One area of the stack. `now` is its height now, None where unknown; `path` is empty where it is never seen."""

    name: str
    style: str
    label: str
    path: str
    now: float | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A tick or a band, in percent of the plot's width or height. `anchor` is SVG's text-anchor."""

    at: float
    label: str
    anchor: str = "middle"
    minor: bool = False
    width: float = 0


@dataclass(frozen=True, slots=True)
class Row:
    """The chart's figures at one moment, for those who read rather than look."""

    at: datetime
    forecast: bool
    capacity: float
    own: float | None
    sold: float
    on_sale: float | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Everything that the template draws. `readout` holds the columns for the script that shows values under the
    pointer: start, end, forecast, and then what `names` says: capacity, withheld, and the layers from the bottom.
    `dense`: columns stand for several points each, and outlines would cover what they enclose."""

    title: str
    description: str
    layers: tuple[Layer, ...]
    capacity_path: str
    own_edge_path: str
    x: tuple[Mark, ...]
    y: tuple[Mark, ...]
    gaps: tuple[Mark, ...]
    away: tuple[Mark, ...]
    now: Mark
    rows: tuple[Row, ...]
    readout: dict[str, object]
    withheld: float | None
    dense: bool


@dataclass(frozen=True, slots=True)
class Scale:
    """Where seconds since 1970 and accelerators are in the plot; `top` is the highest number of accelerators."""

    start: float
    end: float
    top: float

    def x(self, seconds: float) -> str:
        """The inner coordinate of a moment, as SVG has it."""
        return _number(UNITS * (min(max(seconds, self.start), self.end) - self.start) / (self.end - self.start))

    def y(self, accelerators: float) -> str:
        """The inner coordinate of a height."""
        return _number(UNITS * (1 - accelerators / self.top))

    def percent(self, seconds: float) -> float:
        """Where a moment is, in percent of the width."""
        return round(100 * (seconds - self.start) / (self.end - self.start), 2)


def draw(pool: PoolView, as_of: datetime) -> Chart | None:
    """The chart of `pool`, or None where there is no point to draw yet."""
    window = window_of(pool, as_of)
    drawn = stretches(pool, as_of, window)
    if not drawn:
        return None
    peak = max(
        max(point.capacity, point.own_demand or 0, _own_beside_sale(point) + point.sold.total + (point.on_sale or 0))
        for point in (item.point for item in drawn)
    )
    ticks = y_ticks(peak)
    scale = Scale(window.start.timestamp(), window.end.timestamp(), max(ticks[-1].value, peak * _HEADROOM))
    known = [item for item in drawn if item.point.own_demand is not None]
    now_s = as_of.timestamp()
    current = present(pool, as_of)
    holes = gaps(drawn, window, now_s)
    areas = areas_of(pool.classes)
    return Chart(
        title=f"Pool {pool.name}: accelerators over time",
        description=_description(pool, drawn, current, span_text(window.start, window.end), len(holes)),
        layers=tuple(_layers(areas, known, current, scale)),
        capacity_path=_edge(drawn, lambda point: point.capacity, scale),
        own_edge_path=_edge([i for i in known if i.point.forecast], lambda point: point.own_demand or 0, scale),
        x=tuple(x_mark(tick, scale) for tick in x_ticks(window)),
        y=tuple(
            Mark(round(100 * (1 - t.value / scale.top), 2), axis_count(t.value, ticks[-1].value), "end") for t in ticks
        ),
        gaps=(
            *(_gap("No samples", start, end, scale) for start, end in holes),
            *(_gap("No forecast yet", start, end, scale) for start, end in unforeseen(drawn)),
        ),
        away=tuple(
            _away(item, scale)
            for item in pool.away
            if item.window.start < window.end and item.window.end > window.start
        ),
        now=_now(scale.percent(now_s)),
        rows=_rows(drawn),
        readout=_readout(areas, drawn, scale),
        withheld=current.withheld if current else None,
        dense=_dense(pool, drawn, as_of),
    )


def _dense(pool: PoolView, drawn: Sequence[Stretch], as_of: datetime) -> bool:
    observed, _ = split(pool.points, as_of)
    return len(observed) > 2 * sum(not item.point.forecast for item in drawn)


def _layers(areas: Sequence[Area], known: Sequence[Stretch], current: PoolPoint | None, scale: Scale) -> list[Layer]:
    floor = [0.0] * len(known)
    layers = []
    for area in areas:
        height = area.drawn or area.height
        ceiling = [low + height(item.point) for low, item in zip(floor, known, strict=True)]
        # Where a layer has no height its outline would be all that is seen of it.
        seen = [index for index, low in enumerate(floor) if ceiling[index] > low]
        heights = [floor[index] for index in seen], [ceiling[index] for index in seen]
        path = area_path([known[index] for index in seen], *heights, scale) if seen else ""
        unknown = {"own": current and current.own_demand, "sale": current and current.on_sale}
        now = None if current is None or unknown.get(area.name, 0) is None else area.height(current)
        layers.append(Layer(area.name, area.style, area.label, path, now))
        floor = ceiling
    return layers


class Spanned(Protocol):
    """What holds from `start` to `end`, in seconds since 1970."""

    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...


def _runs(items: Sequence[Spanned]) -> list[list[int]]:
    """Indices of stretches that touch; between two runs nothing is drawn."""
    runs: list[list[int]] = []
    for index, item in enumerate(items):
        if index and item.start <= items[index - 1].end + 1e-6:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs


def area_path(items: Sequence[Spanned], low: Sequence[float], high: Sequence[float], scale: Scale) -> str:
    """The outline of steps between two heights each; one for each run of spans that touch."""
    parts = []
    for run in _runs(items):
        parts.append(f"M{scale.x(items[run[0]].start)} {scale.y(low[run[0]])}")
        parts.extend(f"V{scale.y(high[index])}H{scale.x(items[index].end)}" for index in run)
        parts.extend(f"V{scale.y(low[index])}H{scale.x(items[index].start)}" for index in reversed(run))
        parts.append("Z")
    return "".join(parts)


def _edge(items: Sequence[Stretch], height: Callable[[PoolPoint], float], scale: Scale) -> str:
    return edge_path(items, [height(item.point) for item in items], scale)


def edge_path(items: Sequence[Spanned], heights: Sequence[float], scale: Scale) -> str:
    """A line of steps at a height each."""
    parts = []
    for run in _runs(items):
        parts.append(f"M{scale.x(items[run[0]].start)} {scale.y(heights[run[0]])}")
        parts.extend(f"V{scale.y(heights[index])}H{scale.x(items[index].end)}" for index in run)
    return "".join(parts)


def x_mark(tick: Tick, scale: Scale) -> Mark:
    """A tick of the axis of time."""
    at = scale.percent(tick.value)
    return Mark(at, tick.label, _anchor(at), tick.minor)


def _anchor(percent: float) -> str:
    if percent < _EDGE_PERCENT:
        return "start"
    return "end" if percent > 100 - _EDGE_PERCENT else "middle"


def _now(percent: float) -> Mark:
    return Mark(percent, "now", _anchor(percent), width=round(100 - percent, 2))


def _gap(what: str, start: float, end: float, scale: Scale) -> Mark:
    at = scale.percent(start)
    words = span_text(datetime.fromtimestamp(start, UTC), datetime.fromtimestamp(end, UTC))
    return Mark(at, f"{what}, {words}", width=round(scale.percent(end) - at, 2))


def _away(item: AwayView, scale: Scale) -> Mark:
    """Maintenance, as far as it is in the window."""
    start, end = max(item.window.start.timestamp(), scale.start), min(item.window.end.timestamp(), scale.end)
    what = f"Maintenance, {count(item.accelerators)} away until {item.window.end.astimezone(UTC):%-d %b %H:%M} UTC: {item.reason}"
    return Mark(scale.percent(start), what, width=round(scale.percent(end) - scale.percent(start), 2))


def _rows(drawn: Sequence[Stretch]) -> tuple[Row, ...]:
    every = max(1, -(-len(drawn) // ROWS_MAX))
    return tuple(
        Row(
            datetime.fromtimestamp(item.start, UTC),
            item.point.forecast,
            item.point.capacity,
            item.point.own_demand,
            item.point.sold.total,
            item.point.on_sale,
        )
        for item in drawn[::every]
    )


def _readout(areas: Sequence[Area], drawn: Sequence[Stretch], scale: Scale) -> dict[str, object]:
    def values(point: PoolPoint) -> list[float | None]:
        own, sale, withheld = (
            None if value is None else round(value, 1) for value in (point.own_demand, point.on_sale, point.withheld)
        )
        return [withheld, own, *(round(area.height(point), 1) for area in areas[1:-1]), sale]

    return {
        "from": int(scale.start),
        "to": int(scale.end),
        "names": ["capacity", "held", *(area.name for area in areas)],
        "columns": [
            [int(i.start), int(i.end), int(i.point.forecast), round(i.point.capacity, 1), *values(i.point)]
            for i in drawn
        ],
    }


def _description(pool: PoolView, drawn: Sequence[Stretch], current: PoolPoint | None, covered: str, holes: int) -> str:
    sentences = [f"From {covered}."]
    if current is not None:
        sold = {**{name: current.sold.by_class.get(name, 0) for name in pool.classes}, "model": current.sold.model}
        classes = ", ".join(f"{name} {count(number)}" for name, number in sold.items())
        sentences.append(
            f"Now: capacity {count(current.capacity)}, own demand {count(current.own_demand)}, "
            f"sold {count(current.sold.total)} ({classes}), on sale {count(current.on_sale)}."
        )
    for forecast, words in (
        (False, "Highest observed demand of the owner"),
        (True, f"{forecast_label(pool)}, highest"),
    ):
        points = [item.point for item in drawn if item.point.forecast is forecast]
        known = [(point.own_demand, point.at) for point in points if point.own_demand is not None]
        if known:
            highest, at = max(known)
            sentences.append(f"{words}: {count(highest)} at {at.day} {at:%b %H:%M}.")
    if unforeseen(drawn):
        sentences.append("There is not enough history to forecast the whole range.")
    if holes:
        sentences.append(f"{holes} {'gap' if holes == 1 else 'gaps'} without samples.")
    return " ".join(sentences)


def forecast_label(pool: PoolView) -> str:
    """What the forecast part shows: `Forecast, 99 % quantile`."""
    if pool.forecast_quantile is None:
        return "Forecast"
    return f"Forecast, {round(100 * pool.forecast_quantile, 2):g} % quantile"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
