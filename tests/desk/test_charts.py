"""The numbers that a chart draws are the numbers of the table beside it, for every chart of every example."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sublet.desk.desk import Desk, build_case, open_case
from sublet.desk.documents import parse_document
from sublet.desk.report import charts
from sublet.desk.report.blocks import Figure, Ref, Section, TableBlock
from sublet.desk.report.drawing import short
from sublet.desk.report.pages import sections
from sublet.desk.report.pages_market import PUE_RANGE
from sublet.desk.service import run_fans, run_simulation

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = ("hyperscaler-2026", "university", "neocloud")

_TEXT = re.compile(r'<text x="([-\d.]+)" y="([-\d.]+)" class="([^"]*)" text-anchor="(\w+)">([^<]*)</text>')
_RECT = re.compile(r'<rect x="([-\d.]+)" y="([-\d.]+)" width="([\d.]+)" height="([\d.]+)" class="([^"]*)"')
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


def bars(svg: str) -> dict[str, tuple[float, float, str]]:
    """By label, the drawn low and high of a chart of ranges, measured in pixels against its own ticks."""
    found = _TEXT.findall(svg)
    ticks = [
        (float(x), number)
        for x, _, css, anchor, words in found
        if css == "u" and anchor == "middle" and (number := number_in(words)) is not None
    ]
    (x0, v0), (x1, v1) = ticks[0], ticks[-1]
    per_pixel = (v1 - v0) / (x1 - x0)
    drawn = {}
    for _, y, css, anchor, words in found:
        if css != "t" or anchor != "end":
            continue
        row = [rect for rect in _RECT.findall(svg) if abs(float(rect[1]) + 13 - float(y)) < 0.1]
        solid = next(rect for rect in row if rect[4] in ("s0", "s1"))
        low = v0 + (float(solid[0]) + float(solid[2]) - x0) * per_pixel
        pale = [rect for rect in row if rect[4] == "pale"]
        high = v0 + (float(pale[0][0]) + float(pale[0][2]) - x0) * per_pixel if pale else low
        label = next(text for _, other, style, _, text in found if style == "n" and other == y)
        drawn[words] = (low, high, label)
    return drawn


def number_in(words: str) -> float | None:
    try:
        return float(words.replace(",", "").replace("k", "e3").replace("M", "e6"))
    except ValueError:
        return None


def test_capacity_bars_are_the_rows_of_the_ledger(shown: tuple[Desk, dict[str, Section]]) -> None:
    """A row in MW with a qualifier was drawn a thousand times too long."""
    desk, parts = shown
    figure = next(figures(parts["capacity"]))
    drawn = bars(figure.svg)
    unit = next(word for word in texts(figure.svg, "u") if word in ("GW", "MW"))
    table = next(block for block in parts["capacity"].blocks if isinstance(block, TableBlock))
    assert len(drawn) == len(table.rows) == len(desk.capacity)
    resolution = max(high for _, high, _ in drawn.values()) / 200
    for (low, high, label), row in zip(drawn.values(), table.rows, strict=True):
        cell = row[1]
        assert isinstance(cell, Ref)
        value = desk.sheet[cell.name]
        printed = desk.sheet.number_in(cell.name, unit)
        factor = printed / value.number
        assert value.range is None or value.range.low * factor <= printed <= value.range.high * factor
        ends = (printed, printed) if value.range is None else (value.range.low * factor, value.range.high * factor)
        assert low == pytest.approx(ends[0], abs=resolution), cell.name
        if math.isfinite(ends[1]):
            assert high == pytest.approx(ends[1], abs=resolution), cell.name
            assert label == (short(ends[0]) if ends[0] == ends[1] else f"{short(ends[0])}-{short(ends[1])}")
        else:
            assert label == f"{short(ends[0])} or more"


def test_bars_of_deals_are_the_prices_of_their_table(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    if not desk.comparables:
        assert "comparables" not in parts
        return
    drawn = list(bars(next(figures(parts["comparables"])).svg).values())
    deals = [deal for deal in desk.comparables if deal.is_per_watt]
    assert len(drawn) == len(deals)
    resolution = max(high for _, high, _ in drawn) / 200
    for (low, high, _), deal in zip(drawn, deals, strict=True):
        extent = deal.watt_price(desk.sheet.number_in(deal.price, "USD/W-yr")).at_it_level(*PUE_RANGE)
        assert (low, high) == (pytest.approx(extent.low, abs=resolution), pytest.approx(extent.high, abs=resolution))


def test_the_cells_of_every_heat_map_are_values_of_the_sheet(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    assert desk.bridge is not None
    figure = next(block for block in figures(parts["bridge"]) if block.variants)
    for grid, (title, svg) in zip(desk.bridge.grids, figure.variants, strict=True):
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


def test_the_ends_of_the_tornado_are_its_results(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    assert desk.bridge is not None
    svg = next(figures(parts["sensitivity"])).svg
    assert texts(svg, "n") == [short(end) for bar in desk.bridge.tornado for end in (bar.at_low, bar.at_high)]
    base = desk.sheet[desk.bridge.result]
    assert f"base {short(base.number)} {base.unit}" in texts(svg, "t")


def test_capital_lines_and_stacks_are_values_of_the_sheet(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    if desk.capital is None:
        assert "capex" not in parts
        return
    lines, stacks = list(figures(parts["capex"]))
    for title, names in desk.capital.scenarios:
        assert f"{title}: {' / '.join(short(desk.sheet[name].number) for name in names)}" in texts(lines.svg, "t")
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
    assert texts(loss.svg, "n") == [short(value) for value in desk.customers.loss.values() if value]


def test_the_board_and_the_frontier_show_the_sheet(shown: tuple[Desk, dict[str, Section]]) -> None:
    desk, parts = shown
    if desk.signals is not None:
        prior, now = desk.sheet[desk.signals.prior].number, desk.sheet[desk.signals.now].number
        assert f"prior {prior:.0%}, now {now:.1%}" in texts(next(figures(parts["signals"])).svg, "n")
    if desk.channels is not None:
        numbers = [desk.sheet[name].number for row in desk.channels.ratios for name in row]
        wanted = [f"{n:.2f}" if abs(n) < 10 else short(n) for n in numbers]
        assert texts(next(figures(parts["channels"])).svg, "n") == wanted


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
        assert before.variants == after.variants


def test_an_open_range_says_so_and_stays_inside_the_chart() -> None:
    svg = charts.ranges([("site", 500.0, math.inf, False), ("hall", 80.0, 84.0, True)], "MW")
    assert texts(svg, "n") == ["500 or more", "80-84"]
    assert all(float(x) + float(width) <= 480 for x, _, width, _, _ in _RECT.findall(svg))
