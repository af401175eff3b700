"""What was earned, by use and by booking, and that the two differ by what is said and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import book_from_toml
from sublet.ledger.rating import figures
from sublet.ledger.service import Ledger
from sublet.ledger.usage.meters import METERS
from sublet.values.clock import SimulatedClock

PRODUCTS = {meter.product for meter in METERS.values()}
JANUARY = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
FEBRUARY = datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
PRICE = """
[[prices]]
id = "input"
meter = "tokens.input"
kind = "per_unit"
currency = "USD"
amount = "1"
per = 1_000
from = 2025-01-01T00:00:00Z
"""


@pytest.mark.parametrize(
    ("since", "until"), [JANUARY, FEBRUARY, (JANUARY[0], datetime(2027, 1, 1, tzinfo=UTC))], ids=str
)
def test_usage_and_the_journal_differ_by_what_is_said(busy: Ledger, since: datetime, until: datetime) -> None:
    with busy.store.read() as connection:
        used = sum(item.nano for item in figures.earned(connection, since, until))
        booked = figures.booked(connection, since, until)
        in_books = figures.booked_of_other_times(connection, since, until).get("USD", 0)
        outside = figures.booked_at_other_times(connection, since, until).get("USD", 0)
    of_usage = sum(item.nano for item in booked if item.account.removeprefix("revenue.") in PRODUCTS)
    assert of_usage == used + in_books - outside
    assert (used > 0, bool(in_books or outside)) == (True, until.year == 2026)


def test_every_account_that_says_what_was_earned_is_read(busy: Ledger) -> None:
    with busy.store.read() as connection:
        booked = figures.booked(connection, JANUARY[0], datetime(2027, 1, 1, tzinfo=UTC))
        whole = {name: -sum(figures.balance(connection, name).values()) for name in figures.EARNING}
    found: dict[str, int] = dict.fromkeys(figures.EARNING, 0)
    for item in booked:
        found[item.account] += item.nano
    assert found == whole
    assert found["penalties"] == -415_000_001 and found["revenue.energy"] and found["revenue.commitments"]


def test_a_correction_counts_when_the_usage_was_and_where(
    ledger: Ledger, bolt: str, clock: SimulatedClock, used: Callable[..., UsageEvent]
) -> None:
    ledger.publish_prices(book_from_toml(PRICE, "prices.toml"))
    at = datetime(2026, 1, 10, tzinfo=UTC)
    clock.set(at + timedelta(hours=1))
    described = {"model": "m", "pool": "pool_a"}
    ledger.take_now([used(bolt, "one", 5_000, at=at, dimensions=described)])
    ledger.rate()
    clock.set(datetime(2026, 2, 2, tzinfo=UTC))
    corrected = used(
        bolt, "fix", 2_000, at=clock.now(), kind="correction", corrects=("gateway", "one"), dimensions={"model": "m"}
    )
    ledger.take_now([corrected])
    ledger.rate()

    with ledger.store.read() as connection:
        [january] = figures.earned(connection, *JANUARY)
        assert figures.earned(connection, *FEBRUARY) == []
        # 5 were booked in January and 3 taken back in February: both of usage of January.
        assert figures.booked_at_other_times(connection, *JANUARY) == {"USD": -3 * 10**9}
        assert figures.booked_of_other_times(connection, *FEBRUARY) == {"USD": -3 * 10**9}
        assert [item.nano for item in figures.booked(connection, *JANUARY)] == [5 * 10**9]
    assert (january.nano, january.units, dict(january.dimensions)) == (2 * 10**9, 2_000, described)


def test_usage_without_a_price_is_counted_as_in_neither(
    ledger: Ledger, bolt: str, used: Callable[..., UsageEvent]
) -> None:
    ledger.take_now([used(bolt, "one"), used(bolt, "two")])
    ledger.rate()
    with ledger.store.read() as connection:
        assert figures.unrated(connection) == {"USD": 2}
