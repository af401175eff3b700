"""What a chart draws and says."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.console.sample import sample_overview

from sublet.console.chart import draw, forecast_label
from sublet.console.model import PoolPoint, PoolView, Sold

NOW = datetime(2026, 7, 2, 14, 5, tzinfo=UTC)


def pool(*points: PoolPoint, gap_s: float = 1e9) -> PoolView:
    return PoolView("pool_1", "p", "H100", "s", 8, None, points, gap_s=gap_s, forecast_quantile=0.99)


def at(
    minutes: float, own: float | None = 3, sold: Sold = Sold(), on_sale: float = 0, forecast: bool = False
) -> PoolPoint:
    return PoolPoint(NOW + timedelta(minutes=minutes), 8, own, sold, on_sale, forecast)


def test_without_points_there_is_no_chart() -> None:
    assert draw(pool(), NOW) is None


def test_layers_stand_on_one_another() -> None:
    chart = draw(pool(at(-60, 4, Sold({"firm": 2}, model=1), on_sale=1)), NOW)
    assert chart is not None
    paths = {layer.name: layer.path for layer in chart.layers}
    # The plot's top is 8 accelerators and the 6 % of headroom: 8.48; the observed hour fills it but for the margin at now.
    y = {height: f"{1000 * (1 - height / 8.48):.1f}" for height in (4, 6, 7, 8)}
    assert paths["own"] == f"M0 1000V{y[4]}H983.6V1000H0Z"
    assert paths["firm"] == f"M0 {y[4]}V{y[6]}H983.6V{y[4]}H0Z"
    assert paths["model"] == f"M0 {y[6]}V{y[7]}H983.6V{y[6]}H0Z"
    assert paths["sale"] == f"M0 {y[7]}V{y[8]}H983.6V{y[7]}H0Z"
    assert paths["notice"] == paths["spot"] == ""
    assert [layer.now for layer in chart.layers] == [4, 2, 0, 0, 0, 1, 1]
    assert chart.withheld == 0


def test_demand_that_a_block_keeps_off_is_an_edge_over_what_is_on_sale() -> None:
    chart = draw(pool(at(-60, 4), at(0, 7.5, Sold(model=1), on_sale=2, forecast=True)), NOW)
    assert chart is not None
    heights = {
        layer.name: [
            round(8.48 * (1 - float(found) / 1000), 1)
            for found in re.findall(r"[MV](?:[0-9.]+ )?([0-9.]+)H", layer.path)
        ]
        for layer in chart.layers
    }
    # Five are left to the owner of eight, beside a model's replica and the two of the block; all that it wants is the edge.
    assert max(heights["own"]) == 5 and max(heights["model"]) == 6 and max(heights["sale"]) == 8
    edges = re.findall(r"M[0-9.]+ ([0-9.]+)", chart.own_edge_path)
    assert [round(8.48 * (1 - float(found) / 1000), 1) for found in edges] == [7.5]
    assert chart.layers[0].now == 4


def test_nothing_is_drawn_in_a_gap() -> None:
    chart = draw(pool(at(-60), at(-20), gap_s=600), NOW)
    assert chart is not None
    assert chart.layers[0].path.count("M") == 2
    assert chart.capacity_path.count("M") == 2
    assert [gap.label for gap in chart.gaps] == [
        "No samples, 2 Jul 13:15 to 2 Jul 13:45 UTC",
        "No samples, 2 Jul 13:55 to 2 Jul 14:05 UTC",
    ]
    assert "2 gaps without samples" in chart.description


def test_a_future_that_nobody_foresees_is_a_band_not_a_zero() -> None:
    points = (at(-60), at(0, 3, forecast=True), *(at(60 * hour, None, forecast=True) for hour in (1, 2)))
    chart = draw(pool(*points), NOW)
    assert chart is not None
    assert [gap.label for gap in chart.gaps] == ["No forecast yet, 2 Jul 15:05 to 2 Jul 16:05 UTC"]
    assert "There is not enough history" in chart.description


def test_what_was_not_recorded_is_a_dash_and_the_pools_own_word_holds_now() -> None:
    points = (PoolPoint(NOW - timedelta(hours=1), 8, 3), PoolPoint(NOW - timedelta(minutes=1), 8, 4))
    chart = draw(pool(*points), NOW)
    assert chart is not None
    assert (chart.layers[-1].now, chart.withheld, chart.rows[0].on_sale) == (None, None, None)
    chart = draw(replace(pool(*points), on_sale=(("firm", 0), ("spot", 3))), NOW)
    assert chart is not None
    assert (chart.layers[-1].now, chart.withheld, chart.rows[0].on_sale) == (3, 1, None)


def test_capacity_is_known_where_demand_is_not() -> None:
    chart = draw(pool(at(-60), at(-40, None), at(-20)), NOW)
    assert chart is not None
    assert chart.capacity_path.count("M") == 1
    assert chart.layers[0].path.count("M") == 2


def test_an_unknown_present_is_a_dash_not_a_zero() -> None:
    chart = draw(pool(at(-60), at(-20, None, Sold({"spot": 1}))), NOW)
    assert chart is not None
    assert [layer.now for layer in chart.layers] == [None, 0, 0, 0, 1, 0, 0]
    assert chart.withheld is None


def test_legend_and_description_tell_the_last_observation_not_the_columns_busiest() -> None:
    points = [at(-60 * hour, 7 if hour == 1 else 1) for hour in range(9_600)]
    chart = draw(pool(*points), NOW)
    assert chart is not None
    assert chart.layers[0].now == 1
    assert "Now: capacity 8, own demand 1," in chart.description
    assert "Highest observed demand of the owner: 7 at 2 Jul 13:05." in chart.description


def test_more_than_capacity_stays_inside_the_drawing() -> None:
    chart = draw(pool(at(-60, 30, Sold({"firm": 8}))), NOW)
    assert chart is not None
    numbers = [float(found) for layer in chart.layers for found in re.findall(r"-?\d+\.?\d*", layer.path)]
    assert min(numbers) >= 0
    assert max(numbers) <= 1000


def test_a_pool_without_capacity_has_a_chart() -> None:
    chart = draw(pool(replace(at(-30, 0), capacity=0)), NOW)
    assert chart is not None
    assert [mark.label for mark in chart.y] == ["0", "1"]


def test_the_forecast_is_named_by_its_quantile() -> None:
    chart = draw(pool(at(-60), at(0, 5, forecast=True), at(60, 6, forecast=True)), NOW)
    assert chart is not None
    assert chart.own_edge_path
    assert "Forecast, 99 % quantile, highest: 6 at 2 Jul 15:05." in chart.description
    assert not chart.dense
    assert forecast_label(replace(pool(), forecast_quantile=0.9995)) == "Forecast, 99.95 % quantile"
    assert not chart.dense
    assert forecast_label(replace(pool(), forecast_quantile=None)) == "Forecast"


def test_labels_at_the_edges_do_not_hang_over() -> None:
    for view in sample_overview(NOW).pools:
        chart = draw(view, NOW)
        for mark in chart.x if chart else ():
            assert mark.at >= 4 or mark.anchor == "start"
            assert mark.at <= 96 or mark.anchor == "end"


def test_the_readout_has_what_the_script_reads() -> None:
    chart = draw(pool(at(-60, 4, Sold({"firm": 1, "notice": 1, "spot": 1}), on_sale=0.5), at(0, 5, forecast=True)), NOW)
    assert chart is not None
    now = int(NOW.timestamp())
    assert chart.readout["columns"] == [
        [now - 3600, now, 0, 8, 0.5, 4, 1, 1, 0, 1, 0, 0.5],
        [now, now + 3600, 1, 8, 3, 5, 0, 0, 0, 0, 0, 0],
    ]


def test_a_year_of_ten_minute_points_is_drawn_in_few_bytes() -> None:
    points = tuple(
        at(-10 * index, index % 7, Sold({"firm": index % 2, "spot": 1}), on_sale=1) for index in range(57_600)
    )
    chart = draw(pool(*points), NOW)
    assert chart is not None
    assert sum(len(layer.path) for layer in chart.layers) < 40_000
    assert len(chart.rows) <= 24
    assert chart.dense
    assert chart.x[0].label == "Jul 2025"


def test_a_layer_without_height_has_no_outline() -> None:
    """Before the present nobody recorded what was on sale: nothing of it is drawn there, not even a line."""
    chart = draw(
        pool(at(-60, 4), at(-30, 5), at(0, 5, on_sale=1, forecast=True), at(30, 5, on_sale=2, forecast=True)), NOW
    )
    assert chart is not None
    paths = {layer.name: layer.path for layer in chart.layers}
    assert paths["sale"].count("M") == 1 and float(paths["sale"][1:].split()[0]) > 0
    assert paths["own"].startswith("M0 ")
