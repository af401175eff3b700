"""What happens to the made-up company: the last days of December, January day by day, and the close of January on February 3.

Customers buy in eight ways, by their number: on demand; by a rate card with a minimum; by a plan that they upgrade; from a deposit
that is taxed at use, or at payment; with promotions, reclaims and corrected usage; with a credit limit; with a disputed bill.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from sublet.accounts.service import Accounts
from sublet.ledger.example.company import (
    CURRENCIES,
    ISSUER,
    CompanyTaxes,
    Customer,
    card,
    customers,
    plans,
    prices,
)
from sublet.ledger.invoices.price_reductions import Wanted as Reduction
from sublet.ledger.model import UsageEvent
from sublet.ledger.payments.received import Received
from sublet.ledger.payments.refunds import NewRefund
from sublet.ledger.plans.model import Coupon, plan_from_dict
from sublet.ledger.plans.service import Wanted
from sublet.ledger.prices.book import book_from_dict
from sublet.ledger.prices.cards import card_from_dict
from sublet.ledger.service import Ledger, new_budget
from sublet.store import Store
from sublet.store.paging import PageRequest
from sublet.values.clock import SimulatedClock
from sublet.values.money import NANO, currency_digits, nano_from_decimal

LABEL = "2026-01"
FIRST, START, END = (
    datetime(2025, 12, 20, tzinfo=UTC),
    datetime(2026, 1, 1, tzinfo=UTC),
    datetime(2026, 2, 1, tzinfo=UTC),
)
POOLS = ("h100-east", "h100-west")
MODELS = ("llama-3.3-70b", "qwen-3-32b")
_ACCELERATORS = "-x"


@dataclass
class Month:
    """The company while its month is played. `owners` are the organizations' ids by the customers' numbers."""

    ledger: Ledger
    clock: SimulatedClock
    chance: random.Random
    customers: list[Customer]
    owners: dict[int, str] = field(default_factory=dict)
    serial: int = 0

    def of_role(self, role: int) -> Iterator[tuple[Customer, str]]:
        """The customers that buy in one of the eight ways."""
        return ((one, self.owners[one.number]) for one in self.customers if one.role == role)

    def nano(self, dollars: int, customer: Customer) -> int:
        """What `dollars` is on the customer's price list."""
        return int(dollars * CURRENCIES[customer.currency]) * NANO


def play(store: Store, count: int, seed: int, every_days: int = 1, told: Callable[[str], object] = str) -> Month:
    """Play the month on an empty database with a simulated clock. `every_days` thins the days on which anything is used; `told`
    hears of each step. The same seed plays the same month."""
    clock = store.clock
    assert isinstance(clock, SimulatedClock)
    clock.set(FIRST)
    ledger = Ledger(store, taxes=CompanyTaxes(), issuer=ISSUER, accelerators_of=_accelerators_of)
    month = Month(ledger, clock, random.Random(seed), customers(count))
    _set_up(month)
    told(f"{count} customers, {len(CURRENCIES)} currencies")
    day = FIRST
    while day < END:
        clock.set(day + timedelta(hours=20))
        if day.toordinal() % every_days == 0:
            _use(month, day)
        for when, step in _STEPS:
            if when == day:
                step(month)
                told(f"{day:%B %-d}: {(step.__doc__ or '').strip().rstrip('.')}")
        day += timedelta(days=1)
    clock.set(datetime(2026, 2, 3, 12, tzinfo=UTC))
    ledger.close_all(LABEL)
    told("February 3: January is closed and invoiced")
    return month


def _accelerators_of(connection: Any, resources: Any) -> dict[str, int]:
    """A lease's accelerators stand at the end of its id here."""
    return {name: int(name.rpartition(_ACCELERATORS)[2]) for name in resources if name.startswith("lse_")}


