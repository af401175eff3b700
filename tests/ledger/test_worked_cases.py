"""Worked cases to the cent: prices and discounts that change within a month (D1 to D8), and fees that are published late.

The other cases are next to what they are about: wallets (W), credit notes and settling (C), revenue over time (R). Each has a test
whose name or id is the case's.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from sublet.accounts.service import Accounts
from sublet.ledger.model import UsageEvent
from sublet.ledger.periods import month_labeled
from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.rating.fixed import BackdatedError
from sublet.ledger.service import Ledger
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError

TIERS = [{"up_to": 1000, "amount": "1.00"}, {"amount": "0.50"}]
CHEAPER = [{"up_to": 1000, "amount": "0.80"}, {"amount": "0.40"}]
FIRST, FIFTEENTH = "2026-01-01T00:00:00Z", "2026-01-15T00:00:00Z"
TENTH_OFF = {"id": "tenth-off", "percent": "10", "from": FIFTEENTH}
Publish = Callable[..., None]


CASES = {"w": 9, "c": 11, "d": 8, "r": 4}
"""How many worked cases there are of each kind."""


def test_every_worked_case_has_a_test() -> None:
    named: set[str] = set()
    for path in Path(__file__).parent.rglob("test_*.py"):
        text = path.read_text()
        named |= {found.lower() for found in re.findall(r"^def test_([wcdr]\d+)b?_", text, re.MULTILINE)}
        named |= {found.lower() for found in re.findall(r'"([WCDR]\d+)[bc]?"', text)}
    assert {f"{kind}{number}" for kind, most in CASES.items() for number in range(1, most + 1)} - named == set()


@pytest.fixture
def payer(ledger: Ledger, clock: SimulatedClock) -> str:
    clock.set(datetime(2026, 1, 31, tzinfo=UTC))
    return Accounts(ledger.store).create_organization("payer", currency="EUR").id


@pytest.fixture
def publish(ledger: Ledger) -> Publish:
    entries: dict[str, list[dict[str, Any]]] = {"prices": [], "discounts": [], "commitments": []}

    def add(*prices: dict[str, Any], discounts: Any = (), commitments: Any = ()) -> None:
        entries["prices"] += [{"currency": "EUR", "from": FIRST} | price for price in prices]
        entries["discounts"] += discounts
        entries["commitments"] += [{"currency": "EUR", "from": FIRST} | entry for entry in commitments]
        ledger.publish_prices(book_from_dict(entries, "test"))

    return add


def use(ledger: Ledger, owner: str, *quantities: tuple[int, int], meter: str = "requests", month: int = 1) -> None:
    """Usage as (day, quantity), in this order of arrival."""
    for number, (day, quantity) in enumerate(quantities):
        at = datetime(2026, month, day, 12, tzinfo=UTC)
        event = UsageEvent("test", f"{month}/{number}/{day}", owner, meter, quantity, at)
        assert ledger.take_now([event]).accepted == 1
        ledger.rate()


def unbilled(ledger: Ledger, owner: str) -> Fraction:
    return Fraction(ledger.balances(owner).get("unbilled", 0), 10**9)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(
    ("price", "quantity", "right"),
    [
        ({"kind": "flat", "amount": "100"}, 5, 100 * (Fraction(14, 31) + Fraction(17, 31) * Fraction(9, 10))),
        ({"kind": "graduated", "tiers": TIERS}, 800, 1250),
        ({"kind": "volume", "tiers": TIERS}, 800, 760),
        ({"kind": "package", "amount": "10", "size": 100}, 150, Fraction("28.5")),
        ({"kind": "per_unit", "amount": "1.00", "free": 100}, 80, 54),
    ],
    ids=["D1", "D2", "D3", "D3b", "D3c"],
)
def test_nothing_restarts_where_a_discount_begins(
    ledger: Ledger, payer: str, publish: Publish, price: Any, quantity: int, right: Fraction, order: tuple[int, int]
) -> None:
    publish({"id": "a", "meter": "requests"} | price, discounts=[TENTH_OFF])
    usage = ((10, quantity), (20, quantity))
    use(ledger, payer, *(usage[index] for index in order))
    assert 0 <= right - unbilled(ledger, payer) < Fraction(2, 10**9)
    assert ledger.prove().findings == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
@pytest.mark.parametrize(("kind", "right"), [("graduated", 1200), ("volume", 720)])
def test_d4_the_next_price_goes_on_where_the_one_before_was(
    ledger: Ledger, payer: str, publish: Publish, kind: str, right: int, order: tuple[int, int]
) -> None:
    shared = {"meter": "requests", "kind": kind}
    publish(
        shared | {"id": "a", "tiers": TIERS, "until": FIFTEENTH},
        shared | {"id": "b", "tiers": CHEAPER, "from": FIFTEENTH},
    )
    usage = ((10, 800), (20, 800))
    use(ledger, payer, *(usage[index] for index in order))
    assert unbilled(ledger, payer) == right
    assert ledger.prove().findings == []


def test_d5_minimums_that_follow_each_other_are_one_by_days(ledger: Ledger, payer: str, publish: Publish) -> None:
    minimum = {"organization": payer}
    publish(
        {"id": "a", "meter": "requests", "kind": "per_unit", "amount": "1"},
        commitments=[
            minimum | {"id": "small", "minimum": "1000", "until": FIFTEENTH},
            minimum | {"id": "large", "minimum": "2000", "from": FIFTEENTH},
        ],
    )
    use(ledger, payer, (10, 1200))
    ledger.store.clock.set(datetime(2026, 2, 1, 1, tzinfo=UTC))  # type: ignore[attr-defined]
    document = ledger.close(payer, "2026-01").invoice
    assert document is not None
    assert [line["amount"][:6] for line in document["lines"] if line["kind"] == "commitment"] == ["348.38"]
    assert Decimal(document["total"]) == Decimal("1548.39")
    assert ledger.prove().findings == []


@pytest.mark.parametrize(("counts", "true_up"), [(None, 300), (False, 300), (True, 100)])
def test_d5b_a_minimum_says_whether_fees_count(
    ledger: Ledger, payer: str, publish: Publish, clock: SimulatedClock, counts: bool | None, true_up: int
) -> None:
    commitment: dict[str, Any] = {"id": "least", "organization": payer, "minimum": "1000"}
    publish(
        {"id": "a", "meter": "requests", "kind": "per_unit", "amount": "1"},
        {"id": "fee", "kind": "flat", "organization": payer, "amount": "200"},
        commitments=[commitment | ({} if counts is None else {"fees_count": counts})],
    )
    use(ledger, payer, (10, 700))
    clock.set(datetime(2026, 2, 1, 1, tzinfo=UTC))
    document = ledger.close(payer, "2026-01").invoice
    assert document is not None
    [line] = [line for line in document["lines"] if line["kind"] == "commitment"]
    assert Decimal(line["amount"]) == true_up


def test_fees_count_towards_a_minimum_of_everything_only() -> None:
    entry = {"id": "c", "organization": "org", "currency": "EUR", "minimum": "1", "from": FIRST}
    with pytest.raises(InvalidInputError, match="omit product"):
        book_from_dict({"commitments": [entry | {"product": "models", "fees_count": True}]}, "test")
    with pytest.raises(InvalidInputError, match="true or false"):
        book_from_dict({"commitments": [entry | {"fees_count": "yes"}]}, "test")


def test_d6_a_fee_that_changes_is_charged_by_days(
    ledger: Ledger, payer: str, publish: Publish, clock: SimulatedClock
) -> None:
    fee = {"kind": "flat", "organization": payer}
    publish(
        fee | {"id": "basic", "amount": "100", "until": FIFTEENTH},
        fee | {"id": "pro", "amount": "200", "from": FIFTEENTH},
    )
    clock.set(datetime(2026, 2, 1, 1, tzinfo=UTC))
    document = ledger.close(payer, "2026-01").invoice
    assert document is not None
    amounts = [Decimal(line["amount"]).quantize(Decimal("0.01")) for line in document["lines"]]
    assert sorted(amounts) == [Decimal("45.16"), Decimal("109.68")]
    assert Decimal(document["total"]) == Decimal("154.84")


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_d7_included_amounts_that_change_are_included_by_days(
    ledger: Ledger, payer: str, publish: Publish, order: tuple[int, int]
) -> None:
    shared = {"meter": "tokens.input", "kind": "per_unit", "amount": "0.01"}
    publish(
        shared | {"id": "a", "free": 1_000_000, "until": FIFTEENTH},
        shared | {"id": "b", "free": 2_000_000, "from": FIFTEENTH},
    )
    usage = ((10, 800_000), (20, 800_000))
    use(ledger, payer, *(usage[index] for index in order), meter="tokens.input")
    assert unbilled(ledger, payer) == Fraction(1_600_000 - 1_548_387, 100)
    assert ledger.prove().findings == []


@pytest.mark.parametrize(
    ("start", "right"),
    [
        ("2026-03-14T23:00:00+00:00", Fraction(17, 31)),
        ("2026-03-15T11:00:00+00:00", Fraction(16 * 24 + 12 - 1, 31 * 24 - 1)),
    ],
    ids=["midnight", "noon"],
)
def test_d8_days_count_where_both_ends_are_local_midnights(start: str, right: Fraction) -> None:
    period = month_labeled("2026-03", "Europe/Berlin")
    covered, whole = period.share(datetime.fromisoformat(start), None)
    assert Fraction(covered, whole) == right
    assert 3100 * Fraction(17, 31) == 1700


def test_a_day_that_begins_at_one_is_a_day() -> None:
    """In Beirut the clock is put forward at midnight: the 29th of March begins at one o'clock."""
    period = month_labeled("2026-03", "Asia/Beirut")
    assert period.share(datetime(2026, 3, 28, 22, tzinfo=UTC), None) == (3, 31)


