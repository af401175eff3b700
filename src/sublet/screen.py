"""Styled output: progress, trees, colors. Rich takes a quarter of a second to import, so commands import this where they use it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from sublet.values.text import visible


class Screen(Console):
    """Rich's console, for styled output: what the text in it would have the terminal do is spelled out."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def print_folded(rows: Sequence[Sequence[str]], headings: Sequence[tuple[str, bool]]) -> None:
    """A table that is wider than the terminal: cells are folded. `headings` says which columns are numbers."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading, numbers in headings:
        table.add_column(heading, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        # Text, and not str: a name may hold what Rich would take for markup.
        table.add_row(*(Text(cell) for cell in row))
    Screen(highlight=False).print(table)
