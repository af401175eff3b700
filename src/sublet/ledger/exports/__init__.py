"""Exports for finance tools: FOCUS 1.2 and 1.4, the Contract Commitment dataset, the general ledger, revenue, receivables, usage.

Everything is streamed by pages of line or transaction numbers: a year of usage needs no more memory than a day.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from sublet.ledger.exports.charges import NOBODY, Charges, Seller, Span
from sublet.ledger.exports.columns import COLUMNS_1_2, COLUMNS_1_4, COMMITMENT_COLUMNS, arrow_schema
from sublet.ledger.exports.commitments import commitment_rows
from sublet.ledger.exports.datev import DATEV, Client, datev_text
from sublet.ledger.exports.focus import focus_rows
from sublet.ledger.exports.general_ledger import (
    GL_COLUMNS,
    QUICKBOOKS_COLUMNS,
    TRIAL_COLUMNS,
    XERO_COLUMNS,
    gl_rows,
    quickbooks_rows,
    trial_rows,
    xero_rows,
)
from sublet.ledger.exports.journal import JOURNAL_COLUMNS, journal_rows
from sublet.ledger.exports.revenue import (
    DEFERRED_COLUMNS,
    RECEIVABLE_COLUMNS,
    REVENUE_COLUMNS,
    deferred_rows,
    receivable_rows,
    revenue_rows,
)
from sublet.ledger.exports.usage import USAGE_COLUMNS, usage_rows
from sublet.ledger.prices.booking import Books
from sublet.store import Store
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError

Rows = Iterator[Mapping[str, Any]]
PARQUET_ROWS = 5_000
CSV_ROWS = 1_000
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?")
_FORMULA_STARTS = tuple("=+-@\t\r\n|＝＋－＠")

EXPORTS: dict[str, tuple[tuple[str, ...], Callable[[Charges], Rows]]] = {
    "deferred": (DEFERRED_COLUMNS, deferred_rows),
    "focus-1.2": (tuple(COLUMNS_1_2), lambda charges: focus_rows(charges, "1.2")),
    "focus-1.4": (tuple(COLUMNS_1_4), lambda charges: focus_rows(charges, "1.4")),
    "focus-commitments": (tuple(COMMITMENT_COLUMNS), commitment_rows),
    "gl": (GL_COLUMNS, gl_rows),
    "gl-quickbooks": (QUICKBOOKS_COLUMNS, quickbooks_rows),
    "gl-xero": (XERO_COLUMNS, xero_rows),
    "journal": (JOURNAL_COLUMNS, journal_rows),
    "receivables": (RECEIVABLE_COLUMNS, receivable_rows),
    "revenue": (REVENUE_COLUMNS, revenue_rows),
    "trial-balance": (TRIAL_COLUMNS, trial_rows),
    "usage": (USAGE_COLUMNS, usage_rows),
}

EXPORT_NAMES = tuple(sorted((*EXPORTS, DATEV)))
"""Every export; `gl-datev` has a layout of its own, and is CSV only."""


def export_rows(
    store: Store,
    books: Books,
    name: str,
    organization_id: str = "",
    since: str = "",
    until: str = "",
    seller: Seller = NOBODY,
    *,
    as_json: bool = False,
) -> Iterator[bytes]:
    """The export as CSV, or as a JSON array of objects, in parts. `since` and `until` are months like 2026-01, both inclusive,
    empty for no bound; `seller` is who will invoice what no invoice has yet.

    Raises InvalidInputError for an unknown export or month.
    """
    charges = Charges(store, books, organization_id, Span.of(since, until), seller)
    if name == DATEV:
        return datev_text(charges, Client(*seller.datev), store.clock.now())
    columns, rows = _opened(name, charges)
    return json_parts(columns, rows) if as_json else csv_parts(columns, rows)


def json_parts(columns: tuple[str, ...], rows: Rows) -> Iterator[bytes]:
    """Rows as a JSON array of objects, in parts, one row on each line; decimals are text, and exact."""
    begun: list[str] = ["["]
    for count, row in enumerate(rows):
        found = {column: _plain(row.get(column)) for column in columns}
        begun.append((",\n" if count else "\n") + json.dumps(found, ensure_ascii=False))
        if len(begun) > CSV_ROWS:
            yield "".join(begun).encode()
            begun = []
    yield "".join([*begun, "\n]\n"]).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return format_time(value)
    return format(value, "f") if isinstance(value, Decimal) else value


def csv_parts(columns: tuple[str, ...], rows: Rows) -> Iterator[bytes]:
    """Rows as CSV, in parts. A text that a spreadsheet would run as a formula gets a quote before it."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for count, row in enumerate(rows, 1):
        writer.writerow([_text(row.get(column)) for column in columns])
        if count % CSV_ROWS == 0:
            yield _taken(buffer)
    yield _taken(buffer)


def _taken(buffer: io.StringIO) -> bytes:
    data = buffer.getvalue().encode()
    buffer.seek(0)
    buffer.truncate()
    return data


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, datetime):
        return format_time(value)
    if isinstance(value, str):
        # A spreadsheet would interpret such a text as a formula, so a customer's name could run code.
        formula = value.startswith(_FORMULA_STARTS) and not _NUMBER.fullmatch(value)
        return f"'{value}" if formula else value
    return format(value, "f") if isinstance(value, Decimal) else str(value)


def write_parquet(
    store: Store,
    books: Books,
    name: str,
    organization_id: str,
    since: str,
    until: str,
    path: Path,
    seller: Seller = NOBODY,
) -> int:
    """The export as Parquet with decimal columns; how many rows. Raises InvalidInputError."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns, rows = _opened(name, Charges(store, books, organization_id, Span.of(since, until), seller))
    schema = arrow_schema(name, columns)
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for part in _parts(rows):
            arrays = [pa.array([row.get(field.name) for row in part], type=field.type) for field in schema]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            count += len(part)
    return count


def _parts(rows: Rows) -> Iterator[list[Mapping[str, Any]]]:
    part: list[Mapping[str, Any]] = []
    for row in rows:
        part.append(row)
        if len(part) == PARQUET_ROWS:
            yield part
            part = []
    if part:
        yield part


def _opened(name: str, charges: Charges) -> tuple[tuple[str, ...], Rows]:
    if name not in EXPORTS:
        what = "is CSV only" if name == DATEV else f"must be one of {', '.join(EXPORT_NAMES)}"
        raise InvalidInputError(f"export {name!r} {what}")
    columns, make = EXPORTS[name]
    return columns, make(charges)
