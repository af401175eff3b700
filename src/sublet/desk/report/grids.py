"""The desk's charts of two inputs and of many draws as SVG: heat maps, histograms and fans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sublet.desk.report.charts import axes, legend_below
from sublet.desk.report.drawing import NARROW_TO, Drawing, Scale, short, text_width, tick_text

NARROW_COLUMNS = 5
"""A grid on a telephone has so many columns: the first, the last, the marked one, and those between them."""
CELL = 34


def heat_map(
    width: int,
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    titles: tuple[str, str],
    marked: tuple[int, int] | None = None,
    middle: float = 0.0,
    percent: bool = False,
    split: float | None = None,
) -> str:
    """A grid of numbers, colored from `middle` outwards; `titles` are of the rows and of the columns.

    `marked` is the published cell, `split` draws a frontier.
    """
    kept = _kept(len(columns), marked[1] if marked else None) if width <= NARROW_TO else list(range(len(columns)))
    shown = [[line[column] for column in kept] for line in values]
    left, top = max(58.0, max(text_width(label) for label in rows) + 14), 44
    step = (width - left - 6) / len(kept)
    drawing = Drawing(width, top + len(rows) * CELL + 12, f"{titles[0]}; {titles[1]}")
    flat = [value for row in values for value in row]
    reach_up, reach_down = max(max(flat) - middle, 1e-12), max(middle - min(flat), 1e-12)
    for place, column in enumerate(kept):
        drawing.text(left + (place + 0.5) * step, top - 8, columns[column], "t", "middle")
    for row, label in enumerate(rows):
        y = top + row * CELL
        drawing.text(left - 8, y + 21, label, "t", "end")
        for place, value in enumerate(shown[row]):
            strength = (value - middle) / reach_up if value >= middle else (middle - value) / reach_down
            color = "var(--up)" if value >= middle else "var(--down)"
            style = f"fill:{color};fill-opacity:{0.08 + 0.72 * strength:.2f}"
            drawing.rect(left + place * step + 1, y + 1, step - 2, CELL - 2, "cell", style)
            words = f"{value:.0%}" if percent else f"{value:.2f}" if abs(value) < 10 else short(value)
            drawing.text(left + (place + 0.5) * step, y + 21, words, "n inv" if strength > 0.75 else "n", "middle")
    if split is not None:
        _frontier(drawing, shown, split, left, top, step)
    if marked is not None and marked[1] in kept:
        drawing.rect(left + kept.index(marked[1]) * step, top + marked[0] * CELL, step, CELL, "mark")
    drawing.text(4, 14, f"↓ {titles[0]}", "u")
    drawing.text(width - 6, 14, f"{titles[1]} →", "u", "end")
    return drawing.svg()


def _kept(count: int, marked: int | None) -> list[int]:
    if count <= NARROW_COLUMNS:
        return list(range(count))
    found = {round(place * (count - 1) / (NARROW_COLUMNS - 1)) for place in range(NARROW_COLUMNS)}
    if marked is not None and marked not in found:
        nearest = min(sorted(found - {0, count - 1}), key=lambda place: abs(place - marked))
        found = (found - {nearest}) | {marked}
    return sorted(found)


def _frontier(
    drawing: Drawing, values: Sequence[Sequence[float]], split: float, left: float, top: float, step: float
) -> None:
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            x, y = left + column * step, top + row * CELL
            if column and (line[column - 1] < split) != (value < split):
                drawing.line(x, y, x, y + CELL, "front")
            if row and (values[row - 1][column] < split) != (value < split):
                drawing.line(x, y, x + step, y, "front")


def histogram(
    width: int,
    counts: Sequence[int],
    edges: Sequence[float],
    marks: Sequence[tuple[float, str]],
    unit: str,
    extent: tuple[float, float] | None = None,
) -> str:
    """How often each outcome came up; `marks` are labeled lines. `extent` is an axis that several of these share."""
    drawing = Drawing(width, 214, unit)
    low, high = extent or (edges[0], edges[-1])
    horizontal = Scale(low, high, 20, width - 14)
    vertical = Scale(0, max([*counts, 1]), 164, 46)
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        middle = (left + right) / 2
        drawing.rect(
            horizontal(left), vertical(count), horizontal(right) - horizontal(left) - 0.6, 164 - vertical(count),
            "s0" if middle >= 0 else "bad",
        )  # fmt: skip
    for tick in horizontal.ticks(4 if width <= NARROW_TO else 8):
        drawing.text(horizontal(tick), 180, tick_text(tick), "u", "middle")
    drawing.line(20, 164, width - 14, 164, "axis")
    for position, (value, label) in enumerate(marks):
        if low <= value <= high:
            drawing.line(horizontal(value), 40, horizontal(value), 164, "dash")
            drawing.inside(horizontal(value) + 3, 12 + 13 * (position % 3), label, "u", "start")
    drawing.text(width - 8, 202, unit, "u", "end")
    return drawing.svg()


def fan(
    width: int,
    points: Sequence[float],
    bands: Mapping[float, Sequence[float]],
    *,
    titles: tuple[str, str],
    median: str,
) -> str:
    """Quantiles of a result along an input: the median, and bands for 25-75 %, 5-95 % and 1-99 %."""
    drawing = Drawing(width, 264, f"{titles[1]}; {titles[0]}")
    flat = [value for band in bands.values() for value in band]
    horizontal, vertical = axes(drawing, points, flat, titles, 256)
    for low, high, css in ((0.01, 0.99, "f1"), (0.05, 0.95, "f2"), (0.25, 0.75, "f3")):
        upper = [(horizontal(a), vertical(b)) for a, b in zip(points, bands[high], strict=True)]
        lower = [(horizontal(a), vertical(b)) for a, b in zip(points, bands[low], strict=True)]
        drawing.path([*upper, *reversed(lower)], css, closed=True)
    drawing.path([(horizontal(a), vertical(b)) for a, b in zip(points, bands[0.5], strict=True)], "l0")
    legend_below(drawing, [("s0", median), ("f3", "25-75%"), ("f2", "5-95%"), ("f1", "1-99%")], 258)
    return drawing.svg()
