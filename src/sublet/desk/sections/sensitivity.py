"""`[[sensitivity]]`: how a result of the case follows its inputs, one by one and two together."""

from __future__ import annotations

from dataclasses import dataclass

from sublet.desk.case import Build
from sublet.desk.documents import Table, at_line
from sublet.desk.sensitivity import Swing, grid, swings

ENTRIES_MAX = 20
SHOWN = 10
"""Where no inputs are named, so many of those with the widest swings are shown."""


@dataclass(frozen=True, slots=True)
class TwoWay:
    """A result over two inputs: `cells` by row and column."""

    rows: str
    row_values: tuple[float, ...]
    columns: str
    column_values: tuple[float, ...]
    cells: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """One result with its swings, and a grid where the case names a pair."""

    result: str
    swings: tuple[Swing, ...]
    grid: TwoWay | None


def read(root: Table, build: Build) -> tuple[Sensitivity, ...]:
    """All `[[sensitivity]]` in order; one that can't be calculated is a problem of the case."""
    tables = root.tables("sensitivity")
    if len(tables) > ENTRIES_MAX:
        raise root.fail("sensitivity", f"the case has {len(tables)} sensitivities; give at most {ENTRIES_MAX}")
    found = []
    for table in tables:
        with build.faults.attempted("sensitivity"):
            found.append(_one(table, build))
    return tuple(found)


def _one(table: Table, build: Build) -> Sensitivity:
    result = table.text("result")
    at_line(table, "result", build.ref, result)
    entries = table.tables("inputs")
    stated: dict[str, tuple[float, float]] = {}
    names = []
    for entry in entries:
        names.append(entry.text("input"))
        at_line(entry, "input", build.ref, names[-1])
        if entry.has("low") or entry.has("high"):
            stated[names[-1]] = (entry.number("low"), entry.number("high"))
        entry.finish()
    moved = at_line(table, "inputs" if entries else "result", swings, build.sheet, result, names, stated)
    pair = _pair(table.table("grid"), build, result) if table.has("grid") else None
    table.finish()
    return Sensitivity(result, tuple(moved if names else moved[:SHOWN]), pair)


def _pair(table: Table, build: Build, result: str) -> TwoWay:
    rows, columns = table.text("rows"), table.text("columns")
    for key, name in (("rows", rows), ("columns", columns)):
        at_line(table, key, build.ref, name)
    down, across = table.numbers("row_values"), table.numbers("column_values")
    cells = at_line(table, "rows", grid, build.sheet, result, (rows, down), (columns, across))
    table.finish()
    return TwoWay(rows, tuple(down), columns, tuple(across), tuple(tuple(row) for row in cells))
