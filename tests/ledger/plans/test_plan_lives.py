"""Random lives of subscribers against a naive second implementation that goes day by day in exact fractions: upgrades, seats, add-ons,
coupons, trials, ends, and usage beyond what is included."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from math import floor
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sublet.accounts.service import Accounts
from sublet.ledger.invoices.taxes import FlatTax
from sublet.ledger.model import UsageEvent
from sublet.ledger.plans.model import Coupon, plan_from_dict
from sublet.ledger.plans.service import Wanted
from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.clock import SimulatedClock
from sublet.values.money import NANO

START = date(2026, 1, 1)
MONTHS = ("2026-01", "2026-02", "2026-03")
PRICE = {
    "id": "a",
    "meter": "requests",
    "kind": "per_unit",
    "currency": "USD",
    "amount": "1",
    "from": "2025-12-01T00:00:00Z",
}
ADD_ON = "7.77"
TIERS = {"small": ("10", "1.50", 30), "large": ("99.99", "0.7", 900)}
"""Base amount, amount for a seat, and requests included in a month, each at 2 USD beyond."""
_NUMBERS = count()

Change = tuple[int, str, int, int, tuple[bool, int, int] | None]
"""The day, the plan, seats, pieces of the add-on, and a coupon: by share, how much, and for how many days."""
coupon_of = st.none() | st.tuples(st.booleans(), st.integers(1, 100), st.integers(1, 60))
change_of = st.tuples(
    st.integers(0, 75), st.sampled_from(sorted(TIERS)), st.integers(0, 9), st.integers(0, 2), coupon_of
)
life_of = st.fixed_dictionaries(
    {
        "every": st.sampled_from(["month", "year"]),
        "begins": st.sampled_from(["anniversary", "calendar"]),
        "zone": st.sampled_from(["UTC", "Europe/Berlin", "Asia/Tokyo", "America/New_York"]),
        "trial": st.integers(0, 20),
        "changes": st.lists(change_of, min_size=1, max_size=4, unique_by=lambda change: change[0]),
        "ends": st.none() | st.integers(1, 80),
        "usage": st.lists(st.tuples(st.integers(0, 88), st.integers(1, 400)), max_size=5),
    }
)


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ledger]:
    folder = tmp_path_factory.mktemp("plans")
    with closing(
        Store(f"sqlite:///{folder}/sublet.db", SimulatedClock(datetime(2026, 1, 1, tzinfo=ZoneInfo("UTC"))))
    ) as store:
        migrate(store)
        ledger = Ledger(store, taxes=FlatTax("VAT", Fraction(19)))
        ledger.publish_prices(book_from_dict({"prices": [PRICE]}, "test"))
        for every in ("month", "year"):
            for begins in ("anniversary", "calendar"):
                for tier, (base, seat, included) in TIERS.items():
                    ledger.plans.publish(plan_from_dict(plan(every, begins, tier, base, seat, included), "test"))
        yield ledger


def plan(every: str, begins: str, tier: str, base: str, seat: str, included: int) -> dict[str, Any]:
    usage = {"meter": "requests", "kind": "per_unit", "amount": "2", "included": included}
    add_ons = [{"id": "extra", "amount": ADD_ON}]
    named = {"id": f"{tier}-{every}-{begins}", "currency": "USD", "every": every, "begins": begins}
    return named | {"amount": base, "seat_amount": seat, "usage": [usage], "add_ons": add_ons}


def naive(life: dict[str, Any]) -> list[Fraction]:
    """What each month comes to, net: every day costs its part of the period that it lies in."""
    changes = sorted(life["changes"])
    begins = START + timedelta(days=changes[0][0])
    charged = begins + timedelta(days=life["trial"])
    over = date.max if life["ends"] is None else max(START + timedelta(days=life["ends"]), begins)
    totals = []
    for month in (1, 2, 3):
        days = [date(2026, month, number + 1) for number in range(monthrange(2026, month)[1])]
        fees, free, priced = Fraction(0), Fraction(0), []
        for day in days:
            state = [change for change in changes if START + timedelta(days=change[0]) <= day]
            live = bool(state) and day < over
            if live:
                free += Fraction(TIERS[state[-1][1]][2], len(days))
            if live and day >= charged:
                fees += _cost(state[-1]) / _length(life, charged, day)
                fees -= _off(state[-1], _length(life, charged, day), day)
            priced += [
                (quantity, 2 if live else 1)
                for number, quantity in sorted(life["usage"])
                if START + timedelta(days=number) == day
            ]
        left = floor(free)
        for quantity, price in priced:
            paid = max(0, quantity - left)
            left = max(0, left - quantity)
            fees += paid * price
        totals.append(fees)
    return totals


def _cost(change: Change) -> Fraction:
    base, seat, _ = TIERS[change[1]]
    return Fraction(base) + change[2] * Fraction(seat) + change[3] * Fraction(ADD_ON)


def _off(change: Change, length: int, day: date) -> Fraction:
    """What a coupon takes off a day."""
    if change[4] is None or day >= START + timedelta(days=change[0] + change[4][2]):
        return Fraction(0)
    if change[4][0]:
        return _cost(change) / length * Fraction(change[4][1], 100)
    return min(Fraction(change[4][1]), Fraction(TIERS[change[1]][0])) / length


def _length(life: dict[str, Any], anchor: date, day: date) -> int:
    """How many days the period has that a day lies in."""
    if life["begins"] == "calendar":
        return monthrange(day.year, day.month)[1] if life["every"] == "month" else 365
    if life["every"] == "year":
        return (anchor.replace(year=anchor.year + 1) - anchor).days
    edges = []
    for number in range(6):
        year, month = anchor.year + (anchor.month - 1 + number) // 12, (anchor.month - 1 + number) % 12 + 1
        edges.append(date(year, month, min(anchor.day, monthrange(year, month)[1])))
    first = max(edge for edge in edges if edge <= day)
    return (edges[edges.index(first) + 1] - first).days


class Life:
    """A subscriber's first three months in the ledger, day by day."""

    def __init__(self, ledger: Ledger, life: dict[str, Any]) -> None:
        assert isinstance(ledger.store.clock, SimulatedClock)
        self.ledger, self.clock, self.life = ledger, ledger.store.clock, life
        self.owner = Accounts(ledger.store).create_organization(f"p-{next(_NUMBERS)}", timezone=life["zone"]).id
        self.subscription = ""

    def at(self, number: int, hour: int = 0) -> datetime:
        return datetime.combine(START + timedelta(days=number), time(hour), ZoneInfo(self.life["zone"]))

    def wanted(self, change: Change) -> Wanted:
        number, tier, seats, extra, off = change
        coupon = None
        if off is not None:
            share, amount = (off[1], 0) if off[0] else (0, off[1])
            until = self.at(number + off[2]).astimezone(ZoneInfo("UTC"))
            coupon = Coupon("off", Decimal(share), Decimal(amount), until)
        named = f"{tier}-{self.life['every']}-{self.life['begins']}"
        add_ons = [("extra", extra)] if extra else []
        return Wanted(named, seats, add_ons, coupon, coupon is None, None, self.life["trial"])

    def live(self) -> None:
        changes = {change[0]: change for change in self.life["changes"]}
        first = min(changes)
        for number in range(90):
            over = self.life["ends"] is not None and number >= max(self.life["ends"], first)
            self.clock.set(self.at(number, 8).astimezone(ZoneInfo("UTC")))
            if number in changes and not (over and self.subscription):
                self.change(self.wanted(changes[number]))
            if self.life["ends"] is not None and number == max(self.life["ends"], first):
                self.ledger.plans.end(self.subscription, self.at(number).astimezone(ZoneInfo("UTC")))
            for place, (day, quantity) in enumerate(self.life["usage"]):
                if day == number:
                    self.use(place, quantity)
            if number in (33, 62):
                self.ledger.close(self.owner, MONTHS[number // 60])
        self.clock.set(self.at(93).astimezone(ZoneInfo("UTC")))
        self.ledger.close(self.owner, MONTHS[2])

    def change(self, wanted: Wanted) -> None:
        if self.subscription:
            self.ledger.plans.change(self.subscription, wanted)
        else:
            self.subscription = self.ledger.plans.subscribe(self.owner, wanted)["id"]

    def use(self, place: int, quantity: int) -> None:
        event = UsageEvent("s", f"{self.owner}/{place}", self.owner, "requests", quantity, self.clock.now())
        assert self.ledger.take_now([event]).accepted == 1
        self.ledger.rate()


@settings(max_examples=4, deadline=None)
@given(life=life_of)
def test_a_subscriber_pays_what_the_naive_rule_says(lived: Ledger, life: dict[str, Any]) -> None:
    played = Life(lived, life)
    played.live()
    expected = naive(life)
    documents = {found["period"]["label"]: found for found in lived.invoices(played.owner)}
    for label, net in zip(MONTHS, expected, strict=True):
        lines = documents[label]["lines"] if label in documents else ()
        assert {line["kind"] for line in lines} <= {"fee", "usage"}, lines
        exact = sum((Fraction(line["amount"]) for line in lines), Fraction(0))
        # Each entry's earned part is rounded down to the nano-unit at the start and the end of the month.
        assert abs(net - exact) < Fraction(100, NANO), (label, net, exact, life)
    balances = lived.balances(played.owner)
    issued = sum(Fraction(found["total"]) for found in documents.values())
    taxed = sum(Fraction(found["total"]) - Fraction(found["net"]) for found in documents.values())
    assert balances.get("receivable", 0) == issued * NANO
    assert -balances.get("taxes_payable", 0) == taxed * NANO
    assert sum(balances.values()) == 0
    assert lived.prove(played.owner).findings == []
