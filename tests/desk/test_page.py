"""The report in a real browser: the first screen answers, charts can be read, the page is not too long, and it prints."""

from __future__ import annotations

import base64
import csv
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sublet.desk.desk import LANGUAGES, open_case
from sublet.desk.errors import CaseError
from sublet.desk.report import pdf
from sublet.desk.service import Reports, write_reports

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = sorted(path.stem for path in EXAMPLES.glob("*.toml") if path.stem != "prices")
HEIGHT_MAX = 11_000
PAGES_MAX = 14
TEXT_MIN = 11.5
"""The smallest text of a chart, in pixels of a telephone's screen, rounding left to the browser."""

MEASURE = """() => {
  const box = (element) => element.getBoundingClientRect();
  const seen = (element) => box(element).width > 0;
  const texts = [...document.querySelectorAll('svg text')].filter(seen);
  const scale = (text) => box(text.ownerSVGElement).width / text.ownerSVGElement.viewBox.baseVal.width;
  return {
    height: document.documentElement.scrollHeight,
    width: document.documentElement.scrollWidth,
    answer: box(document.querySelector('.tiles')).bottom,
    header: box(document.getElementById('answer')).bottom,
    smallest: Math.min(...texts.map((text) => parseFloat(getComputedStyle(text).fontSize) * scale(text))),
    outside: texts.filter((text) => {
      const inner = box(text), outer = box(text.ownerSVGElement);
      return inner.left < outer.left - 2 || inner.right > outer.right + 2;
    }).map((text) => text.textContent),
    used: [...document.querySelectorAll('figure.single svg')].filter(seen)
      .map((svg) => box(svg).width / box(document.querySelector('#headline')).width),
    contents: getComputedStyle(document.querySelector('nav.side')).display,
    paper: getComputedStyle(document.querySelector('main')).backgroundColor,
  };
}"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reports]:
    folder = tmp_path_factory.mktemp("pages")
    return {name: write_reports(open_case(EXAMPLES / f"{name}.toml"), folder, LANGUAGES) for name in CASES}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    program = os.environ.get("SUBLET_TEST_CHROMIUM") or pdf.browser()
    if program is None:
        pytest.skip("Chromium is not installed")
    sync_api = pytest.importorskip("playwright.sync_api", reason="the playwright package drives the browser")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield opened
        opened.close()


@pytest.mark.real
@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize(
    ("language", "scheme"), [("en", "light"), ("en", "dark"), ("zh-Hant", "light"), ("zh-Hans", "light")]
)
def test_the_page_can_be_read(
    reports: dict[str, Reports], browser: Any, language: str, width: int, scheme: str
) -> None:
    for name, files in reports.items():
        page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
        page.goto(files.pages[LANGUAGES.index(language)].as_uri())
        found = page.evaluate(MEASURE)
        page.close()
        assert found["width"] <= width, name
        assert found["answer"] <= 800, (name, "the answer and its numbers are on the first screen")
        assert width == 400 or found["header"] <= 800, name
        assert width == 400 or found["height"] <= HEIGHT_MAX, name
        assert found["smallest"] >= TEXT_MIN, name
        assert found["outside"] == [], name
        assert all(share > 0.95 for share in found["used"]), name
        assert (found["contents"] == "block") == (width == 1280), name
        light = all(int(part) > 200 for part in re.findall(r"\d+", found["paper"]))
        assert light == (scheme == "light"), name


@pytest.mark.real
def test_contents_follow_and_what_is_folded_opens_without_a_script(reports: dict[str, Reports], browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800}, java_script_enabled=True)
    page.goto(reports["hyperscaler-2026"].html.as_uri())
    page.locator("nav.side a", has_text="Capital").click()
    assert page.locator("nav.side").bounding_box()["y"] >= -1
    assert page.locator("#capex h2").bounding_box()["y"] < 400
    assert not page.locator("#numbers table").is_visible()
    page.locator("#numbers summary").click()
    assert page.locator("#numbers table").is_visible()
    page.set_viewport_size({"width": 400, "height": 800})
    assert page.locator("details.toc summary").bounding_box()["y"] >= -1
    page.close()


@pytest.mark.real
@pytest.mark.skipif(pdf.browser() is None, reason="Chromium is not installed")
@pytest.mark.parametrize("language", LANGUAGES)
def test_the_report_prints_on_few_pages(reports: dict[str, Reports], language: str, tmp_path: Path) -> None:
    html = reports["hyperscaler-2026"].pages[LANGUAGES.index(language)].read_text()
    pdf.print_page(html, tmp_path / "report.pdf")
    assert 4 <= pages_of(tmp_path / "report.pdf") <= PAGES_MAX
    if language == "en":
        pdf.print_page(html, tmp_path / "whole.pdf", whole=True)
        assert pages_of(tmp_path / "whole.pdf") > pages_of(tmp_path / "report.pdf")


def pages_of(path: Path) -> int:
    return len(re.findall(rb"/Type\s*/Page\b", path.read_bytes()))


def test_a_pdf_without_a_browser_says_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CaseError, match="install it"):
        pdf.print_page("<p>1</p>", tmp_path / "report.pdf")


def test_a_browser_that_prints_nothing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: "/bin/false")
    with pytest.raises(CaseError, match="could not print the page"):
        pdf.print_page("<p>1</p>", tmp_path / "report.pdf")


@pytest.mark.real
def test_every_number_is_filtered_by_status_and_saved_as_csv(reports: dict[str, Reports], browser: Any) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    page.goto(reports["hyperscaler-2026"].html.as_uri() + "#numbers")
    page.locator("#numbers summary").first.click()
    rows = page.locator("#numbers tr[data-status]")
    shown = (
        'Array.from(document.querySelectorAll("#numbers tr[data-status]"))'
        ".filter(row => row.offsetHeight).map(row => row.dataset.status)"
    )
    assert len(page.evaluate(shown)) == rows.count() > 300
    page.locator('label[for="only-published"]').click()
    assert set(page.evaluate(shown)) == {"published"}
    page.locator('label[for="only-all"]').click()
    assert len(page.evaluate(shown)) == rows.count()
    link = page.locator("#numbers .filter a").get_attribute("href")
    table = base64.b64decode(link.partition("base64,")[2]).decode("utf-8-sig")
    found = list(csv.DictReader(table.splitlines()))
    assert next(row for row in found if row["id"] == "b20")["value"] == "2.97"
    page.close()
