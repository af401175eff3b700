"""Tables and the functions of a case's own formulas: choices, lists, rates of return, and the same in a workbook."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.desk.small import head
from tests.desk.spreadsheet import read_numbers, recalculate

from sublet.desk.desk import Desk, build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.functions import FUNCTIONS
from sublet.desk.lists import present_value, rate_of_return
from sublet.desk.montecarlo import simulate
from sublet.desk.report import workbook

HEAD = (
    head(s="2026-07-01", q="2026-06-01")
    + """\
[inputs.rate]
value = 0.08
unit = "rate"
status = "published"
source = "s"
[inputs.at]
value = 4.5
unit = "yr"
status = "published"
source = "s"
[inputs.site]
value = 20
unit = "MW, facility"
status = "published"
source = "s"
[inputs.nothing]
value = 0
unit = "MW, IT"
status = "published"
source = "s"
[tables.deals]
key = "pool"
columns = { power = "MW, IT", price = "USD/W-yr, IT" }
families = { power = "capacity.it" }
source = "s"
status = "published"
rows = [
  { pool = "h100", power = 100, price = 20 },
  { pool = "h200", power = 50, price = { value = 25, source = "q", status = "assumption" } },
]
[tables.project]
key = "year"
columns = { year = "yr", flow = "USD bn" }
source = "s"
status = "published"
rows = [{ year = 0, flow = -100 }, { year = 1, flow = 30 }, { year = 3, flow = 50 }, { year = 5, flow = 60 }]
[tables.curve]
key = "day"
columns = { rent = "USD/GPU-h" }
source = "s"
status = "assumption"
rows = [{ day = 2026-09-30, rent = 2.4 }, { day = 2027-03-31, rent = 2.1 }]
"""
)
FIRST_LINE = HEAD.count("\n") + 1


def case(*formulas: tuple[str, str], head: str = HEAD) -> Desk:
    tables = "".join(
        f'[formulas.f{place}]\nformula = {formula!r}\nunit = "{unit}"\n'
        for place, (formula, unit) in enumerate(formulas)
    )
    return build_case(parse_document((head + tables).encode(), "case.toml"))


@pytest.mark.parametrize(
    ("formula", "unit", "value"),
    [
        ("sum(deals.power * deals.price)", "USD bn/yr", 3.25),
        ("sum(deals.power * deals.price) / sum(deals.power)", "USD/W-yr, IT", 65 / 3),
        ("max(deals.price) - lookup(deals.price, \"h100\")", "USD/W-yr", 5),
        ("min(deals.power)", "MW", 50),
        ("min(sum(deals.power), 120 [MW, IT])", "MW", 120),
        ("average(project.flow)", "USD bn", 10),
        ("count(project.flow)", "1", 4),
        ("npv(rate, project.flow)", "USD bn", -100 / 1.08 + 30 / 1.08**2 + 50 / 1.08**3 + 60 / 1.08**4),
        ("lookup(project.flow, at)", "USD bn", 50),
        ("lookup(project.flow, 5 [yr])", "USD bn", 60),
        ("lookup(curve.rent, \"2027-03-30\")", "USD/GPU-h", 2.4),
        ("lookup(curve.rent, \"2030-01-01\")", "USD/GPU-h", 2.1),
        ("if(at >= 4.5 [yr], 1, 2)", "1", 1),
        ("if(rate != 0.08, 1, 2)", "1", 2),
        ("if(nothing > 0, deals.h100.power / nothing, 7)", "1", 7),
        ("sum(if(deals.price > 21 [USD/W-yr, IT], deals.power, 0))", "MW", 50),
        ("sum(max(deals.price - 22 [USD/W-yr, IT], 0) * deals.power)", "USD m/yr", 150),
        ("sum(per_watt_year(price=curve.rent, watts=1000 [W per accelerator]) * 1 [W-yr])", "USD", 4.5 * 8.76),
    ],
)  # fmt: skip
def test_functions(formula: str, unit: str, value: float) -> None:
    assert case((formula, unit)).sheet["f0"].number == pytest.approx(value, rel=1e-12)


def test_the_status_is_that_of_the_weakest_cell_and_the_source_of_each_cell_is_kept() -> None:
    sheet = case(("sum(deals.power)", "MW"), ("sum(deals.power * deals.price)", "USD/yr")).sheet
    assert (sheet["f0"].status, sheet["f1"].status) == ("derived", "modeled")
    assert (sheet["f0"].source, sheet["f1"].source) == ("S", "S; Q")
    assert (sheet["deals.h200.price"].source, sheet["deals.h200.price"].date) == ("Q", "2026-06-01")


def test_a_sum_over_a_table_keeps_family_and_basis() -> None:
    total = case(("sum(deals.power)", "MW")).sheet["f0"]
    assert (total.lineage.capacities, total.parsed_unit.basis) == ({"capacity.it"}, "IT")


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("sum(deals.price)", "price per watt"),
        ("sum(deals.power) + site", "basis differs"),
        ("if(deals.h100.power > site, 1, 2)", "basis differs"),
        ("if(rate > 0, deals.h100.power, site)", "basis differs"),
        ("if(rate > 0, deals.h100.power, rate)", "can't be turned into"),
        ("lookup(deals.price, 'h10O')", "did you mean 'h100'"),
        ("lookup(deals.price, 3)", "in quotes"),
        ("lookup(project.flow, -1 [yr])", "below 0"),
        ("lookup(curve.rent, '2026-01-01')", "before 2026-09-30"),
        ("lookup(curve.rent, 'soon')", "is no date"),
        ("deals.power", "a list of 2 numbers"),
        ("deals.powr", "did you mean 'deals.power'"),
        ("deals.power * project.flow", "by deals and"),
        ("irr(deals.power)", "changes its sign 0 times"),
        ("irr(-1 * project.flow + if(project.year > 4 [yr], 200 [USD bn], 0 ))", "2 times"),
        ("npv(8, project.flow)", "8 % as 0.08"),
        ("npv(project.flow, rate)", "argument 2"),
        ("npv(rate)", "1 given"),
        ("irr(rate)", "takes a column"),
        ("if(rate, 1, 2)", "needs a comparison"),
        ("rate > 1", "belongs in if()"),
        ("summ(deals.power)", "did you mean 'sum'"),
        ("iff(rate > 1, 1, 2)", "'if'"),
        ("max('h100', 1)", "has the text 'h100'"),
        ("if(rate > 0, 1 / (rate - rate), 0)", "divides by zero"),
    ],
)  # fmt: skip
def test_what_a_function_refuses_is_said_with_its_line(formula: str, words: str) -> None:
    try:
        told = " ".join(problem.message for problem in case((formula, "MW")).problems)
    except CaseError as error:
        told = error.message
    assert words in told
    assert told.startswith(f"case.toml:{FIRST_LINE + 1}: ")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("power = 50,", "", "row 'h200' has no 'power'"),
        ("power = 50,", "powr = 50,", "key 'powr' is not known"),
        ('source = "q", status', 'source = "z", status', "source 'z' is not under [sources]"),
        ('pool = "h200"', 'pool = "h100"', "is there twice"),
        ("{ year = 3,", "{ year = 0.5,", "ascending order"),
        ("2027-03-31", "2025-03-31", "ascending order"),
        ('power = "MW, IT"', 'power = "mw, IT"', "did you mean 'MW'"),
        ("power = 50,", "power = -50,", "above zero"),
        ('families = { power', 'families = { powre', "did you mean 'power'"),
        ('status = "published"\nrows = [\n  { pool', 'rows = [\n  { pool', "has no status"),
    ],
)  # fmt: skip
def test_a_table_that_can_not_be_used_is_refused_with_its_line(old: str, new: str, words: str) -> None:
    assert HEAD.count(old) == 1
    text = HEAD.replace(old, new)
    with pytest.raises(CaseError, match=r"^case\.toml:") as refusal:
        case(head=text)
    line = int(refusal.value.message.split(":")[1])
    place = text[: text.index(new) + (1 if new.startswith("\n") else 0)].count("\n") + 1 if new else line
    assert words in refusal.value.message
    assert abs(line - place) <= 2


def test_functions_follow_each_draw_of_a_simulation() -> None:
    spread = '\ndistribution = { kind = "uniform", low = 0.01, high = 0.2 }\n'
    head = HEAD.replace("value = 0.08\n", f"value = 0.08{spread}").replace(
        "value = 4.5", 'value = 4.5\ndistribution = { kind = "uniform", low = 0, high = 6 }'
    )
    desk = case(
        ("npv(rate, project.flow)", "USD bn"), ("lookup(project.flow, at)", "USD bn"),
        ("if(rate > 0.1, 1, irr(project.flow + rate * 10 [USD bn]))", "1"), head=head,
    )  # fmt: skip
    rate, at = np.linspace(0.01, 0.2, 7), np.array([0.0, 0.5, 1.0, 2.9, 3.0, 4.9, 5.0])
    found = desk.sheet.recalculate(["f0", "f1", "f2"], {"rate": rate, "at": at})
    assert found["f0"] == pytest.approx([present_value(each, (-100, 30, 50, 60)) for each in rate])
    assert list(found["f1"]) == [-100, -100, 30, 30, 50, 50, 60]
    expected = [
        1 if each > 0.1 else rate_of_return([-100 + each * 10, 30 + each * 10, 50 + each * 10, 60 + each * 10])
        for each in rate
    ]
    assert found["f2"] == pytest.approx(expected, rel=1e-12)
    assert [item.samples for item in simulate(desk.sheet, ["f0", "f1", "f2"], 2000, 1)] == [2000] * 3


@given(st.floats(1, 1e6), st.lists(st.floats(0.01, 1e6), min_size=1, max_size=20))
def test_at_the_rate_of_return_the_flows_are_worth_nothing(outlay: float, inflows: list[float]) -> None:
    rate = rate_of_return([-outlay, *inflows])
    if np.isnan(rate):
        worth = [sum(flow / (1 + end) ** k for k, flow in enumerate([-outlay, *inflows])) for end in (-0.99, 10.0)]
        assert worth[0] < 0 or worth[1] > 0
        return
    parts = [flow / (1 + rate) ** k for k, flow in enumerate([-outlay, *inflows])]
    assert abs(sum(parts)) <= 1e-9 * max(map(abs, parts))


def test_every_function_is_in_the_manual() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "desk.md").read_text()
    for name, function in FUNCTIONS.items():
        assert f"`{name}({function.parameters})`" in manual
        assert len(function.meaning) > 20


@pytest.mark.real
def test_libreoffice_calculates_functions_to_the_same_values(tmp_path: Path) -> None:
    rows = [row for row in test_functions.pytestmark[0].args[1] if row[0]]  # type: ignore[attr-defined]
    desk = case(
        *((formula, unit) for formula, unit, _ in rows),
        ("irr(project.flow)", "rate"),
        ("irr(project.flow * 2 + 1 [USD bn])", "rate"),
    )
    blank, whole = tmp_path / "blank.xlsx", tmp_path / "whole.xlsx"
    blank.write_bytes(workbook.write(desk, (), "1", cached=False))
    whole.write_bytes(workbook.write(desk, (), "1"))
    recalculated = read_numbers(recalculate(blank, tmp_path))
    formulas = {cell: number for cell, (number, live) in read_numbers(whole).items() if live}
    assert len(formulas) >= len(rows) + 2
    for cell, number in formulas.items():
        assert recalculated[cell][0] == pytest.approx(number, rel=1e-9, abs=1e-12), cell
