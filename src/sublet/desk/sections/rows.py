"""What a table holds before it is given to the sheet: its shape, its rows, and each cell with what is known of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sublet.desk.case import Source

LABEL = re.compile(r"[^{}`]{1,80}")
"""What a row may be called."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A number of a table with its own source, date and status where it has them; `line` is where it stands."""

    number: float
    line: int
    source: str = ""
    date: str = ""
    status: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """A row: what it is called, and its cells by column."""

    label: str
    cells: Mapping[str, Cell]
    line: int


@dataclass(slots=True)
class Shape:
    """What the head of a table says: the key column, units and families of the others, and what holds for every cell."""

    name: str
    key: str
    units: dict[str, str]
    families: dict[str, str]
    source: Source | None
    status: str
    date: str
    by_date: bool = False
    home: int = 0
    """The case's line of the table, for cells that stand in another file; 0 where they stand in the case."""
