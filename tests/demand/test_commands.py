"""The commands print what people and machines can read, and refuse bad input with exit code 2."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.surplus import series as made
from typer import Typer
from typer.testing import CliRunner

from sublet.commands import demand as commands
from sublet.commands import surplus as surplus_commands
from sublet.config.settings import Settings
from sublet.demand.feeds.csv_series import read_series, write_series
from sublet.demand.model import Sample, series_of
from sublet.demand.service import Demand
from sublet.fleet.model import PoolSpec
from sublet.fleet.service import Fleet
from sublet.store import Store
from sublet.surplus.backtest.backtest import prepare
from sublet.values.clock import SimulatedClock, format_time
from sublet.values.errors import InvalidInputError

HEADER = "job_name,organization,gpu_model,cpu_request,gpu_request,worker_num,submit_time,duration,job_type\n"
HALF_AN_HOUR = timedelta(minutes=30)


def app(function: Callable[..., Any]) -> Typer:
    alone = Typer()
    alone.command()(function)
    return alone


def test_the_alibaba_file_becomes_a_series_that_is_read_back(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text(HEADER + "a,o,A100,8,8,2,0,7200,HP\n")
    out = tmp_path / "a100.csv"
    arguments = ["alibaba", str(tmp_path / "jobs.csv"), "--model", "A100", "--capacity", "64", "--out", str(out)]
    found = CliRunner().invoke(commands.app, arguments)
    assert found.exit_code == 0, found.output
    assert read_series(out).in_use.tolist() == [16, 16]


def test_shadow_and_backtest_of_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    write_series(made.series(16), path)
    shadow = CliRunner().invoke(
        app(surplus_commands.shadow), [str(path), "--windows", "4,1", "--price", "2.50", "--json"]
    )
    assert shadow.exit_code == 0, shadow.output
    told = json.loads(shadow.stdout)["pools"][0]
    assert told["earned"] == f"{2.5 * told['honored_hours']:.2f} USD"
    assert set(told["windows"]) == {"4h", "1h"}
    page = tmp_path / "page.html"
    arguments = [str(path), "--windows", "4", "--json", "--page", str(page)]
    backtest = CliRunner().invoke(app(surplus_commands.backtest), arguments)
    assert backtest.exit_code == 0, backtest.output
    assert json.loads(backtest.stdout)["pooled"]["sublet"]["4h"]["broken_per_1000"] >= 0
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("extra", [["--windows", "soon"], ["--windows", "0"], ["--broken-per-1000", "0"]])
def test_bad_options_are_refused(tmp_path: Path, extra: list[str]) -> None:
    path = tmp_path / "own.csv"
    write_series(made.series(16), path)
    for function in (surplus_commands.shadow, surplus_commands.backtest):
        found = CliRunner().invoke(app(function), [str(path), *extra])
        assert isinstance(found.exception, InvalidInputError)


def test_shadow_refuses_what_would_be_a_wrong_number(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    write_series(made.series(16), path)
    for extra, words in ((["--price", "-1"], "0 or more"), (["--pool", "lab"], "--pool names a pool of the database")):
        found = CliRunner().invoke(app(surplus_commands.shadow), [str(path), *extra])
        assert isinstance(found.exception, InvalidInputError) and words in found.exception.message


def test_a_page_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    write_series(made.series(16), path)
    for page in (tmp_path, tmp_path / "none" / "page.html"):
        found = CliRunner().invoke(app(surplus_commands.backtest), [str(path), "--page", str(page)])
        assert isinstance(found.exception, InvalidInputError) and "can't be written" in found.exception.message


def test_shadow_of_all_pools_leaves_out_those_with_too_little_history(monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = replace(made.series(16), pool="long"), replace(made.series(3), pool="short")
    monkeypatch.setattr(surplus_commands, "_recorded", lambda pool, kept: [short, long] if pool is None else [short])
    arguments = ["--windows", "1", "--json"]
    found = CliRunner().invoke(app(surplus_commands.shadow), arguments)
    told = json.loads(found.stdout)
    assert [report["pool"] for report in told["pools"]] == ["long"]
    assert told["left_out"][0]["pool"] == "short" and "spans 72 hours" in told["left_out"][0]["why"]
    assert "left out: short spans 72 hours" in CliRunner().invoke(app(surplus_commands.shadow), arguments[:2]).stdout
    alone = CliRunner().invoke(app(surplus_commands.shadow), ["--pool", "short"])
    assert isinstance(alone.exception, InvalidInputError) and "spans 72 hours" in alone.exception.message


def test_shadow_sells_no_reserve(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    series = made.series(16)
    spec = PoolSpec("lab", "here", "H100", "simulated", ("s:0",), Decimal(700), "stated", 10**9, "USD", "owned")
    pool = Fleet(store).sync([spec])[0]
    Demand(store).record_series(replace(series, pool=pool.id))
    stated = {"name": "lab", "reserve": 2, "failure_reserve": 1}
    monkeypatch.setattr("sublet.commands.surplus.settings.load", lambda: Settings.model_validate({"pools": [stated]}))
    monkeypatch.setattr(surplus_commands, "Store", lambda url: store)
    monkeypatch.setattr(surplus_commands, "migrate", lambda _: None)
    monkeypatch.setattr(surplus_commands, "SystemClock", lambda: SimulatedClock(series.end))
    found = CliRunner().invoke(app(surplus_commands.shadow), ["--windows", "1", "--json"])
    assert found.exit_code == 0, found.output
    [told] = json.loads(found.stdout)["pools"]
    whole, _ = prepare(series)
    idle = whole.idle[whole.warmup :]
    assert told["idle_hours"] == int(np.maximum(idle - 3, 0).sum()) < int(idle.sum())
    assert any("3 accelerators are kept in reserve" in note for note in told["notes"])


@pytest.fixture
def lab(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The database of a pool `lab` with the demand of sixteen days, until half past an hour."""
    series = made.series(16)
    spec = PoolSpec("lab", "here", "H100", "simulated", ("s:0",), Decimal(700), "stated", 10**9, "USD", "owned")
    pool = Fleet(store).sync([spec])[0]
    demand = Demand(store)
    demand.record_series(replace(series, pool=pool.id))
    demand.record_series(
        series_of(pool.id, [Sample(series.end, 1_000, 1), Sample(series.end + HALF_AN_HOUR, 1_000, 1)])
    )
    monkeypatch.setattr("sublet.commands.surplus.settings.load", lambda: Settings.model_validate({}))
    monkeypatch.setattr(surplus_commands, "Store", lambda url: store)
    monkeypatch.setattr(surplus_commands, "migrate", lambda _: None)
    monkeypatch.setattr(surplus_commands, "SystemClock", lambda: SimulatedClock(series.end + HALF_AN_HOUR))
    return store


