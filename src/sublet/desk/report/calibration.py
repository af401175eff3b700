"""Said probabilities against outcomes as SVG: a point with its interval for each group of forecasts, and the perfect line."""

from __future__ import annotations

from collections.abc import Sequence

from sublet.desk.report.charts import axes
from sublet.desk.report.drawing import Drawing
from sublet.desk.verdicts import Bin

HEIGHT = 300


def calibration(width: int, bins: Sequence[Bin], titles: tuple[str, str]) -> str:
    """The share that came true over the probability that was said, in percent; the number of questions beside each point."""
    drawing = Drawing(width, HEIGHT, f"{titles[1]}; {titles[0]}")
    horizontal, vertical = axes(drawing, [0.0, 100.0], [0.0, 100.0], titles, HEIGHT)
    drawing.line(horizontal(0), vertical(0), horizontal(100), vertical(100), "dash")
    for one in bins:
        x = horizontal(one.said * 100)
        drawing.line(x, vertical(one.low * 100), x, vertical(one.high * 100), "reach")
        drawing.circle(x, vertical(one.came_true * 100), 5, "dot")
        drawing.inside(x + 8, vertical(one.came_true * 100) + 4, f"n={one.questions}", "u", "start")
    return drawing.svg()
