"""The commentary of July 2026, statement by statement in the order of reading: each stands in the worked case."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublet.desk.briefing import brief
from sublet.desk.desk import Desk, build_case, open_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.report.pages import sections
from sublet.desk.report.wording import Wording

CASE = Path(__file__).parents[2] / "examples" / "hyperscaler-2026.toml"

STATEMENTS: dict[int, str] = {
    1: "b45", 2: "a01 a02", 3: "s08", 4: "a03", 5: "s01 s02", 6: "s03 b52", 7: "b45", 8: "b14 b49", 9: "b19 b46", 10: "s04",
    11: "s05 b70 b71", 12: "s06 b60", 13: "s07", 14: "b62", 15: "b45", 16: "a03", 17: "b01 b02", 18: "b44", 19: "b03",
    20: "b64", 21: "b19 b46", 22: "b65", 23: "b45", 24: "b66", 25: "b04 b05 b06", 26: "b07 b08", 27: "b09", 28: "b10 b11",
    29: "b48", 30: "b12", 31: "b13", 32: "b14", 33: "b49", 34: "b15", 35: "b16", 36: "b47", 37: "b17 b18", 38: "b19",
    39: "b20 b20a b20b b21", 40: "b22", 41: "b67", 42: "b23 b24", 43: "b25", 44: "b50", 45: "b51", 46: "b45",
    47: "b26a b26b b26c", 48: "b52", 49: "b27", 50: "b53", 51: "b68", 52: "b28 b29 b30", 53: "b69", 54: "b63", 55: "b54",
    56: "b31", 57: "b55", 58: "b56", 59: "b57", 60: "b32 b33", 61: "b70", 62: "b34 b35", 63: "b36 b37", 64: "b58", 65: "b71",
    66: "b59", 67: "b60", 68: "b61", 69: "b39", 70: "b40", 71: "b41", 72: "b72", 73: "b42", 74: "b43", 75: "b73",
}  # fmt: skip
"""The 75 statements, by the ids of the rows that hold them."""


@pytest.fixture(scope="module")
def desk() -> Desk:
    return open_case(CASE)


def test_each_of_the_75_statements_is_a_row_with_speaker_source_date_and_status(desk: Desk) -> None:
    assert sorted(STATEMENTS) == list(range(1, 76))
    held = {name for names in STATEMENTS.values() for name in names.split()}
    assert held == {row.id for row in desk.statements}
    assert len(held) == len(desk.statements) == 87
    for row in desk.statements:
        assert row.speaker and row.source.title and row.source.date and desk.sheet[row.id].status, row.id
    assert sum(row.unit == "text" for row in desk.statements) == 34


@pytest.mark.parametrize("language", ["en", "zh-Hant", "zh-Hans"])
def test_each_is_told_with_its_status_in_every_language(desk: Desk, language: str) -> None:
    w = Wording(desk, language)
    told = next(section for section in sections(desk, [], [], w) if section.id == "statements")
    (table,) = told.blocks
    assert len(table.rows) == 87 and table.columns[5] == w("status")  # type: ignore[union-attr]
    assert {row[5] for row in table.rows} == {w.status(desk.sheet["b01"].status)}  # type: ignore[union-attr]
    assert not w.missing


def test_what_one_bank_says_of_its_figure_is_a_reason_why_a_sum_is_refused(desk: Desk) -> None:
    ledger = next(section for section in sections(desk, [], []) if section.id == "capacity")
    reasons = [row[2] for block in ledger.blocks for row in getattr(block, "rows", ()) if row[1] == "refused"]
    scoped = [reason for reason in reasons if "Bernstein: not all of the footprint can be leased" in str(reason)]
    assert len(scoped) == 2


@pytest.mark.parametrize(("scope", "near"), [("b84", "did you mean"), ("nothing", "valid here: a01")])
def test_a_scope_names_a_statement(scope: str, near: str) -> None:
    text = CASE.read_text(encoding="utf-8").replace('scope = "b48"', f'scope = "{scope}"')
    with pytest.raises(CaseError, match=rf"case\.toml:\d+.*scope '{scope}' is no statement of this case.*{near}"):
        build_case(parse_document(text.encode(), "case.toml"))


@pytest.mark.parametrize("language", ["en", "zh-Hant", "zh-Hans"])
def test_what_has_no_date_has_no_weight_and_is_told_as_that(desk: Desk, language: str) -> None:
    """The benchmarks and the open items: rows with their status and a caution, one sentence, no signal and no evidence."""
    follow_ups = {"b55", "b57"}
    w = Wording(desk, language)
    (table,) = next(section for section in sections(desk, [], [], w) if section.id == "statements").blocks
    rows = dict(zip([row.id for row in desk.statements], table.rows, strict=True))  # type: ignore[union-attr]
    for name in follow_ups:
        assert rows[name][5] == w.status(desk.sheet[name].status)
        assert rows[name][6] == w.called("no date is given, so it has no weight")
    assert not follow_ups & {item.id for verdict in desk.verdicts for item in verdict.judgment.question.evidence}
    assert desk.signals is not None and not follow_ups & {item.id for item in desk.signals.signals}
    told = {"en": "without a date and so without weight", "zh-Hant": "因此不計權重", "zh-Hans": "故不计权重"}
    assert told[language] in brief(desk, language).render().replace("\n  ", " ")
