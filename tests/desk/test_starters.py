"""A starter for each kind of owner gives a full page as it is; broken in ten ways, it says each time what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublet.desk.briefing import brief
from sublet.desk.desk import Desk, build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.report.pages import sections
from sublet.desk.review import review
from sublet.desk.service import write_reports
from sublet.desk.sheet import Status
from sublet.desk.starters import STARTERS, starter_text, write_starter


def opened(text: str) -> Desk:
    return build_case(parse_document(text.encode(), "mine.toml"))


@pytest.mark.parametrize("kind", STARTERS)
def test_a_starter_gives_a_full_page_and_nothing_to_complain_of(kind: str) -> None:
    desk = opened(starter_text(kind, "mine"))
    assert desk.problems == () and desk.heading.name == "mine"
    assert [item for item in review(desk) if item.kind != "untranslated"] == []
    sentences = brief(desk, "en").sentences
    assert len(sentences) >= 5 and {item.part for item in sentences} >= {"claim", "numbers", "change"}
    assert {part.id for part in sections(desk, [], [])} >= {
        "headline",
        "bridge",
        "sensitivity",
        "decision",
        "scenarios",
        "numbers",
    }
    assert 11 <= len(desk.inputs) <= 13
    assert all(desk.sheet[name].status is Status.ASSUMPTION for name in desk.inputs)
    assert desk.sheet["decision.indifference_price"].number < desk.sheet["in.price"].number


def test_a_starter_is_written_once_and_reported(tmp_path: Path) -> None:
    path = tmp_path / "ours.toml"
    write_starter("enterprise", path)
    desk = opened(path.read_text())
    assert write_reports(desk, tmp_path).html.name == "ours.html"
    with pytest.raises(CaseError, match="already there"):
        write_starter("enterprise", path)
    with pytest.raises(CaseError, match=r"did you mean 'university'"):
        write_starter("univrsity", tmp_path / "other.toml")


BROKEN = [
    ('unit = "MW, IT"', 'unit = "mw, IT"', "MW"),
    ('unit = "USD/W-yr, IT"', 'unit = "$/W-yr, IT"', "USD"),
    ("value = 110", "value = 1,100", "mine.toml"),
    ("value = 0.45", "value = 45", "0.45"),
    ("value = 1.45", "value = 0.9", "PUE"),
    ('source = "judgment"', 'source = "jugdment"', "judgment"),
    ('status = "assumption"', 'status = "asumption"', "assumption"),
    ('power = "in.power"', 'power = "in.pwer"', "in.power"),
    ("[decision]", "[decison]", "decision"),
    ('displaced = "in.displaced"\n', "", "displaced"),
    ('formula = "power_cost_per_it_watt(', 'formula = "powr_cost_per_it_watt(', "power_cost_per_it_watt"),
    ("as_of = 2026-07-01", 'as_of = "July"', "as_of"),
    ("value = 0.45", "value = 45%", "write 45 % as a fraction: 0.45"),
    ('title = "assumption of this case"', 'title = "assumption of this case', "no closing quote"),
    ('source = "judgment"', "source = judgment", "a text stands in quotes"),
    ('[inputs."in.tax"]', '[inputs."in.used"]', "give one of the two another name"),
    ('unit = "MW, IT"', 'unit = "kilowatt"', "did you mean 'kW'?"),
    ('unit = "USD/MWh"', 'unit = "USD million/MWh"', "did you mean 'USD m'?"),
    ("pue=in.pue", "pues=in.pue", "power_cost_per_it_watt() has no parameter 'pues'; did you mean 'pue'?"),
    ("{in.price} brings", "{in.price brings", "a brace stands alone"),
    ('price = "in.price"', "price = 13", "give it under [inputs] and write its name here"),
    ('unit = "USD/W-yr, IT"', 'unit = "EUR/W-yr, IT"', "add [exchange_rates.EUR] and, in a formula, divide by fx.EUR"),
]


@pytest.mark.parametrize(("before", "after", "says"), BROKEN)
def test_each_mistake_says_where_and_what_to_write(before: str, after: str, says: str) -> None:
    text = starter_text("university", "mine")
    assert before in text, before
    with pytest.raises(CaseError) as told:
        opened(text.replace(before, after, 1))
    assert "mine.toml:" in told.value.message and says in told.value.message


def test_a_part_that_lacks_a_number_names_itself_and_not_the_values_that_are_there() -> None:
    text = starter_text("neocloud", "mine").replace(
        '[inputs."in.used"]\nvalue = 0.85', '[inputs."in.used"]\nvalue = 0.0'
    )
    reasons = [problem.message for problem in opened(text).problems]
    assert any("'grid.breakeven_price.affine' can't be calculated, as [bridge] can't" in reason for reason in reasons)
    assert not [reason for reason in reasons if "valid here" in reason]
