"""Rate cards: one customer's own terms, versioned on their own, that others' changes do not touch."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.ledger.payer import Account

from sublet.accounts.service import Accounts
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import PriceOverlapError
from sublet.ledger.prices.booking import Books
from sublet.ledger.prices.cards import CARD_ENTRIES_MAX, card_from_dict
from sublet.ledger.rating.fixed import BackdatedError
from sublet.ledger.service import Ledger
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.etags import Condition, PreconditionFailedError, tag_of

Open = Callable[..., Account]
FIRST = "2026-01-01T00:00:00Z"
OWN = {"id": "own", "meter": "requests", "kind": "per_unit", "currency": "EUR", "amount": "0.008", "from": FIRST}
FEE = {"id": "support", "kind": "flat", "currency": "EUR", "amount": "31", "from": FIRST}


def publish(payer: Account, *prices: dict[str, Any], owner: str = "", **sections: Any) -> int:
    owner = owner or payer.owner
    card = card_from_dict({"prices": list(prices), **sections}, owner, "test")
    return payer.ledger.publishing.card(owner, card)


def test_a_customer_pays_what_the_card_says(account: Open) -> None:
    payer = account()
    off = {"id": "off", "percent": "10", "from": "2026-01-15T00:00:00Z"}
    least = {"id": "least", "currency": "EUR", "minimum": "200", "from": FIRST}
    assert publish(payer, OWN, FEE, discounts=[off], commitments=[least]) == 2
    payer.on(25)
    payer.use(10, "100")
    payer.use(20, "100")
    document = payer.close()
    amounts = {line["kind"]: Decimal(line["amount"]) for line in document["lines"] if line["kind"] != "usage"}
    assert amounts == {"fee": 31, "commitment": 200 - 80 - 72}
    used = sorted(Decimal(line["amount"]) for line in document["lines"] if line["kind"] == "usage")
    assert used == [72, 80] and {Decimal(line["list_amount"]) for line in document["lines"][:2]} == {100}
    assert any(line["unit_price"].endswith("less 10 %") for line in document["lines"])
    payer.sound()
    # A process that starts later reads the same.
    payer.ledger = Ledger(payer.ledger.store)
    payer.sound()
    assert payer.ledger.publishing.card_of(payer.owner).version == 2


def test_what_was_rated_keeps_its_card_and_the_next_one_goes_on(account: Open) -> None:
    payer = account()
    publish(payer, OWN)
    payer.on(25)
    payer.use(10, "100")
    ended = OWN | {"until": "2026-01-20T00:00:00Z"}
    assert publish(payer, ended, OWN | {"id": "next", "amount": "0.006", "from": "2026-01-20T00:00:00Z"}) == 3
    payer.use(22, "100")
    assert payer.balance("unbilled") == 80 + 60
    payer.sound()
    assert publish(payer, ended, OWN | {"id": "next", "amount": "0.006", "from": "2026-01-20T00:00:00Z"}) == 3
    with pytest.raises(ConflictError, match="own has changed"):
        publish(payer, OWN | {"amount": "0.001"})
    with pytest.raises(ConflictError, match="next is missing"):
        publish(payer, ended)


def test_a_card_and_the_price_book_do_not_say_the_same_twice(account: Open) -> None:
    payer = account()
    with pytest.raises(InvalidInputError, match="has an entry 'a' already"):
        publish(payer, OWN | {"id": "a"})
    publish(payer, OWN)
    with pytest.raises(InvalidInputError, match=f"rate card of {payer.owner} has an entry 'own' already"):
        payer.publish(OWN | {"meter": "images"})
    payer._prices = payer._prices[:1]
    with pytest.raises(PriceOverlapError, match="both price requests"):
        payer.publish(OWN | {"id": "twice", "organization": payer.owner})
    other = account_of(payer, "other")
    payer._prices = payer._prices[:1]
    payer.publish(OWN | {"id": "theirs", "organization": other})
    with pytest.raises(PriceOverlapError, match="both price requests"):
        publish(payer, OWN | {"id": "twice"}, owner=other)
    with pytest.raises(InvalidInputError, match="a rate card is for one organization"):
        publish(payer, OWN | {"id": "x", "organization": other})
    many = [OWN | {"id": f"p{number}"} for number in range(CARD_ENTRIES_MAX + 1)]
    with pytest.raises(InvalidInputError, match="at most 1000 entries"):
        publish(payer, *many)
    with pytest.raises(InvalidInputError, match="billed in EUR"):
        publish(payer, OWN, OWN | {"id": "usd", "currency": "USD", "meter": "images"})


def account_of(payer: Account, name: str) -> str:
    return Accounts(payer.ledger.store).create_organization(name, currency="EUR").id


def test_a_fee_of_a_card_that_reaches_into_closed_months_says_so(account: Open) -> None:
    payer = account()
    payer.on(11)
    payer.use(10, "7")
    payer.close()
    with pytest.raises(BackdatedError, match=r"2026-01 by 31 EUR \(support\)"):
        publish(payer, FEE)
    assert payer.ledger.publishing.card_of(payer.owner).version == 0
    publish(payer, FEE | {"backdated": "catch_up"})
    assert payer.balance("unbilled") == 31
    payer.sound()


def test_only_the_card_that_was_seen_is_replaced(account: Open) -> None:
    payer = account()
    publish(payer, OWN)
    card = card_from_dict({"prices": [OWN, FEE]}, payer.owner, "test")
    with pytest.raises(PreconditionFailedError):
        payer.ledger.publishing.card(payer.owner, card, Condition(frozenset({tag_of(1)})))
    # Another customer's card changes nothing of what was seen of the book or of this one.
    publish(payer, OWN | {"id": "theirs"}, owner=account_of(payer, "other"))
    assert payer.ledger.prices().state == 1
    payer.ledger.publishing.card(payer.owner, card, Condition(frozenset({tag_of(2)})))


def test_a_change_of_one_customers_terms_reads_nothing_of_the_others(account: Open) -> None:
    payer = account()
    owners = [account_of(payer, f"o{number}") for number in range(20)]
    for number, owner in enumerate(owners):
        publish(payer, OWN | {"id": f"own{number}"}, owner=owner)
    payer.on(20)

    def use(name: str) -> int:
        before = payer.ledger.books.examined
        at = datetime(2026, 1, 10, tzinfo=UTC)
        events = [UsageEvent("t", f"{name}/{owner}", owner, "requests", 1, at) for owner in owners]
        assert payer.ledger.take_now(events).accepted == len(owners)
        payer.ledger.rate()
        return payer.ledger.books.examined - before

    first = use("first")
    assert use("again") == 0
    publish(payer, OWN | {"id": "own0"}, OWN | {"id": "more", "meter": "images"}, owner=owners[0])
    assert use("after") == first // len(owners)
    payer.sound()


def test_threads_that_learn_of_a_version_at_once_all_find_it(account: Open) -> None:
    payer = account()
    number = publish(payer, OWN)
    for _ in range(10):
        books, both = Books(), threading.Barrier(4)

        def find(books: Books = books, both: threading.Barrier = both) -> int:
            with payer.ledger.store.read() as connection:
                both.wait(20)
                return books.version(connection, number).version

        with ThreadPoolExecutor(4) as pool:
            found = [pool.submit(find) for _ in range(4)]
            assert [each.result() for each in found] == [number] * 4
