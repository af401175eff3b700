"""How commands print data: a table for people, JSON for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH_IN_A_PIPE = 100_000

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(data: Any) -> None:
    """Indented on a terminal, one line in a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    typer.echo(json.dumps(data, indent=indent, ensure_ascii=False, default=str))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], empty: str) -> None:
    """A table of `rows`; `columns` maps keys to headings; `empty` is the sentence where there is no row."""
    if not rows:
        typer.echo(empty)
        return
    table = Table(box=None, header_style="bold", pad_edge=False)
    for key, heading in columns.items():
        numbers = all(isinstance(row.get(key), int | float) or _numeric(row.get(key)) for row in rows)
        table.add_column(heading, justify="right" if numbers else "left", overflow="fold")
    for row in rows:
        # Text, and not str: a name may hold what Rich would take for markup.
        table.add_row(*(Text(_text(row.get(key))) for key in columns))
    # In a pipe a row is one line, however long, for grep and cut.
    Console(width=None if sys.stdout.isatty() else WIDTH_IN_A_PIPE, highlight=False).print(table)


def _numeric(value: Any) -> bool:
    return isinstance(value, str) and value.replace(".", "", 1).replace("-", "", 1).isdigit()


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
