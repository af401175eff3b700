"""One bad value doesn't take the case with it: what can't be calculated says why in its place, and the rest stands."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sublet.cli import app
from sublet.desk.briefing import brief
from sublet.desk.desk import Desk, build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.plausible import doubts
from sublet.desk.report import workbook
from sublet.desk.report.figures import as_json
from sublet.desk.report.page import render
from sublet.desk.report.pages import sections
from sublet.desk.review import review
from sublet.desk.service import write_reports
from sublet.desk.template import template_text

EXAMPLE = (Path(__file__).parents[2] / "examples" / "hyperscaler-2026.toml").read_text()
LANGUAGES = ("en", "zh-Hant", "zh-Hans")


def opened(old: str, new: str, text: str = EXAMPLE) -> Desk:
    assert text.count(old) == 1, (old, text.count(old))
    return build_case(parse_document(text.replace(old, new).encode(), "case.toml"))


def section_of(desk: Desk, id_: str) -> str:
    page = render(desk, sections(desk, [], []), "1")
    return page.partition(f'<section id="{id_}">')[2].partition("</section>")[0]


@pytest.mark.parametrize(
    ("old", "new", "part", "id_", "words"),
    [
        ("cut = 0.1", "cut = 1.1", "capex", "capex", "cut is 1.1; write the cut as a fraction"),
        ("lr_bull = 0.4", "lr_bull = -0.4", "signals", "signals", "a likelihood ratio is above zero"),
        ("renew = 0.8", "renew = 80", "counterparties", "customers", "write a share between 0 and 1"),
    ],
)
def test_a_section_that_cannot_be_calculated_says_why_in_its_place(
    old: str, new: str, part: str, id_: str, words: str
) -> None:
    text = EXAMPLE if EXAMPLE.count(old) == 1 else EXAMPLE.replace(old, new, EXAMPLE.count(old) - 1)
    desk = opened(old, new, text)
    whole = build_case(parse_document(EXAMPLE.encode(), "case.toml"))
    assert words in desk.problems_of(part)[0].message
    assert "can&#x27;t be calculated: " in section_of(desk, id_)
    before = [section.id for section in sections(whole, [], [])]
    after = [section.id for section in sections(desk, [], [])]
    assert [name for name in before if name in after] == [name for name in after if name in before]
    assert set(before) - set(after) <= {"sensitivity"}
    for language in LANGUAGES:
        assert words in brief(desk, language).render().replace("\n  ", " ")
    assert json.loads(json.dumps(as_json(desk, [], [], "1")))["problems"][0]["message"].startswith("case.toml:")
    sheets = zipfile.ZipFile(io.BytesIO(workbook.write(desk, [], "1"))).read("xl/workbook.xml").decode()
    assert '"Problems"' in sheets


def test_what_does_not_need_the_missing_value_has_the_same_numbers() -> None:
    whole = build_case(parse_document(EXAMPLE.encode(), "case.toml")).values()
    desk = opened("cut = 0.1\n", "cut = 1.1\n")
    left = desk.values()
    assert left and all(whole[name] == entry for name, entry in left.items())
    assert {name.partition(".")[0] for name in whole.keys() - left.keys()} == {"capex"}


def test_a_result_that_needs_a_missing_value_says_which() -> None:
    text = template_text()
    text += '\n[formulas."try.zero"]\nformula = "in.support - in.support"\nunit = "USD/W-yr"\n'
    text += '[formulas."try.by_zero"]\nformula = "in.support / try.zero"\nunit = "ratio"\n'
    text += '[formulas."try.after"]\nformula = "try.by_zero * 2"\nunit = "ratio"\n'
    desk = build_case(parse_document(text.encode(), "case.toml"))
    told = {problem.name: problem.reason for problem in desk.problems}
    assert set(told) == {"try.by_zero", "try.after"}
    assert told["try.after"] == "it needs 'try.by_zero', which can't be calculated"
    assert "try.by_zero can&#x27;t be calculated" in section_of(desk, "numbers")


def test_a_fault_of_the_file_still_refuses_it_with_all_others() -> None:
    text = EXAMPLE.replace("cut = 0.1\n", "cut = 1.1\n").replace('unit = "USD/MWh"', 'unit = "USD/MWx"')
    with pytest.raises(CaseError, match="MWx"):
        build_case(parse_document(text.encode(), "case.toml"))


def test_a_row_that_can_be_no_capacity_leaves_the_ledger_and_the_rest_stands() -> None:
    place = EXAMPLE.index('id = "b04"')
    start = EXAMPLE.index("value = ", place)
    end = EXAMPLE.index("\n", start)
    desk = build_case(parse_document((EXAMPLE[:start] + "value = -1.0" + EXAMPLE[end:]).encode(), "case.toml"))
    assert "b04" not in [row.id for row in desk.capacity] and "b05" in [row.id for row in desk.capacity]
    assert "capacity is -1 GW" in desk.problems_of("capacity")[0].message
    assert "capacity is -1 GW" in section_of(desk, "capacity")


def test_a_simulation_that_fails_as_it_runs_leaves_the_rest_of_the_report(tmp_path: Path) -> None:
    text = template_text() + (
        '\n[inputs."mc.around_zero"]\nvalue = 1e-300\nunit = "ratio"\nstatus = "assumption"\nsource = "judgment"\n'
        'distribution = { kind = "uniform", low = 0.0, high = 1e-300 }\n'
        '[formulas."try.huge"]\nformula = "in.support * 1e7 / mc.around_zero"\nunit = "USD/W-yr"\n'
    )
    place = text.index('results = ["', text.index("[monte_carlo]"))
    text = text[:place] + text[place:].replace('results = ["', 'results = ["try.huge", "', 1)
    desk = build_case(parse_document(text.encode(), "case.toml"))
    assert not desk.problems
    written = write_reports(desk, tmp_path)
    assert "for some draws" in written.problems[0].message
    assert "for some draws" in written.html.read_text()


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (120.0, "GW", "less than 50 GW"),
        (2870.0, "bn shares", "50 billion shares"),
        (40_000.0, "USD/W-yr", "a watt of accelerators"),
        (400_000.0, "USD/MWh", "electricity"),
        (3e6, "USD bn", "20,000 billion"),
        (700_000.0, "W per accelerator", "an accelerator draws"),
        (60.0, "yr", "longer than 50 years"),
    ],
)
def test_a_number_that_is_hardly_meant_is_doubted_and_used(value: float, unit: str, words: str) -> None:
    text = f'{template_text()}\n[inputs."try.much"]\nvalue = {value!r}\nunit = "{unit}"\nstatus = "assumption"\nsource = "judgment"\n'
    desk = build_case(parse_document(text.encode(), "case.toml"))
    found = doubts(desk.sheet)
    assert [doubt.name for doubt in found] == ["try.much"] and words in found[0].message
    assert desk.sheet["try.much"].number == value
    assert words in section_of(desk, "headline")


def test_the_template_and_the_examples_have_nothing_that_is_hardly_meant_but_the_printed_slip() -> None:
    assert not doubts(build_case(parse_document(template_text().encode(), "case.toml")).sheet)
    assert [doubt.name for doubt in doubts(build_case(parse_document(EXAMPLE.encode(), "case.toml")).sheet)] == ["b25"]


def test_a_tax_of_19_percent_may_be_written_as_such() -> None:
    old = 'value = 0.2                          # a fraction: 20 % is 0.2\nunit = "rate"'
    percent = opened(old, 'value = 19\nunit = "%"', template_text())
    fraction = opened(old, 'value = 0.19\nunit = "rate"', template_text())
    assert not doubts(percent.sheet)
    for name in percent.heading.results:
        assert percent.sheet[name].number == pytest.approx(fraction.sheet[name].number, rel=1e-12)
    with pytest.raises(CaseError, match=r"tax is 1\.9; write the tax rate as a fraction"):
        opened(old, 'value = 190\nunit = "%"', template_text())


def test_check_lists_what_to_look_at_and_fails_for_what_cannot_be_calculated(tmp_path: Path) -> None:
    case = tmp_path / "case.toml"
    case.write_text(template_text())
    runner = CliRunner()
    sound = runner.invoke(app, ["desk", "check", str(case), "--json"])
    assert sound.exit_code == 0, sound.output
    assert {item["kind"] for item in json.loads(sound.stdout)} <= {"unsourced", "stale", "unused"}
    case.write_text(EXAMPLE.replace("cut = 0.1\n", "cut = 1.1\n"))
    found = runner.invoke(app, ["desk", "check", str(case), "--json"])
    assert found.exit_code == 1
    first = json.loads(found.stdout)[0]
    assert first["kind"] == "problem" and first["line"] == EXAMPLE[: EXAMPLE.index("cut = 0.1\n")].count("\n") + 1
    reported = runner.invoke(app, ["desk", "report", str(case), "--out", str(tmp_path)])
    assert reported.exit_code == 0 and "Warning: " in reported.stderr and (tmp_path / "hyperscaler-2026.html").exists()


def test_statements_that_contradict_each_other_are_found() -> None:
    place = EXAMPLE.index("[[rows]]")
    row = EXAMPLE[
        EXAMPLE.rindex("[[rows]]", 0, EXAMPLE.index('id = "b04"')) : EXAMPLE.index(
            "[[rows]]", EXAMPLE.index('id = "b04"')
        )
    ]
    start = row.index("value = ")
    other = row.replace('id = "b04"', 'id = "z04"').replace(row[start : row.index("\n", start)], "value = 7.5")
    other = "\n".join(line for line in other.splitlines() if not line.startswith("capacity ="))
    desk = build_case(parse_document((EXAMPLE[:place] + other + "\n" + EXAMPLE[place:]).encode(), "case.toml"))
    assert any({"contradictory"} == {item.kind} and "7.5" in item.message for item in review(desk))
