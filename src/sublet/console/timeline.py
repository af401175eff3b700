"""A pool's points as stretches of time, few enough to draw, with gaps kept as gaps; and the ticks of both axes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sublet.console.model import PoolPoint, PoolView
from sublet.values.windows import Window

COLUMNS_MAX = 240
"""Stretches that a chart draws at most: about one per three pixels, whatever the history."""

BACK_S_MIN = 300
AHEAD_RATIO_MAX = 2
_X_TICKS_MAX = 9
_Y_TICKS_MAX = 4
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_STEPS_S = (
    *(_MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * n for n in (1, 2, 3, 4, 6, 12)),
    *(_DAY * n for n in (1, 2, 4, 7, 14)),
)
_MONTHS = (1, 2, 3, 6, 12, 24, 60)


@dataclass(frozen=True, slots=True)
class Stretch:
    """`[start, end)` in seconds since 1970, over which `point` holds."""

    start: float
    end: float
    point: PoolPoint


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis at `value` (seconds since 1970, or accelerators). `minor` labels give way on narrow screens."""

    value: float
    label: str
    minor: bool = False


def window_of(pool: PoolView, as_of: datetime) -> Window:
    """What the chart covers: all observed points and at least five minutes back, all of the forecast but at most twice
    as long as that, so that a young system's minutes are not lost beside its forecast."""
    observed, forecast = split(pool.points, as_of)
    start = min([as_of - timedelta(seconds=BACK_S_MIN), *(point.at for point in observed[:1])])
    end = as_of + (as_of - start) / _MARGIN_PART
    if forecast:
        end = max(end, min(forecast[-1].at + _last_step(forecast), as_of + AHEAD_RATIO_MAX * (as_of - start)))
    return Window(start, end)


_MARGIN_PART = 60


def split(points: Iterable[PoolPoint], as_of: datetime) -> tuple[list[PoolPoint], list[PoolPoint]]:
    """Observed and forecast points, each in order of time; an observation from after `as_of` is left out."""
    ordered = sorted(points, key=lambda point: point.at)
    return (
        [point for point in ordered if not point.forecast and point.at <= as_of],
        [point for point in ordered if point.forecast],
    )


def stretches(pool: PoolView, as_of: datetime, window: Window) -> list[Stretch]:
    """At most COLUMNS_MAX (and one per change from observed to forecast), in order, without overlap."""
    observed, forecast = split(pool.points, as_of)
    now, end = as_of.timestamp(), window.end.timestamp()
    foreseen = min(end, (forecast[-1].at + _last_step(forecast)).timestamp()) if forecast else end
    drawn = [
        *_hold(observed, until=now, longest_s=pool.gap_s),
        *_clipped(_hold(forecast, until=foreseen, longest_s=math.inf), now, end),
    ]
    return _thinned(drawn, window)


def present(pool: PoolView, as_of: datetime) -> PoolPoint | None:
    """The observation that holds at `as_of`, with what is on sale by the pool's own word where it gives one; None where
    the last observation is older than `gap_s`."""
    observed, _ = split(pool.points, as_of)
    if not observed or as_of - observed[-1].at > timedelta(seconds=pool.gap_s):
        return None
    stated = max((count for _, count in pool.on_sale), default=None)
    return observed[-1] if stated is None else replace(observed[-1], on_sale=stated)


def unforeseen(drawn: Sequence[Stretch]) -> list[tuple[float, float]]:
    """Where after the present the forecast says that it does not know: `(start, end)` in seconds since 1970."""
    found: list[tuple[float, float]] = []
    for item in drawn:
        if not item.point.forecast or item.point.own_demand is not None:
            continue
        joined = bool(found) and found[-1][1] == item.start
        found.append((found.pop()[0] if joined else item.start, item.end))
    return found


def gaps(drawn: Sequence[Stretch], window: Window, now: float) -> list[tuple[float, float]]:
    """Where between the first stretch and the present nothing is known: `(start, end)` in seconds since 1970."""
    known = [item for item in drawn if item.point.own_demand is not None and not item.point.forecast]
    if not known:
        return []
    narrowest_s = window.seconds / COLUMNS_MAX
    edges = [item.start for item in known[1:]] + [now]
    found = [(item.end, edge) for item, edge in zip(known, edges, strict=True)]
    return [(start, end) for start, end in found if end - start > narrowest_s]


