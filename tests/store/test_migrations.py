"""Migrations that change rows, run on rows as they were before."""

from __future__ import annotations

import json

import pytest
from alembic import command
from sqlalchemy import text

from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.store.schema import config, migrate

JANUARY = 1_767_225_600_000_000


@pytest.fixture
def before_chains(any_store: Store) -> Store:
    """The schema before counters went by chain, with a price, a discount from mid-month, and an agreed price."""
    metadata.drop_all(any_store.engine)
    with any_store.engine.begin() as connection:
        command.upgrade(config(connection), "5b1f0c9a7e24")
    price = {
        "id": "h100",
        "meter": "accelerator.seconds",
        "kind": "per_unit",
        "match": {"generation": "h100"},
        "from": "2025-01-01T00:00:00Z",
    }
    discount = {"id": "off", "percent": "10", "from": "2026-01-15T00:00:00Z"}
    content = json.dumps({"prices": [price], "discounts": [discount]})
    counters = [
        ("h100", 800, 800),
        ("h100~off", 700, 630),
        ("list:h100~off:h100", 700, 700),
        ("agreed:lse_1:accelerator.seconds", 60, 40),
        ("list:agreed:lse_1:accelerator.seconds:h100", 60, 60),
    ]
    with any_store.engine.begin() as connection:
        connection.execute(
            text("INSERT INTO ledger_books (version, published_at, content, sha256) VALUES (1, 0, :content, 'x')"),
            {"content": content},
        )
        connection.execute(
            text(
                "INSERT INTO ledger_agreed_prices (resource, meter, organization_id, currency, amount_nano, per_units, "
                "agreed_at) VALUES ('lse_1', 'accelerator.seconds', 'org', 'USD', 1, 1, 0)"
            )
        )
        for rate, quantity, nano in counters:
            connection.execute(
                text(
                    "INSERT INTO ledger_counters (organization_id, rate_id, period_start, meter, quantity, nano) "
                    "VALUES ('org', :rate, :start, 'accelerator.seconds', :quantity, :nano)"
                ),
                {"rate": rate, "start": JANUARY, "quantity": str(quantity), "nano": str(nano)},
            )
    return any_store


def test_counters_by_rate_become_counters_by_chain(before_chains: Store) -> None:
    migrate(before_chains)
    with before_chains.read() as connection:
        rows = connection.execute(text("SELECT rate_id, quantity, nano, list_nano, slices FROM ledger_counters")).all()
        since = connection.execute(text("SELECT position FROM ledger_heads WHERE name = 'chains'")).scalar()
    found = {row[0]: (row[1], row[2], row[3], json.loads(row[4])) for row in rows}
    middle = JANUARY + 14 * 86_400_000_000
    agreed = "agreed:lse_1:accelerator.seconds"
    assert found == {
        "accelerator.seconds per_unit generation=h100": (
            "1500",
            "1430",
            "1500",
            [[JANUARY, "h100", "h100", 1, 800, JANUARY], [middle, "h100~off", "h100", 1, 700, middle]],
        ),
        agreed: ("60", "40", "0", [[JANUARY, agreed, "h100", 1, 60, JANUARY]]),
        f"list:{agreed}:accelerator.seconds per_unit generation=h100": (
            "60",
            "0",
            "60",
            [[JANUARY, agreed, "h100", 1, 60, JANUARY]],
        ),
    }
    assert since == 0


def test_what_was_used_of_a_credit_stays_used(any_store: Store) -> None:
    metadata.drop_all(any_store.engine)
    with any_store.engine.begin() as connection:
        command.upgrade(config(connection), "9adb171dece3")
    with any_store.engine.begin() as connection:
        for name, remaining in (("old", 0), ("new", 40)):
            connection.execute(
                text(
                    "INSERT INTO ledger_credits (id, organization_id, kind, source_id, reason, nano, remaining_nano, granted_at) "
                    "VALUES (:name, 'org', 'goodwill', :source, '', 100, :remaining, 5)"
                ),
                {"name": name, "source": name, "remaining": remaining},
            )
        connection.execute(
            text(
                "INSERT INTO ledger_periods (organization_id, period_start, period_end, closed_at) "
                "VALUES ('org', 0, :end, :end)"
            ),
            {"end": JANUARY},
        )
    migrate(any_store)
    with any_store.read() as connection:
        found = connection.execute(text("SELECT id, taken_nano, starts_at, settled FROM ledger_credits ORDER BY id"))
        assert [tuple(row) for row in found] == [("new", 60, JANUARY, False), ("old", 100, JANUARY, True)]
