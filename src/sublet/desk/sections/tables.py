"""`[tables]`: rows of numbers with a unit for each column, and with source, date and status for each cell where they differ."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from datetime import date
from typing import Any

from sublet.desk.case import GIVEN, Build, day_text, status_of
from sublet.desk.checks import check_fraction, check_limit
from sublet.desk.documents import Table, at_line
from sublet.desk.errors import nearest
from sublet.desk.sections.imported import read_file
from sublet.desk.sections.rows import LABEL, Cell, Row, Shape
from sublet.desk.sheet import Status, Value
from sublet.desk.units import parse_unit
from sublet.desk.vectors import Vector

TABLES_MAX = 50
ROWS_MAX = 1000
CELLS_MAX = 20_000


def read(root: Table, build: Build) -> None:
    """All `[tables.NAME]`: gives `NAME.ROW.COLUMN` for each cell and `NAME.COLUMN` as a list."""
    found = list(root.named_tables("tables"))
    if len(found) > TABLES_MAX:
        raise root.fail("tables", f"the case has {len(found)} tables; give at most {TABLES_MAX}")
    for name, table in found:
        with build.faults.gathered(name):
            shape = _shape(name, table, build)
            if table.has("file"):
                shape.home = table.line()
                inside, rows = read_file(table, build, shape)
            else:
                inside, rows = table, _rows(table, shape)
            check_order(inside, shape, rows)
            table.finish()
            put(inside, build, shape, rows)


def put(table: Table, build: Build, shape: Shape, rows: list[Row]) -> None:
    """Give every cell and the columns. Raises CaseError with the line of the cell that can't be used."""
    if not 0 < len(rows) <= ROWS_MAX or len(rows) * len(shape.units) > CELLS_MAX:
        raise table.fail(
            "rows", f"table {shape.name!r} has {len(rows)} rows; give 1 to {ROWS_MAX}, {CELLS_MAX} cells at most"
        )
    numeric = shape.key in shape.units
    for column, unit in shape.units.items():
        for row in rows:
            if column not in row.cells:
                raise table.document.refuse_line(
                    row.line, f"row {row.label!r} has no {column!r}; write {column} = a number"
                )
            _give(table, build, shape, (row.label, column, unit), row.cells[column])
    keys = None
    if numeric:
        keys = tuple(build.ref(f"{shape.name}.{row.label}.{shape.key}") for row in rows)
    for column in shape.units:
        terms = tuple(build.ref(f"{shape.name}.{row.label}.{column}") for row in rows)
        text = f"{shape.name}.{column}"
        labels = tuple(row.label for row in rows)
        build.lists[text] = Vector(terms, labels, shape.name, text, keys=keys, by_date=shape.by_date)


def _give(table: Table, build: Build, shape: Shape, place: tuple[str, str, str], cell: Cell) -> None:
    label, column, unit = place
    name = f"{shape.name}.{label}.{column}"
    source = build.source_named(cell.source, table, cell.line) if cell.source else shape.source
    if source is None:
        raise table.document.refuse_line(
            cell.line, f'{name!r} has no source; write source = "ID" for the cell, its row or the table'
        )
    if not cell.status and not shape.status:
        raise table.document.refuse_line(
            cell.line, f'{name!r} has no status; write status = "…" for the cell, its row or the table'
        )
    if cell.status not in ("", *map(str, GIVEN)):
        raise table.document.refuse_line(
            cell.line, f"status {cell.status!r} is not known here; {nearest(cell.status, map(str, GIVEN))}"
        )
    status = Status(cell.status or shape.status)
    dated = cell.date or (source.date if cell.source else shape.date or source.date)
    value = Value(
        name, cell.number, unit, status, source.title, dated, note=cell.note, 
        family=shape.families.get(column, ""), line=shape.home or cell.line,
        file=table.document.name if shape.home else "", file_line=cell.line if shape.home else 0,
    )  # fmt: skip
    placed = _at(table, cell.line)

    def act() -> None:
        check_fraction(placed, name, cell.number, unit)
        check_limit(placed, name, cell.number, parse_unit(unit))
        build.sheet.give(value)
        if column != shape.key:
            build.cells.append(name)

    at_line(placed, None, act)