def _hold(points: Sequence[PoolPoint], until: float, longest_s: float) -> list[Stretch]:
    times = [point.at.timestamp() for point in points]
    held = []
    for index, point in enumerate(points):
        limit = times[index + 1] if index + 1 < len(times) else until
        end = min(limit, times[index] + longest_s)
        if end > times[index] or index + 1 == len(times):
            held.append(Stretch(times[index], max(end, times[index]), point))
    return held


def _clipped(items: Sequence[Stretch], start: float, end: float) -> list[Stretch]:
    return [
        Stretch(max(item.start, start), min(item.end, end), item.point)
        for item in items
        if item.end > start and item.start < end
    ]


def _thinned(items: list[Stretch], window: Window) -> list[Stretch]:
    """One stretch per column, holding the column's busiest point: what a chart must not hide is the peak."""
    origin, width_s = window.start.timestamp(), window.seconds / COLUMNS_MAX
    kept: list[Stretch] = []
    last_column: tuple[int, bool] | None = None
    for item in items:
        column = (int((item.start - origin) // width_s), item.point.forecast)
        if kept and column == last_column:
            before = kept[-1]
            busier = item.point if _load(item.point) > _load(before.point) else before.point
            kept[-1] = Stretch(before.start, max(before.end, item.end), busier)
        else:
            kept.append(item)
        last_column = column
    return _with_length(kept, width_s)


def _with_length(items: list[Stretch], width_s: float) -> list[Stretch]:
    """A point of this very moment has no length yet: it takes one column from the time before it, so that it is seen."""
    seen: list[Stretch] = []
    for item in items:
        if item.end > item.start:
            seen.append(item)
            continue
        start = item.end - width_s
        if seen and seen[-1].end > start:
            start = max(start, seen[-1].start)
            before = seen.pop()
            if before.start < start:
                seen.append(Stretch(before.start, start, before.point))
        if start < item.end:
            seen.append(Stretch(start, item.end, item.point))
    return seen


def _load(point: PoolPoint) -> float:
    return -1.0 if point.own_demand is None else point.used


def _last_step(points: Sequence[PoolPoint]) -> timedelta:
    return points[-1].at - points[-2].at if len(points) > 1 else timedelta(hours=1)


def y_ticks(peak: float) -> list[Tick]:
    """From 0 to at least `peak`, in steps of 1, 2 or 5 times a power of ten; whole accelerators only."""
    raw = max(peak, 1) / _Y_TICKS_MAX
    power = 10 ** math.floor(math.log10(raw))
    step = max(1, next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw))
    steps = math.ceil(max(peak, 1) / step - 1e-9)
    return [Tick(step * index, str(step * index)) for index in range(steps + 1)]


def x_ticks(window: Window) -> list[Tick]:
    """At round times in UTC: hours, days or months, as the window's length allows."""
    step_s = next((step for step in _STEPS_S if window.seconds / step <= _X_TICKS_MAX), None)
    if step_s is None:
        return _month_ticks(window)
    first = math.ceil(window.start.timestamp() / step_s)
    last = math.floor(window.end.timestamp() / step_s)
    moments = [datetime.fromtimestamp(index * step_s, UTC) for index in range(first, last + 1)]
    return [Tick(at.timestamp(), _time_label(at), bool(index % 2)) for index, at in enumerate(moments)]


def _time_label(at: datetime) -> str:
    return f"{at:%H:%M}" if (at.hour, at.minute) != (0, 0) else f"{at.day} {at:%b}"


def _month_ticks(window: Window) -> list[Tick]:
    months = window.seconds / (30.4 * _DAY)
    step = next((many for many in _MONTHS if months / many <= _X_TICKS_MAX), _MONTHS[-1])
    first, last = (moment.year * 12 + moment.month - 1 for moment in (window.start, window.end))
    starts = [
        datetime(index // 12, index % 12 + 1, 1, tzinfo=UTC) for index in range(first, last + 1) if index % step == 0
    ]
    inside = [at for at in starts if window.contains(at)]
    return [Tick(at.timestamp(), f"{at:%b %Y}", bool(index % 2)) for index, at in enumerate(inside)]
