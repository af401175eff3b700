"""The whole report as readers in Taipei and Shanghai would have it: every label, name, unit and sentence."""

from __future__ import annotations

import csv
import re
from functools import cache
from html import unescape
from pathlib import Path

import pytest
from tests.desk.words import CHARSETS, ELSEWHERE, NAMES

from sublet.desk.desk import Desk, build_case, open_case
from sublet.desk.documents import parse_document
from sublet.desk.report.names import PATTERNS
from sublet.desk.report.page import render
from sublet.desk.report.pages import sections
from sublet.desk.report.wording import Wording, catalog
from sublet.desk.service import run_fans, run_simulation

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = sorted(path.stem for path in EXAMPLES.glob("*.toml") if path.stem != "prices")
CHINESE = ("zh-Hant", "zh-Hans")
GLOSSARY = Path(__file__).parent / "data" / "glossary.tsv"
SHAPED = ("labels", "sentences")


@cache
def opened(name: str) -> Desk:
    return open_case(EXAMPLES / f"{name}.toml")


@cache
def page(name: str, language: str) -> tuple[str, frozenset[str]]:
    """The page, and what had no words in its language."""
    desk = opened(name)
    w = Wording(desk, language)
    simulated = run_simulation(desk, 2000) if desk.simulation is not None else []
    html = render(desk, sections(desk, simulated, run_fans(desk), w), "0", w)
    return html, frozenset(w.missing)


def texts(html: str) -> list[str]:
    """What a reader sees, without the list of ids, formulas and sources, whose second column alone is words."""
    start = html.index('<section id="numbers"')
    listed = html[start : html.index("</section>", start)]
    rows = re.findall(r"<tr id=[^>]*>(.*?)</tr>", listed)
    called = [re.findall(r"<td[^>]*>(.*?)</td>", row)[1] for row in rows]
    body = html[html.index("<body") :].replace(listed, "")
    body = re.sub(r"<footer>.*</footer>|<title>.*?</title>", "", body)
    return [unescape(text) for text in (*re.findall(r">([^<>]+)<", body), *called) if text.strip()]


@pytest.mark.parametrize("language", CHINESE)
@pytest.mark.parametrize("name", CASES)
def test_nothing_is_left_in_english(name: str, language: str) -> None:
    html, missing = page(name, language)
    assert not missing
    assert f'<html lang="{language}"' in html
    for text in texts(html):
        kept = re.sub(r"[a-z]+(-[a-z0-9]+)*(?=第\d版)", "", text)
        kept = re.sub(r"(FY)?\d{4}Q[1-4]", "", kept)  # at an axis, as charts in both markets have it
        kept = re.sub(r"(GW|MWh|token|Google|Meta)(?=\d)", "", kept)
        assert not set(re.findall(r"[A-Za-z][A-Za-z0-9]+", kept)) - NAMES, text


@pytest.mark.parametrize("language", CHINESE)
@pytest.mark.parametrize("name", CASES)
def test_the_words_are_those_of_its_own_market(name: str, language: str) -> None:
    for text in texts(page(name, language)[0]):
        for sign in "←→↓·":
            text = text.replace(sign, "")
        text.encode(CHARSETS[language])
        assert not [word for word in ELSEWHERE[language] if word in text], text
        assert "USD" not in text and not re.search(r"\d %", text), text
        assert "兆" not in text or (language == "zh-Hant") != ("兆瓦" in text), text


@pytest.mark.parametrize("language", CHINESE)
def test_every_label_of_the_report_has_words_with_the_same_places(language: str) -> None:
    """Also for names of values that no example has."""
    words = catalog(language)
    assert set(catalog("zh-Hant")) == set(catalog("zh-Hans"))
    assert not {english for _, english in PATTERNS} - set(words)
    for english, told in words.items():
        places = [sorted(re.findall(r"\{[a-z]+\}", text)) for text in (english, told)]
        assert places[0] == places[1], english
        told.replace("億", "").replace("萬", "").encode(CHARSETS[language])
        assert not [word for word in ELSEWHERE[language] if word in told], told


def test_every_text_in_the_code_that_is_told_has_words() -> None:
    """`w("…")` with a text of its own: each is a key of the catalogs, also where no example comes by."""
    folder = Path(__file__).parents[2] / "src" / "sublet" / "desk"
    found = set[str]()
    for path in (*(folder / "report").glob("*.py"), folder / "whatif.py"):
        source = re.sub(r'"\s*\n\s*"', "", path.read_text())
        found |= {text for text in re.findall(r'\b(?:w|self)\(\s*"((?:[^"\\]|\\.)*)"', source)}
    assert len(found) > 150
    assert not {text for text in found if text not in catalog("zh-Hant")} - {"{a} a year later"}


@cache
def glossary() -> list[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    with GLOSSARY.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert len(rows) == 152
    return [(_bare(row["en"]).lower(), _forms(row["zh-Hant"]), _forms(row["zh-Hans"])) for row in rows]


def _bare(text: str) -> str:
    return re.sub(r"\s*[（(].*?[）)]", "", text).strip()


def _forms(text: str) -> tuple[str, ...]:
    return tuple(_bare(part).replace(" ", "") for part in re.split("／", text))


LOOSE = {
    "published", "derived", "bound", "estimate", "modeled", "source", "assumption", "accelerator", "consensus", "revenue", "what-if",
    "slip", "straight-line", "neocloud",
}  # fmt: skip
"""Terms that sentences also use in their everyday sense, or shorten; as labels of their own they are held to the glossary."""


@pytest.mark.parametrize("place", [1, 2])
def test_the_glossary_is_kept(place: int) -> None:
    """Wherever an English label has one of the 152 terms, its Chinese has the glossary's word for it."""
    language = CHINESE[place - 1]
    told = dict(catalog(language))
    for name in CASES:
        told |= opened(name).heading.words[language]
    held = 0
    for term in glossary():
        for english, words in told.items():
            if english in ("neocloud", "the neocloud"):
                continue
            exact = english.lower() == term[0]
            if exact or (term[0] not in LOOSE and re.search(rf"\b{re.escape(term[0])}\b", english.lower())):
                held += 1
                assert any(form in words.replace(" ", "") for form in term[place]), (term[0], english, words)
    assert held > 120


def test_a_label_without_words_is_found() -> None:
    text = (EXAMPLES / "university.toml").read_text()
    less = text.replace('"idle power" = "閒置容量"\n', "")
    assert less != text
    w = Wording(build_case(parse_document(less.encode(), "case.toml")), "zh-Hant")
    assert w.called("idle power") == "idle power" and w.missing == {"idle power"}
    assert w("a label that nobody wrote") == "a label that nobody wrote" and len(w.missing) == 2
