"""How commands print data: a table for people, JSON for machines. Nothing else writes to a terminal.

What is printed may hold what others wrote: names, reasons, answers of a service. It is shown, never obeyed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from sublet.values.text import visible, visible_json

WIDTH_IN_A_PIPE = 100_000

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class Screen(Console):
    """Rich's console, for styled output: what the text in it would have the terminal do is spelled out."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)


def say(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print `text`; escape sequences, controls and bidirectional overrides in it are spelled out."""
    typer.echo(visible(str(text)), err=err, nl=nl)


def say_error(text: str) -> None:
    """Print why a command failed, in red on standard error."""
    typer.secho(visible(text), fg="red", err=True)


def print_json(data: Any) -> None:
    """Indented on a terminal, one line in a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    typer.echo(visible_json(json.dumps(data, indent=indent, ensure_ascii=False, default=str)))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], empty: str) -> None:
    """A table of `rows`; `columns` maps keys to headings; `empty` is the sentence where there is no row."""
    if not rows:
        say(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for key, heading in columns.items():
        numbers = all(isinstance(row.get(key), int | float) or _numeric(row.get(key)) for row in rows)
        table.add_column(heading, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        # Text, and not str: a name may hold what Rich would take for markup.
        table.add_row(*(Text(visible(_text(row.get(key)))) for key in columns))
    # In a pipe a row is one line, however long, for grep and cut.
    Screen(width=None if sys.stdout.isatty() else WIDTH_IN_A_PIPE, highlight=False).print(table)


def _numeric(value: Any) -> bool:
    return isinstance(value, str) and value.replace(".", "", 1).replace("-", "", 1).isdigit()


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
