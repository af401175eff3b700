"""Time is aware and UTC; a time without an offset is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.values.clock import (
    EPOCH,
    SimulatedClock,
    SystemClock,
    as_utc,
    format_time,
    from_micros,
    parse_time,
    to_micros,
    within_reach,
)

offsets = st.integers(min_value=-14 * 60, max_value=14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(8999, 12, 30), timezones=offsets)  # noqa: DTZ001


@given(moments)
def test_text_and_microseconds_name_the_same_moment(moment: datetime) -> None:
    assert parse_time(format_time(moment)) == moment
    assert from_micros(to_micros(moment)) == moment
    assert parse_time(moment.isoformat()).utcoffset() == timedelta(0)


@given(moments, moments)
def test_microseconds_keep_the_order(one: datetime, other: datetime) -> None:
    assert (one < other) == (to_micros(one) < to_micros(other))


def test_before_the_epoch_is_exact_too() -> None:
    assert to_micros(EPOCH - timedelta(microseconds=1)) == -1
    assert from_micros(-1).isoformat() == "1969-12-31T23:59:59.999999+00:00"


def test_times_are_written_with_z() -> None:
    assert format_time(datetime(2026, 7, 2, 16, tzinfo=timezone(timedelta(hours=2)))) == "2026-07-02T14:00:00Z"
    assert format_time(datetime(2026, 7, 2, 14, 0, 0, 5, tzinfo=UTC)) == "2026-07-02T14:00:00.000005Z"


def test_a_time_without_offset_is_refused_with_the_way_to_write_it() -> None:
    with pytest.raises(ValueError, match="no offset; write it as 2026-07-02T14:00:00Z"):
        parse_time("2026-07-02T14:00:00")
    with pytest.raises(ValueError, match="no offset"):
        as_utc(datetime(2026, 7, 2))  # noqa: DTZ001


@pytest.mark.parametrize("text", ["", "now", "14:00", "2026-13-01T00:00Z", "2026-07-02T25:00:00Z", "1751464800"])
def test_what_is_no_time_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="use the form 2026-07-02T14:00:00Z"):
        parse_time(text)


def test_a_time_outside_the_calendar_is_refused() -> None:
    for text in ("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        with pytest.raises(ValueError, match="years 1 to 9999"):
            as_utc(datetime.fromisoformat(text))


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+23:59",
        "1969-12-31T23:59:59Z",
        "1970-01-01T01:59:59+02:00",
        "9000-01-01T00:00:00Z",
        "8999-12-31T23:59:59-00:01",
        "9999-12-31T23:59:59-23:59",
    ],
)
def test_what_comes_from_outside_is_refused_where_reckoning_could_leave_the_calendar(text: str) -> None:
    with pytest.raises(ValueError, match=r"^time \S+ is outside the years 1970 to 8999$"):
        parse_time(text)
    with pytest.raises(ValueError, match="1970 to 8999"):
        within_reach(datetime.fromisoformat(text))


def test_ten_years_may_be_added_to_what_comes_from_outside_and_taken_off_it() -> None:
    for text in ("1970-01-01T02:00:00+02:00", "8999-12-31T23:59:59.999999Z"):
        moment = parse_time(text)
        for years in (-10, 10):
            assert from_micros(to_micros(moment + timedelta(days=366 * years))) == moment + timedelta(days=366 * years)


def test_small_letters_are_rfc_3339_too() -> None:
    assert parse_time("2026-07-02t14:00:00z") == datetime(2026, 7, 2, 14, tzinfo=UTC)


def test_the_simulated_clock_moves_only_when_told() -> None:
    clock = SimulatedClock()
    start = clock.now()
    assert start == clock.now() == datetime(2026, 1, 5, tzinfo=UTC)
    assert clock.advance(90) == start + timedelta(seconds=90) == clock.now()
    clock.advance(-30)
    assert clock.now() == start + timedelta(seconds=60)
    clock.set(parse_time("2026-02-01T00:00:00+01:00"))
    assert format_time(clock.now()) == "2026-01-31T23:00:00Z"
    with pytest.raises(ValueError, match="offset"):
        SimulatedClock(datetime(2026, 1, 1))  # noqa: DTZ001


def test_the_systems_clock_is_aware_utc() -> None:
    assert SystemClock().now().utcoffset() == timedelta(0)
