"""The ledger against a naive model in memory: any order, duplication and delay of events gives the same money."""

from __future__ import annotations

import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, precondition, rule
from sqlalchemy import text

from sublet.accounts.service import Accounts
from sublet.ledger.budgets.model import HoldRequest, Settlement
from sublet.ledger.invoices.price_reductions import Wanted
from sublet.ledger.model import CANCELLATION, CORRECTION, USAGE, UsageEvent
from sublet.ledger.prices.book import book_from_toml
from sublet.ledger.service import Ledger, new_budget
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError
from sublet.values.money import NANO, Money

START = datetime(2026, 1, 1, tzinfo=UTC)
BOOK = """
[[prices]]
id = "cached"
meter = "tokens.input_cached"
kind = "per_unit"
currency = "USD"
amount = "0.01875"
per = 1_000_000
from = 2025-01-01T00:00:00Z
[[prices]]
id = "output"
meter = "tokens.output"
kind = "graduated"
currency = "USD"
per = 1_000_000
free = 1000
tiers = [{ up_to = 50_000, amount = "0.7" }, { up_to = 200_000, amount = "0.3", flat = "0.000000001" }, { amount = "0.1" }]
from = 2025-01-01T00:00:00Z
[[prices]]
id = "input-early"
meter = "tokens.input"
kind = "volume"
currency = "USD"
per = 1_000_000
tiers = [{ up_to = 100_000, amount = "0.9" }, { amount = "0.2" }]
from = 2025-01-01T00:00:00Z
until = 2026-01-20T00:00:00Z
[[prices]]
id = "input-later"
meter = "tokens.input"
kind = "package"
currency = "USD"
amount = "0.00007"
size = 4096
from = 2026-01-20T00:00:00Z
[[discounts]]
id = "third"
percent = "33.3"
meter = "tokens.input_cached"
from = 2026-01-10T00:00:00Z
until = 2026-02-10T00:00:00Z
"""
TABLES = [
    table
    for table in metadata.sorted_tables
    if table.name in ("organizations", "audit_entries") or table.name.startswith(("ledger_", "outbox_"))
]
METERS = ("tokens.input", "tokens.input_cached", "tokens.output")


class Naive:
    """What is owed, from all events at once: exact sums per price and month, rounded down to the nano-unit once each."""

    def __init__(self) -> None:
        self.usage: dict[tuple[str, str], UsageEvent] = {}
        self.corrections: dict[tuple[str, str], UsageEvent] = {}

    def take(self, event: UsageEvent) -> None:
        (self.usage if event.kind == USAGE else self.corrections)[event.source, event.id] = event

    def owed(self) -> dict[tuple[str, str], int]:
        """Nano-units by organization and month."""
        standing: dict[tuple[str, str], UsageEvent] = {}
        for event in self.corrections.values():
            assert event.corrects is not None
            before = standing.get(event.corrects)
            if before is None or (event.at, event.source, event.id) > (before.at, before.source, before.id):
                standing[event.corrects] = event
        sums: dict[tuple[str, str, str], int] = defaultdict(int)
        for key, event in self.usage.items():
            quantity = int(standing[key].quantity if key in standing else event.quantity)
            sums[event.organization_id, event.at.strftime("%Y-%m"), price_of(event)] += quantity
        found: dict[tuple[str, str], int] = defaultdict(int)
        for (owner, month, price), quantity in sums.items():
            exact = cost(price, quantity) * NANO
            found[owner, month] += exact.numerator // exact.denominator
        return found


def price_of(event: UsageEvent) -> str:
    if event.meter == "tokens.input":
        return "early" if event.at < datetime(2026, 1, 20, tzinfo=UTC) else "later"
    if event.meter == "tokens.input_cached":
        third = datetime(2026, 1, 10, tzinfo=UTC) <= event.at < datetime(2026, 2, 10, tzinfo=UTC)
        return "cached-third" if third else "cached"
    return "output"


