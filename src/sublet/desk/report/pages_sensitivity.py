"""The section on what a result follows: each input moved alone, and a grid of two."""

from __future__ import annotations

from functools import partial

from sublet.desk.report import charts, grids
from sublet.desk.report.blocks import Block, Figure, Paragraph, Section
from sublet.desk.report.wording import Wording
from sublet.desk.sections.sensitivity import Sensitivity, TwoWay

ENDS = {
    "stated": "as the case states",
    "distribution": "nine in ten of its draws",
    "range": "its published range",
    "around": "10% to both sides, as the case says nothing of its range",
}
"""Where the ends between which an input is moved come from."""


def sensitivities(w: Wording) -> Section | None:
    """Every result that the case asks this of."""
    if w.desk is None or not w.desk.sensitivities:
        return None
    blocks: list[Block] = []
    for found in w.desk.sensitivities:
        if found.swings:
            blocks.append(_tornado(w, found))
        if found.grid is not None:
            blocks.append(_grid(w, found, found.grid))
        kinds = list(dict.fromkeys(swing.ends for swing in found.swings))
        told = [
            w(
                "{a}: {b}",
                a=w.joined([w.name(swing.input) for swing in found.swings if swing.ends == kind]),
                b=w(ENDS[kind]),
            )
            for kind in kinds
        ]
        blocks += [Paragraph(words, "fine") for words in told]
    lead = w("Each input moved alone, with everything that follows from it.")
    return Section("sensitivities", w("What the results follow"), lead, tuple(blocks))


def _tornado(w: Wording, found: Sensitivity) -> Figure:
    assert w.desk is not None
    value = w.desk.sheet[found.result]
    factor, axis = w.axis(value.unit)
    units = {swing.input: w.desk.sheet[swing.input].unit for swing in found.swings}
    bars = [
        (
            w.name(swing.input),
            w("{a} to {b}", a=w.number(swing.low, units[swing.input]), b=w.number(swing.high, units[swing.input])),
            swing.at_low * factor, swing.at_high * factor,
        )
        for swing in found.swings
    ]  # fmt: skip
    foot = w("as given: {a}", a=w.number(value.number, value.unit))
    draw = partial(_drawn, bars, value.number * factor, axis, foot)
    return Figure(draw, w("{a}: each input moved alone.", a=w.name(found.result)), is_wide=True)


def _drawn(bars: list[tuple[str, str, float, float]], base: float, unit: str, foot: str, width: int) -> str:
    return charts.tornado(width, bars, base, unit, foot)


def _grid(w: Wording, found: Sensitivity, two: TwoWay) -> Figure:
    assert w.desk is not None
    sheet = w.desk.sheet
    factor, axis = w.axis(sheet[found.result].unit)
    down, across = w.axis(sheet[two.rows].unit), w.axis(sheet[two.columns].unit)
    rows = [f"{value * down[0]:g}" for value in two.row_values]
    columns = [f"{value * across[0]:g}" for value in two.column_values]
    values = [[cell * factor for cell in row] for row in two.cells]
    titles = (
        w("{a}, {b}", a=w.name(two.rows), b=down[1]),
        w("{a}, {b}", a=w.name(two.columns), b=across[1]),
    )
    middle = 0.0 if min(map(min, values)) < 0 < max(map(max, values)) else sheet[found.result].number * factor
    split = 0.0 if middle == 0.0 else None
    return Figure(
        lambda width: grids.heat_map(width, rows, columns, values, titles=titles, middle=middle, split=split),
        w("{a} in {b}, by two inputs.", a=w.name(found.result), b=axis),
        is_wide=True,
    )
