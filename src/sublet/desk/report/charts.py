"""The desk's charts along an axis as SVG. Each takes a width, plain numbers and labels in the reader's language.

Up to `NARROW_TO` a chart is for a telephone: its labels stand above its bars, so that bars keep the whole width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import floor, isfinite, log10

from sublet.desk.report.drawing import NARROW_TO, Drawing, Scale, fitted, short, text_width, tick_text, wrapped

BAR = 15
GAP = 11
SERIES = ("s0", "s1", "s2", "s3", "s4", "s5")
STACKED_TO = 600
"""Below this width, labels that would be cut stand above their bars as well."""
LABEL_SHARE_MAX = 0.4
"""Labels beside bars take at most this share of a chart."""
LINE = 13
"""From one line of a label to the next."""


@dataclass(frozen=True, slots=True)
class _Rows:
    """Where the rows of a chart with labels are: beside their bars, or above them on a telephone."""

    narrow: bool
    left: float
    right: float
    pitch: float
    room: float
    lines: int = 1

    def top(self, row: int) -> float:
        more = (LINE if self.narrow else 3) * (self.lines - 1)
        return 8 + row * self.pitch + more + (BAR + 2 if self.narrow else 0)

    def rule(self, drawing: Drawing, x: float, css: str, count: int) -> None:
        """A vertical line through all rows; on a telephone beside each bar alone, so that it crosses no label."""
        if self.narrow:
            for row in range(count):
                drawing.line(x, self.top(row) - 1, x, self.top(row) + BAR + 1, css)
        else:
            drawing.line(x, 4, x, self.top(count - 1) + BAR + 6, css)

    def label(self, drawing: Drawing, row: int, words: str, css: str = "t") -> None:
        told = wrapped(words, self.room) if self.lines > 1 else [fitted(words, self.room)]
        for place, line in enumerate(told):
            if self.narrow:
                drawing.text(2, self.top(row) - 5 - LINE * (len(told) - 1 - place), line, css)
            else:
                drawing.text(
                    self.left - 10, self.top(row) + 12 + LINE * (place - (len(told) - 1) / 2), line, css, "end"
                )


def _rows(width: float, labels: Sequence[str], values: float, beside: float = 0.0) -> _Rows:
    """`values` is the room to the right of the bars for their numbers, `beside` that on a telephone for words behind a label.

    Labels that are too long for their room get two lines.
    """
    widest = max((text_width(label) for label in labels), default=0.0)
    narrow = width <= NARROW_TO or (width < STACKED_TO and widest + 16 > width * LABEL_SHARE_MAX)
    left = 6.0 if narrow else min(widest + 16, width * LABEL_SHARE_MAX)
    room = width - 4 - beside if narrow else left - 14
    lines = 2 if widest > room else 1
    more = (LINE if narrow else 6) * (lines - 1)  # beside a bar, the gap has room for most of a second line
    return _Rows(narrow, left, width - values, BAR + GAP + (16 if narrow else 0) + more, room, lines)


def waterfall(width: int, steps: Sequence[tuple[str, float, bool]], unit: str, last: str = "") -> str:
    """Steps from a first total to the last; `True` marks a subtotal, which stands on zero. `last` is one more line of words."""
    rows = _rows(width, [label for label, _, _ in steps], 70)
    bottom = rows.top(len(steps) - 1) + BAR + 12
    drawing = Drawing(width, bottom + 14 + (16 if last else 0), unit)
    ends: list[tuple[float, float]] = []
    level = 0.0
    for _, value, is_total in steps:
        ends.append((0.0, value) if is_total else (level, level + value))
        level = value if is_total else level + value
    scale = Scale(min(0.0, *(min(end) for end in ends)), max(max(end) for end in ends), rows.left, rows.right)
    rows.rule(drawing, scale(0), "axis", len(steps))
    for row, ((label, value, is_total), (start, end)) in enumerate(zip(steps, ends, strict=True)):
        y = rows.top(row)
        left, right = sorted((scale(start), scale(end)))
        css = "s0" if is_total else "good" if value >= 0 else "bad"
        drawing.rect(left, y, max(right - left, 1.5), BAR, css)
        rows.label(drawing, row, label)
        drawing.text(right + 6, y + 12, short(value), "n")
        if row + 1 < len(steps) and not rows.narrow:
            drawing.line(scale(end), y + BAR, scale(end), rows.top(row + 1), "thin")
    drawing.text(width - 4, bottom + 8, unit, "u", "end")
    if last:
        drawing.inside(rows.left, bottom + 24, last, "t", "start")
    return drawing.svg()


def envelope(
    width: int,
    x: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    *,
    titles: tuple[str, str],
    published: tuple[float, float, str] | None = None,
    labels: tuple[str, str] = ("", ""),
    verticals: Sequence[tuple[float, str]] = (),
) -> str:
    """Two lines, named at their ends, and the band between them; `verticals` are dashed lines with a label."""
    drawing = Drawing(width, 270 if width > NARROW_TO else 304, f"{titles[1]}; {titles[0]}")
    horizontal, vertical = axes(drawing, x, [*low, *high], titles, 270, top=60)
    upper = [(horizontal(a), vertical(b)) for a, b in zip(x, high, strict=True)]
    lower = [(horizontal(a), vertical(b)) for a, b in zip(x, low, strict=True)]
    drawing.path([*upper, *reversed(lower)], "band", closed=True)
    drawing.path(lower, "l0")
    drawing.path(upper, "l1")
    for place, (value, label) in enumerate(verticals):
        if horizontal.low <= value <= horizontal.high:
            drawing.line(horizontal(value), 24, horizontal(value), 224, "dash")
            drawing.inside(horizontal(value) + 4, 30 + 13 * (place % 2), label, "u", "start")
    for points, label, is_upper in ((upper, labels[1], True), (lower, labels[0], False)):
        if label and width > NARROW_TO:
            heights = [y for x, y in points if x >= points[-1][0] - text_width(label)]
            heights += [y for (x, y), (after, _) in pairwise(points) if after >= points[-1][0] - text_width(label) >= x]
            drawing.inside(points[-1][0], min(heights) - 10 if is_upper else max(heights) + 18, label, "u", "end")
    if width <= NARROW_TO and any(labels):
        legend_below(drawing, [("s0", labels[0]), ("s1", labels[1])], 280)
    if published is not None:
        drawing.circle(horizontal(published[0]), vertical(published[1]), 5, "mark")
        drawing.inside(horizontal(published[0]) - 10, vertical(published[1]) - 10, published[2], "t", "end")
    return drawing.svg()


def tornado(width: int, bars: Sequence[tuple[str, str, float, float]], base: float, unit: str, foot: str) -> str:
    """`(label, from low to high in words, result at low, result at high)`, widest first, around the base result."""
    rows = _rows(width, [part for bar in bars for part in bar[:2]], 62)
    pitch = rows.pitch + (10 if rows.narrow else 8)
    bottom = len(bars) * pitch + 12
    drawing = Drawing(width, bottom + 22, unit)
    ends = [end for bar in bars for end in bar[2:]]
    below = max((text_width(short(end)) for end in ends if end < base), default=0.0)
    scale = Scale(min([*ends, base, 0.0]), max([*ends, base]), rows.left + max(34.0, below + 8), rows.right)
    for row, (label, between, at_low, at_high) in enumerate(bars):
        y = 8 + row * pitch + (30 if rows.narrow else 0)
        for value in (at_low, at_high):
            left, right = sorted((scale(base), scale(value)))
            drawing.rect(left, y, max(right - left, 1.0), BAR, "good" if value >= base else "bad")
            anchor, shift = ("start", 5) if value >= base else ("end", -5)
            drawing.text(scale(value) + shift, y + 12, short(value), "n", anchor)
        if rows.narrow:
            drawing.text(2, y - 18, fitted(label, width - 4), "t")
            drawing.text(2, y - 4, fitted(between, width - 4), "u")
        else:
            drawing.text(rows.left - 10, y + 8, fitted(label, rows.room), "t", "end")
            drawing.text(rows.left - 10, y + 21, fitted(between, rows.room), "u", "end")
        drawing.line(scale(base), y - 2, scale(base), y + BAR + (2 if rows.narrow else 10), "axis")
    drawing.inside(scale(base), bottom + 15, foot, "t")
    return drawing.svg()


def lines(width: int, years: Sequence[int], series: Sequence[tuple[str, Sequence[float]]], unit: str) -> str:
    """One line for each series over years, named at its end with its last number; labels that would meet are moved apart."""
    ends = [f"{label} {short(numbers[-1])}" for label, numbers in series]
    side = 0.0 if width <= NARROW_TO else min(max(text_width(end) for end in ends) + 12, width * LABEL_SHARE_MAX)
    below = 0 if side else 16 * len(series)
    drawing = Drawing(width, 250 + below, unit)
    values = [value for _, numbers in series for value in numbers]
    horizontal, vertical = axes(drawing, years, values, ("", unit), 250, whole=True, right=side + 16)
    for position, (_, numbers) in enumerate(series):
        points = [(horizontal(year), vertical(value)) for year, value in zip(years, numbers, strict=True)]
        drawing.path(points, f"l{position % 6}{' dashed' if position % 2 else ''}")
        for x, y in points:
            drawing.circle(x, y, 3, f"s{position % 6}")
    if not side:
        for position, (label, numbers) in enumerate(series):
            number = short(numbers[-1])
            drawing.rect(4, 242 + position * 16, 10, 10, SERIES[position % 6])
            told = f"{fitted(label, width - 24 - text_width(f' {number}'))} {number}"
            drawing.text(20, 252 + position * 16, told, "t")
        return drawing.svg()
    taken = 0.0
    for position in sorted(range(len(series)), key=lambda place: vertical(series[place][1][-1])):
        y = max(vertical(series[position][1][-1]) + 4, taken + 14)
        taken = y
        number = short(series[position][1][-1])
        label = fitted(series[position][0], side - text_width(f" {number}"))
        drawing.text(width - side - 2, y, f"{label} {number}", "t")
    return drawing.svg()


def stacked(
    width: int, columns: Sequence[str], series: Sequence[tuple[str, Sequence[float]]], unit: str, note: str = ""
) -> str:
    """Stacked bars, one for each column, with totals on top; a part that has room for it says what it is."""
    legend = [(SERIES[position % 6], label) for position, (label, _) in enumerate(series)] if len(series) > 1 else []
    lines_of_legend = _legend_lines(width, legend)
    drawing = Drawing(width, 240 + 16 * lines_of_legend, f"{unit}; {note}" if note else unit)
    totals = [sum(numbers[column] for _, numbers in series) for column in range(len(columns))]
    vertical = Scale(0.0, max([*totals, 1e-12]) * 1.1, 204, 22)
    for tick in vertical.ticks(4):
        drawing.line(44, vertical(tick), width - 6, vertical(tick), "grid")
        drawing.text(38, vertical(tick) + 4, tick_text(tick), "u", "end")
    step = (width - 56) / len(columns)
    for column, label in enumerate(columns):
        base, x = 0.0, 48 + column * step + step * 0.15
        for position, (_, numbers) in enumerate(series):
            value = numbers[column]
            if value:
                drawing.rect(
                    x, vertical(base + value), step * 0.7, vertical(base) - vertical(base + value), SERIES[position % 6]
                )
            base += value
        if base:
            drawing.text(x + step * 0.35, vertical(base) - 5, _total(base, max(totals)), "n", "middle")
        drawing.text(x + step * 0.35, 220, label, "t", "middle")
    drawing.text(44, 12, unit, "u")
    if note:
        drawing.text(width - 6, 234, note, "u", "end")
    legend_below(drawing, legend, 238 + 12)
    return drawing.svg()


def _total(total: float, largest: float) -> str:
    """What stands on a bar; of one that can't be seen, that it is less than what can."""
    least = 10.0 ** floor(log10(largest)) / 100 if largest > 0 else 0.0
    return f"<{least:g}" if 0 < total < least else short(total)


