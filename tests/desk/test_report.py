"""Reports: one self-contained page, a workbook whose formulas calculate to the same values, JSON with status and source."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import UTC, date, datetime, timedelta
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.desk.spreadsheet import read_numbers, recalculate

from sublet.desk.actuals import ForecastRecord, PoolRecord, UsageRecord, gather
from sublet.desk.briefing import brief
from sublet.desk.counterparties import Contract
from sublet.desk.desk import LANGUAGES, Desk, open_case
from sublet.desk.errors import CaseError
from sublet.desk.phrases import SENTENCES
from sublet.desk.report import charts, grids, workbook
from sublet.desk.report.actuals_page import actuals_json, render_actuals
from sublet.desk.report.drawing import Scale, nice_step, short, tick_text
from sublet.desk.service import Reports, write_reports
from sublet.values.windows import Window

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = ("hyperscaler-2026", "university", "neocloud")


@pytest.fixture(scope="module", params=CASES)
def written(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Desk, Reports]:
    desk = open_case(EXAMPLES / f"{request.param}.toml")
    return desk, write_reports(desk, tmp_path_factory.mktemp("reports"))


class Page(HTMLParser):
    """What the tests need to know of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: set[str] = set()
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.add(tag)
        self.ids |= {found["id"] or ""} if "id" in found else set()
        href = found.get("href") or ""
        self.links |= {href[1:]} if href.startswith("#") else set()
        if tag not in ("meta", "input", "rect", "line", "path", "circle", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert (self.open and self.open[-1] == tag) or tag in ("rect", "line", "path", "circle"), (tag, self.open[-3:])
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_is_whole_and_needs_no_network(written: tuple[Desk, Reports]) -> None:
    html = written[1].html.read_text()
    page = Page(html)

    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert not re.search(r"https?://|url\(|@import", html)
    assert page.links <= page.ids, page.links - page.ids


def test_title_date_hash_and_version_are_on_each_file(written: tuple[Desk, Reports]) -> None:
    desk, files = written
    html, data = files.html.read_text(), json.loads(files.json.read_text())
    for words in (
        desk.heading.title,
        desk.heading.as_of.isoformat(),
        desk.digest[:16],
        f"version {desk.heading.version}",
    ):
        assert escape(words) in html
    assert data["case"]["hash"] == desk.digest
    assert data["case"]["as_of"] == desk.heading.as_of.isoformat()


def test_the_json_has_unit_status_and_source_for_every_number(written: tuple[Desk, Reports]) -> None:
    data = json.loads(written[1].json.read_text())
    for name, value in data["values"].items():
        assert value["unit"] and value["status"] and value["source"], name
    for result in data["monte_carlo"]:
        assert result["unit"] and result["status"] and result["source"]


def test_every_section_that_the_case_has_is_on_the_page() -> None:
    desk = open_case(EXAMPLES / "hyperscaler-2026.toml")
    from sublet.desk.report.pages import sections
    from sublet.desk.service import run_fans, run_simulation

    found = sections(desk, run_simulation(desk, 2000), run_fans(desk))

    assert [section.id for section in found] == [
        "headline", "bridge", "sensitivity", "decision", "timeline", "comparables", "channels", "verdicts", "surplus", "capex",
        "customers", "signals", "uncertainty", "scenarios", "capacity", "positioning", "statements", "numbers",
    ]  # fmt: skip


def test_the_published_cell_is_marked_once_for_each_grid_that_repeats_it() -> None:
    values = [[1.0, 2.0], [3.0, 4.0]]
    plain = grids.heat_map(480, ["1", "2"], ["a", "b"], values, titles=("r", "c"))
    marked = grids.heat_map(480, ["1", "2"], ["a", "b"], values, titles=("r", "c"), marked=(1, 0))
    assert plain.count('class="mark"') == 0
    assert marked.count('class="mark"') == 1


def test_the_frontier_runs_between_below_and_above_one() -> None:
    values = [[0.5, 0.9], [0.9, 1.2]]
    svg = grids.heat_map(480, ["1", "2"], ["a", "b"], values, titles=("r", "c"), middle=1.0, split=1.0)
    assert svg.count('class="front"') == 2


def test_charts_escape_what_a_case_says() -> None:
    svg = charts.waterfall(480, [("<b>&", 1.0, True)], "USD & bn")
    assert "<b>" not in svg
    assert "&lt;b&gt;&amp;" in svg


@pytest.mark.parametrize(("rough", "step"), [(0.3, 0.5), (1.0, 1.0), (7.0, 10.0), (0.012, 0.02), (23.0, 50.0)])
def test_ticks_are_round(rough: float, step: float) -> None:
    assert nice_step(rough) == pytest.approx(step)


def test_a_scale_of_one_value_still_has_room() -> None:
    assert Scale(3.0, 3.0, 0.0, 100.0)(3.0) == 50.0


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0"), (2.97, "2.97"), (1234.0, "1,234"), (0.0123, "0.012"), (3.0, "3"), (12.3, "12.3")]
)
def test_short_numbers(value: float, text: str) -> None:
    assert short(value) == text


def test_the_workbook_has_a_live_formula_and_a_cached_result_for_every_derived_number(
    written: tuple[Desk, Reports],
) -> None:
    desk, files = written
    cells = read_numbers(files.xlsx)
    derived = [value for value in desk.sheet if value.term is not None]
    for row, value in enumerate(derived, start=2):
        number, is_formula = cells["Values", f"B{row}"]
        assert is_formula, value.name
        assert number == pytest.approx(value.number, rel=1e-12, abs=1e-15), value.name


