"""Reads `time,capacity,in_use` (and, where there is one, `pending`) and refuses what it can't read, by line."""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np

from sublet.demand.model import ACCELERATORS_MAX, Floats, Integers, Series, assemble
from sublet.values.clock import format_time, from_micros, parse_time
from sublet.values.errors import InvalidInputError

ROWS_MAX = 5_000_000
LINE_CHARACTERS_MAX = 4_096
CHARACTERS_MAX = 500_000_000
"""Of a whole file: a compressed one may hold far more than its size says."""
GZIP_MARK = b"\x1f\x8b"
COLUMNS = ("time", "capacity", "in_use")
SEPARATORS = ((";", "semicolons"), ("\t", "tabs"))


class BadSeriesError(InvalidInputError):
    """The file is not a demand series; the message names the line and what to write there instead."""

    code = "bad_series"


def read_series(path: Path, pool: str | None = None) -> Series:
    """The series in the CSV file `path` (also gzipped), named `pool` or after the file.

    Raises BadSeriesError with file and line for anything that can't be read as it stands.
    """
    name = pool or path.name.removesuffix(".gz").removesuffix(".csv")
    try:
        with _opened(path) as stream:
            return parse_series(stream, name, str(path))
    except (EOFError, zlib.error) as error:
        raise BadSeriesError(f"{path} is damaged or truncated ({error}); compress the original file again") from error
    except OSError as error:
        raise BadSeriesError(
            f"{path} can't be read ({error.strerror or error}); specify a readable CSV file"
        ) from error
    except UnicodeDecodeError as error:
        raise BadSeriesError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8 CSV") from error


def series_of_body(content: bytes, pool: str) -> Series:
    """The series in the content of a CSV file, gzipped or not, named `pool`; messages call it "the file". Raises BadSeriesError."""
    raw = io.BytesIO(content)
    opened = gzip.GzipFile(fileobj=raw) if content.startswith(GZIP_MARK) else raw
    try:
        return parse_series(io.TextIOWrapper(opened, encoding="utf-8-sig", newline=""), pool, "the file")
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadSeriesError(f"the file is damaged or truncated ({error}); compress the original file again") from error
    except UnicodeDecodeError as error:
        raise BadSeriesError(f"the file is not UTF-8 text (byte {error.start}); save it as UTF-8 CSV") from error


def series_text(series: Series) -> str:
    """`series` as the CSV that `parse_series` reads; with a column of pending work where there is any."""
    stream = io.StringIO(newline="")
    writer = csv.writer(stream)
    waits = bool(series.pending.any())
    writer.writerow((*COLUMNS, "pending") if waits else COLUMNS)
    columns = (series.times_us, series.capacity, series.in_use, series.pending)
    for at, capacity, in_use, pending in zip(*columns, strict=True):
        row = (format_time(from_micros(int(at))), f"{capacity:.10g}", f"{in_use:.10g}")
        writer.writerow((*row, f"{pending:.10g}") if waits else row)
    return stream.getvalue()


def parse_series(stream: IO[str], pool: str, source: str) -> Series:
    """The series in the CSV text `stream`; `source` is what messages call it. Raises BadSeriesError."""
    counted = _Lines(stream, source)
    rows = _rows(counted)
    header = next(rows, None)
    places = _header(header, source)
    lines, times, numbers = _columns(rows, places, len(header or ()), counted)
    if not times:
        raise BadSeriesError(f"{source} has a header but no rows; add at least one line of time,capacity,in_use")
    table = np.frombuffer(numbers, dtype=np.float64).reshape(-1, 3)
    instants = np.frombuffer(times, dtype=np.int64)
    _refuse_contradictions(instants, table, lines, source)
    return assemble(pool, instants, table[:, 0].copy(), table[:, 1].copy(), table[:, 2].copy())


def write_series(series: Series, path: Path) -> None:
    """Write `series` as the CSV that `read_series` reads. Raises BadSeriesError where the file can't be written."""
    try:
        with path.open("w", encoding="utf-8", newline="") as stream:
            stream.write(series_text(series))
    except OSError as error:
        raise BadSeriesError(f"{path} can't be written ({error.strerror or error}); choose a different file") from error


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