def _set_up(month: Month) -> None:
    accounts, ledger = Accounts(month.ledger.store), month.ledger
    ledger.publish_prices(book_from_dict(prices(), "the example's prices"))
    for plan in plans():
        ledger.plans.publish(plan_from_dict(plan, "the example's plan"))
    for customer in month.customers:
        made = accounts.create_organization(customer.name, currency=customer.currency, timezone=customer.timezone)
        month.owners[customer.number] = made.id
        ledger.set_profile(made.id, customer.profile)
    for customer, owner in month.of_role(1):
        ledger.publishing.card(owner, card_from_dict(card(customer, owner), owner, "the example's rate card"))
    for customer, owner in month.of_role(2):
        wanted = Wanted(f"team-{customer.currency.lower()}", seats=3 + customer.number % 5)
        ledger.plans.subscribe(owner, wanted)
    for role, mode in ((3, "at_use"), (4, "at_payment")):
        for customer, owner in month.of_role(role):
            _credit(month, owner, month.nano(5000, customer), "prepaid", f"deposit {customer.number}", mode)
    for customer, owner in month.of_role(6):
        ledger.create_budget(new_budget(owner, month.nano(40_000, customer), kind="credit"))


def _credit(
    month: Month, owner: str, nano: int, kind: str, source: str, mode: str = "at_use", ends: datetime | None = None
) -> None:
    month.ledger.store.write(
        lambda connection: month.ledger.credit(
            connection, owner, nano, source.partition(" ")[0], source, kind=kind, expires_at=ends, tax_mode=mode
        )
    )


def _use(month: Month, day: datetime) -> None:
    """A day's usage of everybody: leases, tokens of two models, and energy."""
    events: list[UsageEvent] = []
    for customer in month.customers:
        owner, chance = month.owners[customer.number], month.chance
        project = chance.choice(("search", "training", "support"))
        for meter, most in (("tokens.input", 40), ("tokens.input_cached", 20), ("tokens.output", 8)):
            at, model = day + timedelta(hours=chance.randint(0, 18)), chance.choice(MODELS)
            dimensions = {"model": model, "pool": chance.choice(POOLS)}
            events.append(_event(month, owner, meter, chance.randint(1, most) * 2_500_007, at, project, dimensions))
        if chance.randint(1, 3) > 1:
            count, hours = chance.choice((2, 4, 8)), chance.randint(4, 12)
            pool, at = chance.choice(POOLS), day + timedelta(hours=chance.randint(0, 7))
            dimensions = {"pool": pool, "generation": "h100", "class": chance.choice(("firm", "notice", "spot"))}
            dimensions |= {"site": pool.partition("-")[2]}
            lease = f"lse_{customer.number:02d}-{day:%m%d}{_ACCELERATORS}{count}"
            for hour in range(hours):
                when = at + timedelta(hours=hour)
                made = _event(month, owner, "accelerator.seconds", count * 3600, when, project, dimensions, lease)
                events.append(made)
            if customer.role == 0:
                site = {"pool": pool, "generation": "h100", "site": dimensions["site"]}
                events.append(_event(month, owner, "energy.wh", count * hours * 700, at, project, site, lease))
    taken = month.ledger.take_now(events)
    assert not taken.refused, taken.refused[:1]
    month.ledger.rate()


def _event(
    month: Month,
    owner: str,
    meter: str,
    quantity: int,
    at: datetime,
    project: str,
    dimensions: dict[str, str],
    resource: str = "",
) -> UsageEvent:
    month.serial += 1
    name = f"evt-{month.serial:06d}"
    return UsageEvent("example", name, owner, meter, quantity, at, resource, project, "", dimensions)


def _december(month: Month) -> None:
    """December is closed and invoiced."""
    month.ledger.close_all("2025-12")


def _paid(month: Month) -> None:
    """Most customers pay December, some a part of it and one more than it."""
    for customer in month.customers:
        owner = month.owners[customer.number]
        for document in month.ledger.invoices(owner):
            due, unit = nano_from_decimal(document["due"]), NANO // 10 ** currency_digits(customer.currency)
            if document["status"] != "final" or due <= 0 or customer.number % 10 == 9:
                continue
            part = due // 2 // unit * unit if customer.role == 6 else due
            source = f"bank {document['number']}"
            if customer.number == 8:
                month.ledger.settling.receive(Received(owner, due + 100 * unit, source, (document["number"],)))
            else:
                month.ledger.pay(document["number"], part, source)


