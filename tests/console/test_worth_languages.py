"""The desk's pages in the console in each language: what the surplus is worth, what if, and the decision to lease or keep."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from tests.desk.test_actuals import H100, NANO, WINDOW
from tests.desk.words import CHARSETS, ELSEWHERE, NAMES

from sublet.console.languages import CATALOGS
from sublet.console.worth import WHAT_IF, WORTH, Worth
from sublet.desk.actuals import CreditRecord, ForecastRecord, OtherRecord, UsageRecord, commitment, gather
from sublet.desk.whatif import Cases
from sublet.values.windows import Window

CASE = Path(__file__).parents[2] / "examples" / "hyperscaler-2026.toml"
CHINESE = ("zh-Hant", "zh-Hans")
PATHS = (WORTH, WHAT_IF, f"{WHAT_IF}?b20b=20&term=2", f"{WHAT_IF}?b20b=1000")
OWN = {"h100", "H100", "acme", "USD", "EUR", "report"}
"""Names and currencies of the records, and of a command."""


def worth(cases: Cases) -> Worth:
    usage = [UsageRecord("h100", channel, "acme", 1000.0, 2500 * NANO) for channel in ("raw", "managed")]
    term = Window(datetime(2026, 6, 1, tzinfo=UTC), datetime(2027, 6, 1, tzinfo=UTC))
    found = gather(
        "lab", WINDOW, [H100], usage, contracts=[commitment("lease", "acme", 90_000 * NANO, term)],
        forecasts=[ForecastRecord("h100", WINDOW.start, 10, 20, 30, 25)], credits=[CreditRecord("h100", 5 * NANO)],
        others=[OtherRecord("fees", "acme", 7 * NANO)],
    )  # fmt: skip
    return Worth(
        lambda days: [found, gather("lab", WINDOW, [H100], [], currency="EUR")], cases, lambda: date(2026, 7, 1)
    )


@pytest.fixture(scope="module")
def cases() -> Cases:
    return Cases(CASE)


@pytest.fixture
def client(console: Callable[..., FastAPI], cases: Cases) -> TestClient:
    found = TestClient(console(*worth(cases).screens()), base_url="http://console.test", follow_redirects=False)
    assert found.post("/login", data={"key": "sublet_operator"}).status_code == 303
    return found


def shown(client: TestClient, path: str, language: str) -> list[str]:
    """What a reader sees of the page itself, the scenario's TOML apart, and the labels of its parts."""
    answer = client.get(path, headers={"Accept-Language": language})
    assert answer.status_code == 200 and f'<html lang="{language}">' in answer.text
    main = re.sub(r"<pre>.*?</pre>", "", answer.text[answer.text.index("<main") :], flags=re.S)
    texts = re.findall(r">([^<>]+)<", main) + re.findall(r'(?:aria-label|data-label)="([^"]*)"', main)
    title = re.findall(r"<title>(.*?)</title>", answer.text)
    return [html.unescape(text) for text in (*texts, *title) if text.strip()]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("language", CHINESE)
def test_nothing_is_left_in_english_and_the_words_are_of_the_market(
    client: TestClient, language: str, path: str
) -> None:
    for text in shown(client, path, language):
        kept = re.sub(r"(GW|MWh|token|Google|Meta)(?=\d)|(?<=\d)(MW|GW)", "", text)
        assert not set(re.findall(r"[A-Za-z][A-Za-z0-9]+", kept)) - NAMES - OWN, text
        assert not [word for word in ELSEWHERE[language] if word in text], text
        text.replace("·", "").replace("–", "").encode(CHARSETS[language])


def test_the_decision_to_lease_or_keep_is_told_in_each_language(client: TestClient) -> None:
    words = {
        "en": "Rent at which leasing and keeping come to the same",
        "zh-Hant": "出租與自用無差異的租金",
        "zh-Hans": "出租与自用无差异的租金",
    }
    for language, told in words.items():
        assert told in shown(client, WHAT_IF, language)


def test_the_starter_behind_the_page_speaks_each_language_too(console: Callable[..., FastAPI]) -> None:
    client = TestClient(console(*worth(Cases(None)).screens()), base_url="http://console.test")
    client.post("/login", data={"key": "sublet_operator"})
    for language in CHINESE:
        for text in shown(client, WHAT_IF, language):
            assert not set(re.findall(r"[a-z]{3,}", text)) - {"ublet", "sublet", "desk", "report"}, text


def test_the_sliders_are_the_same_in_every_language(client: TestClient) -> None:
    slider = re.compile(r'name="([\w.]+)" type="range" min="([\d.]+)" max="([\d.]+)"')
    pages = [client.get(WHAT_IF, headers={"Accept-Language": language}).text for language in CATALOGS]
    slides = [slider.findall(page) for page in pages]
    assert len(slides[0]) >= 5 and slides[0] == slides[1] == slides[2]
