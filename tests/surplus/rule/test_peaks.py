"""Quantiles of the peak: what was forecast holds as often as it says, and what can't be known is said."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from tests.permissions import everybody
from tests.surplus.series import remember
from tests.terminal import sit_at
from typer.testing import CliRunner

from sublet.commands import demand as commands
from sublet.demand.model import HOUR_S, Sample, Series, series_of
from sublet.demand.service import Demand
from sublet.fleet.model import PoolSpec
from sublet.fleet.service import Fleet
from sublet.store import Store
from sublet.surplus.api import router
from sublet.surplus.model import PoolFacts
from sublet.surplus.record import store as surplus_sql
from sublet.surplus.rule.memory import hours_of
from sublet.surplus.rule.peaks import PeakForecast, peaks_of
from sublet.surplus.rule.seller import deepest
from sublet.surplus.service import Surplus, view_of
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)


def hourly(in_use: list[float], capacity: float = 100) -> Series:
    """Samples at the beginning of each hour since BEGIN."""
    return series_of("p", [Sample(BEGIN + timedelta(hours=i), capacity, x) for i, x in enumerate(in_use)])


def after(series: Series) -> datetime:
    return BEGIN + timedelta(hours=len(series))


def forecast_peaks(
    series: Series, at: datetime, horizons: tuple[int, ...], quantiles: tuple[float, ...] = (0.5, 0.9)
) -> PeakForecast:
    """What is foreseen at `at`, whatever the series holds of later times."""
    known = series.until(at + timedelta(microseconds=1))
    return peaks_of(view_of(known, hours_of(known, at), PoolFacts("p", "p", 100), (), at), horizons, quantiles)


def walk(hours: int, seed: int) -> list[float]:
    """Demand that drifts by the hour and falls back to 50."""
    draw, level, found = np.random.default_rng(seed), 50.0, []
    for _ in range(hours):
        level += 0.1 * (50 - level) + draw.normal(0, 3)
        found.append(float(np.clip(level, 0, 100)))
    return found


def test_forecasts_hold_about_as_often_as_they_say() -> None:
    held = {0.5: 0, 0.9: 0, 0.95: 0}
    checks = dict.fromkeys(held, 0)
    for seed in range(6):
        series = hourly(walk(24 * 60, seed))
        for peaks in forecast_peaks(series, after(series), (HOUR_S, 4 * HOUR_S), tuple(held)).peaks.values():
            for peak in peaks:
                held[peak.quantile] += peak.held
                checks[peak.quantile] += peak.checks
    assert min(checks.values()) > 1000
    for quantile, count in held.items():
        assert quantile - 0.05 <= count / checks[quantile] <= 1, "cautious it may be, and bold it may not"


def test_the_steps_of_every_day_are_foreseen() -> None:
    """At eight in the evening nothing says so but the hour: ten more are used from nine to eleven."""
    series = hourly([20 + 10 * (hour % 24 in (21, 22)) + 0.1 * (hour % 3) for hour in range(24 * 40 + 21)])
    found = forecast_peaks(series, after(series), (HOUR_S, 12 * HOUR_S), (0.5,))
    assert found.in_use is not None and found.in_use < 21
    assert all(28 < (peak.accelerators or 0) < 36 for (peak,) in found.peaks.values())


def test_with_too_few_spans_it_is_not_known_and_says_why() -> None:
    series = hourly(walk(24 * 10 + 20, 1))
    found = forecast_peaks(series, after(series), (HOUR_S, 24 * HOUR_S), (0.5, 0.99))
    near, far = found.peaks[HOUR_S], found.peaks[24 * HOUR_S]
    assert near[0].accelerators is not None and near[1].accelerators is not None
    assert far[0].accelerators is not None
    assert (far[1].accelerators, far[1].checks) == (None, 0)
    assert far[1].why == "the history holds 10 spans of this length, and 50 are needed"


def test_without_history_nothing_is_known() -> None:
    found = forecast_peaks(hourly([]), BEGIN, (HOUR_S,), (0.5,))
    assert (found.in_use, found.history_s, found.peaks[HOUR_S][0].accelerators) == (None, 0, None)
    assert found.peaks[HOUR_S][0].why


def test_where_samples_have_stopped_nothing_is_known_now() -> None:
    series = hourly(walk(24 * 20, 1))
    assert forecast_peaks(series, after(series) + timedelta(hours=3), (HOUR_S,), (0.5,)).in_use is not None
    found = forecast_peaks(series, after(series) + timedelta(hours=4), (HOUR_S,), (0.5,))
    assert (found.in_use, found.peaks[HOUR_S][0].accelerators) == (None, None)
    assert found.peaks[HOUR_S][0].why == "the last sample is 18000 s old"


def test_minutes_ahead_are_seen_by_the_minute() -> None:
    demand = walk(3 * 24 * 60, 2)
    series = series_of("p", [Sample(BEGIN + timedelta(minutes=i), 100, x) for i, x in enumerate(demand)])
    at = BEGIN + timedelta(minutes=len(demand))
    (near,), (far,) = forecast_peaks(series, at, (600, 1800), (0.9,)).peaks.values()
    assert near.accelerators is not None and far.accelerators is not None
    assert demand[-1] < near.accelerators <= far.accelerators <= 100


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=30, max_size=200), st.data())
def test_it_never_uses_the_future_and_quantiles_keep_their_order(in_use: list[float], data: st.DataObject) -> None:
    series = hourly(in_use)
    stop = data.draw(st.integers(1, len(in_use)))
    at = BEGIN + timedelta(hours=stop - 1)
    horizons, quantiles = (HOUR_S, 4 * HOUR_S), (0.5, 0.8, 0.9)
    whole = forecast_peaks(series, at, horizons, quantiles)
    assert whole == forecast_peaks(hourly(in_use[:stop]), at, horizons, quantiles)
    for peaks in whole.peaks.values():
        known = [peak.accelerators for peak in peaks if peak.accelerators is not None]
        assert known == sorted(known)
        assert all(value >= in_use[stop - 1] - 1e-6 for value in known)
    for near, far in zip(*whole.peaks.values(), strict=True):
        assert near.accelerators is None or far.accelerators is None or near.accelerators <= far.accelerators


@pytest.mark.parametrize(
    ("horizons", "quantiles", "said"),
    [
        ((30,), (0.5,), "horizons of 60 to"),
        ((), (0.5,), "horizons of 60 to"),
        ((3600 * 24 * 15,), (0.5,), "horizons of 60 to"),
        ((3600,), (1.0,), "quantiles above 0"),
        ((3600,), (float("nan"),), "quantiles above 0"),
        ((3600,), (), "quantiles above 0"),
    ],
)
def test_what_is_out_of_range_is_refused(horizons: tuple[int, ...], quantiles: tuple[float, ...], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        forecast_peaks(hourly([1.0]), BEGIN, horizons, quantiles)


def surplus_of(demand: Demand, fleet: Fleet) -> Surplus:
    """The surplus as far as it forecasts: nothing is sold by it."""

    def facts(pool_id: str, connection: Connection) -> PoolFacts:
        found = fleet.pool(pool_id, connection)
        return PoolFacts(found.id, found.name, found.in_service)

    return Surplus(
        demand,
        facts,
        lambda pool_id, connection: (),
        (),
        demand.clock,
        lambda pool_id, connection: surplus_sql.learned(connection, pool_id),
    )


def test_the_route_and_the_command_tell_the_same(
    store: Store, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    demand, fleet = Demand(store), Fleet(store)
    pool = fleet.sync(
        [PoolSpec("lab", "here", "H100", "simulated", ("s:0", "s:1"), Decimal(700), "stated", 10**9, "USD", "owned")]
    )[0]
    remember(demand, replace(hourly(walk(24 * 20, 3)), pool=pool.id))
    clock.set(after(hourly(walk(24 * 20, 3))))
    app = FastAPI()
    app.include_router(router(surplus_of(demand, fleet), everybody, clock.now))
    with TestClient(app) as client:
        told = client.get(f"/v1/demand/{pool.id}/forecast", params={"horizon_s": [3600], "quantile": [0.9]}).json()
    sit_at(monkeypatch, app, "key")
    arguments = ["forecast", "lab", "--horizon", "1h", "--quantile", "0.9"]
    assert json.loads(CliRunner().invoke(commands.app, [*arguments, "--json"]).stdout) == told
    peak = told["horizons"][0]["quantiles"][0]
    assert peak["accelerators"] > told["in_use"] and peak["checks"] > 50
    shown = CliRunner().invoke(commands.app, arguments).stdout
    assert f"{peak['accelerators']:.1f} ({peak['held']} of {peak['checks']} held)" in shown
    wrong = CliRunner().invoke(commands.app, ["forecast", "lab", "--horizon", "soon"])
    assert isinstance(wrong.exception, InvalidInputError) and "30m, 4h, 3d" in wrong.exception.message


def by_step(in_use: list[float], step_s: int) -> Series:
    return series_of("p", [Sample(BEGIN + timedelta(seconds=step_s * i), 100, x) for i, x in enumerate(in_use)])


def test_a_week_of_minutes_is_looked_at() -> None:
    week = [10.0] * (7 * 24 * 60)
    for minute in range(3 * 24 * 60, 3 * 24 * 60 + 60):
        week[minute] = 90.0
    series = by_step(week, 60)
    peak = forecast_peaks(series, series.end, (900,), (0.999,)).peaks[900][0]
    assert peak.accelerators is not None and peak.accelerators > 80


def test_the_chart_the_command_and_the_rule_say_the_same() -> None:
    """What firm may sell for an hour with 1 % of past moments left out is what the 99 % quantile of the peak leaves."""
    series = hourly([round(x) for x in walk(24 * 60, 9)])
    at = after(series)
    view = view_of(series, hours_of(series, at), PoolFacts("p", "p", 100), (), at)
    [[peak]] = peaks_of(view, (HOUR_S,), (0.99,)).peaks.values()
    outlook = view.outlook(HOUR_S, firm=True)
    rise = outlook.rise(0.99)
    assert peak.accelerators == view.in_use + (rise or 0.0)
    [voice] = outlook.voices
    depth = deepest(voice.futures, 100 - view.in_use - outlook.above, 0.01 * voice.futures.weight)
    assert depth.count == int(100 - peak.accelerators + 1e-6)
    # A few percent of a bold jump on a calm office-hours pool is not what the next hour brings.
    office = hourly([60.0 if 9 <= hour % 24 < 18 and hour // 24 % 7 < 5 else 5.0 for hour in range(24 * 70 + 2)])
    night = view_of(office, hours_of(office, after(office)), PoolFacts("p", "p", 100), (), after(office))
    assert (night.outlook(HOUR_S, firm=True).rise(0.99) or 0.0) < 10
