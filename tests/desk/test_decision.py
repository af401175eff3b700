"""Lease or keep: by hand, at the rent where both come to the same, and with the shares of the demand history."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sublet.desk.briefing import brief
from sublet.desk.desk import LANGUAGES, Desk, build_case
from sublet.desk.documents import parse_document
from sublet.desk.errors import CaseError
from sublet.desk.leasing import displaced_at_most, indifference_price, lease_over_keeping, replacement_capex
from sublet.desk.sections.decision import blocks, read_advice

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_leasing_over_keeping_by_hand() -> None:
    """250 MW at 40 USD/W-yr less 4 of cost, and 20 % of it would have been own work worth 30: 250 x (40 - 4 - 6) x 0.85."""
    assert lease_over_keeping(250, 40, 4, 0.2, 30, 0.15) == pytest.approx(250 * 30 * 0.85)
    assert lease_over_keeping(250, 40, 4, 0.2, 30, 0.15, used=0.9, years=0.5) == pytest.approx(250 * 26 * 0.85 / 2)
    assert replacement_capex(250, 0.2, 50) == pytest.approx(2.5)


def test_at_the_price_of_indifference_leasing_brings_nothing() -> None:
    for used in (1.0, 0.6):
        price = indifference_price(4, 0.2, 30, used=used)
        assert lease_over_keeping(250, price, 4, 0.2, 30, 0.15, used=used) == pytest.approx(0, abs=1e-9)
        share = displaced_at_most(40, 4, 60, used=used)
        assert lease_over_keeping(250, 40, 4, share, 60, 0.15, used=used) == pytest.approx(0, abs=1e-9)


def test_the_worked_case_decides(hyperscaler: Desk) -> None:
    sheet, found = hyperscaler.sheet, hyperscaler.decision
    assert found is not None
    lease = sheet["bridge.eps"].number
    kept = 250 * 0.15 * 30 * 0.85 / (1000 * sheet["par.shares_bn"].number)
    assert sheet["decision.result"].number == pytest.approx(lease - kept)
    assert sheet["decision.revenue"].number == pytest.approx(10.0)
    assert sheet["decision.indifference_price"].number == pytest.approx(sheet["chk.ms.cost_w_year"].number + 4.5)
    assert sheet["decision.at_40_0"].number == pytest.approx(lease)
    assert sheet["decision.at_5_100"].number < 0
    for language in LANGUAGES:
        assert any("decision.indifference_price" in item.values for item in brief(hyperscaler, language).sentences)


def test_each_block_of_an_advice_is_decided_with_its_own_share(hyperscaler: Desk, tmp_path: Path) -> None:
    rows = [
        {"accelerators": 8, "days": 7, "share_90": 0.0, "basis": "observed"},
        {"accelerators": 64, "days": 30, "share_90": 0.4, "basis": "weeks"},
        {"accelerators": 64, "days": 365, "share_90": None, "basis": "unknown"},
    ]
    path = tmp_path / "advice.json"
    path.write_text(json.dumps({"rows": rows}))
    assert hyperscaler.decision is not None
    one, two = blocks(hyperscaler.decision, hyperscaler.sheet, read_advice(path))
    assert one.result == pytest.approx(hyperscaler.sheet["bridge.eps"].number)
    assert two.indifference == pytest.approx(one.indifference + 0.4 * 30)
    for wrong in ("", "[]", '{"rows": [1]}'):
        path.write_text(wrong)
        with pytest.raises(CaseError, match="save"):
            read_advice(path)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ("axis_displaced = [0.0, 0.15", "axis_displaced = [0.0, 15", "write 20 % as 0.2"),
        ('displaced = "in.displaced"', 'displaced = "b20b"', "share"),
        ("axis_price = [5, 10, 15, 20, 30, 40]\n", "axis_price = []\n", "1 to 200 cells"),
    ],
)
def test_a_wrong_decision_says_what_to_write(before: str, after: str, says: str) -> None:
    text = (EXAMPLES / "hyperscaler-2026.toml").read_text()
    assert before in text
    with pytest.raises(CaseError, match=says):
        build_case(parse_document(text.replace(before, after).encode(), "case.toml"))
