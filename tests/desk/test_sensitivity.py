"""Sensitivity of any result to any input: tornado, two-way grid, command, page and workbook."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.desk.small import head
from tests.desk.spreadsheet import read_numbers, recalculate
from typer.testing import CliRunner

from sublet.commands.desk import app
from sublet.desk.desk import Desk, build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.report import workbook
from sublet.desk.report.pages_sensitivity import sensitivities
from sublet.desk.report.wording import Wording
from sublet.desk.sensitivity import ends_of, grid, hangs_on, swings
from sublet.values.errors import InvalidInputError

CASE = (
    head(["profit"])
    + """\
[inputs.power]
value = 100
unit = "MW"
status = "assumption"
source = "s"
distribution = { kind = "uniform", low = 50, high = 150 }
[inputs.price]
value = 20
unit = "USD/W-yr"
status = "published"
source = "s"
low = 10
high = 30
[inputs.cost]
value = 4
unit = "USD/W-yr"
status = "published"
source = "s"
[inputs.unused]
value = 4
unit = "USD/W-yr"
status = "published"
source = "s"
[formulas.margin]
formula = "price - cost"
unit = "USD/W-yr"
[formulas.revenue]
formula = "power * margin"
unit = "USD m/yr"
[formulas.profit]
formula = "revenue * (1 - 0.2)"
unit = "USD m/yr"
[[sensitivity]]
result = "profit"
grid = { rows = "power", row_values = [50, 100, 150], columns = "price", column_values = [2, 20, 30] }
[[sensitivity]]
result = "profit"
inputs = [{ input = "margin", low = 0, high = 32 }, { input = "cost" }]
"""
)


def case(text: str = CASE) -> Desk:
    return build_case(parse_document(text.encode(), "case.toml"))


def test_each_input_is_moved_alone_between_its_own_ends() -> None:
    found = {swing.input: swing for swing in swings(case().sheet, "profit")}
    assert list(found) == ["price", "power", "cost"]
    assert (found["price"].at_low, found["price"].at_high) == pytest.approx((480, 2080))
    assert (found["power"].low, found["power"].high) == pytest.approx((55, 145))
    assert (found["cost"].low, found["cost"].high) == pytest.approx((3.6, 4.4))
    assert [found[name].ends for name in found] == ["range", "distribution", "around"]


def test_a_grid_is_the_result_for_each_pair() -> None:
    desk = case()
    assert desk.sensitivities[0].grid is not None
    assert [list(row) for row in desk.sensitivities[0].grid.cells] == [
        [pytest.approx(power * (price - 4) * 0.8) for price in (2, 20, 30)] for power in (50, 100, 150)
    ]
    assert [swing.at_high for swing in desk.sensitivities[1].swings] == pytest.approx([2560, 1248])


def test_any_number_may_be_moved_also_a_calculated_one() -> None:
    sheet = case().sheet
    assert hangs_on(sheet, "profit", "margin")
    assert not hangs_on(sheet, "margin", "profit")
    assert ends_of(sheet, "margin") == (pytest.approx(14.4), pytest.approx(17.6), "around")
    with pytest.raises(InvalidInputError, match="doesn't depend on 'unused'"):
        swings(sheet, "profit", ["unused"])
    with pytest.raises(InvalidInputError, match="name two inputs"):
        grid(sheet, "profit", ("price", [1, 2]), ("price", [1, 2]))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('rows = "power"', 'rows = "powr"', "did you mean 'power'"),
        ('rows = "power"', 'rows = "unused"', "doesn't depend on 'unused'"),
        ("row_values = [50, 100, 150]", "row_values = [50]", "has 1 values"),
        ('input = "margin"', 'input = "margn"', "did you mean 'margin'"),
        ("low = 0, ", "", "'low' is missing"),
    ],
)
def test_a_sensitivity_that_can_not_be_read_is_refused_with_its_line(old: str, new: str, words: str) -> None:
    assert CASE.count(old) == 1
    try:
        told = " ".join(problem.message for problem in case(CASE.replace(old, new)).problems)
    except CaseError as error:
        told = error.message
    assert words in told
    assert told.startswith("case.toml:")


def test_the_page_has_a_tornado_and_a_grid() -> None:
    section = sensitivities(Wording(case()))
    assert section is not None
    drawn = [block.draw(900) for block in section.blocks if hasattr(block, "draw")]
    assert len(drawn) == 3
    assert "2080" in drawn[0].replace(",", "")


def test_the_command_prints_swings_and_a_grid(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text(CASE)
    found = CliRunner().invoke(
        app, ["sensitivity", str(path), "profit", "--rows", "power", "--columns", "price", "--points", "3", "--json"]
    )
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert [row["input"] for row in told["swings"]] == ["price", "power", "cost"]
    assert told["grid"]["cells"][2][2] == pytest.approx(145 * 26 * 0.8)
    shown = CliRunner().invoke(app, ["sensitivity", str(path), "profit", "--input", "cost"])
    assert "cost" in shown.stdout
    assert "price" not in shown.stdout
    assert shown.stdout.startswith("profit = ") and "result at high" in shown.stdout


@pytest.mark.real
def test_libreoffice_calculates_the_sheets_to_the_same_values(tmp_path: Path) -> None:
    blank, whole = tmp_path / "blank.xlsx", tmp_path / "whole.xlsx"
    blank.write_bytes(workbook.write(case(), (), "1", cached=False))
    whole.write_bytes(workbook.write(case(), (), "1"))
    recalculated = read_numbers(recalculate(blank, tmp_path))
    formulas = {cell: number for cell, (number, live) in read_numbers(whole).items() if live}
    assert sum(sheet.startswith("Sensitivity") for sheet, _ in formulas) >= 9 + 9 + 6
    for cell, number in formulas.items():
        assert recalculated[cell][0] == pytest.approx(number, rel=1e-9, abs=1e-12), cell
