"""Calendars and series: exact days, fiscal years, phasing, depreciation, and the same in workbook and page."""

from __future__ import annotations

import itertools
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.desk.small import head
from tests.desk.spreadsheet import read_numbers, recalculate

from sublet.desk.calendars import Step, YearEnd, overlap_days, periods, ramped_share
from sublet.desk.desk import Desk, build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.report import workbook
from sublet.desk.report.pages_time import timeline
from sublet.desk.report.wording import Wording
from sublet.values.errors import InvalidInputError

HEAD = (
    head()
    + """\
[tables.curve]
key = "day"
columns = { rent = "USD/GPU-h" }
source = "s"
status = "assumption"
rows = [{ day = 2027-01-01, rent = 2.4 }, { day = 2028-03-01, rent = 2.1 }]
[calendars.q]
step = "quarter"
first = 2027-07-01
periods = 8
[calendars.f]
step = "year"
first = 2027-07-01
periods = 3
year_end = "06-30"
[calendars.m]
step = "month"
first = 2027-07-01
periods = 24
"""
)
INPUTS = {
    "power": (250, "MW"), "price": (40, "USD/W-yr"), "cost": (4, "USD/W-yr"), "tax": (0.15, "rate"), "shares": (2.5, "bn shares"),
    "deal": (731, "USD m"), "capex": (100, "USD m"), "life": (2.5, "yr"), "growth": (0.1, "rate"), "arr": (3, "USD bn"),
}  # fmt: skip
HEAD += "".join(
    f'[inputs.{name}]\nvalue = {value}\nunit = "{unit}"\nstatus = "published"\nsource = "s"\n'
    for name, (value, unit) in INPUTS.items()
)
FIRST_LINE = HEAD.count("\n") + 1
SERIES = """
[series.leased]
calendar = "q"
unit = "MW"
yearly = "average"
steps = [{ value = "power", from = 2028-01-01, until = 2028-12-31 }]
[series.ramp]
calendar = "m"
unit = "MW"
steps = [{ value = "power", from = 2027-09-01, full = 2027-11-01 }]
[series.eps]
calendar = "q"
unit = "USD/share"
yearly = "sum"
formula = "leased * (price - cost) * q.years * (1 - tax) / shares"
[series.recognized]
calendar = "q"
unit = "USD m"
yearly = "sum"
spread = [{ value = "deal", from = 2027-07-01, until = 2029-06-30 }]
[series.charge]
calendar = "f"
unit = "USD m"
depreciation = [{ cost = "capex", life = "life", from = 2028-01-01 }]
[series.run]
calendar = "q"
unit = "USD bn"
start = "arr"
growth = "growth"
[series.rent]
calendar = "q"
unit = "USD/GPU-h"
column = "curve.rent"
[series.given]
calendar = "f"
unit = "USD m"
status = "assumption"
source = "s"
values = [-100, 60, 60]
[formulas.year]
formula = "eps_increment(power=power, price=price, cost=cost, tax=tax, shares=shares)"
unit = "USD/share"
[formulas.irr]
formula = "irr(given)"
unit = "rate"
[formulas.npv]
formula = "npv(0.1, recognized)"
unit = "USD m"
[formulas.top]
formula = "max(leased)"
unit = "MW"
"""


def case(text: str = SERIES) -> Desk:
    return build_case(parse_document((HEAD + text).encode(), "case.toml"))


@pytest.fixture(scope="module")
def desk() -> Desk:
    return case()


def numbers(desk: Desk, name: str) -> list[float]:
    series = next(each for each in desk.timeline if each.name == name)
    return [desk.sheet[each].number for each in series.names]


