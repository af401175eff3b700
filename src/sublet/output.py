"""How commands print data: a table for people, JSON for machines. Nothing else writes to a terminal.

What is printed may hold what others wrote: names, reasons, answers of a service. It is shown, never obeyed.
"""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer

from sublet.values.text import visible, visible_json

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print `text`; escape sequences, controls and bidirectional overrides in it are spelled out."""
    typer.echo(visible(str(text)), err=err, nl=nl)


def say_error(text: str) -> None:
    """Print why a command failed, in red on standard error."""
    typer.secho(visible(text), fg="red", err=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal what is being waited for, while it lasts; in a pipe, nothing."""
    shown = sys.stderr.isatty()
    if shown:
        typer.echo(visible(f"{what} …"), err=True, nl=False)
    try:
        yield
    finally:
        if shown:
            typer.echo("\r\x1b[K", err=True, nl=False)


def print_json(data: Any) -> None:
    """Indented on a terminal, one line in a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    typer.echo(visible_json(json.dumps(data, indent=indent, ensure_ascii=False, default=str)))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], empty: str) -> None:
    """A table of `rows`; `columns` maps keys to headings; `empty` is the sentence where there is no row."""
    if not rows:
        say(empty)
        return
    cells = [[visible(_text(row.get(key))) for key in columns] for row in rows]
    numbers = [all(_is_number(row.get(key)) for row in rows) for key in columns]
    shown = [list(columns.values()), *cells]
    widths = [max(_width(line[place]) for line in shown) for place in range(len(columns))]
    # In a pipe a row is one line, however long, for grep and cut.
    if sys.stdout.isatty() and sum(widths) + 2 * (len(widths) - 1) > shutil.get_terminal_size().columns:
        from sublet.screen import print_folded

        print_folded(cells, list(zip(columns.values(), numbers, strict=True)))
        return
    for number, line in enumerate(shown):
        padded = (_padded(*entry) for entry in zip(line, widths, numbers, strict=True))
        text = "  ".join(padded).rstrip()
        typer.echo(typer.style(text, bold=True) if number == 0 else text)


def _padded(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in "WF") for sign in text)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or _numeric(value)


def _numeric(value: Any) -> bool:
    return isinstance(value, str) and value.replace(".", "", 1).replace("-", "", 1).isdigit()


def _text(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)
