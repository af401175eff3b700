"""A month by a second, naive implementation: exact fractions, event by event in the order of use, sharing nothing with the ledger."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import count
from math import floor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.accounts.service import Accounts
from sublet.ledger.model import Party, UsageEvent
from sublet.ledger.prices.book import PriceBook, book_from_dict
from sublet.ledger.prices.booking import Books
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.clock import SimulatedClock, to_micros

JANUARY = datetime(2026, 1, 1, tzinfo=UTC)
PERIOD_DAYS = 31
_NUMBERS = count()


@dataclass(frozen=True)
class Terms:
    """One price of the chain, from a day of January on."""

    day: int
    kind: str
    amount: int
    cheaper: int
    limit: int
    free: int

    def entry(self, owner: str, number: int, until: int | None) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "id": f"{owner}-{number}",
            "organization": owner,
            "meter": "requests",
            "kind": self.kind,
            "currency": "USD",
            "free": self.free,
            "from": (JANUARY + timedelta(days=self.day - 1)).isoformat(),
        }
        if until is not None:
            entry["until"] = (JANUARY + timedelta(days=until - 1)).isoformat()
        if self.kind in ("graduated", "volume"):
            entry["tiers"] = [{"up_to": self.limit, "amount": str(self.amount)}, {"amount": str(self.cheaper)}]
        else:
            entry["amount"] = str(self.amount)
        if self.kind == "package":
            entry["size"] = self.limit
        return entry

    def price(self, quantity: int, free: int) -> Fraction:
        """What a quantity costs from the first unit on."""
        used = max(0, quantity - free)
        if self.kind == "per_unit":
            return Fraction(used * self.amount)
        if self.kind == "package":
            return Fraction(-(-used // self.limit) * self.amount)
        if self.kind == "volume":
            return Fraction(used * (self.amount if used <= self.limit else self.cheaper))
        return Fraction(min(used, self.limit) * self.amount + max(0, used - self.limit) * self.cheaper)


def naive(chain: list[Terms], off: tuple[int, int] | None, usage: list[tuple[int, int]]) -> int:
    """The month in nano-units, event by event: (day, quantity) in the order of use. A price of another kind counts from the start."""
    ends = [terms.day for terms in chain[1:]] + [PERIOD_DAYS + 1]
    held = [(terms, Fraction(end - terms.day)) for terms, end in zip(chain, ends, strict=True)]
    sums: dict[tuple[int, bool], Fraction] = defaultdict(Fraction)
    for kind in {terms.kind for terms in chain}:
        mine = [(terms, days) for terms, days in held if terms.kind == kind]
        free = mine[0][0].free
        if len({terms.free for terms, _ in mine}) > 1:
            free = floor(sum(terms.free * days for terms, days in mine) / sum(days for _, days in mine))
        placed = [(day, quantity, [each for each in chain if each.day <= day][-1]) for day, quantity in sorted(usage)]
        placed = [item for item in placed if item[2].kind == kind]
        whole = sum(quantity for _, quantity, _ in placed)
        before = 0
        for day, quantity, terms in placed:
            less = off is not None and day >= off[0]
            factor = 1 - Fraction(off[1], 100) if off is not None and less else Fraction(1)
            if kind in ("volume", "package"):
                exact = terms.price(whole, free) * quantity / whole
            else:
                exact = terms.price(before + quantity, free) - terms.price(before, free)
            sums[terms.day, less] += exact * factor * 10**9
            before += quantity
    return sum(floor(exact) for exact in sums.values())


terms_of = st.builds(
    Terms,
    day=st.just(1),
    kind=st.sampled_from(["per_unit", "graduated", "volume", "package"]),
    amount=st.integers(2, 9),
    cheaper=st.integers(0, 12),
    limit=st.integers(1, 200),
    free=st.sampled_from([0, 0, 7, 100]),
)


@pytest.fixture(scope="module")
def shared_ledger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    """One ledger, in which every example is an organization of its own."""
    folder = tmp_path_factory.mktemp("chains")
    with closing(
        Store(f"sqlite:///{folder}/sublet.db", SimulatedClock(datetime(2026, 1, 31, 23, tzinfo=UTC)))
    ) as store:
        migrate(store)
        yield Ledger(store)


@settings(max_examples=40, deadline=None)
@given(
    chain=st.lists(terms_of, min_size=1, max_size=3),
    cuts=st.lists(st.integers(2, 31), min_size=2, max_size=2, unique=True),
    off=st.none() | st.tuples(st.integers(1, 31), st.integers(1, 100)),
    usage=st.lists(st.tuples(st.integers(1, 31), st.integers(1, 150)), min_size=1, max_size=8),
    canceled=st.integers(0, 7),
    seed=st.integers(0, 10**6),
)
def test_a_month_costs_what_the_naive_rule_says_in_any_order_of_arrival(
    shared_ledger: Ledger,
    chain: list[Terms],
    cuts: list[int],
    off: tuple[int, int] | None,
    usage: list[tuple[int, int]],
    canceled: int,
    seed: int,
) -> None:
    ledger = shared_ledger
    owner = Accounts(ledger.store).create_organization(f"naive-{next(_NUMBERS)}").id
    starts = [1, *sorted(cuts)]
    placed = [
        Terms(start, *(getattr(terms, name) for name in ("kind", "amount", "cheaper", "limit", "free")))
        for start, terms in zip(starts, chain, strict=False)
    ]
    content = dict(ledger.prices().content)
    prices, discounts = list(content.get("prices", ())), list(content.get("discounts", ()))
    for number, terms in enumerate(placed):
        until = placed[number + 1].day if number + 1 < len(placed) else None
        prices.append(terms.entry(owner, number, until))
    if off is not None:
        begins = (JANUARY + timedelta(days=off[0] - 1)).isoformat()
        discounts.append({"id": f"{owner}-off", "organization": owner, "percent": str(off[1]), "from": begins})
    ledger.publish_prices(book_from_dict({"prices": prices, "discounts": discounts}, "test"))
    arrivals = [
        UsageEvent(
            "n", f"{owner}/{number}", owner, "requests", quantity, JANUARY + timedelta(days=day - 1, hours=number)
        )
        for number, (day, quantity) in enumerate(usage)
    ]
    gone = canceled < len(usage)
    if gone:
        named = ("n", f"{owner}/{canceled}")
        at = arrivals[canceled].at
        arrivals.append(UsageEvent("n", f"{owner}/gone", owner, "requests", 0, at, kind="cancellation", corrects=named))
    random.Random(seed).shuffle(arrivals)
    for event in arrivals:
        assert ledger.take_now([event]).accepted == 1
        ledger.rate()
    stands = [item for number, item in enumerate(usage) if not gone or number != canceled]
    assert ledger.balances(owner).get("unbilled", 0) == naive(placed, off, stands)
    assert ledger.prove(owner).findings == []


def many_terms(owners: int, version: int, *, until: str = "") -> PriceBook:
    """Everybody's price, and a price and a discount of each owner; the last owner's ends where `until` says so."""
    shared = {"meter": "requests", "kind": "per_unit", "currency": "USD", "amount": "1", "from": JANUARY.isoformat()}
    prices: list[dict[str, Any]] = [shared | {"id": "all"}]
    discounts = []
    for number in range(owners):
        end = {"until": until} if until and number == owners - 1 else {}
        prices.append(shared | {"id": f"own-{number}", "organization": f"o{number}"} | end)
        discounts.append(
            {"id": f"d-{number}", "organization": f"o{number}", "percent": "5", "from": JANUARY.isoformat()}
        )
    return book_from_dict({"prices": prices, "discounts": discounts}, "test", version)


def test_entries_looked_at_do_not_grow_with_the_customers_and_others_terms_flush_nothing() -> None:
    looked: list[int] = []
    for owners in (1, 300):
        books = Books()
        book = many_terms(owners, 1)
        parties = [Party(f"o{number}", "x", "USD", "UTC") for number in range(owners)]
        for party in parties:
            found = books.rate(book, party, "requests", "{}", to_micros(JANUARY), "")
            assert found is not None and found.id == f"own-{party.id[1:]}~d-{party.id[1:]}"
        looked.append(books.examined // owners)
        before = books.examined
        ended = many_terms(owners, 2, until="2026-02-01T00:00:00Z")
        for party in parties:
            books.rate(ended, party, "requests", "{}", to_micros(JANUARY), "")
        assert 0 < books.examined - before <= 12
    assert looked[0] == looked[1] <= 12
