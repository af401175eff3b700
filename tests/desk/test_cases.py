"""Case files: every refusal names file and line and says what to write; every example and the template run."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.desk.conftest import told

from sublet.desk.desk import build_case, open_case
from sublet.desk.documents import parse_document, read_document
from sublet.desk.errors import CaseError
from sublet.desk.report import workbook
from sublet.desk.report.figures import as_json
from sublet.desk.report.page import render
from sublet.desk.report.pages import sections
from sublet.desk.sheet import Status
from sublet.desk.template import template_text, write_template
from sublet.values.errors import SubletError

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = ("hyperscaler-2026", "university", "neocloud")
TEMPLATE = template_text()


def refused(text: str) -> str:
    with pytest.raises(CaseError) as error:
        build_case(parse_document(text.encode(), "case.toml"))
    return error.value.message


def told_or_refused(text: str) -> list[str]:
    try:
        return told(text)
    except CaseError as error:
        return [error.message]


def changed(old: str, new: str, text: str = TEMPLATE) -> str:
    assert text.count(old) >= 1, old
    return text.replace(old, new, 1)


def line_of(text: str, words: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), start=1) if words in line)


@pytest.mark.parametrize("name", CASES)
def test_the_examples_open_and_every_number_has_a_source(name: str) -> None:
    desk = open_case(EXAMPLES / f"{name}.toml")
    assert desk.heading.results
    for value in desk.sheet:
        assert value.source and value.unit, value.name


def test_the_template_opens_as_it_is(tmp_path: Path) -> None:
    write_template(tmp_path / "case.toml")
    desk = open_case(tmp_path / "case.toml")
    assert desk.sheet["bridge.contribution"].number == pytest.approx((12 - (8760e-6 * 80 * 1.25 + 2)) * 10 * 0.8)


def test_the_template_is_never_written_over_a_file(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text("mine")
    with pytest.raises(CaseError, match="already there"):
        write_template(path)
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("old", "new", "at", "words"),
    [
        ('unit = "USD/MWh"', 'unit = "USD/MWx"', 'unit = "USD/MWx"', "did you mean 'MW'"),
        ("low = 8.0\nhigh = 20.0", "lwo = 8.0\nhigh = 20.0", "lwo = 8.0", "'low' is missing"),
        (
            "samples = 100000",
            "sampels = 100000",
            "sampels",
            "key 'sampels' is not known in [monte_carlo]; did you mean 'samples'?",
        ),
        (
            'source = "books"',
            'source = "boks"',
            'source = "boks"',
            "source 'boks' is not under [sources]; did you mean 'books'?",
        ),
        ("value = 0.2 ", "value = 35.0 ", "value = 35.0", "in.tax is 35 as a rate; write a fraction, 35 % as 0.35"),
        (
            "value = 1.25",
            "value = 0.9",
            '[inputs."in.pue"]',
            "PUE is facility power over IT power and can't be below 1",
        ),
        (
            "p5 = 8.0, p95 = 20.0",
            "p5 = 20.0, p95 = 8.0",
            "p5 = 20.0",
            "lognormal p5 20 must be below p95 8; swap the two",
        ),
        ('kind = "triangular"', 'kind = "triangel"', "triangel", "did you mean 'triangular'"),
        ('status = "external"', 'status = "extern"', 'status = "extern"', "did you mean 'external'"),
        ("accelerators = 8", "accelerators = 0", "accelerators = 0", "write a number above zero"),
        ("as_of = 2026-07-01", 'as_of = "2026-07-01"', "as_of =", "write a date like 2026-07-02, without quotes"),
        (
            'cost = "in.cost"',
            'cost = "in.cots"',
            "in.cots",
            "there is no value 'in.cots' in this case; did you mean 'in.cost'?",
        ),
        ("+ in.support", "+ in.power", "+ in.power", "can't be turned into"),
        ("+ in.support", "+ in.cost", "+ in.cost", "goes round in a circle"),
        ('unit = "USD/GPU-h"', 'unit = "USD/share"', "per_accelerator_hour(", "can't be turned into 'USD/share'"),
        ('name = "my-case"', "name = 5", "name = 5", "write a text in quotes"),
        ("axis_power = [4, 8, 12]", 'axis_power = ["4"]', "axis_power", "write a list of numbers"),
        ('"MW, IT"', '"MW, ITT"', "MW, ITT", "'ITT' is no basis of power; did you mean 'IT'?"),
        ('"MW, IT"', '"MW, facilty"', "MW, facilty", "did you mean 'facility'?"),
        (
            'status = "external"',
            'statsu = "external"',
            "statsu",
            "key 'statsu' is not known here; did you mean 'status'?",
        ),
        ("[bridge]", "[brigde]", "[brigde]", "there is no table 'brigde' in a case; did you mean 'bridge'?"),
        ('[inputs."in.pue"]', "[inputs.in.pue]", "[inputs.in.pue]", 'stands in quotes: write [inputs."in.pue"]'),
        (
            "value = 80.0",
            'value = "80.0"',
            'value = "80.0"',
            "value is the text '80.0'; write the number without quotes",
        ),
        ('version = "1"', 'version = "1"\ncurrency = "EUR"', "currency", "the desk computes in USD"),
        ("{in.power}", "{in.pwoer}", "en =", "did you mean 'in.power'"),
        ("{in.power} at {in.price}", "It", "en =", "names no value"),
        ('results = ["bridge.contribution"', 'results = ["bridge.eps"', "results =", "is not a value of this case"),
        (
            'results = ["mc.contribution"]',
            'results = ["in.cost"]',
            'results = ["in.cost"]',
            "no input with a distribution",
        ),
    ],
)
def test_refusals_name_file_and_line_and_what_to_write(old: str, new: str, at: str, words: str) -> None:
    text = changed(old, new)

    message = refused(text)

    assert words in message
    found = re.match(r"case\.toml:(\d+): ", message)
    assert found is not None, message
    assert abs(int(found[1]) - line_of(text, at)) <= 8, f"{message}\nexpected near line {line_of(text, at)}"


def test_an_empty_file_says_how_to_start() -> None:
    assert "there is no [case] table here; `sublet desk init`" in refused("")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("par.tax", "35.0", "write a fraction, 35 % as 0.35"),
        ("par.shares_bn", "0.0", "par.shares_bn is 0; write the number of diluted shares, above zero"),
        ("par.shares_bn", "-2.573", "par.shares_bn is -2.573; write the number of diluted shares, above zero"),
        ("par.pue", "0.9", "PUE is facility power over IT power and can't be below 1"),
        ("par.server_life", "0.0", "write the useful life in years, above zero"),
        ("mc.power", "0.0", "write the capacity as a number above zero"),
    ],
)
def test_impossible_inputs_are_refused_where_they_are_given(name: str, value: str, words: str) -> None:
    text = (EXAMPLES / "hyperscaler-2026.toml").read_text()
    start = text.index(f'[inputs."{name}"]')
    damaged = text[:start] + re.sub(r"value = [\d.]+", f"value = {value}", text[start:], count=1)

    message = refused(damaged)

    assert words in message
    assert message.startswith(f"case.toml:{text[:start].count(chr(10)) + 2}: ")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("low = 1.08, high = 1.3 }", "low = 0.9, high = 1.3 }", "can't be below 1"),
        ("low = 0.12, high = 0.21 }", "low = 0.12, high = 21.0 }", "35 % as 0.35"),
        ("mean = 2.55, sd = 0.04 }", "mean = 2.55, sd = 0.9 }", "diluted shares, above zero"),
        ("low = 4.0, high = 6.0 }", "low = 0.0, high = 6.0 }", "useful life in years"),
    ],
)
def test_distributions_that_reach_the_impossible_are_refused(old: str, new: str, words: str) -> None:
    text = (EXAMPLES / "hyperscaler-2026.toml").read_text()
    assert words in refused(changed(old, new, text))


def test_the_line_of_a_wrong_key_is_exact() -> None:
    text = changed("samples = 100000", "sampels = 100000")
    assert refused(text).startswith(f"case.toml:{line_of(text, 'sampels')}: ")


def test_a_missing_source_is_refused() -> None:
    text = changed('status = "external"\nsource = "books"', 'status = "external"')
    assert 'no source is given; write source = "ID"' in refused(text)


def test_a_result_typed_in_as_a_number_needs_a_formula() -> None:
    text = TEMPLATE + '\n[formulas."typed"]\nvalue = 3.0\nunit = "1"\n'
    assert "'formula' is missing here" in refused(text)


CONTRACTS = """
[inputs."in.backlog"]
value = 9.0
unit = "USD bn"
status = "external"
source = "books"
[inputs."in.worth"]
value = 3.0
unit = "USD bn"
status = "external"
source = "books"
[counterparties]
seller = "us"
backlog = "in.backlog"
stress = { renew = 0.8, reprice = 0.9 }
[[contracts]]
id = "one"
customer = "A"
value = "in.worth"
start = 2026-01-01
end = 2028-01-01
source = "books"
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("end = 2028-01-01\n", "", "contract 'one' has no end"),
        ("end = 2028-01-01", "end = 2025-01-01", "write an end after the start"),
        ("value = 9.0", "value = 2.0", "the contracts sum to more than the backlog of 2"),
        ("renew = 0.8", "renew = 80", "renew is 80; write a share between 0 and 1"),
        ("value = 9.0", "value = 0.0", "in.backlog is 0; write the backlog as a number above zero"),
    ],
)
def test_contracts_that_cannot_be_weighed(old: str, new: str, words: str) -> None:
    assert words in "\n".join(told_or_refused(changed(old, new, TEMPLATE + CONTRACTS)))