@pytest.mark.parametrize(
    ("first", "step", "year_end", "labels", "ends"),
    [
        (date(2027, 7, 1), "quarter", "12-31", ["2027Q3", "2027Q4", "2028Q1"], ["2027-09-30", "2027-12-31", "2028-03-31"]),
        (date(2027, 7, 1), "quarter", "06-30", ["FY2028Q1", "FY2028Q2", "FY2028Q3"], ["2027-09-30", "2027-12-31", "2028-03-31"]),
        (date(2028, 2, 1), "month", "01-31", ["2028-02", "2028-03", "2028-04"], ["2028-02-29", "2028-03-31", "2028-04-30"]),
        (date(2028, 4, 6), "quarter", "04-05", ["FY2029Q1", "FY2029Q2", "FY2029Q3"], ["2028-07-05", "2028-10-05", "2029-01-05"]),
        (date(2024, 3, 1), "year", "02-29", ["FY2025", "FY2026", "FY2027"], ["2025-02-28", "2026-02-28", "2027-02-28"]),
        (date(2026, 1, 26), "year", "last sunday of january", ["FY2027", "FY2028", "FY2029"],
         ["2027-01-31", "2028-01-30", "2029-01-28"]),
        (date(2026, 1, 26), "quarter", "last sunday of january", ["FY2027Q1", "FY2027Q2", "FY2027Q3", "FY2027Q4"],
         ["2026-04-26", "2026-07-26", "2026-10-25", "2027-01-31"]),
    ],
)  # fmt: skip
def test_periods_of_any_year_end(first: date, step: str, year_end: str, labels: list[str], ends: list[str]) -> None:
    found = periods(first, Step(step), len(labels), YearEnd.of(year_end))
    assert [period.label for period in found] == labels
    assert [period.until.isoformat() for period in found] == ends


@given(
    st.dates(date(1990, 1, 1), date(2090, 1, 1)),
    st.sampled_from(list(Step)),
    st.integers(1, 12),
    st.integers(1, 31),
    st.integers(1, 60),
)
def test_periods_follow_each_other_without_gap(near: date, step: Step, month: int, day: int, count: int) -> None:
    try:
        year_end = YearEnd.of(f"{month:02d}-{day:02d}")
    except InvalidInputError:
        assert day > 28
        return
    first = min(
        (mark for year in range(near.year - 1, near.year + 3) for mark in year_end.boundaries(year, step)),
        key=lambda mark: abs(mark - near),
    )
    found = periods(first, step, count, year_end)
    assert all(one.end == other.start for one, other in itertools.pairwise(found))
    assert len({period.label for period in found}) == count
    assert sum(period.years for period in found) == pytest.approx(
        year_end.years_between(found[0].start, found[-1].end), abs=1e-9
    )


def test_whole_years_are_one_year_in_leap_years_too() -> None:
    for first in (date(2027, 1, 1), date(2028, 1, 1)):
        assert sum(period.years for period in periods(first, Step.QUARTER, 4, YearEnd.of("12-31"))) == pytest.approx(
            1, abs=1e-12
        )
    assert [period.days for period in periods(date(2028, 1, 1), Step.QUARTER, 4, YearEnd.of("12-31"))] == [
        91,
        91,
        92,
        92,
    ]


@given(st.dates(date(2027, 1, 1), date(2029, 1, 1)), st.integers(0, 400), st.integers(1, 800))
def test_a_ramp_s_mean_is_what_each_day_has(start: date, rising: int, lasting: int) -> None:
    full, end = start + timedelta(days=min(rising, lasting)), start + timedelta(days=lasting)
    length = (full - start).days
    for period in periods(date(2027, 1, 1), Step.QUARTER, 8, YearEnd.of("12-31")):
        total = 0.0
        for place in range(period.days):
            day = period.start + timedelta(days=place)
            if start <= day < end:
                total += min(1.0, ((day - start).days + 0.5) / length) if length else 1.0
        assert ramped_share(period, start, full, end) == pytest.approx(total / period.days, abs=1e-9)
        assert 0 <= overlap_days(period, start, end) <= period.days


def test_quarters_sum_to_the_year_of_the_bridge_in_a_leap_year(desk: Desk) -> None:
    assert numbers(desk, "leased") == [0, 0, 250, 250, 250, 250, 0, 0]
    assert desk.sheet["eps.2028"].number == pytest.approx(desk.sheet["year"].number, rel=1e-12)
    assert desk.sheet["eps.2028Q1"].number == pytest.approx(desk.sheet["year"].number * 91 / 366, rel=1e-12)
    assert desk.sheet["leased.2028"].number == pytest.approx(250, rel=1e-12)
    assert "eps.2027" not in desk.sheet
    assert desk.sheet["top"].number == 250


def test_contracts_are_recognized_by_exact_days(desk: Desk) -> None:
    assert numbers(desk, "recognized") == pytest.approx([92, 92, 91, 91, 92, 92, 90, 91])
    assert desk.sheet["recognized.2028"].number == pytest.approx(366)


def test_depreciation_is_straight_line_over_a_life_that_may_be_moved(desk: Desk) -> None:
    assert numbers(desk, "charge") == pytest.approx([40 * 182 / 366, 40, 40], rel=1e-12)
    shorter = desk.sheet.recalculate(["charge.FY2028", "charge.FY2029", "charge.FY2030"], {"life": 1.0})
    assert sum(shorter.values()) == pytest.approx(100, rel=1e-12)
    assert shorter["charge.FY2030"] == 0