@pytest.mark.real
@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice is not installed")
@pytest.mark.parametrize("name", CASES)
def test_libreoffice_calculates_the_workbook_to_the_same_values(name: str, tmp_path: Path) -> None:
    """The file that is recalculated has zeros as cached results, so that only a recalculation can bring the values."""
    desk = open_case(EXAMPLES / f"{name}.toml")
    cached, blank = tmp_path / "cached.xlsx", tmp_path / "blank.xlsx"
    cached.write_bytes(workbook.write(desk, [], "test"))
    blank.write_bytes(workbook.write(desk, [], "test", cached=False))

    recalculated = read_numbers(recalculate(blank, tmp_path))

    formulas = {cell: number for cell, (number, is_formula) in read_numbers(cached).items() if is_formula}
    assert len(formulas) > 100
    for cell, number in formulas.items():
        assert recalculated[cell][0] == pytest.approx(number, rel=1e-9, abs=1e-12), cell


MEASURE = """<!doctype html><body><iframe id="f" src="{page}" style="width:{width}px;height:900px;border:0"></iframe><script>
onload = () => {{ const page = document.getElementById('f').contentDocument;
document.title = 'scroll=' + page.documentElement.scrollWidth + ' figures=' + page.querySelectorAll('svg').length; }};
</script></body>"""


@pytest.mark.real
@pytest.mark.skipif(shutil.which("chromium") is None, reason="Chromium is not installed")
@pytest.mark.parametrize("width", [1280, 400])
def test_a_browser_shows_the_page_without_sideways_scrolling(
    written: tuple[Desk, Reports], width: int, tmp_path: Path
) -> None:
    frame = tmp_path / "frame.html"
    frame.write_text(MEASURE.format(page=written[1].html.as_uri(), width=width))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]

    dom = subprocess.run(
        ["chromium", *options, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()],
        check=True, capture_output=True, text=True, timeout=120,
    ).stdout  # fmt: skip

    found = re.search(r"<title>scroll=(\d+) figures=(\d+)</title>", dom)
    assert found is not None, dom[:500]
    assert int(found[1]) <= width
    assert int(found[2]) > 5


def test_a_report_can_not_be_written_over_a_file_as_folder(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(CaseError, match="choose a different folder with --out"):
        write_reports(open_case(EXAMPLES / "university.toml"), tmp_path / "taken")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sentence_of_the_briefing_rests_on_values_of_the_case(name: str, language: str) -> None:
    desk = open_case(EXAMPLES / f"{name}.toml")
    text = brief(desk, language)
    assert len({sentence.part for sentence in text.sentences}) >= 3
    for sentence in text.sentences:
        assert sentence.values, sentence.text
        assert all(value in desk.sheet for value in sentence.values)
        assert re.search(r"\d", sentence.text), sentence.text
        assert "{" not in sentence.text
    assert len(text.render().splitlines()) < 105


@pytest.mark.parametrize("key", SENTENCES)
def test_a_sentence_has_the_same_numbers_in_every_language(key: str) -> None:
    slots = {language: sorted(re.findall(r"\{(\w+)\}", SENTENCES[key][language])) for language in LANGUAGES}
    assert slots["en"] == slots["zh-Hant"] == slots["zh-Hans"]


def test_the_two_chinese_briefings_differ_in_script() -> None:
    desk = open_case(EXAMPLES / "hyperscaler-2026.toml")
    traditional, simplified = brief(desk, "zh-Hant").render(), brief(desk, "zh-Hans").render()
    assert "閒置" in traditional and "闲置" not in traditional
    assert "闲置" in simplified and "閒置" not in simplified


def test_the_page_of_actuals_is_whole_and_says_what_was_earned() -> None:
    window = Window(datetime(2026, 6, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC))
    usage = [
        UsageRecord("h100", channel, f"<c{n}>", 10.0, 25 * 10**9) for n in range(60) for channel in ("raw", "managed")
    ]
    forecasts = [ForecastRecord("h100", window.start + timedelta(days=day), 1, 5, 9, 4) for day in range(5)]
    contracts = [Contract("one", "acme", 5.0e6, date(2026, 1, 1), date(2028, 1, 1))]
    actuals = gather(
        "A lab",
        window,
        [PoolRecord("h100", "H100", 64, 1275.0, 4000.0)],
        usage,
        contracts=contracts,
        forecasts=forecasts,
    )

    html = render_actuals(actuals, date(2026, 7, 1))
    data = actuals_json(actuals, date(2026, 7, 1))

    page = Page(html)
    assert page.open == []
    assert page.links <= page.ids
    assert "<c1>" not in html
    assert "2.5 USD per accelerator-hour" in html
    assert "and 10 more customers." in html
    assert data["worth"]["per_accelerator_hour"]["value"] == pytest.approx(2.5)
    assert data["forecast"][0]["bias"] == pytest.approx(1.0)
    json.dumps(data, allow_nan=False)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (5_000, "5,000"),
        (400_000, "400k"),
        (-12_500, "-12.5k"),
        (2.5e6, "2.5M"),
        (1.2e9, "1.2bn"),
        (3e12, "3tn"),
        (0.25, "0.25"),
    ],
)
def test_a_tick_fits_the_margin_beside_its_axis(value: float, text: str) -> None:
    assert tick_text(value) == text
    assert len(text) <= 6
