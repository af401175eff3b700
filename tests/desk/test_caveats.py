"""What is calculated of unlike things, or with a basis read into it, says so wherever the number is shown."""

from __future__ import annotations

import io
import zipfile
from itertools import combinations
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sublet.cli import app
from sublet.desk.briefing import brief
from sublet.desk.desk import LANGUAGES, Desk, build_case, open_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError, FamilyError
from sublet.desk.expressions import calculate
from sublet.desk.report import workbook
from sublet.desk.report.figures import as_json
from sublet.desk.report.wording import Wording
from sublet.desk.reservations import CAVEATS, READINGS, reservation
from sublet.desk.starters import STARTERS, starter_text
from sublet.desk.template import template_text
from sublet.desk.terms import Term, reference
from sublet.desk.units import parse_unit
from sublet.desk.whatif import what_if

EXAMPLES = Path(__file__).parents[2] / "examples"
EXAMPLE = (EXAMPLES / "hyperscaler-2026.toml").read_text()

KNOWN = {
    "it": ("MW, IT", 250.0, ""),
    "power": ("MW", 250.0, ""),
    "p_it": ("USD/W-yr, IT", 50.0, ""),
    "p": ("USD/W-yr", 40.0, ""),
    "unknown": ("USD/W-yr, basis unknown", 40.0, ""),
    "watts": ("W per accelerator, facility", 1500.0, ""),
    "deal_a": ("USD/W-yr", 30.0, "price of deal a"),
    "deal_b": ("USD/W-yr", 10.0, "price of deal b"),
}
READ = "basis of the {} {} not stated; read as {}"
UNLIKE = "not comparable: {} are prices of deals of unlike size, term and inclusion"


def named(name: str) -> Term:
    unit, number, family = KNOWN[name]
    return reference(name, number, parse_unit(unit), family)


def caveats(text: str) -> list[str]:
    return sorted(map(str, calculate(text, named, lambda function, names: None).lineage.caveats))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("it * p", [READ.format("price", "p", "IT")]),
        ("it * unknown", [READ.format("price", "unknown", "IT")]),
        ("power * p_it", [READ.format("power", "power", "IT")]),
        ("power / it", [READ.format("power", "power", "IT")]),
        ("it / power", [READ.format("power", "power", "IT")]),
        ("it * 40 [USD/W-yr]", [READ.format("price", "40", "IT")]),
        ("lease_revenue(power=it, price=p)", [READ.format("price", "p", "IT")]),
        ("lease_revenue(power=it, price=40)", [READ.format("price", "lease_revenue(): price", "IT")]),
        ("per_accelerator_hour(price=p, watts=watts)", [READ.format("price", "p", "facility")]),
        ("deal_a / deal_b", [UNLIKE.format("deal_a and deal_b")]),
        ("deal_a * (1 / deal_b)", [UNLIKE.format("deal_a and 1 / deal_b")]),
        ("price_elasticity(price=deal_a, cost=deal_b)", [UNLIKE.format("deal_a and deal_b")]),
        ("it * p * 2 + 1 [USD bn/yr] * 0", [READ.format("price", "p", "IT")]),
        ("if(it * p > it * p_it, 1, 2)", [READ.format("price", "p", "IT")]),
        ("it * p_it", []),
        ("power * p", []),
        ("deal_a / deal_a * it * p_it", []),
        ("it / it", []),
    ],
)
def test_a_number_of_unlike_things_says_what_was_taken_for_granted(text: str, told: list[str]) -> None:
    assert caveats(text) == told


def with_formula(formula: str, unit: str, more: str = "") -> Desk:
    text = f'{EXAMPLE}{more}\n[formulas."try.it"]\nformula = \'{formula}\'\nunit = "{unit}"\n'
    return build_case(parse_document(text.encode(), "case.toml"))