def test_growth_curve_ramp_and_rates_of_a_series(desk: Desk) -> None:
    assert numbers(desk, "run")[4] == pytest.approx(3.3, rel=1e-12)
    assert numbers(desk, "rent") == [2.4, 2.4, 2.4, 2.1, 2.1, 2.1, 2.1, 2.1]
    assert numbers(desk, "ramp")[:6] == pytest.approx([0, 0, 250 * 15 / 61, 250 * (30 + 15.5) / 61, 250, 250])
    assert desk.sheet["irr"].number == pytest.approx(0.130662386, rel=1e-6)
    quarterly = 1.1**0.25
    flows = numbers(desk, "recognized")
    assert desk.sheet["npv"].number == pytest.approx(
        sum(flow / quarterly ** (place + 1) for place, flow in enumerate(flows)), rel=1e-12
    )


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('calendar = "q"\nunit = "MW"', 'calendar = "qq"\nunit = "MW"', "did you mean 'q'"),
        ('yearly = "average"', 'yearly = "avrage"', "did you mean 'average'"),
        ('value = "power", from = 2028-01-01', 'value = "powr", from = 2028-01-01', "did you mean 'power'"),
        ("until = 2028-12-31 }]", "until = 2027-12-31 }]", "lies before"),
        ("values = [-100, 60, 60]", "values = [-100, 60]", "2 values for 3 periods"),
        ('column = "curve.rent"', 'column = "curve.rnt"', "did you mean 'curve.rent'"),
        ('formula = "leased * (price', 'formula = "eps * (price', "goes round in a circle"),
        ('formula = "leased * (price', 'formula = "given * (price', "by f and q.years by q"),
        ('formula = "leased * (price', 'formula = "leased * leased * (price', "can't be turned into"),
        ('start = "arr"\n', 'start = "arr"\nvalues = [1]\n', "exactly one of"),
        ('formula = "max(leased)"', 'formula = "leased"', "a list of 8 numbers"),
        ('formula = "max(leased)"', 'formula = "max(leasd)"', "did you mean 'leased'"),
    ],
)  # fmt: skip
def test_a_series_that_can_not_be_used_is_refused_with_its_line(old: str, new: str, words: str) -> None:
    assert SERIES.count(old) == 1
    text = SERIES.replace(old, new)
    with pytest.raises(CaseError, match=r"^case\.toml:") as refusal:
        case(text)
    assert words in refusal.value.message
    line = int(refusal.value.message.split(":")[1])
    assert abs(line - FIRST_LINE - text[: text.index(new)].count("\n")) <= 5


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("first = 2027-07-01\nperiods = 8", "first = 2027-07-02\nperiods = 8", "nearest starts on 2027-07-01"),
        ("periods = 8", "periods = 800", "give 1 to 240"),
        ('step = "quarter"', 'step = "quater"', "did you mean 'quarter'"),
        ('"06-30"', '"30 June"', 'like "06-30"'),
    ],
)  # fmt: skip
def test_a_calendar_that_can_not_be_used_is_refused(old: str, new: str, words: str) -> None:
    assert HEAD.count(old) == 1
    with pytest.raises(CaseError) as refusal:
        build_case(parse_document(HEAD.replace(old, new).encode(), "case.toml"))
    assert words in refusal.value.message


def test_charts_and_tables_of_the_page_show_the_series(desk: Desk) -> None:
    section = timeline(Wording(desk))
    assert section is not None
    assert len([block for block in section.blocks if hasattr(block, "draw")]) == 8
    for block in section.blocks:
        if hasattr(block, "draw"):
            for width in (360, 480, 900):
                assert block.draw(width).count("<rect") >= 3


@pytest.mark.real
def test_libreoffice_calculates_series_to_the_same_values(desk: Desk, tmp_path: Path) -> None:
    blank, whole = tmp_path / "blank.xlsx", tmp_path / "whole.xlsx"
    blank.write_bytes(workbook.write(desk, (), "1", cached=False))
    whole.write_bytes(workbook.write(desk, (), "1"))
    recalculated = read_numbers(recalculate(blank, tmp_path))
    formulas = {cell: number for cell, (number, live) in read_numbers(whole).items() if live}
    assert {sheet for sheet, _ in formulas} >= {"Values", "Series q", "Series f", "Series m"}
    for cell, number in formulas.items():
        assert recalculated[cell][0] == pytest.approx(number, rel=1e-9, abs=1e-12), cell
