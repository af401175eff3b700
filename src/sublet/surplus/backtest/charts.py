"""Charts of a backtest, drawn as SVG on the server: they print, they scale, and they need no script."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

import numpy as np
from numpy.typing import NDArray

from sublet.demand.model import Floats
from sublet.surplus.backtest.scoring import Outcome, Trace
from sublet.values.clock import from_micros

WIDTH, HEIGHT = 960, 300
LEFT, RIGHT, TOP, BOTTOM = 56, 16, 16, 34
POINTS_MAX = 480
_PALETTE = ("#0b6e4f", "#c1440e", "#5b5f97", "#b8860b", "#7a7a7a", "#9b2c5e", "#2f7ed8")


def timeline(trace: Trace, outcome: Outcome) -> str:
    """Capacity, the owner's demand, what was sold on top of it, longest windows lowest, and where promises broke.

    Where hours are too many, each point is the one hour of its group that left the least idle: all layers are of that
    hour, so that they never stand above the capacity together.
    """
    first = trace.warmup
    count = len(trace) - first
    group = max(1, math.ceil(count / POINTS_MAX))
    tightest = _tightest((trace.capacity - trace.in_use)[first:], group)
    demand = np.minimum(trace.in_use, trace.capacity)[first:][tightest]
    capacity = trace.capacity[first:][tightest]
    broken = _sums(np.array(outcome.broken, dtype=np.float64), group)
    top = max(float(capacity.max()), 1.0) * 1.05
    across = max(1, demand.size - 1)

    def x(place: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * place / across

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top)

    below = [(x(i), y(value)) for i, value in enumerate(demand)]
    layers = ""
    level, under = demand, below
    for place, (window, counts) in enumerate(sorted(outcome.sold_by_window.items(), reverse=True)):
        level = level + np.array(counts, dtype=np.float64)[tightest]
        over = [(x(i), y(min(top, value))) for i, value in enumerate(level)]
        layers += (
            f'<path class="sold" fill-opacity="{1 - 0.2 * min(place, 4):.1f}" d="{_path([*over, *under[::-1]])}Z">'
            f"<title>{window} h windows</title></path>"
        )
        under = over
    floor = [(x(across), y(0)), (x(0), y(0))]
    largest = max(float(broken.max()), 1.0)
    marks = "".join(
        f'<circle cx="{x(i):.1f}" cy="{TOP + 5}" r="{2 + 5 * math.sqrt(value / largest):.1f}" class="broken">'
        f"<title>{value:.0f} broken, {_hour(trace, first + i * group)}</title></circle>"
        for i, value in enumerate(broken)
        if value
    )
    ticks = "".join(
        f'<text x="{x(place):.1f}" y="{HEIGHT - 12}" class="tick" '
        f'text-anchor="{"end" if place == across else "middle"}">'
        f"{_hour(trace, first + int(place) * group)[:10]}</text>"
        for place in np.linspace(0, across, 6)
    )
    return _frame(
        f"{trace.name}: capacity, demand, sold and broken promises",
        f'<path class="demand" d="{_path([*below, *floor])}Z"/>'
        f"{layers}"
        f'<path class="capacity" d="{_path([(x(i), y(value)) for i, value in enumerate(capacity)])}"/>'
        f"{marks}{ticks}{_levels(top, y)}",
    )


def risk_curve(points: Mapping[str, Sequence[tuple[float, float]]], limit: float) -> str:
    """Share of the hindsight bound against broken promises per 1,000 (logarithmic), one line or point per policy; the
    first is drawn boldest. `key` says which is which."""
    low, high = 1.0, 1000.0

    def x(broken: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log(max(low, broken) / low) / math.log(high / low)

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(1.0, share))

    body = (
        f'<rect x="{x(limit):.1f}" y="{TOP}" width="{WIDTH - RIGHT - x(limit):.1f}" '
        f'height="{HEIGHT - TOP - BOTTOM}" class="beyond"/>'
    )
    for index, (name, pairs) in enumerate(points.items()):
        color = color_of(index)
        # In the order of what was asked for, which is the order of risk even where the outcome turns back.
        ordered = list(pairs)
        line = [(x(broken), y(share)) for broken, share in ordered]
        if len(line) > 1:
            body += f'<path d="{_path(line)}" fill="none" stroke="{color}" stroke-width="{1.5 if index else 3}"/>'
        for (px, py), (broken, share) in zip(line, ordered, strict=True):
            body += (
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{color}">'
                f"<title>{escape(name)}: {share:.3f} at {broken:.1f}</title></circle>"
            )
    for broken, shown in ((1, "≤ 1"), *((number, str(number)) for number in (3, 10, 30, 100, 300, 1000))):
        body += f'<text x="{x(broken):.1f}" y="{HEIGHT - 12}" class="tick" text-anchor="middle">{shown}</text>'
    body += f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 24}" class="tick" text-anchor="end">broken per 1,000</text>'
    body += f'<text x="{LEFT + 4}" y="{TOP - 4}" class="tick">share of the bound</text>'
    return _frame("share of the hindsight bound against broken promises per 1,000", body + _levels(1.0, y))


def key(names: Iterable[str]) -> str:
    """Which color of `risk_curve` is whose, as a line of HTML."""
    marks = "".join(
        f'<span><i style="background:{color_of(index)}"></i>{escape(name)}</span>' for index, name in enumerate(names)
    )
    return f'<p class="key">{marks}</p>'


def color_of(index: int) -> str:
    """The color of the policy that is drawn in place `index`."""
    return _PALETTE[index % len(_PALETTE)]


def _frame(title: str, body: str) -> str:
    return (
        f'<div class="chart"><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg></div>"
    )


def _levels(top: float, y: object) -> str:
    assert callable(y)
    text = ""
    for part in (0, 0.25, 0.5, 0.75, 1):
        value = top * part
        shown = f"{value:.2f}" if top <= 1 else f"{value:,.0f}"
        text += (
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" class="grid"/>'
            f'<text x="{LEFT - 6}" y="{y(value) + 4:.1f}" class="tick" text-anchor="end">{shown}</text>'
        )
    return text


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _tightest(idle: Floats, group: int) -> NDArray[np.int64]:
    """The place of the least idle of each `group` places."""
    return np.array(
        [first + int(idle[first : first + group].argmin()) for first in range(0, idle.size, group)], dtype=np.int64
    )


def _sums(values: Floats, group: int) -> Floats:
    return np.array([values[first : first + group].sum() for first in range(0, values.size, group)], dtype=np.float64)


def _hour(trace: Trace, slot: int) -> str:
    return from_micros((trace.first_hour + slot) * 3600 * 1_000_000).strftime("%Y-%m-%d %H:%M")
