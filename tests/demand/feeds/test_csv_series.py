"""A CSV series is read right, or refused by line; never a wrong number."""

from __future__ import annotations

import gzip
import io
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.demand.feeds.csv_series import BadSeriesError, parse_series, read_series
from sublet.demand.model import Series

HEADER = "time,capacity,in_use\n"
ROWS = "2026-03-01T02:00:00Z,10,3\n2026-03-01T03:00:00Z,10,3\n"


def parse(text: str) -> Series:
    return parse_series(io.StringIO(text), "pool", "demand.csv")


def test_reads_rows_with_offsets_as_utc() -> None:
    series = parse(HEADER + "2026-03-01T00:00:00Z,10,3\n2026-03-01T03:00:00+02:00,10,4.5\n")
    assert series.start == datetime(2026, 3, 1, tzinfo=UTC)
    assert series.in_use.tolist() == [3.0, 4.5]
    assert series.step_s == 3600
    assert series.findings.as_dict() == {**dict.fromkeys(series.findings.as_dict(), 0), "rows": 2}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        (HEADER, "no rows"),
        ("time,capacity\n", "no column 'in_use'"),
        ("time,capacity,in_use,in_use\n", "more than one column 'in_use'"),
        (HEADER.replace(",", ";"), "line 1 uses semicolons as separators"),
        (HEADER.replace(",", "\t"), "line 1 uses tabs as separators"),
        (HEADER + "2026-03-01T00:00:00Z,2000,1,000\n", "line 2 has 4 cells where line 1 has 3"),
        (HEADER + "2026-03-01T00:00:00Z,1,000,3\n", "line 2 has 4 cells"),
        (HEADER + "2026-03-01T00:00:00Z,10\n", "line 2 has 2 cells"),
        (HEADER + '"2026-03-01T00:00:00Z\n",10,3\n2026-03-01T01:00:00Z,10,x\n', "line 4: in_use is 'x'"),
        (HEADER + "9999-12-31T23:00:00Z,10,3\n", "line 2: time 9999-12-31T23:00:00Z is outside the years"),
        (
            HEADER + "0001-01-01T00:00:00Z,10,3\n",
            "line 2: time 0001-01-01T00:00:00Z is outside the years 1970 to 8999",
        ),
        (HEADER + "2026-03-01T00:00:00,10,3\n", "line 2: time 2026-03-01T00:00:00 has no offset"),
        (HEADER + "2026-03-01T00:00:00Z,10,3\nyesterday,10,3\n", "line 3: 'yesterday' is not a time"),
        (HEADER + "2026-03-01T00:00:00Z,ten,3\n", "line 2: capacity is 'ten'"),
        (HEADER + "2026-03-01T00:00:00Z,10,nan\n", "line 2: in_use is 'nan'"),
        (HEADER + "2026-03-01T00:00:00Z,10,inf\n", "line 2: in_use is 'inf'"),
        (HEADER + "2026-03-01T00:00:00Z,10,1_000\n", "line 2: in_use is '1_000'"),
        (HEADER + "2026-03-01T00:00:00Z,10,-1\n", "line 2: in_use is '-1'"),
        (HEADER + "2026-03-01T00:00:00Z,10,\n", "line 2: in_use is ''"),
        (HEADER + "\n2026-03-01T00:00:00Z,10\n", "line 3 has 2 cells"),
        (HEADER + "2026-03-01T00:00:00Z;10;3\n", "line 2 uses semicolons as separators; save the file with commas"),
        (HEADER + "2026-03-01T00:00:00Z\t10\t3\n", "line 2 uses tabs as separators; save the file with commas"),
        (
            HEADER + "2026-03-01T00:00:00Z,10,3\n" + '"2026-03-01T01:00:00Z,10,3\n' + ROWS,
            "line 3 has an unclosed quote",
        ),
        (HEADER + '"2026-03-01T01:00:00Z,10,3\n' + 5_000 * ROWS, "line 2 has an unclosed quote"),
        (HEADER + '2026-03-01T01:00:00Z,10,"3', "line 2 has an unclosed quote"),
        (HEADER + '"2026-03-01T01:00:00Z"Z,10,3\n', "line 2 is not CSV"),
        (HEADER + "2026-03-01T00:00:00Z,10,1\n\n2026-03-01T00:00:00Z,10,2\n", "lines 2 and 4 give the same time"),
        (HEADER + "2026-03-01T00:00:00Z,10,1\0\n", "line 2 contains a null byte"),
        (HEADER + "x" * 5000 + "\n", "line 2 is longer"),
    ],
)
def test_refuses_by_line(text: str, words: str) -> None:
    with pytest.raises(BadSeriesError, match=r"demand\.csv") as caught:
        parse(text)
    assert words in caught.value.message


