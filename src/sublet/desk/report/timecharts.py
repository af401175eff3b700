"""Charts over time as SVG: a bar for each period, thinned labels, and zero where it belongs."""

from __future__ import annotations

from collections.abc import Sequence

from sublet.desk.report.drawing import Drawing, Scale, short, text_width, tick_text

HEIGHT = 230
BARS_MAX = 48
"""Beyond so many periods a line is drawn, as bars would be thinner than their gaps."""


def over_time(width: int, labels: Sequence[str], numbers: Sequence[float], unit: str) -> str:
    """A series by period: bars from zero, or a line where there are too many."""
    drawing = Drawing(width, HEIGHT, unit)
    low, high = min(0.0, *numbers), max(0.0, *numbers)
    reach = (high - low) or 1.0
    vertical = Scale(low - (reach * 0.1 if low < 0 else 0.0), high + reach * 0.1, HEIGHT - 34, 26)
    for tick in vertical.ticks(4):
        drawing.line(52, vertical(tick), width - 6, vertical(tick), "axis" if tick == 0 else "grid")
        drawing.text(46, vertical(tick) + 4, tick_text(tick), "u", "end")
    step = (width - 64) / len(numbers)
    middles = [56 + (place + 0.5) * step for place in range(len(numbers))]
    told = [short(number) for number in numbers]
    has_room = max(text_width(words) for words in told) + 4 <= step
    if len(numbers) > BARS_MAX:
        drawing.path([(x, vertical(number)) for x, number in zip(middles, numbers, strict=True)], "l0")
    else:
        for x, number, words in zip(middles, numbers, told, strict=True):
            top, bottom = sorted((vertical(number), vertical(0)))
            drawing.rect(x - step * 0.36, top, step * 0.72, max(bottom - top, 0.5), "s0" if number >= 0 else "bad")
            if has_room and number:
                drawing.text(x, top - 4 if number > 0 else bottom + 12, words, "n", "middle")
    every = _every(labels, step)
    for place in range(0, len(labels), every):
        drawing.inside(middles[place], HEIGHT - 14, labels[place], "t")
    drawing.text(4, 12, unit, "u")
    return drawing.svg()


def _every(labels: Sequence[str], step: float) -> int:
    """How many periods lie from one label to the next, so that none meets another."""
    widest = max(text_width(label) for label in labels) + 10
    every = 1
    while every * step < widest:
        every += 1
    return every
