"""A scenario file: another case with some of its inputs changed, and what is said of one that can't be."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sublet.cli import app
from sublet.desk.briefing import brief
from sublet.desk.comparison import compare
from sublet.desk.desk import open_case
from sublet.desk.errors import CaseError
from sublet.desk.extending import DEPTH_MAX
from sublet.desk.plausible import doubts
from sublet.desk.service import write_reports
from sublet.desk.starters import starter_text
from sublet.desk.whatif import Cases

LOW = """extends = "base.toml"
[case]
name = "low"
title = "A bad year"
[set]
"in.price" = 9
"in.used" = { value = 0.6, note = "half as many customers", source = "vendor", status = "external" }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(starter_text("neocloud", "base"))
    (tmp_path / "low.toml").write_text(LOW)
    return tmp_path


def test_it_is_the_case_with_its_own_numbers_name_and_hash(folder: Path) -> None:
    base, low = open_case(folder / "base.toml"), open_case(folder / "low.toml")
    assert (low.heading.name, low.heading.title, low.heading.owner) == ("low", "A bad year", base.heading.owner)
    assert (low.sheet["in.price"].number, low.sheet["in.used"].number, low.sheet["in.tax"].number) == (9, 0.6, 0.23)
    assert (str(low.sheet["in.price"].status), low.sheet["in.price"].source) == (
        "assumption",
        "assumption of the scenario low",
    )
    assert (str(low.sheet["in.used"].status), low.sheet["in.used"].source) == (
        "external",
        "vendor's system specification",
    )
    assert low.sheet["in.price"].distribution == base.sheet["in.price"].distribution
    assert low.digest != base.digest and brief(low, "en").title == "A bad year"
    found = compare(base, low)
    assert {change.name for change in found.inputs} == {"in.price", "in.used"}
    assert write_reports(low, folder).html.name == "low.html"
    assert Cases(folder / "low.toml").desk().heading.name == "low"


def test_a_number_that_is_hardly_meant_is_doubted_where_the_scenario_sets_it(folder: Path) -> None:
    (folder / "low.toml").write_text(LOW.replace('"in.price" = 9', '"in.support" = 900'))
    (doubt,) = doubts(open_case(folder / "low.toml").sheet)
    assert (doubt.name, doubt.place) == ("in.support", "low.toml:6")
    told = CliRunner().invoke(app, ["desk", "check", str(folder / "low.toml")]).output
    assert "low.toml:6" in told


def test_a_scenario_of_a_scenario_starts_from_it(folder: Path) -> None:
    (folder / "lower.toml").write_text('extends = "low.toml"\n[case]\nname = "lower"\n[set]\n"in.price" = 8\n')
    lower = open_case(folder / "lower.toml")
    assert (lower.sheet["in.price"].number, lower.sheet["in.used"].number, lower.heading.title) == (
        8,
        0.6,
        "A bad year",
    )
    assert lower.sheet["in.price"].source == "assumption of the scenario lower"


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"in.price"', '"in.prise"', r"low\.toml:6: 'in.prise' is no input of .*base\.toml; did you mean 'in.price'\?"),
        ('"in.price" = 9', "in.price = 9", r"low\.toml:6: 'in' is no input .* stands in quotes: \"in.price\""),
        ("= 9", '= "9"', r"low\.toml:6: 'in.price' is '9'; write a number"),
        ("= 9", "= -9", r"low\.toml: with the numbers that it sets, .*base\.toml:\d+: value -9 is outside"),
        ("value = 0.6", "valu = 0.6", r"low\.toml: with the numbers that it sets, .*did you mean 'value'\?"),
        ("base.toml", "bas.toml", r"low\.toml:1: there is no file 'bas.toml' here; did you mean 'base.toml'\?"),
        ("base.toml", "b" * 5000, r"low\.toml:1: there is no file 'b+' here"),
        ("base.toml", "../base.toml", r"low\.toml:1: '../base.toml' must lie beside this file"),
        ("base.toml", "low.toml", rf"low\.toml:1: more than {DEPTH_MAX} files extend one another"),
        ('name = "low"\n', "", r"low\.toml:2: 'name' is missing here"),
        ("[set]", "[sets]", r"low\.toml:\d: there is no table 'sets' in a case; did you mean 'set'\?"),
    ],
)
def test_what_it_has_wrong_is_said_with_its_line(folder: Path, old: str, new: str, says: str) -> None:
    assert old in LOW
    (folder / "low.toml").write_text(LOW.replace(old, new))
    with pytest.raises(CaseError, match=says):
        open_case(folder / "low.toml")


def test_faults_of_the_case_are_the_case_s(folder: Path) -> None:
    base = folder / "base.toml"
    base.write_text(base.read_text().replace('power = "in.power"', 'power = "in.pwer"', 1))
    with pytest.raises(CaseError, match=r"^[^:]*base\.toml:\d+: .*did you mean 'in.power'"):
        open_case(folder / "low.toml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("inputs = 3", "1: 'inputs' is 3; write a table"),
        ("case = 3", "1: 'case' is 3; write a table"),
        ("sources = 3", "1: 'sources' is 3; write a table"),
        ('[inputs]\n"in.price" = 3', r"2: 'in.price' must be a table: write \[inputs.in.price\]"),
    ],
)
def test_a_case_that_is_no_case_is_refused_with_its_line(folder: Path, text: str, says: str) -> None:
    inputs = '[inputs."in.price"]\nvalue = 3\n[inputs."in.used"]\nvalue = 3\n'
    (folder / "base.toml").write_text(f"{text}\n" if "inputs" in text else f"{text}\n{inputs}")
    with pytest.raises(CaseError, match=rf"base\.toml:{says}"):
        open_case(folder / "low.toml")


def test_every_command_takes_it_as_a_case(folder: Path) -> None:
    run = CliRunner().invoke(app, ["desk", "diff", str(folder / "base.toml"), str(folder / "low.toml")])
    assert run.exit_code == 0 and "in.price" in run.output
