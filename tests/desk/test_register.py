"""The signal board replayed on past questions, positioning from returns, scenarios that inherit, and what `check` lists of tables."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from tests.desk.small import head

from sublet.desk.desk import Desk, build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.positioning import regression
from sublet.desk.report.calibration import calibration
from sublet.desk.report.pages_market import signals as signals_page
from sublet.desk.report.wording import Wording
from sublet.desk.review import review
from sublet.desk.signals import posterior
from sublet.values.errors import InvalidInputError

HEAD = (
    head(["y"], s="2026-07-01", old="2020-01-01")
    + """\
[inputs.x]
value = 2
unit = "1"
status = "published"
source = "s"
[inputs.prior]
value = 0.2
unit = "prob"
status = "published"
source = "s"
[inputs.move]
value = -0.13
unit = "share"
status = "published"
source = "s"
[inputs.market_move]
value = -0.02
unit = "share"
status = "published"
source = "s"
[formulas.y]
formula = "x * 3"
unit = "1"
"""
)
BOARD = """
[signals]
claim = "a claim"
prior = "prior"
[[signals.items]]
id = "price"
bull = "up"
bear = "down"
lr_bull = 0.5
lr_bear = 4
test = "t"
falsifier = "f"
due = 2026-12-31
source = "s"
"""


def past(place: int, reading: str, observed: date, came_true: bool, prior: float = 0.2) -> str:
    asked = date(2024, 1, 1) + timedelta(days=place)
    return (
        f'[[signals.past]]\nid = "q{place}"\nquestion = "?"\nasked_on = {asked}\nprior = {prior}\n'
        f"settled_on = {asked + timedelta(days=30)}\n"
        f'came_true = {str(came_true).lower()}\nsource = "s"\n'
        f'readings = [{{ signal = "price", reading = "{reading}", observed_on = {observed} }}]\n'
    )


def case(text: str) -> Desk:
    return build_case(parse_document((HEAD + text).encode(), "case.toml"))


def test_the_board_is_replayed_with_what_was_known_and_scored() -> None:
    early, late = date(2023, 12, 31), date(2024, 6, 1)
    desk = case(BOARD + past(0, "bear", early, True) + past(1, "bear", late, False) + past(2, "bull", early, False))
    assert desk.signals is not None
    said = [item.probability for item in desk.signals.past]
    assert said == pytest.approx([posterior(0.2, [4]), 0.2, posterior(0.2, [0.5])])
    assert desk.signals.score is not None
    assert desk.signals.score.brier == pytest.approx(((said[0] - 1) ** 2 + said[1] ** 2 + said[2] ** 2) / 3)


def test_a_question_settled_after_the_case_s_date_does_not_count() -> None:
    text = past(0, "bear", date(2023, 1, 1), True).replace("settled_on = 2024-01-31", "settled_on = 2026-08-01")
    desk = case(BOARD + text)
    assert desk.signals is not None
    assert desk.signals.past == ()
    assert desk.signals.score is None


def test_thirty_questions_have_a_calibration_chart_that_shows_the_bins() -> None:
    questions = "".join(
        past(place, "bear" if place % 2 else "bull", date(2023, 1, 1), place % 4 == 1) for place in range(32)
    )
    desk = case(BOARD + questions)
    assert desk.signals is not None
    assert desk.signals.score is not None
    section = signals_page(Wording(desk))
    assert section is not None
    drawn = [block.draw(480) for block in section.blocks if hasattr(block, "draw")]
    bins = desk.signals.score.bins
    assert drawn[-1] == calibration(480, bins, ("said, %", "came true, %"))
    assert all(f"n={one.questions}" in drawn[-1] for one in bins)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('signal = "price"', 'signal = "prise"', "did you mean 'price'"),
        ('reading = "bear"', 'reading = "bare"', "did you mean 'bear'"),
        ("prior = 0.2\nsettled", "prior = 1.2\nsettled", "above 0 and below 1"),
        ("settled_on = 2024-01-31", "settled_on = 2023-01-31", "before it was asked"),
    ],
)
def test_a_past_question_that_can_not_be_used_is_refused_with_its_line(old: str, new: str, words: str) -> None:
    text = past(0, "bear", date(2023, 1, 1), True)
    assert old in text
    try:
        told = " ".join(problem.message for problem in case(BOARD + text.replace(old, new)).problems)
    except CaseError as error:
        told = error.message
    assert words in told
    assert told.startswith("case.toml:")


def returns(count: int = 40) -> tuple[str, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    market = generator.normal(0, 0.01, count).round(6)
    owner = (1.5 * market + generator.normal(0, 0.02, count)).round(6)
    rows = "".join(
        f"  {{ day = {date(2026, 1, 1) + timedelta(days=place)}, stock = {one}, index = {other} }},\n"
        for place, (one, other) in enumerate(zip(owner, market, strict=True))
    )
    table = (
        f'[tables.history]\nkey = "day"\ncolumns = {{ stock = "share", index = "share" }}\nsource = "s"\nstatus = "external"\n'
        f"rows = [\n{rows}]\n"
        '[positioning]\n[[positioning.returns]]\nid = "stock"\ntitle = "The stock"\n'
        'owner = "history.stock"\nmarket = "history.index"\n'
        'move = "move"\nmarket_move = "market_move"\nsource = "s"\n'
    )
    return table, owner, market


def test_a_move_is_measured_against_its_own_history() -> None:
    text, owner, market = returns()
    sheet = case(text).sheet
    slope, level = np.polyfit(market, owner, 1)
    left = owner - slope * market - level
    deviation = np.sqrt((left**2).sum() / 38)
    assert sheet["pos.stock.beta"].number == pytest.approx(slope)
    assert sheet["pos.stock.residual_sd"].number == pytest.approx(deviation)
    assert sheet["pos.stock.residual"].number == pytest.approx(-0.13 - level + 0.02 * slope)
    assert sheet["pos.stock.z"].number == pytest.approx((-0.13 - level + 0.02 * slope) / deviation)


def test_a_history_that_says_nothing_is_refused() -> None:
    for owner, market, words in (
        ([0.1] * 5, [0.1] * 5, "at least 10"),
        ([0.1] * 12, [0.2] * 12, "no beta"),
        (range(12), range(12), "nothing is left"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            regression(list(owner), list(market))
    with pytest.raises(CaseError, match=r"did you mean 'history\.stock'"):
        case(returns()[0].replace('owner = "history.stock"', 'owner = "history.stck"'))


def test_scenarios_inherit_and_come_over_what_they_inherit() -> None:
    text = (
        '[[scenarios]]\nid = "low"\ntitle = "Low"\nset = { "x" = 1, "move" = -0.2 }\n'
        '[[scenarios]]\nid = "lower"\ntitle = "Lower"\ninherits = "low"\nset = { "x" = 0.5 }\n'
    )
    low, lower = case(text).scenarios
    assert dict(lower.changes) == {"x": 0.5, "move": -0.2}
    assert (low.results["y"], lower.results["y"]) == (3, 1.5)
    with pytest.raises(CaseError, match="did you mean 'low'"):
        case(text.replace('inherits = "low"', 'inherits = "lwo"'))


def test_check_covers_tables_and_inputs_that_contradict_each_other() -> None:
    text = (
        '[tables.deals]\nkey = "pool"\ncolumns = { power = "MW", rent = "USD/W-yr", spare = "MW" }\n'
        'source = "old"\nstatus = "external"\n'
        'rows = [{ pool = "a", power = 1, rent = { value = 2, status = "assumption" }, spare = 3 }]\n'
        '[formulas.income]\nformula = "sum(deals.power * deals.rent)"\nunit = "USD/yr"\n'
        '[inputs.one]\nvalue = 5\nunit = "yr"\nstatus = "assumption"\nsource = "s"\nnote = "life of a server"\n'
        '[inputs.two]\nvalue = 6\nunit = "yr"\nstatus = "assumption"\nsource = "s"\nnote = "life of a server"\n'
    )
    found = {(item.kind, item.name) for item in review(case(text))}
    assert {
        ("stale", "deals.a.power"),
        ("unsourced", "deals.a.rent"),
        ("unused", "deals.a.spare"),
        ("contradictory", "two"),
    } <= found
    assert ("unused", "deals.a.power") not in found


def test_the_shipped_cases_say_nothing_twice() -> None:
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*.toml")):
        if "[case]" in path.read_text():
            desk = build_case(parse_document(path.read_bytes(), str(path)))
            assert not [item for item in review(desk) if item.kind == "contradictory" and item.name in desk.inputs], (
                path
            )
