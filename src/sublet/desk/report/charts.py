"""The desk's charts as SVG. Each takes plain numbers and labels, and says in its title what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, log10

from sublet.desk.report.drawing import WIDTH, Drawing, Scale, short, tick_text

ROW = 26
SERIES = ("s0", "s1", "s2", "s3", "s4", "s5")


def waterfall(steps: Sequence[tuple[str, float, bool]], unit: str) -> str:
    """Steps from a first total to the last; `True` marks a subtotal, which stands on zero."""
    drawing = Drawing(len(steps) * ROW + 34, f"waterfall in {unit}")
    ends: list[tuple[float, float]] = []
    level = 0.0
    for _, value, is_total in steps:
        ends.append((0.0, value) if is_total else (level, level + value))
        level = value if is_total else level + value
    scale = Scale(min(0.0, *(min(end) for end in ends)), max(max(end) for end in ends), 130, WIDTH - 62)
    drawing.line(scale(0), 6, scale(0), len(steps) * ROW + 8, "axis")
    for row, ((label, value, is_total), (start, end)) in enumerate(zip(steps, ends, strict=True)):
        y = 8 + row * ROW
        left, right = sorted((scale(start), scale(end)))
        css = "s0" if is_total else "good" if value >= 0 else "bad"
        drawing.rect(left, y, max(right - left, 1.5), ROW - 9, css)
        drawing.text(122, y + 13, label, "t", "end")
        drawing.text(right + 6, y + 13, short(value), "n")
        if row + 1 < len(steps):
            drawing.line(scale(end), y + ROW - 9, scale(end), y + ROW, "thin")
    drawing.text(WIDTH - 4, len(steps) * ROW + 26, unit, "u", "end")
    return drawing.svg()


def heat_map(
    rows: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    *,
    row_title: str,
    column_title: str,
    marked: tuple[int, int] | None = None,
    middle: float = 0.0,
    percent: bool = False,
    split: float | None = None,
) -> str:
    """A grid of numbers, colored from `middle` outwards; `marked` is the published cell, `split` draws a frontier."""
    left, top = 58, 30
    width = (WIDTH - left - 6) / len(columns)
    drawing = Drawing(top + len(rows) * 34 + 30, f"{row_title} by {column_title}")
    flat = [value for row in values for value in row]
    reach_up, reach_down = max(max(flat) - middle, 1e-12), max(middle - min(flat), 1e-12)
    for column, label in enumerate(columns):
        drawing.text(left + (column + 0.5) * width, top - 8, label, "t", "middle")
    for row, label in enumerate(rows):
        y = top + row * 34
        drawing.text(left - 8, y + 21, label, "t", "end")
        for column, value in enumerate(values[row]):
            strength = (value - middle) / reach_up if value >= middle else (middle - value) / reach_down
            color = "var(--up)" if value >= middle else "var(--down)"
            opacity = 0.08 + 0.72 * strength
            drawing.rect(
                left + column * width + 1, y + 1, width - 2, 32, "cell", f"fill:{color};fill-opacity:{opacity:.2f}"
            )
            shown = f"{value:.0%}" if percent else f"{value:.2f}" if abs(value) < 10 else short(value)
            css = "n inv" if strength > 0.75 else "n"
            drawing.text(left + (column + 0.5) * width, y + 21, shown, css, "middle")
    if split is not None:
        _frontier(drawing, values, split, left, top, width)
    if marked is not None:
        drawing.rect(left + marked[1] * width, top + marked[0] * 34, width, 34, "mark")
    drawing.text(left - 8, top - 8, row_title, "u", "end")
    drawing.text(WIDTH - 6, top + len(rows) * 34 + 20, column_title, "u", "end")
    return drawing.svg()


def _frontier(
    drawing: Drawing, values: Sequence[Sequence[float]], split: float, left: float, top: float, width: float
) -> None:
    for row, line in enumerate(values):
        for column, value in enumerate(line):
            x, y = left + column * width, top + row * 34
            if column and (line[column - 1] < split) != (value < split):
                drawing.line(x, y, x, y + 34, "front")
            if row and (values[row - 1][column] < split) != (value < split):
                drawing.line(x, y, x + width, y, "front")


def envelope(
    x: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    x_title: str,
    y_title: str,
    published: tuple[float, float] | None = None,
    labels: tuple[str, str] = ("", ""),
    verticals: Sequence[tuple[float, str]] = (),
) -> str:
    """Two lines and the band between them; `verticals` are dashed lines with a label."""
    drawing = Drawing(260, f"{y_title} over {x_title}, lowest and highest reading")
    horizontal, vertical = _axes(drawing, x, [*low, *high], x_title, y_title, 260)
    upper = [(horizontal(a), vertical(b)) for a, b in zip(x, high, strict=True)]
    lower = [(horizontal(a), vertical(b)) for a, b in zip(x, low, strict=True)]
    drawing.path([*upper, *reversed(lower)], "band", closed=True)
    drawing.path(lower, "l0")
    drawing.path(upper, "l1")
    for value, label in verticals:
        if horizontal.low <= value <= horizontal.high:
            drawing.line(horizontal(value), 14, horizontal(value), 214, "dash")
            drawing.text(horizontal(value) + 4, 24, label, "u")
    if published is not None:
        drawing.circle(horizontal(published[0]), vertical(published[1]), 5, "mark")
        drawing.text(horizontal(published[0]) - 8, vertical(published[1]) - 8, "published", "t", "end")
    _legend(drawing, [("l0", labels[0]), ("l1", labels[1])], 252)
    return drawing.svg()


def tornado(bars: Sequence[tuple[str, str, str, float, float]], base: float, unit: str) -> str:
    """`(label, low label, high label, result at low, result at high)`, widest first, around the base result."""
    drawing = Drawing(len(bars) * (ROW + 8) + 40, f"tornado in {unit}")
    ends = [end for bar in bars for end in bar[3:]]
    scale = Scale(min([*ends, base, 0.0]), max([*ends, base]), 168, WIDTH - 50)
    for row, (label, low, high, at_low, at_high) in enumerate(bars):
        y = 8 + row * (ROW + 8)
        for value in (at_low, at_high):
            left, right = sorted((scale(base), scale(value)))
            drawing.rect(left, y, max(right - left, 1.0), ROW - 8, "good" if value >= base else "bad")
            anchor, shift = ("start", 5) if value >= base else ("end", -5)
            drawing.text(scale(value) + shift, y + 13, short(value), "n", anchor)
        drawing.text(120, y + 10, label, "t", "end")
        drawing.text(120, y + 23, f"{low} to {high}", "u", "end")
    bottom = len(bars) * (ROW + 8) + 10
    drawing.line(scale(base), 4, scale(base), bottom, "axis")
    drawing.text(scale(base), bottom + 14, f"base {short(base)} {unit}", "t", "middle")
    return drawing.svg()


def fan(points: Sequence[float], bands: Mapping[float, Sequence[float]], *, x_title: str, y_title: str) -> str:
    """Quantiles of a result along an input: the median, and bands for 25-75 %, 5-95 % and 1-99 %."""
    drawing = Drawing(260, f"{y_title} over {x_title}: quantiles")
    flat = [value for band in bands.values() for value in band]
    horizontal, vertical = _axes(drawing, points, flat, x_title, y_title, 260)
    for low, high, css in ((0.01, 0.99, "f1"), (0.05, 0.95, "f2"), (0.25, 0.75, "f3")):
        upper = [(horizontal(a), vertical(b)) for a, b in zip(points, bands[high], strict=True)]
        lower = [(horizontal(a), vertical(b)) for a, b in zip(points, bands[low], strict=True)]
        drawing.path([*upper, *reversed(lower)], css, closed=True)
    drawing.path([(horizontal(a), vertical(b)) for a, b in zip(points, bands[0.5], strict=True)], "l0")
    _legend(drawing, [("l0", "median"), ("f3", "25-75 %"), ("f2", "5-95 %"), ("f1", "1-99 %")], 252)
    return drawing.svg()


def lines(years: Sequence[int], series: Sequence[tuple[str, Sequence[float]]], unit: str) -> str:
    """One line for each series over years; equal lines are drawn dashed on top of each other, so none is hidden."""
    height = 250 + 15 * len(series)
    drawing = Drawing(height, f"{unit} by year")
    values = [value for _, numbers in series for value in numbers]
    horizontal, vertical = _axes(drawing, years, values, "", unit, 250, whole=True)
    for position, (_, numbers) in enumerate(series):
        points = [(horizontal(year), vertical(value)) for year, value in zip(years, numbers, strict=True)]
        drawing.path(points, f"l{position % 6}{' dashed' if position % 2 else ''}")
        for x, y in points:
            drawing.circle(x, y, 3, f"s{position % 6}")
    for position, (label, numbers) in enumerate(series):
        y = 250 + position * 15
        drawing.rect(44, y - 8, 10, 10, SERIES[position % 6])
        drawing.text(60, y, f"{label}: {' / '.join(short(number) for number in numbers)}", "t")
    return drawing.svg()


def stacked(columns: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], unit: str, note: str = "") -> str:
    """Stacked bars, one for each column, with totals on top."""
    drawing = Drawing(256, f"{unit} by {note or 'column'}")
    totals = [sum(numbers[column] for _, numbers in series) for column in range(len(columns))]
    vertical = Scale(0.0, max([*totals, 1e-12]) * 1.1, 204, 16)
    for tick in vertical.ticks(4):
        drawing.line(44, vertical(tick), WIDTH - 6, vertical(tick), "grid")
        drawing.text(38, vertical(tick) + 4, tick_text(tick), "u", "end")
    width = (WIDTH - 56) / len(columns)
    for column, label in enumerate(columns):
        base, x = 0.0, 48 + column * width + width * 0.15
        for position, (_, numbers) in enumerate(series):
            value = numbers[column]
            if value:
                drawing.rect(
                    x,
                    vertical(base + value),
                    width * 0.7,
                    vertical(base) - vertical(base + value),
                    SERIES[position % 6],
                )
            base += value
        if base:
            drawing.text(x + width * 0.35, vertical(base) - 5, short(base), "n", "middle")
        drawing.text(x + width * 0.35, 220, label, "t", "middle")
    drawing.text(44, 10, unit, "u")
    _legend(drawing, [(SERIES[position % 6], label) for position, (label, _) in enumerate(series)], 246)
    return drawing.svg()


def ranges(rows: Sequence[tuple[str, float, float, bool]], unit: str, marker: tuple[float, str] | None = None) -> str:
    """Horizontal bars from zero to `low`, with a paler part up to `high` where only a range is known.

    A range without an upper end (`high` infinite) runs to the edge of the chart and says "500 or more".
    """
    drawing = Drawing(len(rows) * ROW + 40, f"{unit}")
    ends = [high if isfinite(high) else low for _, low, high, _ in rows] + ([marker[0]] if marker else [])
    scale = Scale(0.0, max(ends) * 1.02, 186, WIDTH - 88)
    bottom = len(rows) * ROW + 10
    for tick in scale.ticks(4):
        drawing.line(scale(tick), 4, scale(tick), bottom, "grid")
        drawing.text(scale(tick), bottom + 14, tick_text(tick), "u", "middle")
    for row, (label, low, high, own) in enumerate(rows):
        y = 8 + row * ROW
        is_open = not isfinite(high)
        high = scale.high if is_open else high
        drawing.rect(scale(0), y, scale(low) - scale(0), ROW - 9, "s1" if own else "s0")
        if high > low:
            drawing.rect(scale(low), y, scale(high) - scale(low), ROW - 9, "pale")
        drawing.text(178, y + 13, label, "t", "end")
        shown = f"{short(low)} or more" if is_open else short(low) if high == low else f"{short(low)}-{short(high)}"
        drawing.text(scale(high) + 5, y + 13, shown, "n")
    if marker is not None:
        drawing.line(scale(marker[0]), 2, scale(marker[0]), bottom, "dash")
        drawing.text(scale(marker[0]), bottom + 28, marker[1], "u", "middle")
    drawing.text(4, bottom + 28, unit, "u")
    return drawing.svg()


def signal_board(rows: Sequence[tuple[str, float, float, str, str]], prior: float, now: float) -> str:
    """Each signal's two likelihood ratios on a logarithmic scale around 1, its state and due date, and the odds below."""
    drawing = Drawing(len(rows) * 34 + 84, "signals: likelihood ratios, state, and the probability")
    extremes = [abs(log10(ratio)) for row in rows for ratio in row[1:3]]
    scale = Scale(-max([*extremes, 0.1]), max([*extremes, 0.1]), 150, WIDTH - 100)
    for row, (label, bull, bear, state, due) in enumerate(rows):
        y = 22 + row * 34
        drawing.line(scale(log10(bull)), y, scale(log10(bear)), y, "bar")
        for ratio, css in ((bull, "good"), (bear, "bad")):
            drawing.circle(scale(log10(ratio)), y, 6, css)
            drawing.text(scale(log10(ratio)), y - 9, f"x{ratio:g}", "u", "middle")
        drawing.text(4, y + 4, label, "t")
        drawing.text(WIDTH - 4, y, state, f"n state-{state}", "end")
        drawing.text(WIDTH - 4, y + 13, f"due {due}", "u", "end")
    bottom = len(rows) * 34 + 22
    drawing.line(scale(0), 8, scale(0), bottom - 12, "dash")
    track = Scale(0.0, 1.0, 150, WIDTH - 20)
    drawing.rect(track(0), bottom + 14, track(1) - track(0), 10, "track")
    drawing.rect(track(0), bottom + 14, track(now) - track(0), 10, "s0")
    drawing.line(track(prior), bottom + 8, track(prior), bottom + 30, "axis")
    drawing.text(4, bottom + 23, "probability of the claim", "t")
    drawing.text(track(prior), bottom + 44, f"prior {prior:.0%}, now {now:.1%}", "n", "middle")
    return drawing.svg()