def cost(price: str, quantity: int) -> Fraction:
    """Written again, in other words than the ledger's."""
    million = Fraction(1, 1_000_000)
    if price == "cached":
        return quantity * Fraction("0.01875") * million
    if price == "cached-third":
        return quantity * Fraction("0.01875") * million * Fraction("0.667")
    if price == "early":
        return quantity * Fraction("0.9" if quantity <= 100_000 else "0.2") * million
    if price == "later":
        return -(-quantity // 4096) * Fraction("0.00007")
    used = max(0, quantity - 1000)
    total = min(used, 50_000) * Fraction("0.7") * million
    if used > 50_000:
        total += Fraction("0.000000001") + (min(used, 200_000) - 50_000) * Fraction("0.3") * million
    return total + max(0, used - 200_000) * Fraction("0.1") * million


@st.composite
def histories(draw: st.DrawFn) -> list[UsageEvent]:
    """Usage of January and February of two organizations, with corrections of some of it."""
    events: list[UsageEvent] = []
    for number in range(draw(st.integers(1, 25))):
        owner = draw(st.sampled_from(["one", "two"]))
        at = START + timedelta(hours=draw(st.integers(0, 24 * 58)))
        meter = draw(st.sampled_from(METERS))
        event = UsageEvent("s", f"e{number}", owner, meter, draw(st.integers(0, 120_000)), at)
        events.append(event)
        for serial in range(draw(st.integers(0, 2))):
            kind = draw(st.sampled_from([CORRECTION, CANCELLATION]))
            quantity = 0 if kind == CANCELLATION else draw(st.integers(0, 120_000))
            fixed = START + timedelta(days=60, seconds=draw(st.integers(0, 5)))
            events.append(
                UsageEvent(
                    "s", f"e{number}/{serial}", owner, meter, quantity, fixed, kind=kind, corrects=("s", event.id)
                )
            )
    return events


def opened(url: str) -> tuple[Ledger, SimulatedClock, dict[str, str]]:
    clock = SimulatedClock(START + timedelta(days=61))
    store = Store(url, clock)
    if store.is_sqlite:
        metadata.drop_all(store.engine, TABLES)
    else:
        # Tables of other domains may refer to these, depending on which tests ran before: start from an empty schema.
        with store.engine.begin() as connection:
            connection.execute(text("DROP SCHEMA public CASCADE"))
            connection.execute(text("CREATE SCHEMA public"))
    metadata.create_all(store.engine, TABLES)
    ledger = Ledger(store)
    ledger.publish_prices(book_from_toml(BOOK, "book"))
    owners = {name: Accounts(store).create_organization(name).id for name in ("one", "two")}
    return ledger, clock, owners


def owned(event: UsageEvent, owners: dict[str, str]) -> UsageEvent:
    from dataclasses import replace

    return replace(event, organization_id=owners[event.organization_id])


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    store = request.getfixturevalue("postgres_store")
    yield store.url.render_as_string(hide_password=False)


@settings(deadline=None, max_examples=20, suppress_health_check=list(HealthCheck), print_blob=True)
@given(events=histories(), seed=st.integers(0, 2**32))
def test_any_order_duplication_and_delay_give_the_same_invoices(url: str, events: list[UsageEvent], seed: int) -> None:
    note(f"seed {seed}")
    naive = Naive()
    for event in events:
        naive.take(event)
    digests = []
    for shuffled in (False, True):
        ledger, _, owners = opened(url)
        sent = [owned(event, owners) for event in events]
        chance = random.Random(seed)
        if shuffled:
            sent += [event for event in sent if chance.random() < 0.3]
            chance.shuffle(sent)
        while sent:
            size = chance.randint(1, len(sent)) if shuffled else len(sent)
            assert not ledger.take_now(sent[:size]).refused
            del sent[:size]
            if shuffled and chance.random() < 0.5:
                ledger.rate(batch=chance.randint(1, 7))
        shown = {}
        for name, owner in owners.items():
            waits = brought = 0
            for month in ("2026-01", "2026-02"):
                closed = ledger.close(owner, month).invoice
                lines = (
                    []
                    if closed is None
                    else [(line["rate"], line["quantity"], line["amount"]) for line in closed["lines"]]
                )
                shown[name, month] = lines, None if closed is None else closed["total"]
                billed = 0 if closed is None else int(Decimal(closed["subtotal"]) * NANO)
                # What is no cent together gets no invoice and waits for the next; so does what rounding leaves.
                waits += naive.owed()[name, month]
                net = Money(waits + brought, "USD").rounded().nano
                expected = waits if net else 0
                assert billed == expected
                assert net == (0 if closed is None else int(Decimal(closed["net"]) * NANO))
                waits -= expected
                brought += expected - net
        assert ledger.prove().findings == []
        digests.append(shown)
        ledger.store.close()
    assert digests[0] == digests[1]


def nano_of(text: str) -> int:
    return int(Decimal(text) * NANO)


class LedgerMachine(RuleBasedStateMachine):
    """Everything at any time: usage in any order, late and twice, corrections, closes, credits, holds, a clock that jumps."""

    url = ""
    sent = Bundle("sent")

    @initialize()
    def open(self) -> None:
        if not self.url:
            self._folder = tempfile.TemporaryDirectory()
        self.ledger, self.clock, self.owners = opened(self.url or f"sqlite:///{self._folder.name}/ledger.db")
        self.clock.set(START + timedelta(days=12))
        self.naive = Naive()
        self.serial = 0
        self.granted: dict[str, int] = {}
        self.open_holds: dict[str, int] = {}
        self.spent = 0
        self.budget = self.ledger.create_budget(
            new_budget(self.owners["one"], 10**9, scope="project", scope_id="p", period="ever")
        )

    @rule(
        target=sent,
        owner=st.sampled_from(["one", "two"]),
        meter=st.sampled_from(METERS),
        quantity=st.integers(0, 150_000),
        ago_h=st.integers(0, 24 * 40),
    )
    def use(self, owner: str, meter: str, quantity: int, ago_h: int) -> UsageEvent:
        self.serial += 1
        at = max(START, self.clock.now() - timedelta(hours=ago_h))
        event = UsageEvent("s", f"e{self.serial}", self.owners[owner], meter, quantity, at)
        self._send(event)
        return event

    @rule(event=sent)
    def again(self, event: UsageEvent) -> None:
        assert self.ledger.take_now([event, event]).duplicates == 2

    @rule(event=sent, quantity=st.integers(0, 150_000), early=st.booleans())
    def correct(self, event: UsageEvent, quantity: int, early: bool) -> None:
        self.serial += 1
        at = self.clock.now() - timedelta(seconds=3600 * early)
        kind = CORRECTION if quantity else CANCELLATION
        self._send(
            UsageEvent(
                "s",
                f"c{self.serial}",
                event.organization_id,
                event.meter,
                quantity,
                at,
                kind=kind,
                corrects=(event.source, event.id),
            )
        )

    def _send(self, event: UsageEvent) -> None:
        assert self.ledger.take_now([event]).accepted == 1
        self.naive.take(event)

    @rule(batch=st.integers(1, 50))
    def rate(self, batch: int) -> None:
        self.ledger.rate(batch=batch)

    @rule(hours=st.integers(-1, 24 * 12))
    def time_passes(self, hours: int) -> None:
        self.clock.advance(hours * 3600)

    @rule(owner=st.sampled_from(["one", "two"]))
    def invoice(self, owner: str) -> None:
        self.ledger.invoice(self.owners[owner])

    @rule(owner=st.sampled_from(["one", "two"]), months=st.integers(0, 3))
    def close(self, owner: str, months: int) -> None:
        label = f"2026-{1 + months:02d}"
        if self.clock.now() >= datetime(2026, 2 + months, 1, tzinfo=UTC):
            self.ledger.close(self.owners[owner], label)

    @rule(owner=st.sampled_from(["one", "two"]), source=st.integers(0, 5), nano=st.integers(1, 10**6))
    def credit(self, owner: str, source: int, nano: int) -> None:
        key = f"{owner}/{source}"
        nano = self.granted.setdefault(key, nano)
        self.ledger.store.write(lambda c: self.ledger.credit(c, self.owners[owner], nano, "", key, kind="goodwill"))

    @rule(owner=st.sampled_from(["one", "two"]))
    def void_newest(self, owner: str) -> None:
        standing = [found for found in self.ledger.invoices(self.owners[owner]) if found["status"] == "final"]
        if standing:
            # What a credit note lowered, or a closed month holds, is not voided.
            with suppress(ConflictError):
                self.ledger.void(standing[0]["number"], "test")

    @rule(owner=st.sampled_from(["one", "two"]))
    def credit_newest(self, owner: str) -> None:
        for found in self.ledger.invoices(self.owners[owner])[:1]:
            with suppress(ConflictError):
                self.ledger.settling.credit(found["number"], Wanted(), "test")

    @rule(nano=st.integers(0, 6 * 10**8))
    def reserve(self, nano: int) -> None:
        self.serial += 1
        hold = f"h{self.serial}"
        expires = self.clock.now() + timedelta(hours=1)
        [outcome] = self.ledger.reserve([HoldRequest(hold, self.owners["one"], nano, expires, project="p")])
        fits = self.spent + sum(self.open_holds.values()) + nano <= 10**9
        assert (outcome.error is None) == fits
        if fits:
            self.open_holds[hold] = nano

    @precondition(lambda self: self.open_holds)
    @rule(share=st.integers(0, 100), data=st.data())
    def settle(self, share: int, data: st.DataObject) -> None:
        hold = data.draw(st.sampled_from(sorted(self.open_holds)))
        nano = self.open_holds.pop(hold) * share // 100
        assert self.ledger.settle([Settlement(hold, nano)])[0].error is None
        self.spent += nano

    @rule()
    def expire(self) -> None:
        """Whatever was reserved more than an hour ago comes free; the model asks the database which these were."""
        self.ledger.expire()
        from sqlalchemy import select

        from sublet.store.tables.ledger import holds

        with self.ledger.store.read() as connection:
            there = select(holds.c.id).where(holds.c.state == "open")
            alive = set(connection.execute(there).scalars())
            due = set(connection.execute(there.where(holds.c.expires_at <= self.clock.now())).scalars())
        assert not due
        self.open_holds = {hold: nano for hold, nano in self.open_holds.items() if hold in alive}

    @invariant()
    def the_budget_is_what_was_held_and_spent(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.ledger.store.read() as connection:
            [state] = self.ledger.spending.states(connection, self.owners["one"], self.clock.now())
        assert (state.spent_nano, state.held_nano) == (self.spent, sum(self.open_holds.values()))
        assert state.spent_nano + state.held_nano <= 10**9

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        self.ledger.rate()
        proof = self.ledger.prove()
        assert proof.findings == [] and proof.difference_nano == 0
        for name, owner in self.owners.items():
            # What a document rounds stays unbilled.
            billed = sum(
                nano_of(found["subtotal"]) + nano_of(found["rounding"])
                for found in self.ledger.invoices(owner)
                if found["status"] != "void"
            )
            billed -= sum(
                nano_of(note["rounding"]) + (nano_of(note["subtotal"]) if note["lines"] and not note["reason"] else 0)
                for note in self.ledger.settling.notes(owner)
            )
            unbilled = self.ledger.balances(owner).get("unbilled", 0)
            expected = sum(nano for (who, _), nano in self.naive.owed().items() if who == owner)
            assert billed + unbilled == expected, name
        numbers = sorted(found["number"] for owner in self.owners.values() for found in self.ledger.invoices(owner))
        assert numbers == [f"INV-{number:06d}" for number in range(1, len(numbers) + 1)]
        self.ledger.store.close()


def test_the_machine_agrees_with_the_model(url: str) -> None:
    from hypothesis.stateful import run_state_machine_as_test

    machine = type("Machine", (LedgerMachine,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            max_examples=15,
            stateful_step_count=30,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
