"""Every sentence of a briefing carries the status of its weakest number in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublet.desk.briefing import brief
from sublet.desk.desk import LANGUAGES, open_case
from sublet.desk.phrases import STATUS_WORDS
from sublet.desk.sheet import Status

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["hyperscaler-2026", "university", "neocloud"])
def test_a_sentence_says_how_far_it_can_be_trusted(name: str, language: str) -> None:
    desk = open_case(EXAMPLES / f"{name}.toml")
    for sentence in brief(desk, language).sentences:
        statuses = {str(desk.sheet[value].status) for value in sentence.values}
        weakest = next(status for status in STATUS_WORDS if status in statuses)
        assert STATUS_WORDS[weakest][language] in sentence.text, sentence.text


def test_every_status_has_its_words() -> None:
    assert set(STATUS_WORDS) == {str(status) for status in Status}
    assert all(set(words) == set(LANGUAGES) for words in STATUS_WORDS.values())


def test_windows_that_the_case_made_up_are_not_told_as_facts() -> None:
    texts = [item.text for item in brief(open_case(EXAMPLES / "hyperscaler-2026.toml"), "en").sentences]
    surplus = next(text for text in texts if "400 MW idle" in text)
    assert "of this case)" in surplus or "in this case)" in surplus
