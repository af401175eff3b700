"""The briefing as a reader in New York, Taipei and Shanghai would have it: numbers, words, and nothing left in another language."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.desk.words import CHARSETS, ELSEWHERE, NAMES

from sublet.desk import phrases, slips
from sublet.desk.briefing import brief
from sublet.desk.desk import LANGUAGES, build_case, open_case
from sublet.desk.documents import parse_document
from sublet.desk.phrases import SLIP_KINDS, slip_kind
from sublet.desk.quantities import day, money, period, points, written
from sublet.desk.review import review

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = ("hyperscaler-2026", "university", "neocloud")


@pytest.mark.parametrize(
    ("number", "unit", "words"),
    [
        (525, "USD bn", ("$525 billion", "5,250億美元", "5250亿美元")),
        (1.25, "USD bn", ("$1.25 billion", "12.5億美元", "12.5亿美元")),
        (0.6, "USD bn", ("$600 million", "6億美元", "6亿美元")),
        (2870, "USD bn", ("$2.87 trillion", "2.87兆美元", "2.87万亿美元")),
        (0.005, "USD bn", ("$5 million", "500萬美元", "500万美元")),
        (999_999, "USD m", ("$1 trillion", "1兆美元", "1万亿美元")),
        (-75, "USD bn", ("-$75 billion", "-750億美元", "-750亿美元")),
        (250, "MW", ("250 MW", "250MW", "250兆瓦")),
        (3500, "MW, IT", ("3.5 GW", "3.5GW", "3.5吉瓦")),
        (40, "USD/W-yr", ("$40 per watt a year", "每瓦每年40美元", "每瓦每年40美元")),
        (30, "USD bn/GW-yr", ("$30 billion per GW a year", "每GW每年300億美元", "每吉瓦每年300亿美元")),
        (60, "USD/MWh", ("$60 per MWh", "每MWh 60美元", "每兆瓦时60美元")),
        (38, "USD bn/GW", ("$38 billion per GW", "每GW 380億美元", "每吉瓦380亿美元")),
        (7.192, "USD/GPU-h", ("$7.19 per GPU-hour", "每GPU小時7.19美元", "每卡时7.19美元")),
        (0.08, "share", ("8%", "8%", "8%")),
        (-13, "%", ("-13%", "-13%", "-13%")),
        (
            1665.3,
            "tok/s/GPU (in+out)",
            ("1,665 tokens a second per GPU", "每GPU每秒1,665個token", "每卡每秒1665个token"),
        ),
        (2.87, "bn shares", ("2.87 billion shares", "28.7億股", "28.7亿股")),
        (5, "years", ("5 years", "5年", "5年")),
        (137, "x", ("137x", "137x", "137x")),
    ],
)
def test_a_quantity_is_written_as_each_market_writes_it(number: float, unit: str, words: tuple[str, str, str]) -> None:
    assert tuple(written(number, unit, language) for language in LANGUAGES) == words


def test_points_days_and_periods() -> None:
    assert [points(-0.07, language) for language in LANGUAGES] == ["7 percentage points", "7個百分點", "7个百分点"]
    at = date(2026, 7, 2)
    assert [day(at, language) for language in LANGUAGES] == ["July 2, 2026", "2026年7月2日", "2026年7月2日"]
    assert [period("2027H2", language) for language in LANGUAGES] == [
        "the second half of 2027", "2027年下半年", "2027年下半年",
    ]  # fmt: skip
    assert [period("2026Q2", language) for language in LANGUAGES][1:] == ["2026年第二季", "2026年二季度"]
    assert period("2026-09", "zh-Hant") == "2026年9月" and period("soon", "en") == "soon"


@given(st.floats(-1e15, 1e15).filter(lambda number: abs(number) >= 0.01), st.sampled_from(LANGUAGES))
def test_an_amount_says_its_number_to_three_digits(dollars: float, language: str) -> None:
    scales = {
        "trillion": 1e12, "billion": 1e9, "million": 1e6, "万亿": 1e12, "兆": 1e12, "億": 1e8, "亿": 1e8, "萬": 1e4, "万": 1e4,
    }  # fmt: skip
    words = money(dollars, language)
    found = re.fullmatch(r"(-?)\$?([\d,.]+) ?(\D*?)(美元)?", words)
    assert found is not None, words
    said = float(found[2].replace(",", "")) * scales.get(found[3], 1.0) * (-1 if found[1] else 1)
    assert abs(said - dollars) <= abs(dollars) * 0.005 + 1e-9, words


@pytest.mark.parametrize("language", ["zh-Hant", "zh-Hans"])
@pytest.mark.parametrize("name", CASES)
def test_a_briefing_has_the_words_of_its_market_and_leaves_nothing_in_english(name: str, language: str) -> None:
    briefing = brief(open_case(EXAMPLES / f"{name}.toml"), language)
    for text in (briefing.title, *(sentence.text for sentence in briefing.sentences)):
        text.encode(CHARSETS[language])
        assert not [word for word in ELSEWHERE[language] if word in text], text
        assert not set(re.findall(r"[A-Za-z][A-Za-z0-9]+", text)) - NAMES, text
        assert not re.search(r"USD|\d %", text), text
        assert "兆" not in text or (language == "zh-Hant") != ("兆瓦" in text), text


@pytest.mark.parametrize("language", ["zh-Hant", "zh-Hans"])
def test_every_phrase_is_written_in_its_own_script_with_the_same_numbers(language: str) -> None:
    tables = (
        phrases.PARTS,
        phrases.STATUS_WORDS,
        phrases.SENTENCES,
        phrases.METRICS,
        phrases.PROBLEM_PARTS,
        SLIP_KINDS,
    )
    for table in tables:
        for key, words in table.items():
            words[language].encode(CHARSETS[language])
            assert not [word for word in ELSEWHERE[language] if word in words[language]], words[language]
            if "en" in words:
                slots = [sorted(re.findall(r"\{\w+\}", words[of])) for of in ("en", language)]
                assert slots[0] == slots[1], key


def test_every_slip_has_its_words() -> None:
    kinds = [name for name, _, _ in slips._FACTORS] + ["sign", slips.SMALL, slips.DIFFER, "suspected basis (PUE)"]
    kinds += ["month for a year and 10^3", "億 read as billion or power of ten (10^1)", "currency USD/TWD"]
    for kind in kinds:
        assert slip_kind(kind, "en") == kind
        for language in ("zh-Hant", "zh-Hans"):
            told = slip_kind(kind, language)
            told.replace("億", "").replace("萬", "").encode(CHARSETS[language])
            assert not re.search(r"[a-z]{3}", told), told


def test_a_title_without_a_translation_is_found() -> None:
    text = (EXAMPLES / "neocloud.toml").read_text()
    name = str(EXAMPLES / "case.toml")
    found = review(build_case(parse_document(text.encode(), name)))
    assert not [item for item in found if item.kind == "untranslated" and "IREN" not in item.name]
    less = text.replace('"A neocloud" = "一家新云厂商"\n', "")
    found = [item for item in review(build_case(parse_document(less.encode(), name))) if item.name == "A neocloud"]
    assert [item.message for item in found] == ["has no entry under [case.words.zh-Hans]"]
