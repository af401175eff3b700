"""Every value that an independent calculation gave for the worked case, with its unit and status."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from sublet.desk.desk import Desk
from sublet.desk.sheet import Status

EXPECTED: dict[str, Any] = json.loads((Path(__file__).parent / "data" / "expected.json").read_text())
REL = EXPECTED["meta"]["rel_tol"]


@pytest.mark.parametrize("name", list(EXPECTED["values"]))
def test_value(hyperscaler: Desk, name: str) -> None:
    wanted = EXPECTED["values"][name]

    found = hyperscaler.sheet[name]

    assert found.number == pytest.approx(wanted["value"], rel=REL, abs=0)
    assert found.unit == wanted["unit"].replace("utilisation", "utilization")
    assert found.status is Status(wanted["status"])
    assert found.source


@pytest.mark.parametrize("mode", ["proportional", "affine", "full_cost", "upside_proportional"])
def test_grid(hyperscaler: Desk, expected: dict[str, Any], mode: str) -> None:
    wanted = expected["grids"]["eps"]["full_cost_K50_L5.5" if mode == "full_cost" else mode]
    assert hyperscaler.bridge is not None
    grid = next(grid for grid in hyperscaler.bridge.grids if grid.mode == mode)

    found = [[hyperscaler.sheet[name].number for name in row] for row in grid.names]

    assert found == [pytest.approx(row, rel=REL, abs=0) for row in wanted]


def test_only_one_cell_of_the_grids_is_published(hyperscaler: Desk) -> None:
    published = [
        value.name for value in hyperscaler.sheet if value.name.startswith("grid.") and value.status == "published"
    ]

    assert published == ["grid.eps_250_at_40.proportional"]


def test_envelope(hyperscaler: Desk, expected: dict[str, Any]) -> None:
    wanted = expected["grids"]["eps"]["envelope_250"]
    assert hyperscaler.bridge is not None

    low, high = zip(*hyperscaler.bridge.envelope, strict=True)

    assert [hyperscaler.sheet[name].number for name in low] == pytest.approx(wanted["at_c_low"], rel=REL, abs=0)
    assert [hyperscaler.sheet[name].number for name in high] == pytest.approx(wanted["at_c_high"], rel=REL, abs=0)


def test_tornado(hyperscaler: Desk, expected: dict[str, Any]) -> None:
    assert hyperscaler.bridge is not None
    bars = hyperscaler.bridge.tornado

    wanted = expected["tornado"]

    assert [(bar.low, bar.high) for bar in bars] == [(row["low"], row["high"]) for row in wanted]
    assert [bar.at_low for bar in bars] == pytest.approx([row["eps_low"] for row in wanted], rel=REL)
    assert [bar.at_high for bar in bars] == pytest.approx([row["eps_high"] for row in wanted], rel=REL)
    assert [bar.swing for bar in bars] == pytest.approx([row["swing"] for row in wanted], rel=REL)


def test_waterfall(hyperscaler: Desk, expected: dict[str, Any]) -> None:
    assert hyperscaler.bridge is not None
    found = [(label, hyperscaler.sheet[name].number) for label, name in hyperscaler.bridge.waterfall]

    assert [label for label, _ in found] == [row["step"] for row in expected["waterfall"]]
    assert [number for _, number in found] == pytest.approx([row["value"] for row in expected["waterfall"]], rel=REL)


def test_frontier_of_raw_and_managed(hyperscaler: Desk, expected: dict[str, Any]) -> None:
    wanted = expected["grids"]["raw_vs_managed"]["ratio"]
    assert hyperscaler.channels is not None

    found = [[hyperscaler.sheet[name].number for name in row] for row in hyperscaler.channels.ratios]

    assert found == [pytest.approx(row, rel=REL, abs=0) for row in wanted]


@pytest.mark.parametrize("id_", list(EXPECTED["surplus_vs_glut"]))
def test_two_verdicts(hyperscaler: Desk, expected: dict[str, Any], id_: str) -> None:
    wanted = expected["surplus_vs_glut"][id_]
    verdicts = next(example.verdicts for example in hyperscaler.surplus if example.id == id_)

    assert verdicts.owner_surplus is wanted["owner_surplus"]
    assert verdicts.reallocation is wanted["reallocation"]
    assert verdicts.industry_glut is wanted["industry_glut"]
    assert verdicts.longest_slack_run == wanted["longest_slack_run"]
    assert list(verdicts.net_mw) == wanted["net_mw"]
    assert verdicts.slack == pytest.approx(wanted["slack"], rel=1e-9)
    assert verdicts.largest_share_of_industry == pytest.approx(wanted["max_share_of_industry"], rel=REL)


def test_signal_table(hyperscaler: Desk, expected: dict[str, Any]) -> None:
    assert hyperscaler.signals is not None
    found = {signal.id: signal for signal in hyperscaler.signals.signals}

    for wanted in expected["signals"]:
        signal = found[wanted["id"]]
        assert (signal.bull, signal.bear, signal.falsifier) == (wanted["bull"], wanted["bear"], wanted["falsifier"])
        assert (signal.lr_bull, signal.lr_bear) == (wanted["lr_bull"], wanted["lr_bear"])


def test_no_number_is_without_unit_status_source_and_date(hyperscaler: Desk) -> None:
    for value in hyperscaler.sheet:
        assert value.unit and value.status and value.source, value.name
        assert value.date or not hyperscaler.sheet.leaves(value.name), value.name
        assert not value.is_number or math.isfinite(value.number)
