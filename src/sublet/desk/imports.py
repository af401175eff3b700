"""Rows of a table from a CSV, XLSX or Parquet file beside the case: by the names in its first row, each cell with its line."""

from __future__ import annotations

import csv
import hashlib
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from sublet.desk.errors import CaseError, nearest

FILE_BYTES_MAX = 20_000_000
UNPACKED_BYTES_MAX = 100_000_000
ROWS_MAX = 10_000
COLUMNS_MAX = 200
Cell = str | float | date | None
KINDS = (".csv", ".tsv", ".xlsx", ".parquet")
_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    ElementTree.ParseError,
    LookupError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
)
"""What a file that is no workbook, a damaged one or one with a password leads to."""
_EPOCH = date(1899, 12, 30)
"""Day 0 of a spreadsheet's dates."""


@dataclass(frozen=True, slots=True)
class Sheet:
    """What a file holds: each row with its line, cells by the name of their column; `digest` is of the file's bytes."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, Mapping[str, Cell]], ...]
    digest: str


def read_rows(folder: Path, named: str, sheet: str = "") -> Sheet:
    """Read a file that lies in `folder` or below it. Raises CaseError that says what to change."""
    relative = PurePosixPath(named)
    if relative.is_absolute() or ".." in relative.parts or not named:
        raise CaseError(f'file {named!r} must lie beside the case or below it; write it like "data/prices.csv"')
    path = folder / relative
    kind = path.suffix.lower()
    if kind not in KINDS:
        raise CaseError(f"file {named!r} is no table that the desk reads; {nearest(kind or named, KINDS)}")
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise CaseError(f"{path}: the file is larger than {FILE_BYTES_MAX} bytes; keep the rows that the case uses")
        raw = path.read_bytes()
    except OSError as error:
        raise CaseError(f"{path}: the file can't be read ({error.strerror}); check its name") from error
    found = {".csv": _csv, ".tsv": _csv, ".xlsx": _xlsx, ".parquet": _parquet}[kind](path, raw, sheet)
    lines = [(line, row) for line, row in found if any(cell not in (None, "") for cell in row)]
    if not lines:
        raise CaseError(f"{path}: the file has no rows; its first row names the columns")
    columns = tuple(str(cell).strip() if cell is not None else "" for cell in lines[0][1])
    twice = next((column for column in columns if column and columns.count(column) > 1), None)
    if twice is not None or len(columns) > COLUMNS_MAX:
        raise CaseError(
            f"{path}:{lines[0][0]}: {f'column {twice!r} is there twice' if twice else 'too many columns'}; keep one"
        )
    if len(lines) > ROWS_MAX + 1:
        raise CaseError(f"{path}: the file has {len(lines) - 1} rows; keep at most {ROWS_MAX}")
    rows = tuple(
        (line, {column: cell for column, cell in zip(columns, row, strict=False) if column}) for line, row in lines[1:]
    )
    return Sheet(str(path), tuple(column for column in columns if column), rows, hashlib.sha256(raw).hexdigest())


def _csv(path: Path, raw: bytes, sheet: str) -> Iterator[tuple[int, Sequence[Cell]]]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CaseError(f"{path}: the file is not UTF-8 (byte {error.start}); save it as UTF-8") from error
    first = text.partition("\n")[0]
    delimiter = max((";", "\t", ","), key=first.count)
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    try:
        for row in reader:
            yield reader.line_num, [cell.strip() for cell in row]
    except csv.Error as error:
        raise CaseError(f"{path}:{reader.line_num}: not valid CSV ({error})") from error


def _parquet(path: Path, raw: bytes, sheet: str) -> Iterator[tuple[int, Sequence[Cell]]]:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise CaseError(f"{path}: reading Parquet needs pyarrow; install it, or save the table as CSV") from error
    try:
        file = parquet.ParquetFile(arrow.BufferReader(raw))
        if file.metadata.num_rows > ROWS_MAX:
            raise CaseError(f"{path}: the file has {file.metadata.num_rows} rows; keep at most {ROWS_MAX}")
        names = list(file.schema_arrow.names)
        yield 1, names
        place, unpacked = 1, 0
        # A few rows at a time: a value that is written once in the file may be unpacked for every row.
        for batch in file.iter_batches(batch_size=16):
            unpacked += batch.nbytes
            if unpacked > UNPACKED_BYTES_MAX:
                raise CaseError(
                    f"{path}: unpacked, the table is larger than {UNPACKED_BYTES_MAX} bytes; keep what the case uses"
                )
            for row in batch.to_pylist():
                place += 1
                yield place, [_plain(row[name]) for name in names]
    except (arrow.ArrowException, OSError) as error:
        raise CaseError(f"{path}: not a valid Parquet file; write it again") from error


def _plain(value: object) -> Cell:
    if isinstance(value, datetime):
        return value.date()
    if value is None or isinstance(value, str | date):
        return value
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return str(value)


def _xlsx(path: Path, raw: bytes, sheet: str) -> Iterator[tuple[int, Sequence[Cell]]]:
    import io

    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as book:
            if sum(item.file_size for item in book.infolist()) > UNPACKED_BYTES_MAX:
                raise CaseError(
                    f"{path}: unpacked, the workbook is larger than {UNPACKED_BYTES_MAX} bytes; keep one sheet"
                )
            yield from _sheet_rows(path, book, sheet)
    except _UNREADABLE as error:
        raise CaseError(f"{path}: not a workbook that the desk can read; save it again as .xlsx, or as CSV") from error


def _sheet_rows(path: Path, book: zipfile.ZipFile, sheet: str) -> Iterator[tuple[int, Sequence[Cell]]]:
    targets = {
        item.attrib["Id"]: item.attrib["Target"].removeprefix("/xl/")
        for item in _xml(book.read("xl/_rels/workbook.xml.rels"))
    }
    sheets = {
        item.attrib["name"]: targets[item.attrib[_RELATION]]
        for item in _xml(book.read("xl/workbook.xml")).iter(f"{_MAIN}sheet")
    }
    if sheet and sheet not in sheets:
        raise CaseError(f"{path}: the workbook has no sheet {sheet!r}; {nearest(sheet, sheets)}")
    if not sheets:
        raise ValueError("a workbook has a sheet")
    part = sheets[sheet] if sheet else next(iter(sheets.values()))
    names = set(book.namelist())
    shared = []
    if "xl/sharedStrings.xml" in names:
        strings = _xml(book.read("xl/sharedStrings.xml"))
        shared = ["".join(text.text or "" for text in item.iter(f"{_MAIN}t")) for item in strings.iter(f"{_MAIN}si")]
    dated = _date_styles(book) if "xl/styles.xml" in names else frozenset()
    for row in _xml(book.read(f"xl/{part}")).iter(f"{_MAIN}row"):
        cells: dict[int, Cell] = {}
        for cell in row.iter(f"{_MAIN}c"):
            column = _column(cell.attrib["r"])
            if column < COLUMNS_MAX:
                cells[column] = _cell(cell, shared, dated)
        yield int(row.attrib["r"]), [cells.get(column) for column in range(max(cells, default=-1) + 1)]


def _xml(raw: bytes) -> ElementTree.Element:
    """Raises ValueError for a document type: without one there are no entities that could grow or read other files."""
    if b"<!DOCTYPE" in raw:
        raise ValueError("a workbook's parts have no document type")
    return ElementTree.fromstring(raw)  # noqa: S314


def _cell(cell: ElementTree.Element, shared: Sequence[str], dated: frozenset[int]) -> Cell:
    kind, value = cell.attrib.get("t", "n"), cell.find(f"{_MAIN}v")
    if kind == "inlineStr":
        return "".join(text.text or "" for text in cell.iter(f"{_MAIN}t"))
    if value is None or value.text is None:
        return None
    if kind == "s":
        return shared[int(value.text)]
    if kind != "n":
        return value.text
    number = float(value.text)
    return _EPOCH + timedelta(days=int(number)) if int(cell.attrib.get("s", 0)) in dated else number


def _date_styles(book: zipfile.ZipFile) -> frozenset[int]:
    """The styles whose number format shows a date."""
    styles = _xml(book.read("xl/styles.xml"))
    own = {
        int(item.attrib["numFmtId"]) for item in styles.iter(f"{_MAIN}numFmt") if _shows_date(item.attrib["formatCode"])
    }
    formats = styles.find(f"{_MAIN}cellXfs")
    known = {*range(14, 18), 22, *own}
    places = enumerate(formats) if formats is not None else ()
    return frozenset(place for place, item in places if int(item.attrib.get("numFmtId", 0)) in known)


def _shows_date(code: str) -> bool:
    bare = re.sub(r'"[^"]*"|\[[^\]]*\]|\\.', "", code).lower()
    return "y" in bare or ("d" in bare and "m" in bare)


def _column(address: str) -> int:
    """Raises ValueError for what is no address of a cell."""
    letters = re.match(r"[A-Z]{1,3}(?=\d)", address)
    if letters is None:
        raise ValueError("a cell has an address like B7")
    found = 0
    for letter in letters[0]:
        found = found * 26 + ord(letter) - ord("A") + 1
    return found - 1