@dataclass(frozen=True, slots=True)
class Dot:
    """A number of a chart of dots: its range, whether it fills its mark, and words at the right of it."""

    label: str
    low: float
    value: float
    high: float
    is_filled: bool = True
    note: str = ""
    printed: float | None = None


def dots(
    width: int, rows: Sequence[Dot], unit: str, more: str = "{number}+", marker: tuple[float, str] | None = None
) -> str:
    """A dot for each number with a thin line over its range, on an axis from zero (or below it, where a number is).

    A range without an upper end runs to the edge and says `more`. `printed` is what a source printed by mistake: struck through.
    """
    shown = [_dot_text(row, more) for row in rows]
    notes = 0 if width <= NARROW_TO else max((text_width(row.note) for row in rows), default=0.0)
    values = max(text_width(words) for words in shown) + 14
    places = _rows(width, [row.label for row in rows], min(values + notes + (12 if notes else 0), width * 0.45))
    bottom = places.top(len(rows) - 1) + BAR + 8
    drawing = Drawing(width, bottom + (50 if marker else 32), unit)
    ends = [end for row in rows for end in (row.low, row.value, row.high) if isfinite(end)]
    ends += [row.printed for row in rows if row.printed is not None and row.printed < 4 * max(ends)]
    ends += [marker[0]] if marker else []
    scale = Scale(min(0.0, *ends), max([*ends, 1e-12]) * 1.02, places.left + 4, places.right)
    for tick in scale.ticks(4 if places.narrow else 6):
        places.rule(drawing, scale(tick), "axis" if tick == 0 else "grid", len(rows))
        drawing.inside(scale(tick), bottom + 14, tick_text(tick), "u")
    for row, (dot, words) in enumerate(zip(rows, shown, strict=True)):
        y = places.top(row) + BAR / 2
        places.label(drawing, row, dot.label)
        high = dot.high if isfinite(dot.high) else scale.high
        if high > dot.low:
            drawing.line(scale(dot.low), y, scale(high), y, "reach")
        drawing.circle(scale(dot.value), y, 5, "dot" if dot.is_filled else "hollow")
        drawing.text(scale(high) + 10, y + 4, words, "n")
        if dot.note and not places.narrow:
            drawing.text(width - 4, y + 4, dot.note, "u", "end")
    if marker is not None:
        places.rule(drawing, scale(marker[0]), "dash", len(rows))
        drawing.inside(scale(marker[0]), bottom + 28, marker[1], "t")
    drawing.text(width - 4, bottom + (44 if marker else 28), unit, "u", "end")
    return drawing.svg()


