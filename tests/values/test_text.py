"""Text from outside: what is accepted in any script, what is refused, and what a terminal is shown."""

from __future__ import annotations

import json
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.values.errors import InvalidInputError
from sublet.values.text import MARKS_MAX, checked_line, cleaned_line, refuse_unsafe, visible, visible_json

NAMES = [
    "Acme",
    "Zürich Maschinenbau AG",
    "株式会社　東京",
    "Общество «Вега»",
    "شركة النور",
    "می‌خواهم",
    "ক্‍ষ বিজ্ঞান",
    "האוניברסיטה העברית",
    "บริษัท ไทย จำกัด",
    "ខ្មែរ",
    "team 👩‍🚀 🏳️‍🌈",
    "Nguyễn Văn Ánh",
    "𝔘𝔫𝔦",
    'O\'Brien & Sons <ops> "x" $(id) `id` ; rm -rf / \\ %s {{x}}',
]
HIDDEN = [
    "\x00", "\x07", "\x08", "\t", "\n", "\r", "\x1b", "\x1b[2J", "\x7f", "\x85", "\x9b31m", "\xad", "\u061c", "\u180e",
    "\u200b", "\u200e", "\u200f", "\u2028", "\u2029", "\u202a", "\u202d", "\u202e", "\u2060", "\u2066", "\u2069", "\ufeff",
    "\ufff9", "\ufffe", "\uffff", "\ufdd0", "\ud800", "\ue000", "\U000e0041", "\U0010ffff", "\u3164", "\u115f", "\u2800",
    "\u034f",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_in_any_script_are_accepted_in_one_normal_form(name: str) -> None:
    for form in ("NFC", "NFD"):
        taken = checked_line(f"  {unicodedata.normalize(form, name)} ", "name", 120, 1)
        assert taken == unicodedata.normalize("NFC", name).replace("\u3000", " ")
    assert cleaned_line(name, 120) == taken
    assert visible(taken) == taken, "what is accepted is shown as it is"


@pytest.mark.parametrize("sign", HIDDEN)
def test_what_is_obeyed_or_can_not_be_seen_is_refused_wherever_it_stands(sign: str) -> None:
    for text in (f"a{sign}b", f"ä{sign}b"):
        with pytest.raises(InvalidInputError, match=r"name holds U\+[0-9A-F]{4,6}"):
            checked_line(text, "name", 120)
        with pytest.raises(InvalidInputError):
            refuse_unsafe(text, "name")
        assert cleaned_line(text, 120)[0] + cleaned_line(text, 120)[-1] in ("ab", "äb")


def test_a_pile_of_marks_is_refused_and_what_scripts_need_is_not() -> None:
    assert checked_line("q" + "\u0323" * MARKS_MAX, "name", 120)
    with pytest.raises(InvalidInputError, match="combining marks"):
        checked_line("q" + "\u0323" * (MARKS_MAX + 1), "name", 120)


def test_lengths_are_bounded_before_anything_else_is_looked_at() -> None:
    assert checked_line("x" * 10, "name", 10) == "x" * 10
    for text in ("x" * 11, "ä" * 11, "\x00" * 10_000_000, "a\u0301" * 11):
        with pytest.raises(InvalidInputError):
            checked_line(text, "name", 10)
    assert checked_line("a\u0301" * 10, "name", 10) == "á" * 10, "the length counts what is kept"
    with pytest.raises(InvalidInputError, match="name must have 1 to 10 characters, not 0"):
        checked_line(" \u3000 ", "name", 10, 1)


@given(st.text(st.characters(), max_size=60))
def test_accepted_text_is_one_line_stable_and_harmless(text: str) -> None:
    try:
        taken = checked_line(text, "name", 50)
    except InvalidInputError:
        return
    assert len(taken) <= 50
    assert len(taken.splitlines()) <= 1
    assert checked_line(taken, "name", 50) == taken
    assert visible(taken) == taken
    assert taken.encode().decode() == taken


@given(st.text(st.characters(), max_size=60))
def test_shown_text_holds_nothing_that_a_terminal_obeys(text: str) -> None:
    shown = visible(text)
    kept = set("\n\t\u200c\u200d")
    assert not [
        sign for sign in shown if unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp", "Cs") and sign not in kept
    ]


@given(st.text(st.characters(), max_size=60))
def test_json_for_a_terminal_is_harmless_and_the_same_data(text: str) -> None:
    written = visible_json(json.dumps({"name": text}, ensure_ascii=False))
    assert json.loads(written) == {"name": text}
    assert visible(written) == written


def test_the_table_of_hidden_characters_is_the_categories() -> None:
    """A new Unicode version that adds formatting characters must not open a way."""
    kept = "\t\n\u200c\u200d"
    for number in range(sys.maxunicode + 1):
        sign = chr(number)
        hidden = unicodedata.category(sign) in ("Cc", "Cf", "Zl", "Zp", "Cs") and sign not in kept
        if hidden:
            assert visible(sign) != sign, hex(number)
