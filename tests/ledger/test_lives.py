"""Random lives of a customer, against a naive second implementation: deposits and promotions with an end, usage that comes late
or is canceled, invoices on demand and voids, in any order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.accounts.service import Accounts
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.clock import SimulatedClock
from sublet.values.money import NANO

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
PRICE = {
    "id": "a",
    "meter": "requests",
    "kind": "per_unit",
    "currency": "USD",
    "amount": "1",
    "from": "2026-01-01T00:00:00Z",
}
_NUMBERS = count()

Given = tuple[bool, int, int, int]
"""Whether it was paid, how much, from which day of January, and for how many days."""
Used = tuple[int, int, int, int | None]
"""The day of use, the quantity, how many days late it comes, and how many days later it is canceled."""

grants_of = st.lists(st.tuples(st.booleans(), st.integers(1, 90), st.integers(1, 25), st.integers(1, 20)), max_size=4)
usage_of = st.lists(
    st.tuples(st.integers(1, 30), st.integers(1, 60), st.integers(0, 12), st.none() | st.integers(0, 12)), max_size=6
)
invoices_of = st.lists(st.tuples(st.integers(2, 31), st.booleans()), max_size=3)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("lives")
    with closing(Store(f"sqlite:///{folder}/sublet.db", SimulatedClock(JANUARY))) as store:
        migrate(store)
        ledger = Ledger(store)
        ledger.publish_prices(book_from_dict({"prices": [PRICE]}, "test"))
        yield ledger


def naive(grants: list[Given], usage: list[Used]) -> tuple[int, dict[int, int]]:
    """What is due, and what is left of each grant: event by event, by the day of use. Canceled usage never was."""
    left = {number: nano for number, (_, nano, _, _) in enumerate(grants)}
    due = 0
    for day, quantity, _, canceled in sorted(usage, key=lambda item: item[0]):
        if canceled is not None:
            continue
        live = [
            (start + lasts, paid, start, number)
            for number, (paid, _, start, lasts) in enumerate(grants)
            if start <= day < start + lasts
        ]
        for *_, number in sorted(live):
            part = min(quantity, left[number])
            left[number] -= part
            quantity -= part
        due += quantity
    return due, left


class Life:
    """One customer's January in the ledger, day by day."""

    def __init__(
        self, ledger: Ledger, grants: list[Given], usage: list[Used], invoices: list[tuple[int, bool]]
    ) -> None:
        assert isinstance(ledger.store.clock, SimulatedClock)
        self.ledger, self.clock = ledger, ledger.store.clock
        self.owner = Accounts(ledger.store).create_organization(f"life-{next(_NUMBERS)}").id
        self.mornings: dict[int, list[Callable[[], None]]] = defaultdict(list)
        self.afternoons: dict[int, list[Callable[[], None]]] = defaultdict(list)
        for number, grant in enumerate(grants):
            self.mornings[grant[2]].append(partial(self.give, number, grant))
        for number, (day, quantity, late, canceled) in enumerate(usage):
            self.afternoons[day + late].append(partial(self.take, number, day, quantity))
            if canceled is not None:
                self.afternoons[day + late + canceled].append(partial(self.take, number, day, None))
        for day, void in invoices:
            self.afternoons[day].append(partial(self.bill, void))

    def give(self, number: int, grant: Given) -> None:
        paid, nano, _, lasts = grant
        ends = self.clock.now() + timedelta(days=lasts)
        kind = "prepaid" if paid else "promotional"
        self.ledger.store.write(
            lambda connection: self.ledger.credit(
                connection, self.owner, nano * NANO, "", f"{number}", kind=kind, expires_at=ends
            )
        )

    def take(self, number: int, day: int, quantity: int | None) -> None:
        """Usage, or where there is no quantity its cancellation."""
        name, at = f"{self.owner}/{number}", JANUARY + timedelta(days=day - 1, hours=12)
        event = UsageEvent("s", name, self.owner, "requests", quantity or 0, at)
        if quantity is None:
            event = replace(event, id=f"{name}/gone", kind="cancellation", corrects=("s", name))
        assert self.ledger.take_now([event]).accepted == 1
        self.ledger.rate()

    def bill(self, void: bool) -> None:
        document = self.ledger.invoice(self.owner, "2026-01")
        if void and document is not None:
            self.ledger.void(document["number"], "test")

    def live(self) -> None:
        for day in sorted({*self.mornings, *self.afternoons}):
            self.clock.set(JANUARY + timedelta(days=day - 1))
            for happens in self.mornings[day]:
                happens()
            self.ledger.expire()
            self.clock.advance(13 * 3600)
            for happens in self.afternoons[day]:
                happens()
        self.clock.set(JANUARY + timedelta(days=60))
        self.ledger.expire()
        self.ledger.invoice(self.owner, "2026-02")


@settings(max_examples=25, deadline=None)
@given(grants=grants_of, usage=usage_of, invoices=invoices_of)
def test_whatever_the_order_the_customer_owes_what_the_naive_rule_says(
    lived: Ledger, grants: list[Given], usage: list[Used], invoices: list[tuple[int, bool]]
) -> None:
    life = Life(lived, grants, usage, invoices)
    life.live()
    due, left = naive(grants, usage)
    billed: Decimal | int = sum(
        Decimal(found["due"]) for found in lived.invoices(life.owner) if found["status"] != "void"
    )
    billed -= sum(Decimal(note["receivable"]) + Decimal(note["balance"]) for note in lived.settling.notes(life.owner))
    accounts = lived.balances(life.owner)
    assert billed == due
    assert -accounts.get("breakage", 0) == sum(left.values()) * NANO
    assert accounts.get("deferred_revenue", 0) == accounts.get("unbilled", 0) == 0
    assert accounts.get("receivable", 0) + accounts.get("customer_balance", 0) == billed * NANO
    assert accounts.get("credits", 0) == 0
    assert lived.prove(life.owner).findings == []