def _dot_text(dot: Dot, more: str) -> str:
    if not isfinite(dot.high):
        return more.format(number=short(dot.low))
    if dot.low == dot.high:
        return short(dot.value)
    return f"{short(dot.low)}-{short(dot.high)}"


def diverging(width: int, bars: Sequence[tuple[str, float, str]], unit: str, ends: tuple[str, str]) -> str:
    """Bars to both sides of zero, each with a label and a word behind its number; `ends` say what left and right mean."""
    notes = max((text_width(word) for _, _, word in bars), default=0.0)
    aside = notes + 12 if width > NARROW_TO else 0.0
    rows = _rows(width, [label for label, _, _ in bars], 8 + aside, 0.0 if aside else notes + 10)
    bottom = rows.top(len(bars) - 1) + BAR + 8
    drawing = Drawing(width, bottom + 32, unit)
    reach = max([abs(value) for _, value, _ in bars] + [1.0])
    scale = Scale(-reach, reach, rows.left + 46, rows.right - 46)
    for row, (label, value, word) in enumerate(bars):
        y = rows.top(row)
        left, right = sorted((scale(0), scale(value)))
        rows.label(drawing, row, label)
        drawing.rect(left, y, max(right - left, 1.0), BAR, "good" if value >= 0 else "bad")
        anchor, shift = ("start", 5) if value >= 0 else ("end", -5)
        drawing.text(scale(value) + shift, y + 12, f"{value:+.1f}", "n", anchor)
        if word:
            drawing.text(width - 4, y + 12 if aside else y - 5, word, "u", "end")
    rows.rule(drawing, scale(0), "axis", len(bars))
    drawing.text(rows.left, bottom + 14, f"← {ends[0]}", "u")
    drawing.text(rows.right, bottom + 14, f"{ends[1]} →", "u", "end")
    drawing.text(width - 4, bottom + 28, unit, "u", "end")
    return drawing.svg()


