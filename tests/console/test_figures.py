"""How numbers, times and money are written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.console import figures
from sublet.values.money import Money


@pytest.mark.parametrize(
    ("value", "text"), [(None, "—"), (0, "0"), (3.0, "3"), (3.25, "3.2"), (1234, "1,234"), (1234567.89, "1,234,567.9")]
)
def test_count(value: float | None, text: str) -> None:
    assert figures.count(value) == text


@pytest.mark.parametrize(
    ("text", "shown"), [("25.000", "25"), ("0", "0"), ("12000", "12,000"), ("0.250", "0.25"), ("1234.5", "1,234.5")]
)
def test_quantity(text: str, shown: str) -> None:
    assert figures.quantity(text) == shown


def test_sentence() -> None:
    text = "1 accelerator reserved until 2026-11-30T07:22:17.700658Z; a rest until 2026-12-22T12:00:00Z"
    shown = "1 accelerator reserved until 2026-11-30 07:22:17 UTC; a rest until 2026-12-22 12:00 UTC"
    assert figures.sentence(text) == shown


@pytest.mark.parametrize(("value", "text"), [(80, "80"), (9_000, "9,000"), (15_000, "15k"), (2_500_000, "2.5M")])
def test_axis_count(value: float, text: str) -> None:
    assert figures.axis_count(value) == text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("0", "USD", "0.00"),
        ("1284.318", "USD", "1,284.32"),
        ("0.005", "USD", "0.005"),
        ("0.000123456", "USD", "0.000123"),
        ("-0.000000001", "USD", "-0.000000001"),
        ("-3.5", "EUR", "-3.50"),
        ("0.25", "JPY", "0.25"),
        ("1999.4", "JPY", "1,999"),
        ("1.2345", "BHD", "1.234"),
    ],
)
def test_money(amount: str, currency: str, text: str) -> None:
    assert figures.money(Money.of(amount, currency)) == text


@given(st.integers(-(10**24), 10**24))
def test_only_nothing_is_written_as_zero(nano: int) -> None:
    text = figures.money(Money(nano))
    assert (set(text) <= set("0.,-")) == (nano == 0)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "over"),
        (0, "over"),
        (0.4, "over"),
        (12, "12 s"),
        (151, "2 min 31 s"),
        (7_500, "2 h 05 min"),
        (273_600, "3 d 04 h"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert figures.duration(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(60, "minute"), (300, "5 minutes"), (3600, "hour"), (90, "90 s")])
def test_period(seconds: int, text: str) -> None:
    assert figures.period(seconds) == text


def test_moment_says_the_date_only_where_it_is_another() -> None:
    now = datetime(2026, 7, 2, 14, 5, tzinfo=UTC)
    assert figures.moment(datetime(2026, 7, 2, 18, 0, tzinfo=UTC), now) == "18:00:00"
    assert figures.moment(datetime(2026, 7, 3, 0, 0, tzinfo=UTC), now) == "3 Jul 00:00"
    assert figures.moment(datetime(2027, 7, 3, 0, 0, tzinfo=UTC), now) == "3 Jul 2027"


def test_shares_are_of_the_whole() -> None:
    parts = (("a", Money.of(3)), ("b", Money.of(1)), ("c", Money.of(-2)))
    assert [figures.share(amount, parts) for _, amount in parts] == [75.0, 25.0, 0.0]
    assert figures.share(Money(0), (("a", Money(0)),)) == 0