class _Lines:
    """The lines of a file, none too long; `number` is that of the last one, also where a quoted cell holds several."""

    def __init__(self, stream: IO[str], source: str) -> None:
        self._stream = stream
        self.source = source
        self.number = 0
        self._characters = 0

    def __iter__(self) -> Iterator[str]:
        while line := self._stream.readline(LINE_CHARACTERS_MAX + 1):
            self.number += 1
            self._characters += len(line)
            if self._characters > CHARACTERS_MAX:
                raise BadSeriesError(f"{self.source} has more than {CHARACTERS_MAX} characters; split it by time")
            if len(line) > LINE_CHARACTERS_MAX:
                raise BadSeriesError(
                    f"{self.source} line {self.number} is longer than {LINE_CHARACTERS_MAX} characters; is it CSV?"
                )
            if "\0" in line:
                raise BadSeriesError(
                    f"{self.source} line {self.number} contains a null byte; save the file as UTF-8 CSV"
                )
            yield line


def _rows(counted: _Lines) -> Iterator[list[str]]:
    """The cells of each row. Raises BadSeriesError naming the line; of a quote that stays open, the one where it opens."""
    rows = csv.reader(counted, strict=True)
    while True:
        first = counted.number + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if counted.number > first or "end of data" in str(error):
                raise BadSeriesError(
                    f"{counted.source} line {first} has an unclosed quote; close it, or do not use quotes"
                ) from error
            raise BadSeriesError(f"{counted.source} line {counted.number} is not CSV: {error}") from error
        yield cells


def _separated(cells: list[str], source: str, line: int) -> None:
    """Refuse cells that something other than commas stands between."""
    for sign, called in SEPARATORS:
        if any(sign in cell for cell in cells):
            raise BadSeriesError(
                f"{source} line {line} uses {called} as separators; save the file with commas between the cells"
            )


def _header(cells: list[str] | None, source: str) -> tuple[int, int, int, int | None]:
    if cells is None:
        raise BadSeriesError(f"{source} is empty; its first line must be time,capacity,in_use")
    names = [cell.strip().lower() for cell in cells]
    if len(names) == 1:
        _separated(cells, source, 1)
    for wanted in COLUMNS:
        if names.count(wanted) != 1:
            problem = "no column" if wanted not in names else "more than one column"
            raise BadSeriesError(f"{source} line 1 has {problem} {wanted!r}; write time,capacity,in_use")
    pending = names.index("pending") if "pending" in names else None
    return names.index("time"), names.index("capacity"), names.index("in_use"), pending


def _columns(
    rows: Iterator[list[str]], places: tuple[int, int, int, int | None], width: int, counted: _Lines
) -> tuple[array[int], array[int], array[float]]:
    lines: array[int] = array("q")
    times: array[int] = array("q")
    numbers: array[float] = array("d")
    at_time, at_capacity, at_in_use, at_pending = places
    source = counted.source
    for cells in rows:
        line = counted.number
        if not cells:
            continue
        # A cell too many is most often a number such as 1,000, whose rest would be read as the next column.
        if len(cells) < width or any(cells[width:]):
            _separated(cells, source, line)
            raise BadSeriesError(
                f"{source} line {line} has {len(cells)} cells where line 1 has {width}; "
                "use one cell for each column, and numbers without commas"
            )
        if len(times) >= ROWS_MAX:
            raise BadSeriesError(f"{source} has more than {ROWS_MAX} rows; split it by time")
        lines.append(line)
        times.append(_micros(cells[at_time], source, line))
        numbers.append(_number(cells[at_capacity], "capacity", source, line))
        numbers.append(_number(cells[at_in_use], "in_use", source, line))
        numbers.append(0.0 if at_pending is None else _number(cells[at_pending], "pending", source, line))
    return lines, times, numbers


def _micros(text: str, source: str, line: int) -> int:
    try:
        moment = parse_time(text)
    except ValueError as error:
        raise BadSeriesError(f"{source} line {line}: {error}") from error
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * 1_000_000 + moment.microsecond


def _number(text: str, column: str, source: str, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    # float() also takes "nan", "inf" and "1_000", none of which is a count that somebody meant.
    if not 0 <= value <= ACCELERATORS_MAX or "_" in text:
        raise BadSeriesError(
            f"{source} line {line}: {column} is {text.strip()!r}; it must be a number from 0 to {ACCELERATORS_MAX}"
        )
    return value


def _refuse_contradictions(times_us: Integers, table: Floats, lines: array[int], source: str) -> None:
    if times_us.size < 2:
        return
    order = np.argsort(times_us, kind="stable")
    same = np.diff(times_us[order]) == 0
    differs = same & (np.diff(table[order], axis=0) != 0).any(axis=1)
    if differs.any():
        first = int(np.flatnonzero(differs)[0])
        one, other = sorted((int(order[first]), int(order[first + 1])))
        raise BadSeriesError(
            f"{source} lines {lines[one]} and {lines[other]} give the same time and different numbers; "
            "keep one of them, or use local times with their offset (+02:00 before and +01:00 after the clocks change)"
        )