def _corrected(month: Month) -> None:
    """Usage of December arrives late, and some is corrected or canceled."""
    for customer, owner in month.of_role(5):
        late = datetime(2025, 12, 28, 9, tzinfo=UTC)
        model = {"model": MODELS[0], "pool": POOLS[0]}
        events = [_event(month, owner, "tokens.output", 3_000_000, late, "search", model)]
        wrong = [_event(month, owner, "tokens.input", 9_000_000, month.clock.now(), "search", model) for _ in "ab"]
        for number, (kind, quantity) in enumerate((("correction", 900_000), ("cancellation", 0))):
            fix = UsageEvent(
                "example",
                f"fix-{customer.number}-{number}",
                owner,
                "tokens.input",
                quantity,
                month.clock.now(),
                kind=kind,
                corrects=("example", wrong[number].id),
            )
            wrong.append(fix)
        assert not month.ledger.take_now([*events, *wrong]).refused
        _credit(month, owner, month.nano(200, customer), "promotional", f"promotion {customer.number}", ends=END)
        _credit(month, owner, month.nano(35, customer), "reclaim", f"reclaim {customer.number}")
    month.ledger.rate()


def _upgraded(month: Month) -> None:
    """Subscribers upgrade, one of them with a coupon."""
    for customer, owner in month.of_role(2):
        found = month.ledger.plans.subscriptions(owner, PageRequest()).items[0]
        coupon = Coupon("WINTER", percent=Decimal(20)) if customer.number == 2 else None
        wanted = Wanted(f"business-{customer.currency.lower()}", seats=10, coupon=coupon)
        month.ledger.plans.change(found["id"], wanted)


def _disputed(month: Month) -> None:
    """Bills are disputed: credit notes, a refund, netting, a void invoice, and bad debt."""
    ledger = month.ledger
    for place, (customer, owner) in enumerate(month.of_role(7)):
        for document in ledger.invoices(owner):
            unit = NANO // 10 ** currency_digits(customer.currency)
            total = nano_from_decimal(document["total"])
            if document["kind"] == "prepayment" or document["status"] not in ("final", "paid") or total < 10 * unit:
                continue
            part = total // 4 // unit * unit
            ledger.settling.credit(document["id"], Reduction(gross_nano=part), "outage of December 27")
            if document["status"] == "paid" and place % 2 == 0:
                ledger.settling.refund(
                    NewRefund(
                        owner, part, f"refund {document['number']}", "outage", payment=f"bank {document['number']}"
                    )
                )
    for customer, owner in ((one, month.owners[one.number]) for one in month.customers):
        for document in ledger.invoices(owner):
            if document["status"] != "final":
                continue
            if customer.number == 9:
                ledger.void(document["id"], "wrong purchase order")
                ledger.bill(owner, "2025-12")
            elif customer.number == 6:
                ledger.settling.write_off(document["id"], "insolvent")


def _netted(month: Month) -> None:
    """Customers are billed in the middle of the month, and what is owed to them pays a part of it."""
    for _, owner in month.of_role(7):
        owed = -month.ledger.balances(owner).get("customer_balance", 0)
        if owed > 0:
            made = month.ledger.bill(owner, LABEL).invoice
            assert made is not None
            month.ledger.settling.net(made["id"], f"net {made['number']}", "credit of December")


def _day(number: int) -> datetime:
    return START + timedelta(days=number - 1)


_STEPS: tuple[tuple[datetime, Callable[[Month], None]], ...] = (
    (_day(3), _december),
    (_day(9), _corrected),
    (_day(12), _paid),
    (_day(16), _upgraded),
    (_day(20), _disputed),
    (_day(24), _netted),
)
