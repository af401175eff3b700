"""kill -9 anywhere in intake, rating, closing, invoicing and settling: nothing lost, nothing doubled, the proof says 0.

A child process works on the database and is killed at a random moment, again and again; the seed of every life is printed.
At the end one more life finishes the work, and the money is compared with what the events cost.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.ledger.prepaid import prepay

from sublet.accounts.service import Accounts
from sublet.ledger.budgets.model import HoldRequest, Settlement
from sublet.ledger.invoices.price_reductions import Wanted
from sublet.ledger.model import UsageEvent
from sublet.ledger.payments.refunds import NewRefund
from sublet.ledger.prices.book import book_from_toml
from sublet.ledger.service import Ledger, new_budget
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.values.clock import SimulatedClock
from sublet.values.errors import SubletError
from sublet.values.money import NANO

NOW = datetime(2026, 2, 5, tzinfo=UTC)
BATCHES, BATCH = 60, 20
WORKS = 14
CENT = 10**7
BOOK = """
[[prices]]
id = "cached"
meter = "tokens.input_cached"
kind = "per_unit"
currency = "USD"
amount = "0.01875"
per = 1_000
from = 2025-01-01T00:00:00Z
"""


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    store: Store = request.getfixturevalue("postgres_store")
    store.engine.dispose()
    yield store.url.render_as_string(hide_password=False)


def batch_of(owners: list[str], number: int) -> list[UsageEvent]:
    chance = random.Random(number)
    return [
        UsageEvent(
            "s",
            f"{number}/{serial}",
            owners[chance.randrange(len(owners))],
            "tokens.input_cached",
            chance.randrange(5000),
            NOW - timedelta(hours=chance.randrange(24 * 30)),
        )
        for serial in range(BATCH)
    ]


def live(url: str, owners: list[str], seed: int) -> None:
    """One life: all the work there is, in an order of its own."""
    chance = random.Random(seed)
    store = Store(url, SimulatedClock(NOW))
    ledger = Ledger(store)
    order = list(range(BATCHES))
    chance.shuffle(order)
    for number in order:
        assert not ledger.take_now(batch_of(owners, number)).refused
        owner = chance.choice(owners)
        for work in chance.sample(range(WORKS), 2):
            with contextlib.suppress(SubletError):
                _work(ledger, owner, work, chance)
    ledger.rate()
    for owner in owners:
        ledger.close(owner, "2026-01")


def _work(ledger: Ledger, owner: str, work: int, chance: random.Random) -> None:
    if work == 0:
        ledger.rate(batch=chance.randrange(1, 50))
    elif work == 1:
        ledger.close(owner, "2026-01")
    elif work == 2:
        ledger.invoice(owner)
    elif work == 3:
        source = f"{owner}/{chance.randrange(10)}"
        ledger.store.write(lambda connection: ledger.credit(connection, owner, 1000, "", source))
    elif work == 4:
        standing = [found for found in ledger.invoices(owner) if found["status"] == "final"]
        if standing:
            ledger.void(standing[0]["number"], "test")
    elif work == 5:
        prepay(ledger, owner, 3 * CENT, f"{owner}/{chance.randrange(10)}")
    elif work > 6:
        _settle(ledger, owner, work, chance)
    else:
        hold = f"h{chance.randrange(10**12)}"
        ledger.reserve([HoldRequest(hold, owner, 500, NOW + timedelta(minutes=5))])
        ledger.settle([Settlement(hold, 300)])


def _settle(ledger: Ledger, owner: str, work: int, chance: random.Random) -> None:
    """What settles invoices, under sources of few names, so that lives repeat what others were killed in."""
    settling, source = ledger.settling, f"{work}/{chance.randrange(8)}"
    open_items = [found for found in ledger.invoices(owner) if found["status"] in ("final", "written_off")]
    if work == 12:
        ledger.expire()
    elif work == 13:
        for credit in ledger.credits(owner):
            if credit.is_prepaid:
                settling.return_deposit(credit.id, CENT, "test")
    elif work == 11:
        wanted = NewRefund(owner, CENT, source, "test", "wallet")
        settling.refund(wanted)
    elif not open_items:
        return
    elif work == 7:
        ledger.pay(open_items[0]["number"], CENT, source)
    elif work == 8:
        settling.credit(open_items[0]["number"], Wanted(gross_nano=CENT), "test")
    elif work == 9:
        settling.net(open_items[0]["number"], source, "test", CENT)
    else:
        number = open_items[0]["number"]
        settling.write_off(number, "test") if chance.random() < 0.5 else settling.reinstate(number, "test")


def lives(url: str, kills: int, seed: int) -> None:
    store = Store(url, SimulatedClock(NOW))
    metadata.create_all(store.engine)
    ledger = Ledger(store)
    ledger.publish_prices(book_from_toml(BOOK, "book"))
    owners = [Accounts(store).create_organization(f"o{number}").id for number in range(3)]
    for owner in owners:
        ledger.create_budget(new_budget(owner, 10**15, period="ever"))
    store.close()
    chance = random.Random(seed)
    for life in range(kills):
        own = chance.randrange(2**32)
        delay = chance.uniform(0.005, 0.25)
        print(f"life {life}: seed {own}, killed after {delay * 1000:.1f} ms")
        child = os.fork()
        if child == 0:
            try:
                live(url, owners, own)
            finally:
                os._exit(0)
        time.sleep(delay)
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    live(url, owners, seed)
    _judge(url, owners)


def _judge(url: str, owners: list[str]) -> None:
    store = Store(url, SimulatedClock(NOW))
    ledger = Ledger(store)
    ledger.rate()
    proof = ledger.prove()
    assert proof.findings == [] and proof.difference_nano == 0
    with store.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM ledger_events")).scalar_one() == BATCHES * BATCH
        assert connection.execute(text("SELECT count(*) FROM ledger_lines")).scalar_one() == BATCHES * BATCH
    used: dict[tuple[str, str], int] = defaultdict(int)
    for number in range(BATCHES):
        for event in batch_of(owners, number):
            used[event.organization_id, event.at.strftime("%Y-%m")] += int(event.quantity)
    numbers = []
    for owner in owners:
        expected = sum(
            int(Fraction("0.01875") * quantity * NANO / 1_000) for (who, _), quantity in used.items() if who == owner
        )
        made = ledger.invoices(owner)
        numbers += [found["number"] for found in made]
        # What documents took from `unbilled`, each to the nano-unit, the proof has compared with them.
        assert _earned_by_usage(store, owner) == expected
        assert sum(ledger.balances(owner).values()) == 0
        assert len({credit.source_id for credit in ledger.credits(owner)}) == len(ledger.credits(owner))
    notes = sum(len(ledger.settling.notes(owner)) for owner in owners)
    assert {note["number"] for owner in owners for note in ledger.settling.notes(owner)} == {
        f"CN-{number:06d}" for number in range(1, notes + 1)
    }
    assert sorted(numbers) == [f"INV-{number:06d}" for number in range(1, len(numbers) + 1)]
    store.close()


def _earned_by_usage(store: Store, owner: str) -> int:
    """What was posted on the product's income by rating, in nano-units; credit notes lower it besides."""
    statement = text(
        "SELECT sum(p.nano) FROM ledger_postings p JOIN ledger_transactions t ON t.transaction_no = p.transaction_no "
        "WHERE t.organization_id = :owner AND p.account = 'revenue.models' "
        "AND t.kind IN ('usage', 'adjustment', 'correction', 'rerating')"
    )
    with store.read() as connection:
        return -int(connection.execute(statement, {"owner": owner}).scalar_one())


def test_a_dozen_kills(url: str) -> None:
    lives(url, 12, seed=random.randrange(2**32))


@pytest.mark.real
def test_hundreds_of_kills(url: str) -> None:
    lives(url, 150, seed=random.randrange(2**32))
