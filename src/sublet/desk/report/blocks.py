"""What a page is made of, before anybody decides how it looks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

NARROW = 360
"""A chart for a telephone, or for half of an A4 page, in its own units."""
PAIRED = 480
"""A chart that stands beside another one."""
WIDE = 900
"""A chart that has the page's width for itself."""


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
    """A table; the first column holds labels. With `folded`, the words that stand for it, it opens at a click."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""
    folded: str = ""


Draw = Callable[[int], str]
"""A chart at a width, as SVG."""


@dataclass(frozen=True, slots=True)
class Figure:
    """One chart and what it says; `variants` are the same chart under other assumptions, switched on the page."""

    draw: Draw
    caption: str
    title: str = ""
    variants: tuple[tuple[str, Draw], ...] = ()
    is_wide: bool = False

    @property
    def svg(self) -> str:
        """The chart as it stands beside another one."""
        return self.draw(PAIRED)


Block = Paragraph | TableBlock | Figure


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the report with its own heading. With `is_folded`, it opens at a click."""

    id: str
    title: str
    lead: str
    blocks: tuple[Block, ...] = field(default=())
    is_folded: bool = False


def rows_of(pairs: Sequence[tuple[str, str]]) -> tuple[tuple[Cell, ...], ...]:
    """Label and named value, one row each."""
    return tuple((label, Ref(name)) for label, name in pairs)


@dataclass(frozen=True, slots=True)
class Tile:
    """A number of the first screen: the number as people write it, what it is, and how far it can be trusted."""

    number: str
    label: str
    status: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The first screen: the answer, three numbers, what would change it, and who says so as of when."""

    sentences: tuple[str, ...]
    tiles: tuple[Tile, ...]
    changes: tuple[str, ...]
    line: str
