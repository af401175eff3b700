"""How commands print data: a table for people, JSON for machines. Nothing else writes to a terminal.

What is printed may hold what others wrote: names, reasons, answers of a service. It is shown, never obeyed.
"""

from __future__ import annotations

import json
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from sublet.shown import (
    MONEY,
    NOTHING,
    PRICE,
    SECONDS,
    SHORT,
    TEXT,
    TIME,
    Column,
    clock_text,
    local,
    money_text,
    price_text,
    short_id,
    time_text,
    with_local_times,
    zone_of,
)
from sublet.values.errors import InvalidInputError
from sublet.values.text import visible, visible_json

WIDTH_MIN = 60
"""A narrower terminal breaks lines itself."""
WORDS_WIDTH_MIN = 16
"""Text is not folded into a narrower column than this: such a table is shown row by row instead."""
GAP = 2

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print `text`; escape sequences, controls and bidirectional overrides in it are spelled out."""
    typer.echo(visible(str(text)), err=err, nl=nl)


def note(text: str, indent: str = "  ") -> None:
    """Print a sentence about data, indented, its times local, and on a terminal folded between words."""
    text = visible(with_local_times(text))
    width = terminal_width()
    typer.echo("\n".join(_folded(text, width - len(indent), indent)) if width else indent + text)


def say_error(text: str) -> None:
    """Print why a command failed, its times local, in red on standard error."""
    typer.secho(visible(with_local_times(text)), fg="red", err=True)


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """Say on a terminal what is being waited for, while it lasts; in a pipe, nothing."""
    with progress(what):
        yield


@contextmanager
def progress(what: str) -> Iterator[Callable[[float], None]]:
    """The same with a way to say which share of it is done, from 0 to 1; from 1 on only that it is waited for."""
    shown = sys.stderr.isatty()
    told = -1

    def tell(share: float) -> None:
        nonlocal told
        percent = min(100, int(100 * share))
        if shown and percent != told:
            told = percent
            end = f" {percent} %" if 0 <= percent < 100 else ""
            typer.echo(f"\r\x1b[K{visible(what)} …{end}", err=True, nl=False)

    tell(1)
    try:
        yield tell
    finally:
        if shown:
            typer.echo("\r\x1b[K", err=True, nl=False)


def print_json(data: Any) -> None:
    """Indented on a terminal, one line in a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    typer.echo(visible_json(json.dumps(data, indent=indent, ensure_ascii=False, default=str)))


def write_page(file: Path | None, made: Callable[[], str]) -> None:
    """Write the page that `made` makes to `file`, if one is named. Raises InvalidInputError if it can't be written."""
    if file is None:
        return
    try:
        file.write_text(made(), encoding="utf-8")
    except OSError as error:
        raise InvalidInputError(f"{file} can't be written ({error.strerror}); choose a different file") from error


def print_fields(fields: Mapping[str, Any]) -> None:
    """One thing by its fields, a line each; None is a dash."""
    rows = [(name, visible(_text(value))) for name, value in fields.items()]
    name_width = max((_width(name) for name, _ in rows), default=0)
    width = terminal_width()
    for name, text in rows:
        head = name + " " * (name_width - _width(name) + GAP)
        lines = _folded(text, max(width - name_width - GAP, WORDS_WIDTH_MIN)) if width else [text]
        typer.echo("\n".join(head + line if not at else " " * len(head) + line for at, line in enumerate(lines)))


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str | Column], empty: str) -> None:
    """A table of `rows`; `columns` maps keys to headings; `empty` says what to do where there is no row.

    In a pipe a row is one line, however long, for grep and cut, and has every column. On a terminal that is too narrow, text is
    folded between words; where that is not enough, each row is shown by itself, a line for each of its fields.
    """
    if not rows:
        say(empty)
        return
    width = terminal_width()
    shown = {key: item if isinstance(item, Column) else Column(item) for key, item in columns.items()}
    table = _Table(rows, shown, keep_empty=not width)
    if not width or table.width <= width:
        table.print(table.widths)
    elif (narrowed := table.narrowed(width)) is not None:
        table.print(narrowed)
    else:
        table.print_each(width)


def terminal_width() -> int:
    """The columns of the terminal, at least WIDTH_MIN; 0 where standard output is none."""
    return max(WIDTH_MIN, shutil.get_terminal_size().columns) if sys.stdout.isatty() else 0


