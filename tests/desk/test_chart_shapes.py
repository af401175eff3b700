"""The shapes of every kind of chart, measured against its own axes, are the numbers of the tables beside them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from sublet.desk.desk import Desk, open_case
from sublet.desk.montecarlo import Fan, SimulatedResult
from sublet.desk.report import charts, grids, timecharts
from sublet.desk.report.blocks import NARROW, PAIRED, WIDE, Figure, Section
from sublet.desk.report.calibration import calibration
from sublet.desk.report.drawing import short, text_width, wrapped
from sublet.desk.report.pages import sections
from sublet.desk.service import run_fans, run_simulation
from sublet.desk.verdicts import Bin

EXAMPLES = Path(__file__).parents[2] / "examples"
CASES = sorted(path.stem for path in EXAMPLES.glob("*.toml") if path.stem != "prices")
WIDTHS = (NARROW, PAIRED, WIDE)
KINDS = {
    "waterfall", "envelope", "tornado", "lines", "stacked", "dots", "diverging", "heat_map", "histogram", "fan", "over_time",
    "calibration",
}  # fmt: skip
"""Every function of the report that draws; each has a test here or in test_charts."""

_TEXT = re.compile(r'<text x="([-\d.]+)" y="([-\d.]+)" class="([^"]*)" text-anchor="(\w+)">([^<]*)</text>')
_PATH = re.compile(r'<path d="M([^"Z]+?)(?: Z)?" class="([^"]*)"/>')
_RECT = re.compile(r'<rect x="([-\d.]+)" y="([-\d.]+)" width="([-\d.]+)" height="([-\d.]+)" class="([^"]*)"')
Points = list[tuple[float, float]]
Shown = tuple[Desk, dict[str, Section], Sequence[SimulatedResult], Sequence[Fan]]


@pytest.fixture(scope="module", params=CASES)
def shown(request: pytest.FixtureRequest) -> Shown:
    desk = open_case(EXAMPLES / f"{request.param}.toml")
    simulated, fans = run_simulation(desk, 2000) if desk.simulation else [], run_fans(desk) if desk.simulation else []
    return desk, {part.id: part for part in sections(desk, simulated, fans)}, simulated, fans


def figures(parts: Mapping[str, Section], name: str) -> Iterator[Figure]:
    if name in parts:
        yield from (block for block in parts[name].blocks if isinstance(block, Figure))


class Axis:
    """Positions to numbers, by two ticks that the chart itself has."""

    def __init__(self, ticks: Points) -> None:
        (self._from, self._low), (to, high) = ticks[0], ticks[-1]
        self._scale = (high - self._low) / (to - self._from)

    def __call__(self, at: float) -> float:
        return self._low + (at - self._from) * self._scale

    @property
    def pixel(self) -> float:
        """How much a pixel is worth."""
        return abs(self._scale)


def number(words: str) -> float | None:
    for unit, factor in (("tn", 1e12), ("bn", 1e9), ("M", 1e6), ("k", 1e3), ("", 1.0)):
        if words.endswith(unit):
            try:
                return float(words.removesuffix(unit).replace(",", "")) * factor
            except ValueError:
                continue
    return None


def vertical(svg: str) -> Axis:
    """The axis at the left: numbers that end at one x."""
    found = [(float(y) - 4, n) for x, y, css, anchor, words in _TEXT.findall(svg)
             if css == "u" and anchor == "end" and float(x) in (38, 40, 46) and (n := number(words)) is not None]  # fmt: skip
    return Axis(found)


def horizontal(svg: str) -> Axis:
    """The axis below: numbers in the middle of their ticks."""
    found = [(float(x), n) for x, _, css, anchor, words in _TEXT.findall(svg)
             if css == "u" and anchor == "middle" and (n := number(words)) is not None]  # fmt: skip
    return Axis(found)


def paths(svg: str, css: str) -> list[Points]:
    """The points of every path of a class."""
    found = [points for points, of in _PATH.findall(svg) if of.split()[0] == css]
    return [[(float(x), float(y)) for x, y in (pair.split() for pair in points.split(" L"))] for points in found]


def rects(svg: str, *css: str) -> list[tuple[float, float, float, float]]:
    return [(float(x), float(y), float(w), float(h)) for x, y, w, h, of in _RECT.findall(svg) if of in css]


def agree(axis: Axis, positions: Sequence[float], wanted: Sequence[float]) -> None:
    assert [axis(at) for at in positions] == pytest.approx(list(wanted), abs=1.2 * axis.pixel)


def test_every_function_that_draws_is_held_to_numbers() -> None:
    drawn = {name for module in (charts, grids, timecharts) for name, made in vars(module).items()
             if callable(made) and made.__module__ == module.__name__ and "svg()" in _source(made)}  # fmt: skip
    assert drawn | {"calibration"} == KINDS


def _source(made: object) -> str:
    return inspect.getsource(made) if inspect.isfunction(made) else ""


def test_the_envelope_and_the_capex_lines_run_through_their_values(shown: Shown) -> None:
    desk, parts, _, _ = shown
    if desk.bridge is not None and desk.bridge.envelope:
        figure = [block for block in figures(parts, "bridge") if not block.variants][1]
        for width in WIDTHS:
            svg = figure.draw(width)
            for place, css in enumerate(("l0", "l1")):
                (line,) = paths(svg, css)
                agree(horizontal(svg), [x for x, _ in line], desk.bridge.axis_price)
                wanted = [desk.sheet[pair[place]].number for pair in desk.bridge.envelope]
                agree(vertical(svg), [y for _, y in line], wanted)
    if desk.capital is not None:
        for width in WIDTHS:
            svg = next(figures(parts, "capex")).draw(width)
            for place, (_, names) in enumerate(desk.capital.scenarios):
                (line,) = paths(svg, f"l{place}")
                agree(vertical(svg), [y for _, y in line], [desk.sheet[name].number for name in names])


def test_the_bars_over_time_are_the_series(shown: Shown) -> None:
    desk, parts, _, _ = shown
    series = [item for item in desk.timeline if item.is_shown]
    for figure, item in zip(figures(parts, "timeline"), series, strict=True):
        numbers = [desk.sheet[name].number for name in item.names]
        for width in WIDTHS:
            svg = figure.draw(width)
            axis, bars = vertical(svg), rects(svg, "s0", "bad")
            assert len(bars) == len(numbers)
            for (_, y, _, height), wanted in zip(bars, numbers, strict=True):
                end, base = (y, y + height) if wanted >= 0 else (y + height, y)
                agree(axis, [end, base], [wanted, 0.0])


def test_the_parts_of_stacks_are_what_they_are_of(shown: Shown) -> None:
    desk, parts, _, _ = shown
    if desk.customers is not None:
        ladder = next(figures(parts, "customers"))
        wanted = sorted(value for rung in desk.customers.ladder.values() for value in rung.values() if value)
        for width in WIDTHS:
            svg = ladder.draw(width)
            bars = [bar for bar in rects(svg, *charts.SERIES) if bar[2] != 10 or bar[3] != 10]  # without the legend
            pixel = vertical(svg).pixel
            assert sorted(bar[3] * pixel for bar in bars) == pytest.approx(wanted, abs=2 * pixel)
    if desk.capital is not None:
        stacks = list(figures(parts, "capex"))[1]
        values = sorted(desk.sheet[name].number for _, vintages, _ in desk.capital.depreciation for _, name in vintages)
        svg = stacks.draw(WIDE)
        bars = [bar for bar in rects(svg, *charts.SERIES) if bar[3] != 10]
        assert sorted(bar[3] * vertical(svg).pixel for bar in bars) == pytest.approx(
            values, abs=2 * vertical(svg).pixel
        )


def test_histograms_have_the_draws_and_the_quantiles(shown: Shown) -> None:
    _, parts, simulated, _ = shown
    for figure, found in zip(figures(parts, "uncertainty"), simulated, strict=False):
        for width in WIDTHS:
            svg = figure.draw(width)
            bars, axis = rects(svg, "s0", "bad"), horizontal(svg)
            assert len(bars) == len(found.histogram)
            agree(axis, [x for x, _, _, _ in bars], found.edges[:-1])
            tallest = max(height for _, _, _, height in bars)
            assert [height / tallest for _, _, _, height in bars] == pytest.approx(
                [count / max(found.histogram) for count in found.histogram], abs=0.01
            )
            dashes = re.findall(r'<line x1="([-\d.]+)"[^>]* class="dash"', svg)
            agree(axis, [float(x) for x in dashes], [found.quantiles[point] for point in (0.05, 0.5, 0.95)])


def test_fans_have_their_median_and_their_bands(shown: Shown) -> None:
    _, parts, simulated, fans = shown
    drawn = list(figures(parts, "uncertainty"))[len(simulated) :]
    for figure, fan in zip(drawn, fans, strict=True):
        for width in WIDTHS:
            svg = figure.draw(width)
            across, up = horizontal(svg), vertical(svg)
            (median,) = paths(svg, "l0")
            agree(across, [x for x, _ in median], fan.points)
            agree(up, [y for _, y in median], fan.bands[0.5])
            for css, low, high in (("f1", 0.01, 0.99), ("f2", 0.05, 0.95), ("f3", 0.25, 0.75)):
                (band,) = paths(svg, css)
                agree(up, [y for _, y in band], [*fan.bands[high], *reversed(fan.bands[low])])


def test_what_results_follow_is_drawn_as_it_is_calculated(shown: Shown) -> None:
    desk, parts, _, _ = shown
    drawn = figures(parts, "sensitivities")
    for found in desk.sensitivities:
        if found.swings:
            told = [words for _, _, css, _, words in _TEXT.findall(next(drawn).svg) if css == "n"]
            assert told == [short(end) for swing in found.swings for end in (swing.at_low, swing.at_high)]
        if found.grid is not None:
            told = [words for _, _, css, _, words in _TEXT.findall(next(drawn).draw(WIDE)) if css.split()[0] == "n"]
            cells = [cell for row in found.grid.cells for cell in row]
            assert told == [f"{cell:.2f}" if abs(cell) < 10 else short(cell) for cell in cells]


def test_the_decision_and_the_positioning_are_values_of_the_sheet(shown: Shown) -> None:
    desk, parts, _, _ = shown
    if desk.decision is not None:
        svg = next(figures(parts, "decision")).draw(WIDE)
        cells = [desk.sheet[name].number for row in desk.decision.cells for name in row]
        assert [words for _, _, css, _, words in _TEXT.findall(svg) if css.split()[0] == "n"] == [
            f"{cell:.2f}" if abs(cell) < 10 else short(cell) for cell in cells
        ]
    for figure in figures(parts, "positioning"):
        assert desk.positioning is not None
        scores = [desk.sheet[name].number for _, name in desk.positioning.rows if desk.sheet[name].unit.startswith("z")]
        for width in WIDTHS:
            svg = figure.draw(width)
            dots = [float(x) for x in re.findall(r'<circle cx="([-\d.]+)"', svg)]
            assert [words for _, _, css, _, words in _TEXT.findall(svg) if css == "n"] == [short(one) for one in scores]
            steps = zip(pairwise(scores), pairwise(dots), strict=True)
            assert all((a < b) == (x < y) for (a, b), (x, y) in steps if a != b)


def test_diverging_bars_are_as_long_as_their_numbers_and_keep_the_width_that_a_telephone_has() -> None:
    bars = [("AI application revenue slows two prints running: yes", 7.0, "August 10, 2026"), ("b", -3.5, "open")]
    for width in WIDTHS:
        svg = charts.diverging(width, bars, "dB", ("against", "for"))
        (_, _, one, _), (_, _, other, _) = rects(svg, "good", "bad")
        assert one == pytest.approx(2 * other, abs=0.2) and one > width * 0.15
        assert any(words.endswith(": yes") for *_, words in _TEXT.findall(svg)), width


def test_calibration_points_are_the_bins() -> None:
    bins = [
        Bin(said=0.1, came_true=0.25, questions=12, low=0.05, high=0.5),
        Bin(said=0.9, came_true=0.8, questions=20, low=0.6, high=0.92),
    ]
    svg = calibration(PAIRED, bins, ("said, %", "came true, %"))
    dots = re.findall(r'<circle cx="([-\d.]+)" cy="([-\d.]+)"', svg)
    agree(horizontal(svg), [float(x) for x, _ in dots], [10, 90])
    agree(vertical(svg), [float(y) for _, y in dots], [25, 80])


def test_a_bar_that_can_not_be_seen_says_less_than_what_can() -> None:
    svg = charts.stacked(PAIRED, ["2029", "2030"], [("", [0.0007, 5.57])], "USD bn")
    assert [words for _, _, css, _, words in _TEXT.findall(svg) if css == "n"] == ["&lt;0.01", "5.57"]


def test_the_line_that_is_named_in_a_telephone_s_legend_keeps_its_number() -> None:
    name = "a scenario with a name that is far too long for a telephone's legend"
    svg = charts.lines(NARROW, [2026, 2027], [(name, [1.0, 2.5])], "USD bn")
    assert any(words.endswith("… 2.50") for *_, words in _TEXT.findall(svg))


def test_a_long_label_takes_two_lines_and_only_then_is_cut() -> None:
    words = "Meta is reported to plan to let compute, raw and managed"
    assert wrapped(words, 1000) == [words]
    two = wrapped(words, text_width(words) * 0.6)
    assert len(two) == 2 and " ".join(two) == words
    assert wrapped("報導稱Meta計畫對外出租算力", 120) == ["報導稱Meta計畫", "對外出租算力"]
    assert wrapped(words, 80)[1].endswith("…")
