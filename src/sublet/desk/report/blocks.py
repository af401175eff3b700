"""What a page is made of, before anybody decides how it looks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Ref:
    """A number of the sheet: printed with its status, linked to its line in the list of all numbers."""

    name: str
    digits: int = 4


Cell = str | float | Ref
"""A cell of a table: words, a plain number, or a number of the sheet."""


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Words with numbers: `{name}` is replaced by the value of that name."""

    text: str
    tone: str = ""


@dataclass(frozen=True, slots=True)
class TableBlock:
    """A table; the first column holds labels."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart and what it says; `variants` are the same chart under other assumptions, switched on the page."""

    svg: str
    caption: str
    title: str = ""
    variants: tuple[tuple[str, str], ...] = ()


Block = Paragraph | TableBlock | Figure


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report with its own heading."""

    id: str
    title: str
    lead: str
    blocks: tuple[Block, ...] = field(default=())


def rows_of(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[Cell, ...], ...]:
    """Label and named value, one row each."""
    return tuple((label, Ref(name)) for label, name in pairs)