@pytest.mark.parametrize("late", [False, True])
def test_a_fee_published_after_the_close_is_caught_up_in_the_first_open_month(
    ledger: Ledger, payer: str, publish: Publish, clock: SimulatedClock, late: bool
) -> None:
    publish({"id": "a", "meter": "requests", "kind": "per_unit", "amount": "1"})
    use(ledger, payer, (10, 7))
    clock.set(datetime(2026, 2, 3, tzinfo=UTC))
    assert ledger.close(payer, "2026-01").by_this_call
    clock.set(datetime(2026, 2, 10, tzinfo=UTC))
    fee = {"id": "fee", "kind": "flat", "organization": payer, "amount": "50"}
    publish(fee | {"backdated": "catch_up"})
    assert unbilled(ledger, payer) == 50
    if late:
        use(ledger, payer, (20, 3), month=1)
    clock.set(datetime(2026, 3, 1, 1, tzinfo=UTC))
    document = ledger.close(payer, "2026-02").invoice
    assert document is not None
    fees = [(line["used"], line["booked"], line["amount"]) for line in document["lines"] if line["kind"] == "fee"]
    assert fees == [("2026-01", "2026-02", "50.000000000"), ("2026-02", "2026-02", "50.000000000")]
    assert Decimal(document["total"]) == 100 + (3 if late else 0)
    assert [line["booked"] for line in document["lines"] if line["kind"] == "adjustment"] == ["2026-02"] * late
    assert ledger.prove().findings == []


