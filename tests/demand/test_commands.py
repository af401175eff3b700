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
from tests.surplus.series import remember
from tests.terminal import sit_at
from typer import Typer
from typer.testing import CliRunner

from sublet.accounts.service import Accounts
from sublet.api.http import frame, requirement
from sublet.commands import demand as commands
from sublet.commands import trials
from sublet.demand.feeds.csv_series import read_series, write_series
from sublet.demand.model import Sample, series_of
from sublet.demand.service import Demand
from sublet.fleet.model import PoolSpec
from sublet.fleet.service import Fleet
from sublet.store import Store
from sublet.surplus import api as surplus_api
from sublet.surplus.backtest.backtest import prepare
from sublet.values.clock import format_time
from sublet.values.errors import InvalidInputError, NotFoundError

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
    shadow = CliRunner().invoke(app(trials.shadow), [str(path), "--windows", "4,1", "--price", "2.50", "--json"])
    assert shadow.exit_code == 0, shadow.output
    told = json.loads(shadow.stdout)["pools"][0]
    assert told["earned"] == f"{2.5 * told['honored_hours']:.2f} USD"
    assert set(told["windows"]) == {"4h", "1h"}
    page = tmp_path / "page.html"
    arguments = [str(path), "--windows", "4", "--json", "--page", str(page)]
    backtest = CliRunner().invoke(app(trials.backtest), arguments)
    assert backtest.exit_code == 0, backtest.output
    assert json.loads(backtest.stdout)["pooled"]["sublet"]["4h"]["broken_per_1000"] >= 0
    assert page.read_text().startswith("<!doctype html>")


@pytest.mark.parametrize("extra", [["--windows", "soon"], ["--windows", "0"], ["--broken-per-1000", "0"]])
def test_bad_options_are_refused(tmp_path: Path, extra: list[str]) -> None:
    path = tmp_path / "own.csv"
    write_series(made.series(16), path)
    for function in (trials.shadow, trials.backtest):
        found = CliRunner().invoke(app(function), [str(path), *extra])
        assert isinstance(found.exception, InvalidInputError)


def test_shadow_refuses_what_would_be_a_wrong_number(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    write_series(made.series(16), path)
    for extra, words in (
        (["--price", "-1"], "0 or more"),
        (["--pool", "lab"], "--pool uses the history of a pool of the running system"),
    ):
        found = CliRunner().invoke(app(trials.shadow), [str(path), *extra])
        assert isinstance(found.exception, InvalidInputError) and words in found.exception.message


def test_a_page_that_cannot_be_written_is_refused_before_the_work(tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    write_series(made.series(16), path)
    for page in (tmp_path, tmp_path / "none" / "page.html"):
        found = CliRunner().invoke(app(trials.backtest), [str(path), "--page", str(page)])
        assert isinstance(found.exception, InvalidInputError) and "can't be written" in found.exception.message


@pytest.fixture
def lab(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The running service of a pool `lab` with the demand of sixteen days, until half past an hour, and a reserve of three."""
    series = made.series(16)
    fleet, accounts, demand = Fleet(store), Accounts(store), Demand(store)
    specs = [
        PoolSpec(name, "here", "H100", "simulated", (f"s:{name}",), Decimal(700), "stated", 10**9, "USD", "owned")
        for name in ("lab", "young")
    ]
    pools = {pool.name: pool for pool in fleet.sync(specs)}
    remember(demand, replace(series, pool=pools["lab"].id))
    remember(
        demand, series_of(pools["lab"].id, [Sample(series.end, 1_000, 1), Sample(series.end + HALF_AN_HOUR, 1_000, 1)])
    )
    remember(demand, replace(made.series(3), pool=pools["young"].id))
    api, require = frame("test"), requirement(accounts)
    tried = [surplus_api.TriedPool(pool.id, pool.name, 3 if pool.name == "lab" else 0) for pool in pools.values()]
    api.include_router(surplus_api.trial_router(demand, lambda: tried, require, lambda: series.end + HALF_AN_HOUR))
    sit_at(monkeypatch, api, accounts.ensure_operator() or "")
    return store


@pytest.mark.usefixtures("lab")
def test_shadow_of_all_pools_leaves_out_those_with_too_little_history() -> None:
    found = CliRunner().invoke(app(trials.shadow), ["--windows", "1", "--json"])
    told = json.loads(found.stdout)
    assert [report["pool"] for report in told["pools"]] == ["lab"]
    assert told["left_out"][0]["pool"] == "young" and "spans 72 hours" in told["left_out"][0]["why"]
    assert "left out: young spans 72 hours" in CliRunner().invoke(app(trials.shadow), ["--windows", "1"]).stdout
    alone = CliRunner().invoke(app(trials.shadow), ["--pool", "young"])
    assert isinstance(alone.exception, InvalidInputError) and "spans 72 hours" in alone.exception.message
    assert isinstance(CliRunner().invoke(app(trials.shadow), ["--pool", "none"]).exception, NotFoundError)
    wrong = CliRunner().invoke(app(trials.shadow), ["--windows", "200"])
    assert isinstance(wrong.exception, InvalidInputError) and "from 1 to 168 hours" in wrong.exception.message


@pytest.mark.usefixtures("lab")
def test_shadow_sells_no_reserve_and_ends_with_the_last_whole_hour() -> None:
    found = CliRunner().invoke(app(trials.shadow), ["--pool", "lab", "--windows", "1", "--json"])
    assert found.exit_code == 0, found.output
    [told] = json.loads(found.stdout)["pools"]
    series = made.series(16)
    whole, _ = prepare(series)
    idle = whole.idle[whole.warmup :]
    assert told["idle_hours"] == int(np.maximum(idle - 3, 0).sum()) < int(idle.sum())
    assert any("3 accelerators are kept in reserve" in note for note in told["notes"])
    assert told["until"] == format_time(series.end)


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
