"""A table's rows from a file: which column is which, and each cell's own source, date and status."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

from sublet.desk.case import Build
from sublet.desk.documents import Table, at_line, plain_number
from sublet.desk.errors import CaseError, nearest
from sublet.desk.imports import Cell as Found
from sublet.desk.imports import Sheet, read_rows
from sublet.desk.sections.rows import LABEL, Cell, Row, Shape

_OTHER_DATE = re.compile(r"\d{1,4}[/.]\d{1,2}[/.]\d{1,4}|\d{8}")
_ASIDE = ("source", "date", "status", "note")
"""Columns that say this of every cell of a row; `COLUMN source` and so on say it of one cell."""


def read_file(table: Table, build: Build, shape: Shape) -> tuple[Table, list[Row]]:
    """The rows of the file that a table names, and a table whose errors name the file. Raises CaseError with file and line."""
    folder = Path(table.document.name).parent
    sheet = at_line(table, "file", read_rows, folder, table.text("file"), table.text("sheet", ""))
    build.imported.append(sheet.digest)
    build.files.append(sheet.name)
    called = _called(table, shape, sheet)
    document = replace(table.document, name=sheet.name)
    inside = replace(table, document=document)
    labels: set[str] = set()
    rows = []
    kinds = {type(_day(row.get(called[shape.key]))) for _, row in sheet.rows}
    shape.by_date = shape.key not in shape.units and kinds == {date}
    for line, row in sheet.rows:
        try:
            _check_day(row.get(called[shape.key]), called[shape.key], date in kinds)
            made = _row(line, row, shape, called)
        except CaseError as error:
            raise document.refuse_line(line, error.message) from error
        if made.label in labels:
            raise document.refuse_line(line, f"row {made.label!r} is there twice; give each its own {shape.key}")
        labels.add(made.label)
        rows.append(made)
    return inside, rows


def _called(table: Table, shape: Shape, sheet: Sheet) -> dict[str, str]:
    """The file's name of each column: its own, or what `headers` says."""
    stated = table.table("headers")
    names = {column: stated.text(column) for column in stated.data}
    found = {}
    for column in dict.fromkeys((shape.key, *shape.units)):
        found[column] = names.pop(column, column)
        if found[column] not in sheet.columns:
            raise table.fail(
                "file", f"{sheet.name} has no column {found[column]!r}, {nearest(found[column], sheet.columns)} "
                f'Or say what it is called there: headers = {{ {column} = "…" }}'
            )  # fmt: skip
    for column in names:
        raise stated.fail(column, f"{column!r} is not a column of this table; {nearest(column, found)}")
    return found


def _row(line: int, row: Mapping[str, Found], shape: Shape, called: Mapping[str, str]) -> Row:
    standard = _aside(row, "", Cell(math.nan, line), shape.key)
    cells = {}
    for column in shape.units:
        if row.get(called[column]) in (None, ""):
            raise CaseError(f"{called[column]} is empty; write a number, or leave the row out")
        number = _number(called[column], row[called[column]])
        cells[column] = replace(_aside(row, f"{called[column]} ", standard, shape.key), number=number)
    return Row(_label(row.get(called[shape.key]), shape, called[shape.key]), cells, line)


def _aside(row: Mapping[str, Found], before: str, standard: Cell, key: str) -> Cell:
    told: dict[str, Any] = {}
    for name in _ASIDE:
        value = row.get(f"{before}{name}")
        if value in (None, "") or (not before and name == key):
            continue
        told[name] = value.isoformat() if isinstance(value, date) else str(value)
    return replace(standard, **told)


def _label(found: Found, shape: Shape, key: str) -> str:
    if found in (None, ""):
        raise CaseError(f"{key} is empty; name the row, or leave it out")
    if shape.key in shape.units:
        return f"{_number(key, found):g}"
    day = _day(found)
    if isinstance(day, date):
        return day.isoformat()
    label = f"{found:g}" if isinstance(found, float) else str(found)
    if not LABEL.fullmatch(label):
        raise CaseError(f"{key} is {label[:80]!r}; write 1 to 80 characters without braces and backticks")
    return label


def _day(found: Found) -> Found:
    """A date where it reads as one."""
    if isinstance(found, str):
        try:
            return date.fromisoformat(found)
        except ValueError:
            return found
    return found


def _check_day(found: Found, key: str, others_are: bool) -> None:
    """A date of another style would be taken for a name. Raises CaseError for one, and for what is none among dates."""
    if isinstance(_day(found), date) or not isinstance(found, str):
        return
    if others_are:
        raise CaseError(f"{key} is {found!r}, which is no date as the others are; write it like 2026-07-02")
    if _OTHER_DATE.fullmatch(found.strip()):
        raise CaseError(f"{key} is {found!r}; write the date as year, month and day, like 2026-07-02")


def _number(name: str, found: Found) -> float:
    text = plain_number(found) if isinstance(found, str) else found
    try:
        number = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise CaseError(f"{name} is {found!r}; write a number, without unit and percent sign") from error
    if not math.isfinite(number):
        raise CaseError(f"{name} is {found!r}; write a finite number")
    return number
