"""A small SVG pen: shapes and text in a box of a given width that scales with the page."""

from __future__ import annotations

from html import escape
from itertools import pairwise
from math import isfinite
from unicodedata import east_asian_width

NARROW_TO = 420
"""Up to this width a chart sets its labels above its bars."""

LATIN = 0.62
"""A Latin letter's width as a share of its height, on the large side of what system fonts have."""

TEXT = 12.0
"""The height of a chart's text, in the chart's own units."""


class Drawing:
    """Collects shapes; `svg()` gives the finished picture with its title for screen readers."""

    def __init__(self, width: float, height: float, title: str) -> None:
        self.width, self._height, self._title = width, height, title
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, css: str, style: str = "") -> None:
        look = f' style="{style}"' if style else ""
        size = f'width="{max(width, 0):.1f}" height="{max(height, 0):.1f}"'
        self._parts.append(f'<rect x="{x:.1f}" y="{y:.1f}" {size} class="{css}"{look}/>')

    def line(self, x1: float, y1: float, x2: float, y2: float, css: str) -> None:
        self._parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>')

    def path(self, points: list[tuple[float, float]], css: str, closed: bool = False) -> None:
        if points:
            steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
            self._parts.append(f'<path d="M{steps}{" Z" if closed else ""}" class="{css}"/>')

    def circle(self, x: float, y: float, radius: float, css: str) -> None:
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" class="{css}"/>')

    def text(self, x: float, y: float, words: str, css: str = "t", anchor: str = "start") -> None:
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{css}" text-anchor="{anchor}">{escape(words)}</text>')

    def inside(self, x: float, y: float, words: str, css: str = "t", anchor: str = "middle") -> None:
        """Text that is moved sideways until it lies inside the picture."""
        wide = text_width(words)
        left = x - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
        left = max(2.0, min(left, self.width - 2 - wide))
        self.text(left, y, words, css)

    def svg(self) -> str:
        """The picture, with its own size for a page that gives it none."""
        head = f'<svg viewBox="0 0 {self.width:.0f} {self._height:.0f}" role="img" aria-label="{escape(self._title)}">'
        return f"{head}<title>{escape(self._title)}</title>{''.join(self._parts)}</svg>"


def text_width(words: str, size: float = TEXT) -> float:
    """About how wide words are: a Chinese character takes a square, a Latin one a little over half of it, and
    a browser sets some space between the two."""
    wide = [east_asian_width(letter) in "WF" for letter in words]
    turns = sum(one != other for one, other in pairwise(wide))
    return sum(size if is_wide else size * LATIN for is_wide in wide) + turns * size / 5


def fitted(words: str, room: float) -> str:
    """Words that fit into `room`: cut at a space where there is one, with an ellipsis."""
    if text_width(words) <= room:
        return words
    cut = words
    while cut and text_width(f"{cut}…") > room:
        cut = cut[:-1]
    at_space = cut.rpartition(" ")[0]
    return f"{(at_space if len(at_space) > len(cut) / 2 else cut).rstrip(',，、:： ')}…"


def wrapped(words: str, room: float) -> list[str]:
    """Words on one line, or on two of about the same length where they are too long for one; what then is too much is cut."""
    if text_width(words) <= room:
        return [words]
    between = " " if " " in words else ""
    parts = words.split(" ") if between else list(words)
    first = max(
        (place for place in range(1, len(parts)) if text_width(between.join(parts[:place])) <= room), default=len(parts)
    )
    half = next(
        (
            place
            for place in range(1, first + 1)
            if text_width(between.join(parts[:place])) >= text_width(between.join(parts[place:]))
        ),
        first,
    )
    lines = [between.join(parts[:half]), between.join(parts[half:])]
    return [fitted(line, room) for line in lines if line]


class Scale:
    """Numbers to positions, linearly, with round ticks."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = (low, high) if high > low else (low - 0.5, low + 0.5)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        return self._start + (value - self.low) / (self.high - self.low) * (self._end - self._start)

    def ticks(self, count: int = 5) -> list[float]:
        """Round numbers inside the range, about `count` of them."""
        step = nice_step((self.high - self.low) / max(count, 1))
        first = int(self.low / step) if self.low <= 0 else int(-(-self.low // step))
        found, value = [], first * step
        while value <= self.high + step * 1e-9:
            if value >= self.low - step * 1e-9:
                found.append(0.0 if abs(value) < step * 1e-9 else value)
            value += step
        return found


def nice_step(rough: float) -> float:
    """1, 2 or 5 times a power of ten, not below `rough`; 1 for what is not a positive number."""
    if not (isfinite(rough) and rough > 0):
        return 1.0
    power = 1.0
    while power * 10 <= rough:
        power *= 10
    while power > rough:
        power /= 10
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * (1 - 1e-9))


def short(value: float) -> str:
    """A number for an axis or a cell: three significant digits, no exponent between 0.001 and a million."""
    if value == 0:
        return "0"
    size = abs(value)
    if size >= 1e6 or size < 1e-3:
        return f"{value:.3g}"
    if size >= 1000:
        return f"{value:,.0f}"
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    if size < 0.1:
        digits = 3
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text and float(text) == int(float(text)) else text


def tick_text(value: float) -> str:
    """A number for a tick, never wider than the margin beside an axis: 400k, 2.5M, 1.2bn."""
    for limit, divisor, unit in ((1e12, 1e12, "tn"), (1e9, 1e9, "bn"), (1e6, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / divisor:.4g}{unit}"
    return short(value)
