"""The page of `sublet block advise --page`: a chart for each length with a line for each level that is known, and every figure."""

from __future__ import annotations

import re

import numpy as np

from sublet.demand.model import Slots
from sublet.surplus.blocks.advice import advise
from sublet.surplus.blocks.page import HEIGHT, LEFT, RIGHT, WIDTH, advice_page


def _found(days: int, lengths: tuple[int, ...], counts: tuple[int, ...] = (10, 25, 50)) -> dict[str, object]:
    random = np.random.default_rng(3)
    size = days * 24
    wave = 60 + 15 * np.sin(np.arange(size, dtype=np.float64) / 500) + random.normal(0.0, 12.0, size)
    demand = np.clip(wave, 0.0, 100.0).round()
    slots = Slots("farm", 0, 3600, np.full(size, 100.0), demand, np.zeros(size))
    return {"pool": "farm <b>", **advise(slots, 100, 0, counts, lengths).as_dict()}


def test_each_length_has_a_chart_with_every_known_level_inside_its_frame() -> None:
    found = _found(200, (7, 30))
    drawn = advice_page(found)
    charts = re.findall(r"<section>.*?</section>", drawn, re.DOTALL)
    assert [re.search(r"<h2>([^<:]*)", chart).group(1) for chart in charts] == ["7 days", "30 days"]  # type: ignore[union-attr]
    for chart in charts:
        lines = re.findall(r'<path class="cost c(\d+)" d="M([^"]*)"', chart)
        assert [level for level, _ in lines] == ["50", "90", "99"]
        ends = []
        for _, path in lines:
            points = [tuple(map(float, point.split())) for point in path.split("L")]
            assert len(points) == 4
            assert all(LEFT <= x <= WIDTH - RIGHT and 0 <= y <= HEIGHT for x, y in points)
            ends.append(points[-1][1])
        # Further up is more: what 99 % of spans stay below is no less than what half of them do.
        assert ends == sorted(ends, reverse=True)
    for row in found["rows"]:  # type: ignore[attr-defined]
        for level in (50, 90, 99):
            value = row[f"displaced_h_{level}"]
            assert f"{value:,.0f}" in drawn or f"{value:.1f}" in drawn
    assert "farm &lt;b&gt;" in drawn and "<b>" not in drawn


def test_a_level_that_history_does_not_tell_has_no_line_and_its_page_says_why() -> None:
    drawn = advice_page(_found(31, (7, 365)))
    lines = re.findall(r'class="cost c(\d+)" d="M[^"]*L', drawn)
    assert set(lines) == {"50"} and "need 26 weeks of history" in drawn
    young = advice_page(_found(5, (365,)))
    assert 'class="cost c50" d="M62' not in young and "Too little history" in young


def test_a_pool_without_room_for_a_block_says_so() -> None:
    assert "No size fits" in advice_page({**_found(31, (7,), ()), "pool": "farm"})
