"""Tables from CSV, XLSX and Parquet: the same numbers whichever it is, each cell with source and date, and what is refused."""

from __future__ import annotations

import io
import zipfile
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow
import pytest
import xlsxwriter
from pyarrow import parquet
from tests.desk.small import head

from sublet.desk.desk import Desk, open_case
from sublet.desk.errors import CaseError
from sublet.desk.plausible import doubts
from sublet.desk.review import review

CASE = (
    head(a="2026-07-01", b="2026-06-01")
    + """\
[tables.curve]
file = "FILE"
key = "day"
columns = { rent = "USD/GPU-h", capex = "USD bn" }
source = "a"
status = "assumption"
[formulas.last]
formula = "lookup(curve.rent, '2027-12-31')"
unit = "USD/GPU-h"
"""
)
HEAD = ["day", "rent", "rent source", "rent date", "capex", "status"]
ROWS: list[list[Any]] = [
    [date(2026, 9, 30), 2.4, "b", date(2026, 5, 1), 2870.0, "external"],
    [date(2027, 3, 31), 2.1, None, None, 1.5, None],
]


def csv_of(delimiter: str = ",", decimal: str = ".") -> bytes:
    def text(cell: Any) -> str:
        if isinstance(cell, float):
            plain = f"{cell:,.1f}" if decimal == "." else str(cell).replace(".", decimal)
            return f'"{plain}"'
        return "" if cell is None else str(cell)

    return ("\ufeff" + "\n".join(delimiter.join(map(text, row)) for row in [HEAD, *ROWS])).encode()


def xlsx() -> bytes:
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {"in_memory": True})
    book.add_worksheet("Notes").write_string(0, 0, "nothing")
    page, day = book.add_worksheet("Curve"), book.add_format({"num_format": "yyyy-mm-dd"})
    for place, row in enumerate([HEAD, *ROWS]):
        for column, cell in enumerate(row):
            if isinstance(cell, date):
                page.write_datetime(place, column, cell, day)
            elif cell is not None:
                page.write(place, column, cell)
    book.close()
    return buffer.getvalue()


def columns() -> bytes:
    buffer = io.BytesIO()
    data = {name: [row[place] for row in ROWS] for place, name in enumerate(HEAD)}
    parquet.write_table(pyarrow.table(data), buffer)
    return buffer.getvalue()


def opened(folder: Path, name: str, raw: bytes, text: str = CASE) -> Desk:
    (folder / name).write_bytes(raw)
    (folder / "case.toml").write_text(text.replace("FILE", name))
    return open_case(folder / "case.toml")


@pytest.mark.parametrize(
    ("name", "raw", "more"),
    [
        ("curve.csv", csv_of(), ""),
        ("semicolons.csv", csv_of(";", ","), ""),
        ("curve.xlsx", xlsx(), 'sheet = "Curve"\n'),
        ("curve.parquet", columns(), ""),
    ],
)
def test_each_kind_of_file_gives_the_same_table(tmp_path: Path, name: str, raw: bytes, more: str) -> None:
    desk = opened(tmp_path, name, raw, CASE.replace('key = "day"\n', f'key = "day"\n{more}'))
    sheet = desk.sheet
    first, second = sheet["curve.2026-09-30.rent"], sheet["curve.2027-03-31.rent"]
    assert (first.number, first.source, first.date, first.status) == (2.4, "B", "2026-05-01", "external")
    assert (second.number, second.source, second.date, second.status) == (2.1, "A", "2026-07-01", "assumption")
    assert sheet["curve.2026-09-30.capex"].number == 2870
    assert sheet["last"].number == 2.1


def test_a_date_of_another_style_is_no_name(tmp_path: Path) -> None:
    raw = csv_of().replace(b"2026-09-30", b"09/30/2026").replace(b"2027-03-31", b"03/31/2027")
    with pytest.raises(CaseError, match=r"curve\.csv:2: day is '09/30/2026'; write the date as year, month and day"):
        opened(tmp_path, "curve.csv", raw)


def test_the_hash_of_a_case_is_of_its_files_too(tmp_path: Path) -> None:
    one = opened(tmp_path, "curve.csv", csv_of()).digest
    assert opened(tmp_path, "curve.csv", csv_of()).digest == one
    assert opened(tmp_path, "curve.csv", csv_of().replace(b"2.4", b"2.5")).digest != one


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (b"2.1", b"n/a", "curve.csv:3: rent is 'n/a'"),
        (b"2.1", b"", "curve.csv:3: rent is empty; write a number, or leave the row out"),
        (b"2027-03-31", b"2026-09-30", "curve.csv:3: row '2026-09-30' is there twice"),
        (b"2027-03-31", b"2025-09-30", "curve.csv:3: day 2025-09-30 does not come after"),
        (b",b,", b",z,", "curve.csv:2: source 'z' is not under [sources]"),
        (b"external", b"extrnal", "curve.csv:2: status 'extrnal' is not known"),
        (b"rent,", b"rant,", "has no column 'rent', did you mean 'rant'?"),
        (b"rent date", b"rent", "column 'rent' is there twice"),
        (b"2.4", b"\xff", "is not UTF-8"),
        (b"2027-03-31", b"2027-13-31", "curve.csv:3: day is '2027-13-31', which is no date as the others are"),
    ],
)
def test_what_a_file_has_wrong_is_said_with_its_line(tmp_path: Path, old: bytes, new: bytes, words: str) -> None:
    raw = csv_of()
    assert old in raw
    with pytest.raises(CaseError) as refusal:
        opened(tmp_path, "curve.csv", raw.replace(old, new))
    assert words in refusal.value.message


