"""Slip classes: what explains the difference between a printed number and its own terms; use of a flagged one."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.desk.conftest import told

from sublet.desk.briefing import brief
from sublet.desk.desk import build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.report.page import quantity
from sublet.desk.slips import find_slip, half_width, kinds_of
from sublet.desk.template import template_text
from sublet.desk.units import parse_unit
from sublet.values.errors import InvalidInputError

RATES = (("USD/EUR", 1.10), ("USD/TWD", 31.5))
EXAMPLE = (Path(__file__).parents[2] / "examples" / "hyperscaler-2026.toml").read_text()


@pytest.mark.parametrize(
    ("printed", "calculated", "kinds", "about", "inputs", "kind"),
    [
        ("300", 30.0, ("zh", "money"), True, 0.004, "億 read as billion"),
        ("300", 30.0, ("money",), True, 0.004, "power of ten (10^1)"),
        ("1.25", 15.0, ("time", "money"), False, 0.0, "month for a year"),
        ("15", 1.25, ("time", "money"), False, 0.0, "month for a year"),
        ("12", 1.0, (), False, 0.0, "month for a year"),
        ("2.5", 30.0, ("time",), True, 0.01, "month for a year"),
        ("120", 30.0, ("time", "money"), False, 0.0, "quarter for a year"),
        ("80,000", 80.0, ("power",), False, 0.0, "unit prefix (k, M, G; million, billion)"),
        ("38000000000", 38.0, ("power",), False, 0.0, "watt for gigawatt"),
        ("0.08", 8.0, ("ratio",), False, 0.02, "percent for a fraction"),
        ("3200", 400.0, ("data",), False, 0.0, "bit for a byte"),
        ("1.10", 1.0, ("data",), False, 0.0, "TB for TiB"),
        ("1750", 175.0, ("zh", "money"), False, 0.0, "億 read as billion"),
        ("2.87", 2870000.0, ("zh",), False, 0.0, "兆 (10^12) read as mega or million"),
        ("945", 30.0, ("money",), False, 0.0, "currency USD/TWD"),
        ("33.0", 30.0, ("money",), False, 0.0, "currency USD/EUR"),
        ("39", 30.0, ("power",), False, 0.0, "suspected basis (PUE)"),
        ("30", 30.2, (), False, 0.004, "match"),
        ("31.5", 30.0, (), False, 0.0, "small mismatch"),
        ("31.5", 30.0, ("power", "money", "time"), False, 0.0, "small mismatch"),
        ("49", 49.5, (), True, 0.0, "match"),
        ("360", 3.0, ("time",), False, 0.01, "month for a year and 10^1"),
        ("-13", 13.0, (), False, 0.0, "sign"),
        ("47", 30.0, (), False, 0.0, "terms differ"),
        ("365", 1.0, ("time",), False, 0.0, "day for a year"),
        ("10", 12.2, (), False, 0.0, "terms differ"),
    ],
)
def test_a_difference_is_named(
    printed: str, calculated: float, kinds: tuple[str, ...], about: bool, inputs: float, kind: str
) -> None:
    found = find_slip(printed, calculated, kinds, about=about, inputs=inputs, rates=RATES)
    assert found.kind == kind
    assert found.is_slip == (kind not in ("match", "small mismatch", "terms differ"))


@pytest.mark.parametrize(
    ("printed", "about", "share"),
    [("30", False, 0.5 / 30), ("30.0", False, 0.05 / 30), ("3", True, 0.5 / 3), ("20", True, 0.05)],
)
def test_printed_digits_set_the_tolerance(printed: str, about: bool, share: float) -> None:
    assert half_width(printed, about) == pytest.approx(share)


def test_a_small_mismatch_is_said_and_not_rounded_away() -> None:
    assert "small mismatch of 5.0%" in find_slip("31.5", 30.0).sentence
    assert "agrees" in find_slip("30", 30.2).sentence
    assert "12" in find_slip("12", 1.0).sentence and "month for a year" in find_slip("12", 1.0).sentence


def test_the_unit_and_the_language_say_what_can_slip() -> None:
    assert kinds_of(parse_unit("USD bn/GW-yr"), "zh") == {"money", "power", "time", "zh"}
    assert kinds_of(parse_unit("share")) == {"ratio"}


def test_what_is_no_number_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="write it as it was printed"):
        find_slip("thirty", 30.0)


def test_a_flagged_number_is_used_by_explicit_choice_only_and_every_result_shows_it() -> None:
    desk = build_case(parse_document(EXAMPLE.encode(), "case.toml"))
    marked = desk.sheet["chk.xai.printed_usd_bn_per_gw_year"]
    assert [str(mark) for mark in marked.marks] == ["uses b25 as printed, though flagged: 億 read as billion"]
    assert str(marked.marks[0]) in quantity(marked)
    assert marked.as_dict()["marks"] == [str(mark) for mark in marked.marks]
    assert not desk.sheet["chk.xai.usd_per_w_year"].marks
    assert "億 read as billion" in brief(desk, "en").render().replace("\n  ", " ")

    found = told(EXAMPLE.replace('use = "printed"\n', ""))
    assert "'b25', which its own deal contradicts" in found[0]
    assert 'write use = "recomputed"' in found[0] and 'or use = "printed"' in found[0]
    assert found[0].startswith("case.toml:")


def test_a_use_that_nobody_knows_is_refused() -> None:
    with pytest.raises(CaseError, match="did you mean 'printed'"):
        build_case(parse_document(EXAMPLE.replace('use = "printed"', 'use = "prnted"').encode(), "case.toml"))


@pytest.mark.parametrize("use", ["printed", "recomputed"])
def test_a_flagged_number_is_used_as_printed_or_as_its_deal_has_it(use: str) -> None:
    desk = build_case(parse_document(EXAMPLE.replace('use = "printed"', f'use = "{use}"').encode(), "case.toml"))
    used = desk.sheet["chk.xai.printed_usd_bn_per_gw_year"]
    right = desk.sheet["comp.xai_anthropic_500.usd_per_w_year"].number
    assert used.number == pytest.approx(300.0 if use == "printed" else right)
    told = str(used.marks[0])
    assert ("in place of b25 as printed" in told) == (use == "recomputed") and "億 read as billion" in told
    marked = {value.name for value in desk.sheet if value.marks}
    others = {value.name for value in desk.sheet if value.term is not None and value.name not in marked}
    assert not any("b25" in desk.sheet.leaves(name) for name in others)
    assert not desk.sheet["comp.xai_anthropic_500.usd_per_w_year"].marks
    for language in ("en", "zh-Hant", "zh-Hans"):
        brief(desk, language).render()


def test_a_slip_of_currency_is_told_by_the_rates_that_the_case_states() -> None:
    rates = '\n[exchange_rates.TWD]\nper_usd = 32.5\nsource = "judgment"\n'
    text = template_text()
    source = text.partition("[sources.")[2].partition("]")[0]
    text += rates.replace("judgment", source)
    text += '\n[formulas."try.price"]\nformula = "2.0 * in.support * fx.TWD"\nunit = "TWD/W-yr"\n'
    desk = build_case(parse_document(text.encode(), "case.toml"))
    assert desk.sheet["try.price"].number == pytest.approx(2 * desk.sheet["in.support"].number * 32.5)
    assert find_slip("975", 30.0, {"money"}, rates=[("TWD for USD", 32.5)]).kind == "currency TWD for USD"
    for line, words in (("per_usd = 0", "above zero"), ("per_usd = -1", "above zero")):
        with pytest.raises(CaseError, match=words):
            build_case(parse_document(text.replace("per_usd = 32.5", line).encode(), "case.toml"))
    with pytest.raises(CaseError, match="not a unit"):
        build_case(parse_document(text.replace("exchange_rates.TWD", "exchange_rates.XYZ").encode(), "case.toml"))
