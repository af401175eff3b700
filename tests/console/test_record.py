"""The record's page: what was promised against what happened, drawn right, and nothing said that is not known."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from fastapi.testclient import TestClient
from tests.console.sample import sample_record

from sublet.console.record import RecordPage, draw_record, window_text
from sublet.surplus.record.calibration import PoolRecord
from sublet.values.clock import SimulatedClock


@pytest.fixture
def record(clock: SimulatedClock) -> PoolRecord:
    found = sample_record(clock.now()).record
    assert found is not None
    return found


@pytest.fixture
def page(record: PoolRecord) -> RecordPage:
    return draw_record(record)


def test_who_is_not_signed_in_is_sent_to_sign_in(client: TestClient) -> None:
    answer = client.get("/record")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=/record")


def test_the_page_shows_both_sources_and_says_which_is_which(signed_in: TestClient) -> None:
    text = signed_in.get("/record").text
    leases, shadow = text.index("Leases that were sold"), text.index("simulates sales")
    assert leases < text.index("given back") < shadow < text.index("Of the bound</th>")
    assert "demand changed, noticed on 10 December 2025" in text
    assert "Lived through 2,688 h" in text and "14 of them without samples" in text
    assert "Nothing sold as firm 24 h" in text
    assert 'href="/record?pool=a100-virginia"' in text
    for place in re.findall(r'(?:cx|x1|x2|x)="([0-9.]+)%"', text):
        assert 0 <= float(place) <= 100


def test_a_pool_without_a_record_says_so_and_an_unknown_one_too(signed_in: TestClient) -> None:
    assert "No pool yet" in signed_in.get("/record", params={"pool": "not-seen-yet"}).text
    answer = signed_in.get("/record", params={"pool": "<b>nowhere</b>"})
    assert answer.status_code == 404 and "&lt;b&gt;nowhere" in answer.text


def test_nothing_is_drawn_where_nothing_was_sold(record: PoolRecord) -> None:
    page = draw_record(replace(record, leases=(), shadow=(), tunings=()))
    assert (page.leases.lines, page.shadow.lines, page.survival, page.told) == ((), (), (), ())


def test_where_one_source_is_empty_the_other_is_shown_alone(record: PoolRecord) -> None:
    assert draw_record(record).both
    page = draw_record(replace(record, leases=()))
    assert not page.both and all(leases is None for _, leases, _ in page.survival) and len(page.survival) == 3


def test_ranges_stand_where_the_scale_has_them(page: RecordPage) -> None:
    assert [(mark.at, mark.label) for mark in page.scale] == [
        (0.0, "0.1"), (25.0, "1"), (50.0, "10"), (75.0, "100"), (100.0, "1,000"),
    ]  # fmt: skip
    for line in (*page.leases.lines, *page.shadow.lines):
        assert line.range is not None
        assert 0 <= line.range.low <= line.range.happened <= line.range.low + line.range.width + 0.5 <= 101
        assert (line.range.accepted is None) == (line.figures.class_name != "firm")
    firm = next(line for line in page.shadow.lines if line.window == "4 h" and line.figures.class_name == "firm")
    assert (firm.tone, firm.verdict, firm.range and firm.range.accepted) == ("bad", "above", 50.0)


def test_curves_begin_whole_and_both_sources_of_a_class_share_an_axis(page: RecordPage) -> None:
    assert [name for name, _, _ in page.survival] == ["firm", "notice", "spot"]
    for _, leases, shadow in page.survival:
        assert leases is not None and shadow is not None
        assert [mark.label for mark in leases.y] == [mark.label for mark in shadow.y]
        assert leases.y[-1].label == "100 %"
        for chart in (leases, shadow):
            for curve in chart.curves:
                points = [tuple(map(float, pair.split())) for pair in curve.path[1:].split("L")]
                assert points[0] == (0, 0) and points[-1][0] == 1000
                assert all(before[1] <= after[1] <= 1000 for before, after in pairwise(points))


def test_a_length_looks_the_same_in_every_chart(page: RecordPage) -> None:
    names: dict[str, set[str]] = {}
    for _, *charts in page.survival:
        for chart in charts:
            for curve in chart.curves if chart else ():
                names.setdefault(curve.label, set()).add(curve.name)
    assert all(len(found) == 1 for found in names.values())
    assert len({next(iter(found)) for found in names.values()}) == len(names)


def test_windows_beyond_all_on_offer_are_called_so() -> None:
    assert [window_text(hours * 3600) for hours in (1, 12, 720)] == ["1 h", "12 h", "longer"]