def test_every_place_that_shows_the_number_shows_it() -> None:
    remark = '[[case.remarks]]\npart = "numbers"\n' + "".join(f'{it} = "{{try.it}}"\n' for it in LANGUAGES)
    desk = with_formula("b22.1 / cap.ms.meta_stock_2027_gw * 2", "share")
    value = desk.sheet["try.it"]
    told = "basis of the power b22.1 not stated; read as IT"
    assert [str(mark) for mark in value.marks] == [told], "a chain of values carries it on"
    assert value.as_dict()["marks"] == [told]
    assert as_json(desk, [], [], "1")["values"]["try.it"]["marks"] == [told]
    with zipfile.ZipFile(io.BytesIO(workbook.write(desk, [], "1"))) as book:
        assert told.encode() in book.read("xl/sharedStrings.xml")
    text = EXAMPLE.replace("[[rows]]", f"{remark}\n[[rows]]", 1)
    text += '\n[formulas."try.it"]\nformula = "b22.1 / b06"\nunit = "share"\n'
    shown = build_case(parse_document(text.encode(), "case.toml"))
    for language in LANGUAGES:
        words = reservation(shown.sheet["try.it"].marks[0], language)
        assert words in brief(shown, language).render().replace("\n  ", " ")
        assert words in Wording(shown, language).quantity(shown.sheet["try.it"])


def test_every_caveat_has_words_in_every_language() -> None:
    for words in (*CAVEATS.values(), *READINGS.values()):
        assert set(words) == set(LANGUAGES) and len(set(words.values())) == len(LANGUAGES)


def test_the_ratio_of_two_deals_is_marked(hyperscaler: Desk) -> None:
    bases = {deal.price: hyperscaler.sheet[deal.price].basis for deal in hyperscaler.comparables if deal.is_per_watt}
    one, other = next(pair for pair in combinations(bases, 2) if bases[pair[0]] == bases[pair[1]])
    desk = with_formula(f"{one} / {other}", "x")
    assert any("not comparable" in str(mark) for mark in desk.sheet["try.it"].marks)


def test_what_was_published_of_a_year_takes_no_multiple() -> None:
    for formula in ("b20 * 25 [x]", "25 [x of earnings] * (b20 * 2)", "b20.high * 25 [multiple]", "b20 / 0.04 [rate]"):
        with pytest.raises(CaseError, match=r"bridge_value\(\)"):
            with_formula(formula, "USD/share")
    assert with_formula("b20 / b21 * 25 [x]", "USD/share").sheet["try.it"].number == pytest.approx(2.97 / 0.08 * 25)


@pytest.mark.parametrize(
    "formula",
    ["b39 + b40.2", "b40.1 + b39", "sum(b39, b40.2)", "max(b39, b40.1)", "if(b39 > b40.1, b39, 0)", "b40.1 + b39.low"],
)
def test_parts_and_ends_of_rows_are_kept_apart_as_the_rows_are(formula: str) -> None:
    with pytest.raises((CaseError, FamilyError), match="must not be combined"):
        with_formula(formula, "z (std dev)")


def test_what_a_source_keeps_apart_is_marked_where_it_is_not_a_sum(hyperscaler: Desk) -> None:
    told = "not comparable: by its own row, b39 and b40 are not to be combined"
    assert [str(mark) for mark in hyperscaler.sheet["pos.swing_lo"].marks] == [told]
    desk = with_formula("b39 - b40.2", "z (std dev)")
    assert [str(mark) for mark in desk.sheet["try.it"].marks] == [told]
    assert desk.sheet["chk.ms_vs_ubs.eps_growth_2028_cross_bank"].marks, "two banks"


@pytest.mark.parametrize("name", ["neocloud", "university", "gigawatt"])
def test_a_case_that_states_every_basis_has_no_reservation(name: str) -> None:
    desk = open_case(EXAMPLES / f"{name}.toml")
    assert not [value.name for value in desk.sheet if value.marks]


@pytest.mark.parametrize("text", [template_text(), *(starter_text(kind, "mine") for kind in STARTERS)])
def test_nor_has_a_case_to_start_from(text: str) -> None:
    desk = build_case(parse_document(text.encode(), "case.toml"))
    assert not [value.name for value in desk.sheet if value.marks]


def test_commands_that_print_numbers_alone_and_the_what_if_page_say_it_too(tmp_path: Path) -> None:
    path = tmp_path / "case.toml"
    path.write_text(starter_text("university", "mine").replace('unit = "USD/W-yr, IT"', 'unit = "USD/W-yr"', 1))
    told = READ.format("price", "in.price", "IT")
    for command in (["mc", str(path), "--samples", "1000"], ["sensitivity", str(path), "bridge.contribution"]):
        found = CliRunner().invoke(app, ["desk", *command])
        assert found.exit_code == 0 and told in found.output.replace("\n", " "), command
    rows = what_if(open_case(path), {"in.price": "11"}, "zh-Hant").results
    assert "價格以何種用電計" in next(row.label for row in rows if row.name == "bridge.contribution")
