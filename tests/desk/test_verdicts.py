"""Verdicts: dated questions on dated evidence, against the worked figures, and scored against what came of them."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.desk.briefing import brief
from sublet.desk.desk import LANGUAGES, Desk, build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.report.page import render
from sublet.desk.report.pages import sections
from sublet.desk.review import review
from sublet.desk.verdicts import (
    CREDIBILITY,
    GROUP_CAP_DB,
    HALF_LIFE_DAYS,
    WEIGHTS,
    Evidence,
    Question,
    Settled,
    Word,
    judge,
    score,
)
from sublet.values.errors import InvalidInputError

EXAMPLE = (Path(__file__).parents[2] / "examples" / "hyperscaler-2026.toml").read_text()
TODAY = date(2026, 7, 2)
LATER = (
    Evidence("s.capex", "guidance cut", "guidance", date(2026, 8, 1), "published", 1, "decisive"),
    Evidence("s.price", "index down", "price", date(2026, 8, 1), "published", 1, "decisive"),
    Evidence("s.use", "two owners idle", "utilization", date(2026, 8, 5), "published", 1, "strong"),
)

evidence = st.builds(
    Evidence,
    id=st.uuids().map(str),
    text=st.just("a fact"),
    group=st.sampled_from(sorted(HALF_LIFE_DAYS)),
    observed_on=st.dates(date(2024, 1, 1), date(2026, 12, 31)),
    status=st.sampled_from(sorted(CREDIBILITY)),
    direction=st.sampled_from([1, -1]),
    weight=st.sampled_from([*sorted(WEIGHTS), "none"]),
)


def asked(*pieces: Evidence, prior: float = 0.3, gates: tuple[str, ...] = ()) -> Question:
    return Question("q", "Is it so?", date(2027, 1, 1), prior, gates, pieces)


def question_of(desk: Desk, id_: str) -> Question:
    return next(item.judgment.question for item in desk.verdicts if item.judgment.question.id == id_)


def test_the_worked_verdicts_come_out(hyperscaler: Desk) -> None:
    found = {item.judgment.question.id: item for item in hyperscaler.verdicts}
    surplus, glut = found["surplus"].judgment, found["glut"].judgment
    assert (round(surplus.probability, 2), surplus.word) == (0.55, Word.OPEN)
    assert round(surplus.without["a03"], 2) == 0.28
    assert (round(glut.probability, 3), glut.word) == (0.041, Word.NOT_SHOWN)
    moved = {"b25": -2.99, "b14": -2.92, "b26c": -1.50, "a03": 0.48, "b28": -0.47, "b16": -0.23, "b01": 0.0}
    assert {id_: round(number, 2) for id_, number in glut.moved.items()} == moved
    assert hyperscaler.sheet["verdict.glut.probability"].number == glut.probability
    assert hyperscaler.sheet["verdict.glut.without.b25"].number == glut.without["b25"]


@pytest.mark.parametrize(("bear", "percent", "word"), [(1, 36, Word.OPEN), (2, 83, Word.OPEN), (3, 95, Word.SHOWN)])
def test_a_glut_is_shown_only_with_evidence_at_every_gate(
    hyperscaler: Desk, bear: int, percent: int, word: Word
) -> None:
    glut = question_of(hyperscaler, "glut")
    found = judge(replace(glut, evidence=(*glut.evidence, *LATER[:bear])), date(2026, 8, 10))
    assert (round(found.probability * 100), found.word) == (percent, word)


@given(st.lists(evidence, max_size=12), st.floats(0.01, 0.99), st.dates(date(2025, 1, 1), date(2027, 1, 1)))
def test_evidence_fades_is_capped_and_never_known_before_its_day(
    pieces: list[Evidence], prior: float, today: date
) -> None:
    found = judge(asked(*pieces, prior=prior), today)
    assert 0 < found.probability < 1
    known = [item for item in pieces if item.observed_on <= today]
    assert set(found.moved) == {item.id for item in known}
    assert found.probability == pytest.approx(judge(asked(*known, prior=prior), today).probability)
    odds = abs(judge(asked(*pieces, prior=0.5), today).probability - 0.5)
    assert odds <= 1 / (1 + 10 ** (-GROUP_CAP_DB * len(HALF_LIFE_DAYS) / 10)) - 0.5 + 1e-12
    for item in known:
        later = today + timedelta(days=HALF_LIFE_DAYS[item.group])
        assert item.decibans(later) == pytest.approx(item.decibans(today) / 2)
        assert item.status != "assumption" or item.decibans(today) == 0


@given(st.lists(evidence, max_size=8), evidence.filter(lambda item: item.direction == 1))
def test_more_evidence_for_it_never_makes_it_less_likely(pieces: list[Evidence], more: Evidence) -> None:
    assert judge(asked(*pieces, more), TODAY).probability >= judge(asked(*pieces), TODAY).probability - 1e-12


def test_past_verdicts_are_scored() -> None:
    pairs = [
        (0.07, 0),
        (0.07, 0),
        (0.20, 0),
        (0.30, 1),
        (0.10, 0),
        (0.60, 1),
        (0.80, 1),
        (0.15, 0),
        (0.70, 0),
        (0.90, 1),
    ]
    settled = [
        Settled(f"q{place}", "?", date(2025, 1, 1), said, date(2025, 6, 1), bool(came))
        for place, (said, came) in enumerate(pairs)
    ]
    found = score(settled)
    assert found is not None and found.skill is not None
    figures = (found.brier, found.reliability, found.resolution, found.uncertainty, found.skill)
    assert [round(figure, 4) for figure in figures] == [0.1272, 0.0253, 0.1400, 0.2400, 0.4699]
    assert all(0 <= one.low <= one.came_true <= one.high <= 1 for one in found.bins)
    assert score([]) is None
    alike = score(settled[:2])
    assert alike is not None and alike.skill is None


def test_a_case_keeps_a_register_and_its_page_and_briefing_say_what_it_comes_to() -> None:
    row = (
        '\n[[settled]]\nid = "s{0}"\nquestion = "guidance raised?"\nasked_on = 2025-0{0}-01\nprobability = 0.{0}\n'
        'settled_on = {1}\ncame_true = true\nsource = "desk"\n'
    )
    text = EXAMPLE + row.format(3, "2025-08-01") + row.format(6, "2025-08-01") + row.format(9, "2026-12-01")
    desk = build_case(parse_document(text.encode(), "case.toml"))
    assert desk.score is not None and desk.score.questions == 2, "a question is scored once it is settled, not before"
    page = render(desk, sections(desk, [], []), "1")
    part = page.partition('<section id="verdicts">')[2].partition("</section>")[0]
    for words in ("not shown", "without it", "Brier score", "it takes 30 settled", "no fact about supply"):
        assert words in part, words
    for language in LANGUAGES:
        assert "4.14%" in brief(desk, language).render() and "28.1%" in brief(desk, language).render()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('weight = "decisive"', 'weight = "huge"', "not one of weak, fair, strong, decisive or none"),
        ('id = "b15"\ntext = "Meta\'s chief', 'id = "b99"\ntext = "Meta\'s chief', "no source is given"),
        ('gates = ["owner"]', 'gates = ["ownr"]', "gate 'ownr' is no group"),
        ('speaks = "for"', 'speaks = "maybe"', "write for or against"),
        ('status = "self-reported"', 'status = "rumor"', "is not known for evidence"),
    ],
)
def test_what_is_no_evidence_is_told(old: str, new: str, words: str) -> None:
    assert old in EXAMPLE
    text = EXAMPLE.replace(old, new, 1)
    try:
        told = "\n".join(problem.message for problem in build_case(parse_document(text.encode(), "case.toml")).problems)
    except CaseError as error:
        told = error.message
    assert words in told and told.startswith("case.toml:")


def test_a_verdict_has_a_date_on_which_it_is_settled() -> None:
    with pytest.raises(CaseError, match="settles_on"):
        build_case(parse_document(EXAMPLE.replace("settles_on = 2026-12-31\n", "", 1).encode(), "case.toml"))
    late = EXAMPLE.replace("settles_on = 2026-12-31", "settles_on = 2026-06-30", 1)
    (found,) = [item for item in review(build_case(parse_document(late.encode(), "case.toml"))) if item.kind == "due"]
    assert found.name == "verdict.surplus" and "give its outcome under [[settled]]" in found.message and found.line > 1
    outcome = (
        '\n[[settled]]\nid = "surplus"\nquestion = "to spare?"\nasked_on = 2026-01-01\nprobability = 0.3\n'
        'settled_on = 2026-06-30\ncame_true = false\nsource = "desk"\n'
    )
    desk = build_case(parse_document((late + outcome).encode(), "case.toml"))
    assert not [item for item in review(desk) if item.kind == "due"]
    assert desk.score is not None and desk.score.questions == 1


def test_questions_that_make_no_sense_are_refused() -> None:
    piece = Evidence("e", "x", "price", TODAY, "published", 1, "weak")
    with pytest.raises(InvalidInputError, match="there twice"):
        asked(piece, piece)
    with pytest.raises(InvalidInputError, match="above 0 and below 1"):
        asked(prior=1.0)
    with pytest.raises(InvalidInputError, match="before it was asked"):
        Settled("s", "?", TODAY, 0.5, TODAY, True)