@pytest.mark.usefixtures("lab")
def test_shadow_ends_with_the_last_whole_hour() -> None:
    found = CliRunner().invoke(app(surplus_commands.shadow), ["--pool", "lab", "--windows", "1", "--json"])
    assert found.exit_code == 0, found.output
    [told] = json.loads(found.stdout)["pools"]
    assert told["until"] == format_time(made.series(16).end)


@pytest.mark.parametrize(
    ("without", "words"),
    [
        (
            [200],
            "own: 1 gap in time; 1 hour has no sample and repeats the hour before it, as the benchmark's rules say",
        ),
        (
            [200, 201, 300],
            "own: 2 gaps in time; 3 hours have no sample and repeat the hour before them, as the benchmark's rules say",
        ),
    ],
)
def test_of_gaps_one_thing_is_said(tmp_path: Path, without: list[int], words: str) -> None:
    whole = made.series(16)
    kept = np.delete(np.arange(len(whole)), without)
    path = tmp_path / "own.csv"
    write_series(
        replace(
            whole,
            times_us=whole.times_us[kept],
            capacity=whole.capacity[kept],
            in_use=whole.in_use[kept],
            pending=whole.pending[kept],
        ),
        path,
    )
    _, notes = prepare(read_series(path))
    assert [note for note in notes if "gap" in note or "no sample" in note or "filled" in note] == [words]