def test_contracts_that_are_right_are_taken() -> None:
    desk = build_case(parse_document((TEMPLATE + CONTRACTS).encode(), "case.toml"))
    assert desk.sheet["cp.share.a"].number == pytest.approx(1 / 3)


def hyperscaler_with(formula: str) -> str:
    text = (EXAMPLES / "hyperscaler-2026.toml").read_text()
    return f'{text}\n[formulas."try"]\nformula = \'{formula}\'\nunit = "GW"\n'


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("b04 + b10", "level"),
        ("b10 + b12", "family differs: 'b10' is capacity.footprint.total.bernstein, 'b12' is demand.contract_anchored"),
        ("b12 + b13", "'b12' must not be combined with 'b13'"),
        ("total(b04, b10)", "family differs"),
        ("total(b06, b07, b06)", "owner overlaps: Meta"),
        ("total(b04, b17)", "'b17' is not one"),
    ],
)
def test_sums_over_two_families_are_refused_on_their_line(formula: str, words: str) -> None:
    text = hyperscaler_with(formula)
    message = refused(text)
    assert words in message
    assert message.startswith(f"case.toml:{line_of(text, formula + chr(39))}: ")


def test_a_sum_without_a_stock_says_so_on_its_line() -> None:
    text = hyperscaler_with("stock(b05, b06)")
    assert told(text)[0].startswith(f"case.toml:{line_of(text, 'stock(b05, b06)' + chr(39))}: no stock on or before")


