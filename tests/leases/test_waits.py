"""What the owner waits for is counted by day and team, exactly, on both databases."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from sublet.leases.reclaim import waits as sql
from sublet.store import Store
from sublet.store.paging import PageRequest
from sublet.surplus.rule.patience import Begun

LATE = datetime(2026, 1, 5, 23, 59, 30, tzinfo=UTC)


def test_a_wait_over_midnight_counts_for_both_days(any_store: Store) -> None:
    wait = Begun("pool_1", "clm_1", "org_1", LATE, LATE, LATE + timedelta(seconds=90), 3)
    now = LATE + timedelta(seconds=45)
    any_store.write(lambda connection: sql.begin(connection, wait, LATE))
    any_store.write(lambda connection: sql.count(connection, wait, now))
    later = replace(wait, counted_until=now, accelerators=2)
    any_store.write(lambda connection: sql.save(connection, later))
    with any_store.read() as connection:
        assert sql.begun(connection, ["pool_1", "pool_2"]) == [later]
        assert sql.waited_s(connection, "pool_1", now) == {"org_1": 15.0}
    any_store.write(lambda connection: sql.count(connection, later, now + timedelta(hours=1)))
    any_store.write(lambda connection: sql.remove(connection, later))
    with any_store.read() as connection:
        assert sql.begun(connection, ["pool_1"]) == []
        page = sql.day_page(connection, "pool_1", PageRequest(1))
        second = sql.day_page(connection, None, PageRequest(1, page.next))
    days = [item.as_dict() for item in (*page.items, *second.items)]
    assert days == [
        {"pool_id": "pool_1", "day": "2026-01-06", "team": "org_1", "waits": 0, "waited_s": 60.0, "accelerator_s": 135.0},
        {"pool_id": "pool_1", "day": "2026-01-05", "team": "org_1", "waits": 1, "waited_s": 30.0, "accelerator_s": 90.0},
    ]  # fmt: skip