def _at(table: Table, line: int) -> Table:
    """The same table, whose errors point at a line."""
    return replace(table, document=replace(table.document, lines={(): line}), path=(), data={})


def _shape(name: str, table: Table, build: Build) -> Shape:
    key = table.text("key")
    columns = table.table("columns")
    units = {column: columns.text(column) for column in columns.data}
    if not units:
        raise table.fail("columns", 'a table needs columns = { NAME = "UNIT", … }')
    for column, unit in units.items():
        at_line(columns, column, parse_unit, unit)
    families = table.table("families")
    stated = {column: families.text(column) for column in families.data}
    for column in stated:
        if column not in units:
            raise families.fail(column, f"{column!r} is not a column of {name!r}; {nearest(column, units)}")
    source = build.source(table) if table.has("source") else None
    status = str(status_of(table, None)) if table.has("status") else ""
    dated = day_text(table, "date") if table.has("date") else ""
    return Shape(name, key, units, stated, source, status, dated)


def _rows(table: Table, shape: Shape) -> list[Row]:
    rows: list[Row] = []
    entries = table.tables("rows")
    kinds = {type(entry.data.get(shape.key)) for entry in entries}
    shape.by_date = kinds == {date}
    for entry in entries:
        label, own = _label(entry, shape)
        if any(label == row.label for row in rows):
            raise entry.fail(
                shape.key, f"row {label!r} of {shape.name!r} is there twice; give each its own {shape.key}"
            )
        status = str(status_of(entry, None)) if entry.has("status") else ""
        standard = Cell(
            math.nan, entry.line(), entry.text("source", ""), day_text(entry, "date") if _is_extra(entry, shape) else "", status,
            entry.text("note", ""),
        )  # fmt: skip
        cells = {column: _cell(entry, column, standard) for column in shape.units if column in entry.data}
        if own is not None:
            cells[shape.key] = replace(standard, number=own)
        entry.finish()
        rows.append(Row(label, cells, entry.line()))
    return rows


def check_order(table: Table, shape: Shape, rows: list[Row]) -> None:
    """Raises CaseError where dates or numbers as keys do not ascend: lookup() needs that."""
    for before, after in itertools.pairwise(rows):
        down = after.label <= before.label if shape.by_date else False
        if shape.key in shape.units:
            down = after.cells[shape.key].number <= before.cells[shape.key].number
        if down:
            raise table.document.refuse_line(
                after.line,
                f"{shape.key} {after.label} does not come after {before.label}; put the rows in ascending order",
            )


def _is_extra(entry: Table, shape: Shape) -> bool:
    return shape.key != "date" and entry.has("date")


def _label(entry: Table, shape: Shape) -> tuple[str, float | None]:
    """What a row is called, and the number that it is called by where its key column has a unit."""
    if shape.key in shape.units:
        number = entry.number(shape.key)
        return f"{number:g}", number
    found: Any = entry.data.get(shape.key)
    if isinstance(found, date):
        return entry.day(shape.key).isoformat(), None
    label = entry.text(shape.key)
    if not LABEL.fullmatch(label):
        raise entry.fail(shape.key, f"{shape.key} is {label!r}; write 1 to 80 characters without braces and backticks")
    return label, None


def _cell(entry: Table, column: str, standard: Cell) -> Cell:
    if not isinstance(entry.data[column], dict):
        return replace(standard, number=entry.number(column), line=entry.line(column))
    inner = entry.table(column)
    status = str(status_of(inner, None)) if inner.has("status") else standard.status
    dated = day_text(inner, "date") if inner.has("date") else standard.date
    made = Cell(
        inner.number("value"), inner.line("value"), inner.text("source", standard.source), dated, status,
        inner.text("note", standard.note),
    )  # fmt: skip
    inner.finish()
    return made