def test_a_sum_inside_one_family_is_allowed() -> None:
    desk = build_case(parse_document(hyperscaler_with("total(b07, b08)").encode(), "case.toml"))
    assert desk.sheet["try"].number == 14.0


def test_values_keep_the_range_that_a_phrase_leaves_open() -> None:
    values = open_case(EXAMPLES / "hyperscaler-2026.toml").values()
    assert (values["b20"]["low"], values["b20"]["high"]) == (pytest.approx(2.965), pytest.approx(2.975))
    assert values["chk.ms.base_eps_2028"]["low"] == pytest.approx(values["chk.ms.base_eps_2028_lo"]["value"])
    assert values["chk.ms.base_eps_2028"]["high"] == pytest.approx(values["chk.ms.base_eps_2028_hi"]["value"])
    assert values["b35"]["high"] == 1.0


def test_explain_goes_down_to_what_was_given() -> None:
    sheet = open_case(EXAMPLES / "hyperscaler-2026.toml").sheet
    tree = sheet.explain("grid.breakeven_price.full_cost")
    assert tree.value.term is not None

    def leaves(node: object) -> set[str]:
        parts = node.parts  # type: ignore[attr-defined]
        return {node.value.name} if not parts else set().union(*map(leaves, parts))  # type: ignore[attr-defined]

    assert leaves(tree) == {
        "b20",
        "b20a",
        "b20b",
        "par.tax",
        "par.shares_bn",
        "in.capex_50",
        "par.server_life",
        "in.used_full",
    }


def test_status_follows_the_weakest_input_unless_the_case_says_otherwise() -> None:
    sheet = open_case(EXAMPLES / "hyperscaler-2026.toml").sheet
    assert sheet["bridge.eps"].status is Status.MODELED
    assert sheet["comp.iren_microsoft.usd_per_kw_month"].status is Status.EXTERNAL
    assert sheet["capex.sum_2026_2028"].status is Status.DERIVED


@given(st.binary(max_size=300))
def test_any_bytes_are_a_case_or_a_sentence(raw: bytes) -> None:
    try:
        build_case(parse_document(raw, "case.toml"))
    except SubletError as error:
        assert error.message