class _Table:
    """Cells as text, and what is known of their columns."""

    def __init__(self, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, Column], *, keep_empty: bool) -> None:
        """Without `keep_empty`, columns in which nothing stands are left out."""
        self.headings: list[str] = []
        self.numbers: list[bool] = []
        by_column: list[list[str]] = []
        folds = []
        for key, column in columns.items():
            values = [row.get(key) for row in rows]
            heading, cells = _cells(column, values)
            if column.currency:
                cells = [
                    f"{text} {row.get(column.currency) or ''}".rstrip() if text != NOTHING else text
                    for text, row in zip(cells, rows, strict=True)
                ]
            if not keep_empty and by_column and all(text in ("", NOTHING) for text in cells):
                continue
            folds.append(column.kind == TEXT)
            self.headings.append(visible(heading))
            self.numbers.append(all(_is_number(text) or text == NOTHING for text in cells))
            by_column.append([visible(text) for text in cells])
        self.cells = [list(row) for row in zip(*by_column, strict=True)]
        self.widths = [
            max(_width(heading), *(_width(text) for text in cells))
            for heading, cells in zip(self.headings, by_column, strict=True)
        ]
        # Numbers, times and ids stay on one line; sentences and lists may be folded.
        self.least = [
            width
            if not fold or number or width <= WORDS_WIDTH_MIN
            else max(WORDS_WIDTH_MIN, *(_width(word) for text in [heading, *cells] for word in text.split()))
            for heading, cells, number, fold, width in zip(
                self.headings, by_column, self.numbers, folds, self.widths, strict=True
            )
        ]

    @property
    def width(self) -> int:
        return sum(self.widths) + GAP * (len(self.widths) - 1)

    def narrowed(self, width: int) -> list[int] | None:
        """Widths of columns that fit into `width`, taken from the widest first; None where words would break."""
        found = list(self.widths)
        over = self.width - width
        while over > 0:
            widest = max(range(len(found)), key=lambda place: (found[place] > self.least[place], found[place]))
            if found[widest] <= self.least[widest]:
                return None
            found[widest] -= 1
            over -= 1
        return found

    def print(self, widths: Sequence[int]) -> None:
        for number, row in enumerate([self.headings, *self.cells]):
            folded = [
                [text] if _width(text) <= width else _folded(text, width)
                for text, width in zip(row, widths, strict=True)
            ]
            for line in range(max(map(len, folded))):
                parts = (cell[line] if line < len(cell) else "" for cell in folded)
                text = (" " * GAP).join(map(_padded, parts, widths, self.numbers)).rstrip()
                typer.echo(typer.style(text, bold=True) if number == 0 else text)

    def print_each(self, width: int) -> None:
        """Each row by itself: its first field as a heading, then a line for each other that says something."""
        names = max(_width(heading) for heading in self.headings[1:]) if len(self.headings) > 1 else 0
        for row in self.cells:
            typer.echo(typer.style("\n".join(_folded(row[0], width)), bold=True))
            for heading, text in zip(self.headings[1:], row[1:], strict=True):
                if text in ("", NOTHING):
                    continue
                head = "  " + _padded(heading, names, right=False) + "  "
                lines = _folded(text, max(width - _width(head), WORDS_WIDTH_MIN))
                typer.echo("\n".join([head + lines[0], *(" " * _width(head) + line for line in lines[1:])]))


def _cells(column: Column, values: Sequence[Any]) -> tuple[str, list[str]]:
    """A column's heading and its cells. The zone of times stands in the heading where it is one for all of them."""
    if column.kind in (TIME, SECONDS):
        moments = [local(value) for value in values]
        # Where all times are whole minutes, seconds say nothing.
        exact = column.kind == SECONDS and any(moment is not None and moment.second for moment in moments)
        zones = {zone_of(moment) for moment in moments if moment is not None}
        if len(zones) == 1 and all(moment or value is None for moment, value in zip(moments, values, strict=True)):
            cells = [clock_text(moment, to_the_second=exact) if moment else NOTHING for moment in moments]
            return f"{column.heading} ({zones.pop()})", cells
        return column.heading, [time_text(value, to_the_second=exact) for value in values]
    shown = {MONEY: money_text, PRICE: price_text}.get(column.kind, _text)
    if column.kind == SHORT:
        return column.heading, [short_id(value) if isinstance(value, str) else _text(value) for value in values]
    return column.heading, [shown(value) for value in values]


def _folded(text: str, width: int, indent: str = "") -> list[str]:
    """`text` in lines of at most `width`, broken between words; a longer word stays whole."""
    lines: list[str] = []
    for part in text.split("\n"):
        line = ""
        for word in part.split():
            if line and _width(line) + 1 + _width(word) > width:
                lines.append(line)
                line = word
            else:
                line = f"{line} {word}" if line else word
        lines.append(line)
    return [indent + line for line in lines]


def _padded(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space


def _width(text: str) -> int:
    """Columns on a terminal: wide characters take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(sign) else 1 + (unicodedata.east_asian_width(sign) in "WF") for sign in text)


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).replace(",", "").isdigit()


def _text(value: Any) -> str:
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return with_local_times(str(value))
