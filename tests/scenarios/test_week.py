"""Days on a simulated fleet: idle capacity is sold, the owner gets it back in time, and every customer's invoice is right."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

from sublet.simulation import week
from sublet.simulation.week import play_week


def test_a_week_sells_more_than_a_static_reserve_and_returns_it_in_time(tmp_path: Path) -> None:
    found = play_week(tmp_path / "w", days=1)
    assert found.reserve_share < found.sold_share <= 1
    assert found.reclaimed > 0 and found.late == 0
    assert [bill.customer for bill in found.bills] == list(week.CUSTOMERS)
    assert all(Decimal(bill.total) > 0 for bill in found.bills) and Decimal(found.difference) == 0
