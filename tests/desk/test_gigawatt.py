"""A gigawatt's yearly cost against the published results, by two methods, and the one that agrees by accident."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublet.desk.desk import Desk, open_case
from sublet.desk.sheet import Status


@pytest.fixture(scope="module")
def gigawatt() -> Desk:
    return open_case(Path(__file__).parents[2] / "examples" / "gigawatt.toml")


@pytest.mark.parametrize("method", ["annuity", "straight"])
@pytest.mark.parametrize(("years", "row", "half_digit"), [(5, "g04", 0.05), (3, "g05", 0.5), (7, "g06", 0.5)])
def test_both_methods_give_the_published_totals_to_their_digits(
    gigawatt: Desk, method: str, years: int, row: str, half_digit: float
) -> None:
    value = gigawatt.sheet[f"{method}.y{years}"]
    assert value.number == pytest.approx(gigawatt.sheet[row].number, abs=half_digit)
    assert value.status is Status.MODELED
    assert gigawatt.sheet[row].status is Status.PUBLISHED


def test_the_annuity_by_hand_and_its_parts(gigawatt: Desk) -> None:
    def recovery(years: int, rate: float = 0.07) -> float:
        return rate / (1 - (1 + rate) ** -years)

    sheet = gigawatt.sheet
    assert sheet["annuity.y5"].number == pytest.approx(25.1 * recovery(5) + 12.9 * recovery(14) + 0.9)
    assert sheet["annuity.servers"].number == pytest.approx(sheet["g07"].number, abs=0.5)
    assert sheet["annuity.servers"].number / sheet["annuity.y5"].number == pytest.approx(0.6, abs=0.005)
    assert sheet["energy"].number == pytest.approx(sheet["g03"].number, abs=0.05)


def test_spreading_all_capital_agrees_at_five_years_alone(gigawatt: Desk) -> None:
    sheet = gigawatt.sheet
    assert sheet["trap.y5"].number == pytest.approx(8.5)
    assert sheet["trap.y3"].number == pytest.approx(13.57, abs=0.01)
    assert sheet["trap.y7"].number == pytest.approx(6.33, abs=0.01)
