"""`sublet backtest --class`: one class as its record would have sold it, and what the monitor says at the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.surplus import series as made
from typer.testing import CliRunner

from sublet.cli import app
from sublet.demand.feeds.csv_series import write_series
from sublet.surplus.backtest.classes import Asked, try_class
from sublet.surplus.backtest.page import class_page
from sublet.values.errors import InvalidInputError


def test_each_length_of_the_class_is_tried_and_drawn() -> None:
    asked = Asked("deadline", (1, 4, 24), 0.01, within=8)
    tried = try_class([made.trace(25, warmup_days=7)], asked)
    told = [item.as_dict() for item in tried]
    assert [item["kind"] for item in told] == ["1 h within 8 h", "4 h within 8 h"]
    assert all(0 < item["sold_share_of_idle"] <= 1 and item["broken"] <= item["promised"] for item in told)
    drawn = class_page(tried, 0.01)
    assert "1 h within 8 h" in drawn and drawn.count("<svg") == 2
    assert told[0]["verdict"] in drawn


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"class_name": "gold"}, "write firm or deadline"),
        ({"class_name": "deadline", "within": 0}, "--within is 0"),
        ({"class_name": "deadline", "within": 2, "hours": (4,)}, "none of the window lengths"),
        ({"class_name": "deadline", "patient": True}, "wait anyway"),
        ({"class_name": "firm", "within": 48}, "--within is for"),
        ({"class_name": "firm", "risk": 1.0}, "without a promise"),
    ],
)
def test_what_can_not_be_tried_is_refused(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        Asked(**{"class_name": "firm", "hours": (1, 4), "risk": 0.01, **arguments})  # type: ignore[arg-type]


def test_the_command_prints_the_monitors_verdict_and_writes_the_page(tmp_path: Path) -> None:
    file, page = tmp_path / "pool.csv", tmp_path / "page.html"
    write_series(made.series(25), file)
    asked = ["backtest", str(file), "--class", "firm", "--windows", "1", "--warmup-days", "7"]
    told = json.loads(CliRunner().invoke(app, [*asked, "--json"]).stdout)
    assert told["kinds"][0]["kind"] == "1 h" and told["kinds"][0]["verdict"]
    shown = CliRunner().invoke(app, [*asked, "--page", str(page)])
    assert shown.exit_code == 0 and told["kinds"][0]["verdict"] in " ".join(shown.output.split())
    assert "<svg" in page.read_text()
    patient = CliRunner().invoke(app, [*asked, "--patience", "60", "--json"])
    assert json.loads(patient.stdout)["kinds"][0]["kind"] == "1 h, an hour of patience"
    assert CliRunner().invoke(app, [*asked, "--patience", "-5"]).exit_code != 0
