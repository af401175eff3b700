"""The commands print what people and machines can read, and refuse bad input with exit code 2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.surplus import series as made
from typer.testing import CliRunner

from sublet.demand import commands
from sublet.demand.csv_series import read_series, write_series
from sublet.surplus import commands as surplus_commands
from sublet.values.errors import InvalidInputError

HEADER = "job_name,organization,gpu_model,cpu_request,gpu_request,worker_num,submit_time,duration,job_type\n"


def app(function: object) -> object:
    import typer

    alone = typer.Typer()
    alone.command()(function)  # type: ignore[type-var]
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
    assert told["earned"] == f"{2.5 * told['honoured_hours']:.2f} USD"
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