def histogram(counts: Sequence[int], edges: Sequence[float], marks: Sequence[tuple[float, str]], unit: str) -> str:
    """How often each outcome came up; `marks` are labeled lines."""
    drawing = Drawing(210, f"distribution in {unit}")
    horizontal = Scale(edges[0], edges[-1], 20, WIDTH - 10)
    vertical = Scale(0, max([*counts, 1]), 164, 30)
    for count, left, right in zip(counts, edges, edges[1:], strict=False):
        middle = (left + right) / 2
        drawing.rect(
            horizontal(left), vertical(count), horizontal(right) - horizontal(left) - 0.6, 164 - vertical(count),
            "s0" if middle >= 0 else "bad",
        )  # fmt: skip
    for tick in horizontal.ticks(6):
        drawing.text(horizontal(tick), 180, tick_text(tick), "u", "middle")
    for position, (value, label) in enumerate(marks):
        if edges[0] <= value <= edges[-1]:
            drawing.line(horizontal(value), 22, horizontal(value), 164, "dash")
            drawing.text(horizontal(value) + 3, 12 + 11 * (position % 2), label, "u")
    drawing.text(WIDTH - 8, 200, unit, "u", "end")
    return drawing.svg()


def _axes(
    drawing: Drawing,
    x: Sequence[float],
    y: Sequence[float],
    x_title: str,
    y_title: str,
    height: float,
    whole: bool = False,
) -> tuple[Scale, Scale]:
    bottom = height - 46
    horizontal = Scale(min(x), max(x), 52, WIDTH - 26)
    low, high = min([*y, 0.0]), max(y)
    vertical = Scale(low, high + (high - low) * 0.06, bottom, 16)
    for tick in vertical.ticks(5):
        drawing.line(46, vertical(tick), WIDTH - 10, vertical(tick), "axis" if tick == 0 else "grid")
        drawing.text(40, vertical(tick) + 4, tick_text(tick), "u", "end")
    for tick in list(x) if whole else horizontal.ticks(6):
        drawing.text(horizontal(tick), bottom + 16, f"{tick:.0f}" if whole else tick_text(tick), "u", "middle")
    drawing.text(46, 10, y_title, "u")
    drawing.text(WIDTH - 10, bottom + 30, x_title, "u", "end")
    return horizontal, vertical


def _legend(drawing: Drawing, entries: Sequence[tuple[str, str]], y: float) -> None:
    x = 46.0
    for css, label in entries:
        if label:
            drawing.rect(x, y - 8, 10, 10, css.replace("l", "s") if css.startswith("l") else css)
            drawing.text(x + 14, y + 1, label, "u")
            x += 26 + 5.6 * len(label)
