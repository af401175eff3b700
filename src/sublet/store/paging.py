"""Pages of a collection: at most `limit` rows, and an opaque cursor to the rows behind them.

The cursor is the sort key of the page's last row, so what is inserted or deleted while somebody pages neither repeats nor hides
another row. The sort key must be unique and must not change.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Generic, TypeVar

from annotated_types import Interval, MaxLen
from sqlalchemy import ColumnElement, Connection, Row, Select, and_, or_

from sublet.store.types import Instant
from sublet.values.clock import from_micros, to_micros
from sublet.values.errors import InvalidInputError

T = TypeVar("T")
S = TypeVar("S")

PAGE_DEFAULT = 50
PAGE_MAX = 200
CURSOR_MAX = 1_000
_INTEGER_MAX = 2**62
_MICROS_MAX = 2**57

Limit = Annotated[int, Interval(ge=1, le=PAGE_MAX)]
After = Annotated[str | None, MaxLen(CURSOR_MAX)]


class InvalidCursorError(InvalidInputError):
    """`after` is not a cursor of this list; send the `next` of the page before, unchanged, or leave it out to start over."""

    code = "invalid_cursor"


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page is asked for: how many rows, and the cursor behind which it begins (None: the first page)."""

    limit: int = PAGE_MAX
    after: str | None = None


def page_request(limit: Limit = PAGE_DEFAULT, after: After = None) -> PageRequest:
    """The query parameters of every list."""
    return PageRequest(limit, after)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some rows of a list; `next` is the cursor of the page behind it, None on the last one."""

    items: list[T]
    next: str | None = None

    def map(self, fn: Callable[[T], S]) -> Page[S]:
        """The same page of what `fn` makes of each row."""
        return Page([fn(item) for item in self.items], self.next)

    def as_dict(self, name: str) -> dict[str, Any]:
        """The page as JSON, with its rows under `name`."""
        return {name: self.items, "next": self.next}


@dataclass(frozen=True, slots=True)
class Listing:
    """The order of a list: by `columns`, which together are unique, ascending or `descending`. A cursor of one list, by its
    `name`, is refused in another."""

    name: str
    columns: Sequence[ColumnElement[Any]]
    descending: bool = False

    def read(self, connection: Connection, query: Select[Any], wanted: PageRequest) -> Page[Row[Any]]:
        """The page of `query`, which must select the sort columns under their own names. Raises InvalidCursorError."""
        if wanted.after is not None:
            query = query.where(self._behind(self._values(wanted.after)))
        ordered = [column.desc() if self.descending else column.asc() for column in self.columns]
        rows = connection.execute(query.order_by(*ordered).limit(wanted.limit + 1)).all()
        if len(rows) <= wanted.limit:
            return Page(list(rows))
        last = rows[wanted.limit - 1]
        key = [_plain(last._mapping[column]) for column in self.columns]
        return Page(list(rows[: wanted.limit]), encode(self.name, key))

    def _behind(self, values: Sequence[Any]) -> ColumnElement[bool]:
        """Rows whose sort key comes after `values`, without row values, which the typed columns do not bind."""
        choices = []
        for place, (column, value) in enumerate(zip(self.columns, values, strict=True)):
            same = [before == known for before, known in zip(self.columns[:place], values[:place], strict=True)]
            choices.append(and_(*same, column < value if self.descending else column > value))
        return or_(*choices)

    def _values(self, cursor: str) -> list[Any]:
        found = decode(self.name, cursor)
        if len(found) != len(self.columns):
            raise InvalidCursorError()
        return [_typed(column, value) for column, value in zip(self.columns, found, strict=True)]


def page_of(name: str, items: Iterable[T], key: Callable[[T], str], wanted: PageRequest) -> Page[T]:
    """The page of a list that is in memory anyway, sorted by `key`, which must be unique. Raises InvalidCursorError."""
    ordered = sorted(items, key=key)
    if wanted.after is not None:
        found = decode(name, wanted.after)
        if len(found) != 1 or not isinstance(found[0], str):
            raise InvalidCursorError()
        ordered = [item for item in ordered if key(item) > found[0]]
    if len(ordered) <= wanted.limit:
        return Page(ordered)
    return Page(ordered[: wanted.limit], encode(name, [key(ordered[wanted.limit - 1])]))


def encode(name: str, key: Sequence[int | str]) -> str:
    """The cursor behind the row with this sort key."""
    told = json.dumps([name, *key], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(told).decode().rstrip("=")


def decode(name: str, cursor: str) -> list[int | str]:
    """The sort key in a cursor of the list `name`. Raises InvalidCursorError for anything that `encode` did not write."""
    try:
        found = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError) as error:
        raise InvalidCursorError() from error
    if not isinstance(found, list) or not found or found[0] != name:
        raise InvalidCursorError()
    key = found[1:]
    if not all(isinstance(value, str) or (type(value) is int and abs(value) < _INTEGER_MAX) for value in key):
        raise InvalidCursorError()
    # The one way to write it: no spare bits, no spaces, nothing that a database would choke on.
    if any(isinstance(value, str) and not _is_text(value) for value in key) or encode(name, key) != cursor:
        raise InvalidCursorError()
    return key


def _is_text(value: str) -> bool:
    return "\x00" not in value and not any("\ud800" <= character <= "\udfff" for character in value)


def _plain(value: Any) -> int | str:
    return to_micros(value) if isinstance(value, datetime) else value


def _typed(column: ColumnElement[Any], value: int | str) -> Any:
    """A value of a cursor as the column compares it. Raises InvalidCursorError where it is of another type."""
    if isinstance(column.type, Instant):
        if isinstance(value, str) or not 0 <= value < _MICROS_MAX:
            raise InvalidCursorError()
        return from_micros(value)
    if isinstance(value, str) is not (column.type.python_type is str):
        raise InvalidCursorError()
    return value
