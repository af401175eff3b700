"""Sheets of a workbook that move one input, or two, of a result: live formulas with everything between written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sublet.desk.desk import Desk
from sublet.desk.report.cells import Cells
from sublet.desk.sections.sensitivity import Sensitivity
from sublet.desk.sensitivity import inlined
from sublet.desk.sheet import Sheet


class Writer(Protocol):
    """What writes the workbook: its cells, and how it makes pages and formulas."""

    cells: Cells
    sheet: Sheet

    def page(self, name: str, columns: Sequence[tuple[str, float]]) -> Any: ...

    def formula(self, page: Any, row: int, column: int, formula: str, number: float) -> None: ...


def write(writer: Writer, desk: Desk, found: Sensitivity, name: str) -> None:
    """A result's swings, and its grid below them. What is moved can be changed in the sheet, and the result follows."""
    heads = (
        ("input", 44),
        ("low", 14),
        ("high", 14),
        (f"{found.result} at low", 18),
        (f"{found.result} at high", 18),
        ("swing", 14),
    )
    page = writer.page(name, heads)
    sheet = writer.sheet
    for row, swing in enumerate(found.swings, start=1):
        page.write_string(row, 0, f"{desk.title(swing.input)}, {sheet[swing.input].unit}")
        page.write_number(row, 1, swing.low)
        page.write_number(row, 2, swing.high)
        term = inlined(sheet, found.result, frozenset((swing.input,)))
        ends = (("B", swing.low, swing.at_low), ("C", swing.high, swing.at_high))
        for column, (letter, end, number) in enumerate(ends, start=3):
            moved = {swing.input: (f"'{name}'!${letter}${row + 1}", end)}
            writer.formula(page, row, column, writer.cells.formula(term, moved), number)
        writer.formula(page, row, 5, f"ABS(E{row + 1}-D{row + 1})", swing.size)
    if found.grid is None:
        return
    two, top = found.grid, len(found.swings) + 3
    page.write_string(top, 0, f"{desk.title(found.result)}, {sheet[found.result].unit}")
    page.write_string(top + 1, 0, f"down {desk.title(two.rows)}, across {desk.title(two.columns)}")
    term = inlined(sheet, found.result, frozenset((two.rows, two.columns)))
    for column, value in enumerate(two.column_values, start=1):
        page.write_number(top + 1, column, value)
    for row, (value, cells) in enumerate(zip(two.row_values, two.cells, strict=True), start=top + 2):
        page.write_number(row, 0, value)
        for column, (across, number) in enumerate(zip(two.column_values, cells, strict=True), start=1):
            cell = f"'{name}'!${chr(ord('A') + column)}${top + 2}"
            pair = {two.rows: (f"'{name}'!$A${row + 1}", value), two.columns: (cell, across)}
            writer.formula(page, row, column, writer.cells.formula(term, pair), number)