def test_unsorted_and_repeated_rows_are_put_right_and_reported() -> None:
    series = parse(
        HEADER
        + "2026-03-01T02:00:00Z,10,3\n2026-03-01T00:00:00Z,10,1\n2026-03-01T01:00:00Z,10,2\n2026-03-01T01:00:00Z,10,2\n"
    )
    assert series.in_use.tolist() == [1, 2, 3]
    assert (series.findings.out_of_order, series.findings.duplicates) == (1, 1)


def test_gaps_outages_and_queues_are_reported_and_not_filled() -> None:
    series = parse(
        HEADER
        + "2026-03-01T00:00:00Z,10,3\n2026-03-01T01:00:00Z,0,3\n2026-03-01T02:00:00Z,10,12\n2026-03-01T05:00:00Z,10,3\n"
    )
    found = series.findings
    assert (found.gaps, found.missing_slots, found.outages, found.above_capacity) == (1, 2, 1, 2)
    assert found.capacity_changes == 2
    assert series.slots().seen.tolist() == [True, True, True, False, False, True]
    assert len(found.sentences()) == 5


def test_autumn_hour_written_with_its_offsets_is_two_hours() -> None:
    series = parse(HEADER + "2026-10-25T02:30:00+02:00,10,1\n2026-10-25T02:30:00+01:00,10,2\n")
    assert len(series) == 2
    assert series.step_s == 3600


def test_one_row_is_a_series() -> None:
    series = parse(HEADER + "2026-03-01T00:00:00Z,10,3\n")
    assert len(series) == 1
    assert len(series.slots()) == 1


def test_gzip_byte_order_mark_and_pending(tmp_path: Path) -> None:
    path = tmp_path / "earth.csv.gz"
    path.write_bytes(gzip.compress("\ufefftime,capacity,in_use,pending\n2026-03-01T00:00:00Z,10,3,7\n".encode()))
    series = read_series(path)
    assert (series.pool, series.pending.tolist()) == ("earth", [7.0])


def test_missing_file_and_binary_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadSeriesError, match="can't be read"):
        read_series(tmp_path / "none.csv")
    (tmp_path / "bad.csv").write_bytes(b"time,capacity,in_use\n\xff\xfe,1,1\n")
    with pytest.raises(BadSeriesError, match="not UTF-8"):
        read_series(tmp_path / "bad.csv")
    (tmp_path / "bad.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(BadSeriesError, match="can't be read"):
        read_series(tmp_path / "bad.csv.gz")


def test_a_hundred_thousand_rows_are_read() -> None:
    text = HEADER + "".join(
        f"{datetime.fromtimestamp(1_700_000_000 + 60 * i, UTC).isoformat()},100,{i % 100}\n" for i in range(100_000)
    )
    series = parse(text)
    assert len(series) == 100_000
    assert series.step_s == 60


@given(st.text(alphabet="0123456789,.:TZ+-ecpaityus_\n \"'", max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        series = parse(HEADER + text)
    except BadSeriesError:
        return
    assert (series.in_use >= 0).all()
    assert (series.times_us[1:] > series.times_us[:-1]).all()


def test_a_cell_that_is_empty_beyond_the_header_says_nothing() -> None:
    assert parse(HEADER + "2026-03-01T00:00:00Z,10,3,\n").in_use.tolist() == [3.0]


@pytest.mark.parametrize("damage", ["cut", "bent"])
def test_a_damaged_archive_is_refused(tmp_path: Path, damage: str) -> None:
    rows = "".join(f"2026-03-01T{hour:02}:00:00Z,10,{hour % 7}\n" for hour in range(24))
    packed = bytearray(gzip.compress((HEADER + rows).encode()))
    if damage == "cut":
        del packed[len(packed) // 2 :]
    else:
        packed[20] ^= 0xFF
    path = tmp_path / "pool.csv.gz"
    path.write_bytes(packed)
    with pytest.raises(BadSeriesError):
        read_series(path)


def test_findings_are_told_in_sentences() -> None:
    row = "2026-03-01T{:02}:00:00Z,10,{}\n".format
    told = parse(HEADER + row(4, 3) + row(1, 11) + row(1, 11) + row(2, 3) + row(3, 3)).findings.sentences()
    assert told == [
        "1 row repeats another row and was counted once",
        "time steps back once (unsorted, or the clock was set); sorted",
        "1 sample needs more than the capacity (work queues)",
    ]
    rows = "".join(row(hour, 3) for hour in (0, 1, 2, 3, 6, 9))
    assert parse(HEADER + rows).findings.sentences() == [
        "2 gaps in time; nothing was filled in",
        "4 slots have no sample",
    ]
