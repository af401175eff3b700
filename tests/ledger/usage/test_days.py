"""Usage by day is the sum of the rated lines at any moment, whatever comes late, is corrected, canceled or rated again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from itertools import count
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, delete, insert, text

from sublet.accounts.service import Accounts
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import PriceBook, book_from_dict
from sublet.ledger.service import Ledger
from sublet.ledger.usage import days
from sublet.ledger.usage.days import Wanted, day_of
from sublet.store import Store
from sublet.store.paging import PageRequest
from sublet.store.schema import migrate
from sublet.store.tables.ledger import heads, usage_days
from sublet.values.clock import SimulatedClock, to_micros

NOW = datetime(2026, 3, 10, tzinfo=UTC)
_NUMBERS = count()


PRICE = {"meter": "requests", "kind": "per_unit", "currency": "USD", "from": "2020-01-01T00:00:00Z", "amount": "0.5"}
PRICES = [{**PRICE, "id": "all"}]


def book(prices: Sequence[Mapping[str, str]] = PRICES[:1]) -> PriceBook:
    return book_from_dict({"prices": list(prices)}, "test")


def own_price(ledger: Ledger, owner: str) -> None:
    """From now on the customer has a price of its own; the book keeps what it had."""
    if not any(price.get("organization") == owner for price in PRICES):
        PRICES.append({**PRICE, "id": owner, "organization": owner, "amount": "0.37"})
        ledger.publish_prices(book(PRICES))


def raw(ledger: Ledger, owner: str, zone: str) -> Counter[tuple[str, ...]]:
    """Steps and billionths by day, model, meter, project and key, line by line from the raw rows."""
    found: Counter[tuple[str, ...]] = Counter()
    with ledger.store.read() as connection:
        events = {row.seq: row for row in connection.execute(text("SELECT * FROM ledger_events")).all()}
        named = {(row.source, row.event_id): row for row in events.values()}
        for line in connection.execute(text("SELECT * FROM ledger_lines")).all():
            if line.organization_id != owner:
                continue
            event = events[line.event_seq]
            origin = named[(event.corrects_source, event.corrects_id)] if event.corrects_id else event
            at = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=origin.at)
            key = (at.astimezone(ZoneInfo(zone)).date().isoformat(), origin.meter, origin.project, origin.key_id)
            found[(*key, "steps")] += line.quantity
            found[(*key, "nano")] += line.nano
    return Counter({key: value for key, value in found.items() if value})


def rolled(ledger: Ledger, owner: str) -> Counter[tuple[str, ...]]:
    found: Counter[tuple[str, ...]] = Counter()
    with ledger.store.read() as connection:
        for row in connection.execute(text("SELECT * FROM ledger_usage_days")).all():
            if row.organization_id == owner:
                key = (row.day, row.meter, row.project, row.key_id)
                found[(*key, "steps")] += row.quantity_wholes * 10**9 + row.quantity_rests
                found[(*key, "nano")] += row.wholes * 10**9 + row.rests
    return Counter({key: value for key, value in found.items() if value})


used = st.tuples(
    st.integers(0, 200), st.integers(0, 10**8), st.sampled_from(["", "red", "blue"]), st.sampled_from(["k1", "k2"])
)
changes = st.lists(st.tuples(st.integers(0, 9), st.none() | st.integers(0, 10**8)), max_size=8)


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with TemporaryDirectory() as folder, closing(Store(f"sqlite:///{folder}/sublet.db", SimulatedClock(NOW))) as store:
        migrate(store)
        found = Ledger(store)
        found.publish_prices(book())
        yield found


@given(
    st.lists(used, min_size=1, max_size=8),
    changes,
    st.sampled_from(["UTC", "Asia/Kathmandu", "America/St_Johns"]),
    st.lists(st.sampled_from(["rate", "rerate", "crash", "old"]), max_size=6),
)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_days_are_the_sum_of_the_lines_at_any_time(
    ledger: Ledger,
    usage: list[tuple[int, int, str, str]],
    changed: list[tuple[int, int | None]],
    zone: str,
    acts: list[str],
) -> None:
    owner = Accounts(ledger.store).create_organization(f"life-{next(_NUMBERS)}", timezone=zone).id
    pending = [
        UsageEvent("s", f"{owner}/{n}", owner, "requests", amount, NOW - timedelta(hours=hours), "", project, key)
        for n, (hours, amount, project, key) in enumerate(usage)
    ]
    for n, (which, amount) in enumerate(changed):
        kind = "cancellation" if amount is None else "correction"
        # Some correct what has not come yet, and some what never will.
        pending.insert(
            n % (len(pending) + 1),
            UsageEvent(
                "s",
                f"{owner}/c{n}",
                owner,
                "requests",
                amount or 0,
                NOW + timedelta(seconds=n),
                "",
                "other",
                "k9",
                {},
                kind,
                ("s", f"{owner}/{which}"),
            ),
        )
    while pending or acts:
        act = acts.pop() if acts else "rate"
        batch, pending = pending[:3], pending[3:]
        ledger.take_now(batch)
        if act == "rerate":
            own_price(ledger, owner)
            ledger.rerate(owner, "2026-03")
        elif act == "crash":
            # The transaction is lost whole.
            with pytest.raises(RuntimeError):
                ledger.store.write(lambda connection: lost(ledger, connection))
        elif act == "old":
            # As a version left it that did not count by day.
            forget(ledger)
        ledger.rate(batch=2)
        assert rolled(ledger, owner) == raw(ledger, owner, zone)


def lost(ledger: Ledger, connection: Connection) -> None:
    ledger._rating.rate_arrived(connection, 2**60, 2, NOW)
    raise RuntimeError


def forget(ledger: Ledger) -> None:
    def write(connection: Connection) -> None:
        connection.execute(text("DELETE FROM ledger_usage_days"))
        connection.execute(delete(heads).where(heads.c.name == days.DAYS))

    ledger.store.write(write)


def test_lines_of_an_older_version_are_counted_in_batches(any_store: Store) -> None:
    ledger = Ledger(any_store)
    ledger.publish_prices(book())
    now = any_store.clock.now()
    owner = Accounts(any_store).create_organization("acme").id
    ledger.take_now([UsageEvent("s", str(n), owner, "requests", n, now - timedelta(days=n % 3)) for n in range(20)])
    ledger.rate()
    whole = rolled(ledger, owner)
    forget(ledger)
    assert any_store.write(lambda connection: days.catch_up(connection, ledger._parties, 7))
    # What is rated meanwhile is left for its turn.
    ledger.take_now([UsageEvent("s", "new", owner, "requests", 5, now)])
    any_store.write(lambda connection: ledger._rating.rate_arrived(connection, 2**60, 100, now))
    while any_store.write(lambda connection: days.catch_up(connection, ledger._parties, 7)):
        pass
    today = now.date().isoformat()
    whole[(today, "requests", "", "", "steps")] += 5
    whole[(today, "requests", "", "", "nano")] += 5 * 500_000_000
    assert rolled(ledger, owner) == whole == raw(ledger, owner, "UTC")


def test_sums_pass_64_bits(any_store: Store) -> None:
    ledger = Ledger(any_store)
    price = {
        "id": "a",
        "meter": "energy.wh",
        "kind": "per_unit",
        "currency": "USD",
        "amount": "0.9",
        "from": "2020-01-01T00:00:00Z",
    }
    ledger.publish_prices(book_from_dict({"prices": [price]}, "test"))
    now = any_store.clock.now()
    owner = Accounts(any_store).create_organization("acme").id
    ledger.take_now([UsageEvent("s", str(n), owner, "energy.wh", 9_000_000_000, now) for n in range(3)])
    ledger.rate()
    wanted = Wanted(owner, now.date(), now.date())
    with any_store.read() as connection:
        [found] = days.used_by(connection, wanted, "day")
    assert found.nano == 3 * 8_100_000_000 * 10**9 > 2**63 and found.steps == 27_000_000_000_000


def test_a_year_of_several_meters_is_whole(store: Store) -> None:
    """Its days by meter are more than the groups that other tables show: the totals are of all of them."""
    now = store.clock.now()
    rows = [
        {
            "organization_id": "org_a",
            "day": (now.date() - timedelta(days=ago)).isoformat(),
            "item": "m",
            "meter": meter,
            "project": "",
            "key_id": "",
            "quantity_wholes": 0,
            "quantity_rests": 1,
            "wholes": 0,
            "rests": 1,
        }
        for ago in range(366)
        for meter in ("tokens.input", "tokens.input_cached", "tokens.output")
    ]
    store.write(lambda connection: connection.execute(insert(usage_days), rows))
    with store.read() as connection:
        found = days.used_by(connection, Wanted("org_a", now.date() - timedelta(days=365), now.date()), "day")
    assert sum(item.nano for item in found) == len(found) == 3 * 366 > days.ROWS_MAX


def test_groups_filters_and_records(any_store: Store) -> None:
    ledger = Ledger(any_store)
    ledger.publish_prices(book())
    now = any_store.clock.now()
    accounts = Accounts(any_store)
    owner, other = accounts.create_organization("acme").id, accounts.create_organization("bolt").id

    def event(name: str, whose: str, model: str, key: str, project: str = "", ago: int = 0) -> UsageEvent:
        at = now - timedelta(days=ago)
        return UsageEvent("s", name, whose, "requests", 2, at, f"req_{name}", project, key, {"model": model})

    ledger.take_now(
        [
            event("a", owner, "m1", "k1"),
            event("b", owner, "m2", "k1", "red", 1),
            event("c", owner, "m1", "k2", "red", 40),
            event("d", other, "m1", "k3"),
        ]
    )
    ledger.rate()
    today = now.date()
    month = Wanted(owner, today - timedelta(days=30), today)
    with any_store.read() as connection:
        by_key = {item.of: item.nano for item in days.used_by(connection, month, "key_id")}
        assert by_key == {"k1": 2 * 10**9}
        assert [item.of for item in days.used_by(connection, Wanted(owner, today, today), "item")] == ["m1"]
        red = Wanted(owner, date(2020, 1, 1), today, project="red")
        assert {item.of for item in days.used_by(connection, red, "item")} == {"m1", "m2"}
        page = days.records(connection, month, "UTC", PageRequest(1))
        assert [item.resource for item in page.items] == ["req_a"] and page.next
        rest = days.records(connection, month, "UTC", PageRequest(5, page.next))
        assert [item.resource for item in rest.items] == ["req_b"] and rest.next is None
        only = days.records(connection, Wanted(owner, date(2020, 1, 1), today, item="m1"), "UTC", PageRequest(9))
        assert [item.resource for item in only.items] == ["req_a", "req_c"]
        span = (now - timedelta(days=60), now + timedelta(days=1))
        [found] = days.records_of(connection, owner, "req_a", *span, 9)
        assert found.lines == (("usage", found.lines[0][1], 2, 10**9),) and found.item == "m1"
        assert days.records_of(connection, owner, "req_d", *span, 9) == [], "another tenant's request"


def test_a_day_is_one_of_its_time_zone() -> None:
    at = to_micros(datetime(2026, 3, 10, 18, 20, tzinfo=UTC))
    assert day_of(at // days._QUARTER_US, "Asia/Kathmandu") == "2026-03-11"
    assert day_of(at // days._QUARTER_US, "UTC") == "2026-03-10"
