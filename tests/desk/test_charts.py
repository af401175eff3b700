"""The numbers that a chart draws are the numbers of the table beside it, for every chart of every example."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import pytest

from sublet.desk.desk import LANGUAGES, Desk, build_case, open_case
from sublet.desk.documents import parse_document
from sublet.desk.report import charts, grids
from sublet.desk.report.blocks import NARROW, PAIRED, WIDE, Figure, Ref, Section, TableBlock
from sublet.desk.report.drawing import short, text_width
from sublet.desk.report.pages import sections
from sublet.desk.report.pages_market import PUE_RANGE
from sublet.desk.report.wording import Wording
from sublet.desk.service import run_fans, run_simulation

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = ("hyperscaler-2026", "university", "neocloud")

_TEXT = re.compile(r'<text x="([-\d.]+)" y="([-\d.]+)" class="([^"]*)" text-anchor="(\w+)">([^<]*)</text>')
_LINE = re.compile(r'<line x1="([-\d.]+)" y1="([-\d.]+)" x2="([-\d.]+)" y2="([-\d.]+)" class="([^"]*)"')
_CIRCLE = re.compile(r'<circle cx="([-\d.]+)" cy="([-\d.]+)" r="([\d.]+)" class="([^"]*)"')


@pytest.fixture(scope="module", params=CASES)
def shown(request: pytest.FixtureRequest) -> tuple[Desk, dict[str, Section]]:
    desk = open_case(EXAMPLES / f"{request.param}.toml")
    return desk, {part.id: part for part in sections(desk, run_simulation(desk, 2000), run_fans(desk)[:0])}


def figures(part: Section) -> Iterator[Figure]:
    yield from (block for block in part.blocks if isinstance(block, Figure))


def texts(svg: str, css: str) -> list[str]:
    return [
        found[4].replace("&lt;", "<").replace("&amp;", "&")
        for found in _TEXT.findall(svg)
        if found[2].split()[0] == css
    ]


def dots(svg: str) -> list[tuple[float, float, float, str]]:
    """For each row the drawn low, value and high of a chart of dots, measured against its own ticks, and the number beside it."""
    found = _TEXT.findall(svg)
    lowest = max(float(y) for _, y, css, _, _ in found if css == "n")
    ticks = [
        (float(x) + text_width(words) / 2, number)
        for x, y, css, anchor, words in found
        if css == "u" and anchor == "start" and float(y) > lowest and (number := number_in(words)) is not None
    ]
    lines = [line for line in _LINE.findall(svg) if line[4] == "reach"]
    zero = next(line for line in _LINE.findall(svg) if line[4] == "axis")
    per_pixel = ticks[-1][1] / (ticks[-1][0] - float(zero[0]))
    drawn = []
    for x, y, _, css in _CIRCLE.findall(svg):
        assert css in ("dot", "hollow")
        reach = next((line for line in lines if abs(float(line[1]) - float(y)) < 0.1), (x, y, x, y, ""))
        low, value, high = ((float(at) - float(zero[0])) * per_pixel for at in (reach[0], x, reach[2]))
        label = next(text for _, at, css, _, text in found if css == "n" and abs(float(at) - 4 - float(y)) < 0.2)
        drawn.append((low, value, high, label))
    return drawn


def number_in(words: str) -> float | None:
    try:
        return float(words.replace(",", "").replace("k", "e3").replace("M", "e6"))
    except ValueError:
        return None


def test_capacity_dots_are_the_rows_of_the_ledger(shown: tuple[Desk, dict[str, Section]]) -> None:
    """A row in MW with a qualifier was drawn a thousand times too long."""
    desk, parts = shown
    panels = [figure for figure in figures(parts["capacity"])]
    drawn = [dot for panel in panels for dot in dots(panel.svg)]
    unit = next(word for word in texts(panels[0].svg, "u") if word in ("GW", "MW"))
    table = next(block for block in parts["capacity"].blocks if isinstance(block, TableBlock) and block.folded)
    assert len(drawn) == len(table.rows) == len(desk.capacity)
    rows = [row for panel in panels for row in table.rows if row[2] == panel.caption]
    resolution = max(high for _, _, high, _ in drawn) / 60
    for (low, at, high, label), row in zip(drawn, rows, strict=True):
        cell = row[1]
        assert isinstance(cell, Ref)
        value = desk.sheet[cell.name]
        printed = desk.sheet.number_in(cell.name, unit)
        factor = printed / value.number
        ends = (printed, printed) if value.range is None else (value.range.low * factor, value.range.high * factor)
        assert (low, at) == (pytest.approx(ends[0], abs=resolution), pytest.approx(printed, abs=resolution)), cell.name
        if math.isfinite(ends[1]):
            assert high == pytest.approx(ends[1], abs=resolution), cell.name
            assert label == (short(ends[0]) if ends[0] == ends[1] else f"{short(ends[0])}-{short(ends[1])}")
        else:
            assert label == f"{short(ends[0])} or more"


def test_capacity_of_unlike_families_has_a_panel_for_each(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    assert len(list(figures(parts["capacity"]))) == len({row.family.split(".")[1] for row in desk.capacity})


def test_dots_of_deals_are_their_prices_from_low_to_high(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    if not desk.comparables:
        assert "comparables" not in parts
        return
    drawn = dots(next(figures(parts["comparables"])).svg)
    deals = sorted(
        (deal for deal in desk.comparables if deal.is_per_watt), key=lambda deal: desk.sheet[deal.price].number
    )
    assert len(drawn) == len(deals)
    resolution = max(high for _, _, high, _ in drawn) / 60
    for (low, value, high, _), deal in zip(drawn, deals, strict=True):
        number = desk.sheet.number_in(deal.price, "USD/W-yr")
        extent = deal.watt_price(number).at_it_level(*PUE_RANGE)
        assert (low, high) == (pytest.approx(extent.low, abs=resolution), pytest.approx(extent.high, abs=resolution))
        assert value == pytest.approx(number, abs=resolution)


def test_the_cells_of_every_heat_map_are_values_of_the_sheet(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    assert desk.bridge is not None
    figure = next(block for block in figures(parts["bridge"]) if block.variants)
    for grid, (title, draw) in zip(desk.bridge.grids, figure.variants, strict=True):
        svg = draw(WIDE)
        numbers = [desk.sheet[name].number for row in grid.names for name in row]
        percent = grid.mode.startswith("upside")
        wanted = [f"{n:.0%}" if percent else f"{n:.2f}" if abs(n) < 10 else short(n) for n in numbers]
        assert texts(svg, "n") == wanted, title


def test_the_steps_of_the_waterfall_are_values_of_the_sheet(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    assert desk.bridge is not None
    svg = next(figures(parts["bridge"])).svg
    names = [name for label, name in desk.bridge.waterfall if label != "EPS"]
    assert texts(svg, "n") == [short(desk.sheet[name].number) for name in names]
    assert texts(svg, "u") == [desk.sheet[names[0]].unit]
    last = Wording(desk).quantity(desk.sheet[desk.bridge.result])
    assert any(last in words for words in texts(svg, "t")) == desk.bridge.per_share


def test_the_ends_of_the_tornado_are_its_results(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    assert desk.bridge is not None
    svg = next(figures(parts["sensitivity"])).svg
    assert texts(svg, "n") == [short(end) for bar in desk.bridge.tornado for end in (bar.at_low, bar.at_high)]
    base = desk.sheet[desk.bridge.result]
    assert f"as given: {Wording(desk).quantity(base)}" in texts(svg, "t")


def test_capital_lines_and_stacks_are_values_of_the_sheet(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    if desk.capital is None:
        assert "capex" not in parts
        return
    lines, stacks = list(figures(parts["capex"]))
    ends = sorted(short(desk.sheet[names[-1]].number) for _, names in desk.capital.scenarios)
    assert sorted(words.rpartition(" ")[2] for words in texts(lines.draw(WIDE), "t")) == ends
    totals = [short(desk.sheet[total].number) for _, _, total in desk.capital.depreciation]
    assert texts(stacks.svg, "n") == totals


def test_customer_stacks_are_the_ladder_and_the_loss(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    if desk.customers is None:
        assert "customers" not in parts
        return
    ladder, loss = list(figures(parts["customers"]))
    rungs = [short(sum(rung.values())) for _, rung in sorted(desk.customers.ladder.items())]
    assert texts(ladder.svg, "n") == rungs
    seen = [value for value in desk.customers.loss.values() if value]
    assert [words for words in texts(loss.svg, "n") if words[0] != "<"] == [
        short(value) for value in seen if value > max(seen) / 500
    ]


def test_signals_evidence_and_frontier_show_the_sheet(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    if desk.signals is not None:
        moved = [10 * math.log10(ratio) for item in desk.signals.signals for ratio in (item.lr_bear, item.lr_bull)]
        assert texts(next(figures(parts["signals"])).svg, "n") == [f"{number:+.1f}" for number in moved]
    for figure, verdict in zip(figures(parts["verdicts"]) if "verdicts" in parts else (), desk.verdicts, strict=False):
        wanted = sorted(verdict.judgment.moved.values(), reverse=True)
        assert texts(figure.svg, "n") == [f"{number:+.1f}" for number in wanted]
    if desk.channels is not None:
        numbers = [desk.sheet[name].number for row in desk.channels.ratios for name in row]
        wanted_cells = [f"{n:.2f}" if abs(n) < 10 else short(n) for n in numbers]
        assert texts(next(figures(parts["channels"])).svg, "n") == wanted_cells


@pytest.mark.parametrize("language", ["zh-Hant", "zh-Hans"])
def test_billions_are_drawn_in_the_unit_that_stands_at_the_axis(
    shown: tuple[Desk, dict[str, Section]], language: str
) -> None:
    """A billion US dollars is ten 億."""
    desk, _ = shown
    assert desk.bridge is not None
    parts = {part.id: part for part in sections(desk, [], [], Wording(desk, language))}
    svg = next(figures(parts["bridge"])).svg
    names = [name for label, name in desk.bridge.waterfall if label != "EPS"]
    factor = {"USD bn": 10, "USD m": 100}[desk.sheet[names[0]].unit]
    assert texts(svg, "n") == [short(desk.sheet[name].number * factor) for name in names]
    assert texts(svg, "u") == [
        {10: {"zh-Hant": "億美元", "zh-Hans": "亿美元"}, 100: {"zh-Hant": "萬美元", "zh-Hans": "万美元"}}[factor][
            language
        ]
    ]


def test_every_chart_keeps_its_words_inside_at_every_width(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, _ = shown
    for language in LANGUAGES:
        for part in sections(desk, run_simulation(desk, 2000), run_fans(desk), Wording(desk, language)):
            for figure in figures(part):
                for draw in (figure.draw, *(draw for _, draw in figure.variants)):
                    for width in (NARROW, PAIRED, WIDE):
                        for x, _, _, anchor, words in _TEXT.findall(draw(width)):
                            wide = text_width(unescape(words)) * 0.9
                            left = float(x) - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
                            assert left >= -1 and left + wide <= width + 1, (part.id, width, words)


def test_a_bridge_stated_in_other_units_draws_the_same_charts() -> None:
    """The published cell is ringed, and the case's price marked, in the axis's unit and not in the input's own."""
    text = (EXAMPLES / "hyperscaler-2026.toml").read_text()
    start = text.index('id = "b20a"')
    other = text[:start] + text[start:].replace('value = 250\nunit = "MW"', 'value = 0.25\nunit = "GW"', 1)
    other = other.replace('input = "b20a"\nlow = 100.0\nhigh = 1000.0', 'input = "b20a"\nlow = 0.1\nhigh = 1.0')
    assert other != text
    one, two = (build_case(parse_document(words.encode(), "case.toml")) for words in (text, other))
    first, second = ({part.id: part for part in sections(desk, [], [])} for desk in (one, two))
    assert len(_CIRCLE.findall("".join(figure.svg for figure in figures(first["bridge"])))) >= 1
    for before, after in zip(figures(first["bridge"]), figures(second["bridge"]), strict=True):
        assert before.svg == after.svg
        assert [draw(WIDE) for _, draw in before.variants] == [draw(WIDE) for _, draw in after.variants]


def test_an_open_range_says_so_and_stays_inside_the_chart() -> None:
    rows = [charts.Dot("site", 500.0, 500.0, math.inf), charts.Dot("hall", 80.0, 82.0, 84.0)]
    svg = charts.dots(480, rows, "MW", "{number} or more")
    assert texts(svg, "n") == ["500 or more", "80-84"]
    assert all(float(x2) <= 480 for _, _, x2, _, _ in _LINE.findall(svg))


def test_a_grid_on_a_telephone_keeps_the_published_column() -> None:
    values = [[float(column) for column in range(9)]]
    svg = grids.heat_map(NARROW, ["250"], [str(c) for c in range(9)], values, titles=("MW", "rent"), marked=(0, 5))
    assert len(texts(svg, "n")) == grids.NARROW_COLUMNS
    assert "5.00" in texts(svg, "n") and 'class="mark"' in svg