def axes(
    drawing: Drawing,
    x: Sequence[float],
    y: Sequence[float],
    titles: tuple[str, str],
    height: float,
    *,
    whole: bool = False,
    right: float = 26.0,
    top: float = 20.0,
) -> tuple[Scale, Scale]:
    """The scales of a chart with two axes, drawn; `titles` are the horizontal's and the vertical's, which stand at their ends."""
    bottom = height - 46
    horizontal = Scale(min(x), max(x), 52, drawing.width - right)
    low, high = min([*y, 0.0]), max(y)
    vertical = Scale(low, high + (high - low) * 0.06, bottom, top)
    for tick in vertical.ticks(5):
        drawing.line(46, vertical(tick), drawing.width - right + 6, vertical(tick), "axis" if tick == 0 else "grid")
        drawing.text(40, vertical(tick) + 4, tick_text(tick), "u", "end")
    for tick in list(x) if whole else horizontal.ticks(6):
        drawing.text(horizontal(tick), bottom + 16, f"{tick:.0f}" if whole else tick_text(tick), "u", "middle")
    drawing.text(4, 12, titles[1], "u")
    drawing.text(drawing.width - 10, bottom + 32, titles[0], "u", "end")
    return horizontal, vertical


def _legend_lines(width: float, entries: Sequence[tuple[str, str]]) -> int:
    x, found = 8.0, 1 if entries else 0
    for _, label in entries:
        wide = 26 + text_width(label)
        if x + wide > width and x > 8:
            x, found = 8.0, found + 1
        x += wide
    return found


def legend_below(drawing: Drawing, entries: Sequence[tuple[str, str]], y: float) -> None:
    x = 8.0
    for css, label in entries:
        wide = 26 + text_width(label)
        if x + wide > drawing.width and x > 8:
            x, y = 8.0, y + 16
        drawing.rect(x, y - 9, 10, 10, css)
        drawing.text(x + 14, y, label, "u")
        x += wide