@given(st.integers(min_value=0, max_value=len(TEMPLATE) - 1), st.integers(min_value=1, max_value=40))
def test_a_damaged_case_gives_a_sentence_and_never_a_traceback(start: int, length: int) -> None:
    damaged = TEMPLATE[:start] + TEMPLATE[start + length :]
    try:
        build_case(parse_document(damaged.encode(), "case.toml"))
    except SubletError as error:
        assert "case.toml" in error.message


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaseError, match="can't be read"):
        read_document(tmp_path / "no.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CaseError, match="not UTF-8"):
        read_document(tmp_path / "binary.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * 4_000_001)
    with pytest.raises(CaseError, match="at most 4000000"):
        read_document(tmp_path / "large.toml")


def test_lines_are_known_through_long_strings_lists_and_inline_tables() -> None:
    text = (
        'a = """\nx = 1\n[not.a.header]\n"""\nlist = [\n  1,\n  2,\n]\n[t]\nkey = { x = 1 }\n'
        "[[rows]]\nid = 1\n[[rows]]\nid = 2\n[rows.sub]\nz = 3\n"
    )
    document = parse_document(text.encode(), "case.toml")
    assert document.line_of(("list",)) == 5
    assert document.line_of(("t", "key", "x")) == 10
    assert document.line_of(("rows", 1, "id")) == 14
    assert document.line_of(("rows", 1, "sub", "z")) == 16
    assert ("x",) not in document.lines


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("low = 8.0\nhigh = 20.0", "low = 8.0\nhigh = inf", "'high' is inf; write a finite number"),
        ("axis_power = [4, 8, 12]", "axis_power = [4, nan]", "'axis_power' is nan; write a finite number"),
        ("value = 80.0", "value = nan", "write a finite number"),
    ],
)
def test_numbers_that_lead_nowhere_are_refused(old: str, new: str, words: str) -> None:
    message = refused(changed(old, new))
    assert words in message
    assert message.startswith("case.toml:")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("throughput = 3500", "throughput = 1e308", "number too large"),
        ("low = 8.0\nhigh = 20.0", "low = 8.0\nhigh = 1e308", "is not a finite number for"),
    ],
)
def test_a_number_that_overflows_on_its_way_is_told_by_its_line(old: str, new: str, words: str) -> None:
    text = (EXAMPLES / "university.toml").read_text() if "3500" in old else TEMPLATE
    found = told(text.replace(old, new))
    assert re.match(rf"case.toml:\d+: .*{words}", found[0])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("value = 17.4", "value = -1.0", "no deal is let for less than nothing"),
        ("reprice = 0.7", "reprice = 1e308", "write the new price over the old"),
    ],
)
def test_prices_that_nobody_pays_are_told_by_their_line(old: str, new: str, words: str) -> None:
    text = (EXAMPLES / "hyperscaler-2026.toml").read_text()
    assert text.count(old) == 1
    assert re.match(rf"case.toml:\d+: .*{words}", told(text.replace(old, new))[0])


@pytest.mark.parametrize("name", ["university", "neocloud"])
@given(st.data())
@settings(deadline=None, max_examples=15)
def test_any_number_of_an_example_may_be_replaced_and_gives_reports_or_a_sentence(
    name: str, data: st.DataObject
) -> None:
    text = (EXAMPLES / f"{name}.toml").read_text()
    numbers = list(re.finditer(r'(?<![\w.\-"])\d+\.?\d*(?![\w.\-"])', text))
    found = data.draw(st.sampled_from(numbers))
    other = data.draw(st.sampled_from(["0", "-1.0", "1e308", "nan", "inf", "1e-300", "7"]))
    try:
        desk = build_case(parse_document(f"{text[: found.start()]}{other}{text[found.end() :]}".encode(), "case.toml"))
    except SubletError as error:
        assert "case.toml" in error.message
        return
    render(desk, sections(desk, [], []), "test")
    json.dumps(as_json(desk, [], [], "test"), allow_nan=False)
    workbook.write(desk, [], "test")


def test_the_neocloud_earns_by_its_useful_lives_and_marks_its_lease() -> None:
    """120 MW at 41 USD a watt: a year of life more or less decides whether there is a profit."""
    desk = open_case(EXAMPLES / "neocloud.toml")
    sheet = desk.sheet
    before = sheet["ebit.before_depreciation"].number
    for life in (6, 5, 4):
        assert sheet[f"ebit.life_{life}"].number == pytest.approx(before - 120 * 41 / life)
    assert sheet["ebit.life_5"].number > 0 > sheet["ebit.life_4"].number
    found = desk.sensitivities[0].grid
    assert found is not None
    at_given_price = [row[found.column_values.index(13)] for row in found.cells]
    assert at_given_price == pytest.approx([sheet[f"ebit.life_{life}"].number for life in (4, 5, 6)])
    assert sheet["forward.2027-01-01.rent"].status == "assumption"
    quarters = [sheet[f"mark.gain.{label}"].number for label in ("2026Q4", "2027Q1", "2027Q2", "2028Q3")]
    assert quarters[0] < 0 < quarters[2] < quarters[3]
