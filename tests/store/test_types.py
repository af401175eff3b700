"""A column means the same on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import BigInteger, Column, Integer, MetaData, Table, insert, select, text
from sqlalchemy.exc import StatementError

from sublet.store import Store
from sublet.store.types import Instant, Json

things = Table(
    "things",
    MetaData(),
    Column("id", Integer, primary_key=True),
    Column("at", Instant),
    Column("document", Json),
    Column("nano", BigInteger),
)


@pytest.fixture
def shelf(any_store: Store) -> Store:
    things.metadata.create_all(any_store.engine)
    return any_store


def _round_trip(store: Store, **values: Any) -> Any:
    store.write(lambda connection: connection.execute(insert(things).values(id=1, **values)))
    with store.read() as connection:
        return connection.execute(select(things)).one()


@pytest.mark.parametrize(
    "moment",
    [
        datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(9999, 12, 31, tzinfo=UTC),
        datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=2))),
    ],
)
def test_an_instant_comes_back_to_the_microsecond_in_utc(shelf: Store, moment: datetime) -> None:
    row = _round_trip(shelf, at=moment)
    assert row.at == moment
    assert row.at.utcoffset() == timedelta(0)


def test_an_instant_without_offset_is_refused(shelf: Store) -> None:
    with pytest.raises(StatementError, match="no offset"):
        _round_trip(shelf, at=datetime(2026, 3, 1))  # noqa: DTZ001


def test_nothing_stays_nothing(shelf: Store) -> None:
    row = _round_trip(shelf, at=None, document=None)
    assert (row.at, row.document) == (None, None)


@pytest.mark.parametrize("document", [{"b": 1, "a": [1, {"é": None}]}, [], "text", 0, False])
def test_a_document_comes_back_equal(shelf: Store, document: Any) -> None:
    assert _round_trip(shelf, document=document).document == document


def test_equal_documents_are_equal_bytes(shelf: Store) -> None:
    _round_trip(shelf, document={"b": 1, "a": 2})
    with shelf.read() as connection:
        assert connection.execute(text("SELECT document FROM things")).scalar_one() == '{"a":2,"b":1}'


@pytest.mark.parametrize("nano", [2**63 - 1, -(2**63)])
def test_money_fits_to_the_last_billionth(shelf: Store, nano: int) -> None:
    assert _round_trip(shelf, nano=nano).nano == nano
