"""The section on time: each series of the case as a chart, and all of a calendar in one table."""

from __future__ import annotations

from collections.abc import Sequence

from sublet.desk.report import timecharts
from sublet.desk.report.blocks import Block, Cell, Draw, Figure, Ref, Section, TableBlock
from sublet.desk.report.wording import Wording
from sublet.desk.sections.timeline import Series

ROWS_OPEN_MAX = 12
"""A longer table is folded."""


def timeline(w: Wording) -> Section | None:
    """Every series that the case shows."""
    desk = w.desk
    if desk is None:
        return None
    shown = [series for series in desk.timeline if series.is_shown]
    if not shown:
        return None
    blocks: list[Block] = []
    for calendar in dict.fromkeys(series.calendar.name for series in shown):
        group = [series for series in shown if series.calendar.name == calendar]
        blocks += [_figure(w, series) for series in group]
        blocks.append(_table(w, group))
    lead = w("The case's assumptions, period by period. Days are counted exactly, leap days included.")
    return Section("timeline", w("Over time"), lead, tuple(blocks))


def _figure(w: Wording, series: Series) -> Figure:
    assert w.desk is not None
    factor, unit = w.axis(series.unit)
    numbers = [w.desk.sheet[name].number * factor for name in series.names]
    title = w.name(series.name)

    def draw(width: int) -> str:
        return timecharts.over_time(width, series.calendar.labels, numbers, unit)

    drawn: Draw = draw
    return Figure(drawn, w("{a}, by period.", a=title))


def _table(w: Wording, group: Sequence[Series]) -> TableBlock:
    assert w.desk is not None
    rows: list[tuple[Cell, ...]] = []
    for place, label in enumerate(group[0].calendar.labels):
        rows.append((w.period(label), *(Ref(series.names[place]) for series in group)))
    years = list(dict.fromkeys(year for series in group for year, _ in series.years))
    for year in years:
        cells: list[Cell] = [Ref(dict(series.years)[year]) if year in dict(series.years) else "" for series in group]
        rows.append((w("{a}, whole year", a=w.period(year)), *cells))
    folded = w("Numbers by period") if len(rows) > ROWS_OPEN_MAX else ""
    return TableBlock((w("period"), *(w.name(series.name) for series in group)), tuple(rows), folded=folded)