@pytest.mark.parametrize(
    ("name", "raw", "words"),
    [
        ("curve.xlsx", b"not a workbook", "save it again as .xlsx"),
        ("curve.parquet", b"not parquet", "not a valid Parquet file"),
        ("curve.ods", b"", "no table that the desk reads"),
        ("curve.csv", b"", "has no rows"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, name: str, raw: bytes, words: str) -> None:
    with pytest.raises(CaseError, match=r"case\.toml:17: ") as refusal:
        opened(tmp_path, name, raw)
    assert words in refusal.value.message


@pytest.mark.parametrize("name", ["/etc/passwd.csv", "../curve.csv", "a/../../curve.csv", "missing.csv"])
def test_only_files_beside_the_case_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / "case.toml").write_text(CASE.replace("FILE", name))
    with pytest.raises(CaseError, match=r"beside the case|can't be read"):
        open_case(tmp_path / "case.toml")


def workbook(sheet: str, styles: str = "", sheets: str = '<sheet name="S" r:id="r1"/>') -> bytes:
    """One that no spreadsheet would write."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    relation = 'xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"'
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as book:
        book.writestr("xl/workbook.xml", f"<workbook {space} {relation}><sheets>{sheets}</sheets></workbook>")
        book.writestr("xl/_rels/workbook.xml.rels", '<R><X Id="r1" Target="worksheets/s.xml"/></R>')
        book.writestr("xl/worksheets/s.xml", f"<worksheet {space}><sheetData>{sheet}</sheetData></worksheet>")
        if styles:
            book.writestr("xl/styles.xml", f"<styleSheet {space}><cellXfs>{styles}</cellXfs></styleSheet>")
    return made.getvalue()


def damaged(raw: bytes, place: int, value: int) -> bytes:
    """The workbook with a byte of each entry of its directory changed."""
    head = b"PK\x01\x02"
    found = bytearray(raw)
    at = found.find(head)
    while at >= 0:
        found[at + place] = value
        at = found.find(head, at + 4)
    return bytes(found)


CELL = '<row r="1"><c r="A1" s="0"><v>1e300</v></c></row>'


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(workbook(CELL, styles='<xf numFmtId="14"/>'), id="a date beyond the calendar"),
        pytest.param(workbook(CELL.replace("1e300", "inf"), styles='<xf numFmtId="14"/>'), id="an infinite date"),
        pytest.param(workbook(CELL.replace("A1", "1")), id="a cell without a column"),
        pytest.param(workbook(CELL.replace("A1", "A" * 5000 + "1")), id="a cell far to the right"),
        pytest.param(workbook(CELL, sheets=""), id="no sheet"),
        pytest.param(damaged(workbook(CELL), 8, 1), id="a password"),
        pytest.param(damaged(workbook(CELL), 10, 99), id="an unknown compression"),
    ],
)
def test_a_damaged_workbook_is_refused_in_words(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(CaseError, match="not a workbook"):
        opened(tmp_path, "curve.xlsx", raw)


def test_a_table_that_is_large_once_unpacked_is_refused_before_it_is(tmp_path: Path) -> None:
    long = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 400), pyarrow.array(["x" * 1_000_000]))
    rows = pyarrow.nulls(20_000, pyarrow.int64())
    for column, words in ((long.cast(pyarrow.string()), "unpacked"), (rows, "20000 rows")):
        made = io.BytesIO()
        parquet.write_table(pyarrow.table({"day": column}), made)
        assert len(made.getvalue()) < 100_000
        with pytest.raises(CaseError, match=words):
            opened(tmp_path, "curve.parquet", made.getvalue())


@pytest.mark.parametrize("label", ["a`b", "a{b", "x" * 81])
def test_a_row_of_a_file_is_called_as_one_of_the_case_may_be(tmp_path: Path, label: str) -> None:
    with pytest.raises(CaseError, match="1 to 80 characters"):
        opened(tmp_path, "curve.csv", f"day,rent,capex\n{label},1,2\n".encode())


def test_headers_say_what_a_column_is_called_in_the_file(tmp_path: Path) -> None:
    text = CASE.replace('key = "day"\n', 'key = "day"\nheaders = { rent = "Price, USD" }\n')
    raw = (
        csv_of()
        .replace(b"rent,", b'"Price, USD",')
        .replace(b"rent source", b"Price, USD source")
        .replace(b"rent date", b"Price, USD date")
    )
    raw = raw.replace(b"Price, USD source", b'"Price, USD source"').replace(b"Price, USD date", b'"Price, USD date"')
    assert opened(tmp_path, "curve.csv", raw, text).sheet["curve.2026-09-30.rent"].source == "B"


def test_a_cell_that_is_hardly_meant_is_doubted_at_its_row_of_the_file(tmp_path: Path) -> None:
    desk = opened(tmp_path, "curve.csv", csv_of().replace(b"2.1", b"2100"))
    (doubt,) = doubts(desk.sheet)
    assert (doubt.name, doubt.place) == ("curve.2027-03-31.rent", "curve.csv:3")
    assert doubt.file == str(tmp_path / "curve.csv")
    (found,) = [item for item in review(desk) if item.kind == "implausible"]
    assert found.line == 3 and found.message.startswith("curve.csv:3: ")