def test_publishing_into_a_closed_month_says_which_and_how_much(
    ledger: Ledger, payer: str, publish: Publish, clock: SimulatedClock
) -> None:
    publish({"id": "a", "meter": "requests", "kind": "per_unit", "amount": "1"})
    use(ledger, payer, (10, 7))
    clock.set(datetime(2026, 2, 3, tzinfo=UTC))
    ledger.close(payer, "2026-01")
    fee = {"id": "fee", "kind": "flat", "organization": payer, "currency": "EUR", "amount": "62", "from": FIFTEENTH}
    rest = [entry for entry in ledger.prices().content["prices"] if entry["id"] != "fee"]

    def attempt(entry: dict[str, Any]) -> None:
        ledger.publish_prices(book_from_dict({"prices": [*rest, entry]}, "test"))

    with pytest.raises(BackdatedError, match=r"closed months of payer: 2026-01 by 34 EUR \(fee\)"):
        attempt(fee)
    assert unbilled(ledger, payer) == 0 and ledger.prices().version == 1
    with pytest.raises(InvalidInputError, match="catch_up"):
        attempt(fee | {"backdated": "yes"})
    attempt(fee | {"backdated": "from_open"})
    assert unbilled(ledger, payer) == 0
    clock.set(datetime(2026, 3, 1, 1, tzinfo=UTC))
    document = ledger.close(payer, "2026-02").invoice
    assert document is not None and Decimal(document["total"]) == 62
    with pytest.raises(BackdatedError, match="2026-02 by -31 EUR"):
        attempt(fee | {"until": "2026-02-15T00:00:00Z", "backdated": ""})
    attempt(fee | {"until": "2026-02-15T00:00:00Z", "backdated": "catch_up"})
    assert unbilled(ledger, payer) == 34 - 31
