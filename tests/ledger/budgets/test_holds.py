"""Holds that are drawn down as their usage is rated: nothing is counted twice or not at all, and no limit is passed."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import Connection, select, text
from tests.ledger.conftest import give_key
from tests.ledger.prepaid import prepay

from sublet.accounts.service import Accounts
from sublet.ledger.budgets.ceilings import Most
from sublet.ledger.budgets.holds import announce
from sublet.ledger.budgets.model import HOLD_WINDOW_DAYS_MAX, BudgetExceededError, HoldOutcome, HoldRequest, Settlement
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import book_from_dict, book_from_toml
from sublet.ledger.service import Ledger, new_budget
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.store.tables.ledger import budget_states, budgets, holds
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window

BOOK = """
[[prices]]
id = "input"
meter = "tokens.input"
kind = "per_unit"
currency = "EUR"
amount = "0.15"
per = 1_000_000
from = 2026-01-01T00:00:00Z
[[prices]]
id = "output"
meter = "tokens.output"
kind = "graduated"
currency = "EUR"
per = 1_000_000
free = 100
tiers = [{ up_to = 5_000, amount = "0.7" }, { amount = "0.3", flat = "0.000000001" }]
from = 2026-01-01T00:00:00Z
"""
# An hour before a day, and a month, begins in Berlin.
BEGIN = datetime(2026, 1, 31, 22, 0, tzinfo=UTC)
MINUTE_NANO = 41_666_667
PRICE_NANO = 2_500_000_001
"""Per hour, so that no minute costs a whole number."""


@dataclass
class Work:
    """A request, with what it may use, or a lease, with its minutes."""

    hold: str
    at: datetime
    input_max: int = 0
    output_max: int = 0
    minutes: int = 0
    metered: int = 0


def states(ledger: Ledger) -> dict[tuple[str, datetime], tuple[int, int]]:
    with ledger.store.read() as connection:
        rows = connection.execute(select(budget_states))
        return {(row.budget_id, row.period_start): (row.spent_nano, row.held_nano) for row in rows}


class HoldMachine(RuleBasedStateMachine):
    """Requests and leases of one organization against a day's, a month's and a prepaid limit, rated in odd pieces."""

    url = ""

    @initialize(day=st.integers(1, 8), month=st.integers(1, 12), prepaid=st.integers(1, 14))
    def open(self, day: int, month: int, prepaid: int) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.clock = SimulatedClock(BEGIN)
        store = Store(self.url or f"sqlite:///{self.folder.name}/holds.db", self.clock)
        if not store.is_sqlite:
            with store.engine.begin() as connection:
                connection.execute(text("DROP SCHEMA public CASCADE"))
                connection.execute(text("CREATE SCHEMA public"))
        metadata.create_all(store.engine)
        self.ledger = Ledger(store)
        self.ledger.publish_prices(book_from_toml(BOOK, "book"))
        self.owner = Accounts(store).create_organization("o", timezone="Europe/Berlin", currency="EUR").id
        unit = 30 * MINUTE_NANO
        give_key(store, self.owner, "key_1")
        self.ledger.create_budget(new_budget(self.owner, day * unit, period="day", scope="key", scope_id="key_1"))
        self.ledger.create_budget(new_budget(self.owner, month * unit))
        prepay(self.ledger, self.owner, prepaid * unit, "bank")
        self.serial = 0
        self.open_work: dict[str, Work] = {}

    def _reserve(self, request: HoldRequest) -> bool:
        [outcome] = self.ledger.reserve([request])
        assert outcome.error is None or isinstance(outcome.error, BudgetExceededError)
        return outcome.error is None

    @rule(input_max=st.integers(0, 4_000_000), output_max=st.integers(0, 2_000_000), keyed=st.booleans())
    def ask(self, input_max: int, output_max: int, keyed: bool) -> None:
        self.serial += 1
        now = self.clock.now()
        usage = (Most(("tokens.input",), input_max), Most(("tokens.output",), output_max))
        work = Work(f"req_{self.serial}", now, input_max, output_max)
        request = HoldRequest(
            work.hold, self.owner, 0, now + timedelta(hours=1), key_id="key_1" if keyed else "", usage=usage, at=now
        )
        if self._reserve(request):
            self.open_work[work.hold] = work

    @rule(minutes=st.integers(1, 200))
    def rent(self, minutes: int) -> None:
        self.serial += 1
        now = self.clock.now()
        window = Window(now, now + timedelta(minutes=minutes))
        nano = -(-PRICE_NANO * minutes // 60)
        work = Work(f"hld_{self.serial}", now, minutes=minutes)
        expires = window.end + timedelta(hours=3)
        if self._reserve(HoldRequest(work.hold, self.owner, nano, expires, key_id="key_1", window=window)):
            self.open_work[work.hold] = work

    @precondition(lambda self: any(not work.minutes for work in self.open_work.values()))
    @rule(share=st.integers(0, 100), data=st.data(), late=st.booleans())
    def answer(self, share: int, data: st.DataObject, late: bool) -> None:
        """The request ends: its usage is taken, and its hold settled in the same transaction."""
        names = sorted(name for name, work in self.open_work.items() if not work.minutes)
        work = self.open_work.pop(data.draw(st.sampled_from(names)))
        used = {
            "tokens.input": work.input_max * share // 100,
            "tokens.output": work.output_max * (100 - share) // 100,
        }
        events = [self._event(work, meter, amount, work.at) for meter, amount in used.items() if amount]
        usage = [Most((event.meter,), int(event.quantity)) for event in events]

        def write(connection: Connection) -> list[HoldOutcome]:
            assert not self.ledger.take(connection, events).refused
            spending = self.ledger.spending
            nano = spending.most(connection, spending.book(connection), self.owner, usage, work.at)
            return self.ledger.spending.settle(connection, [Settlement(work.hold, nano, len(events))], self.clock.now())

        [outcome] = self.ledger.store.write(write)
        assert outcome.error is None and outcome.overrun_nano == 0

    @precondition(lambda self: any(work.minutes for work in self.open_work.values()))
    @rule(minutes=st.integers(1, 90), data=st.data(), over=st.booleans())
    def meter(self, minutes: int, data: st.DataObject, over: bool) -> None:
        """Minutes of a lease are delivered; `over` ends it, whatever is left of its window."""
        names = sorted(name for name, work in self.open_work.items() if work.minutes)
        work = self.open_work[data.draw(st.sampled_from(names))]
        last = min(work.minutes, work.metered + minutes)

        def write(connection: Connection) -> None:
            self.ledger.agree(connection, self.owner, work.hold, PRICE_NANO)
            for minute in range(work.metered, last):
                at = work.at + timedelta(minutes=minute)
                event = self._event(work, "accelerator.seconds", 60, at, f"/{minute}")
                assert self.ledger.take(connection, [event]).accepted == 1
                announce(connection, work.hold, 1)
            if over or last == work.minutes:
                self.ledger.spending.finish(connection, work.hold, self.clock.now())

        if work.at + timedelta(minutes=last) > self.clock.now():
            self.clock.set(work.at + timedelta(minutes=last))
        self.ledger.store.write(write)
        work.metered = last
        if over or last == work.minutes:
            del self.open_work[work.hold]

    def _event(self, work: Work, meter: str, quantity: int, at: datetime, part: str = "") -> UsageEvent:
        key = "key_1" if work.minutes else self._key_of(work.hold)
        return UsageEvent(
            "s", f"{work.hold}/{meter}{part}", self.owner, meter, quantity, at,
            resource=work.hold, key_id=key, hold_id=work.hold,
        )  # fmt: skip

    def _key_of(self, hold: str) -> str:
        with self.ledger.store.read() as connection:
            return connection.execute(select(holds.c.key_id).where(holds.c.id == hold)).scalar_one()

    @rule(batch=st.integers(1, 70))
    def rate(self, batch: int) -> None:
        """A batch of any size: usage of one hold may be rated in several transactions."""
        self.ledger.store.write(
            lambda connection: self.ledger._rating.rate_arrived(connection, 10**9, batch, self.clock.now())
        )

    @rule(minutes=st.integers(1, 50))
    def time_passes(self, minutes: int) -> None:
        self.clock.advance(minutes * 60)

    @rule(more=st.integers(1, 40))
    def raise_the_month(self, more: int) -> None:
        [budget] = [found.budget for found in self.ledger.budgets(self.owner) if found.budget.period == "month"]
        self.ledger.change_budget(budget.id, budget.limit_nano + more * MINUTE_NANO)

    @invariant()
    def no_limit_is_passed(self) -> None:
        if not hasattr(self, "ledger"):
            return
        with self.ledger.store.read() as connection:
            limits = dict(connection.execute(select(budgets.c.id, budgets.c.limit_nano)).all())  # type: ignore[arg-type]
        for (budget, start), (spent, held) in states(self.ledger).items():
            assert spent >= 0 and held >= 0
            assert spent + held <= limits[budget], (budget, start)

    def teardown(self) -> None:
        if not hasattr(self, "ledger"):
            return
        assert self.ledger.prove().findings == []
        for work in list(self.open_work.values()):
            if work.minutes:
                self.ledger.store.write(
                    lambda c, hold=work.hold: self.ledger.spending.finish(c, hold, self.clock.now())
                )  # type: ignore[misc]
            else:
                self.ledger.settle([Settlement(work.hold, 0)])
        self.ledger.rate()
        self.no_limit_is_passed()
        assert all(held == 0 for _, held in states(self.ledger).values())
        billed = -sum(nano for name, nano in self.ledger.balances(self.owner).items() if name.startswith("revenue."))
        spent: dict[str, int] = defaultdict(int)
        for (budget, _), (nano, _) in states(self.ledger).items():
            spent[budget] += nano
        by_period = {found.budget.period: found.budget.id for found in self.ledger.budgets(self.owner)}
        assert spent[by_period["ever"]] == spent[by_period["month"]] == billed
        assert self.ledger.prove().findings == []
        self.ledger.store.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "sqlite":
        yield ""
        return
    yield request.getfixturevalue("postgres_store").url.render_as_string(hide_password=False)


def test_whatever_happens_in_whatever_order_no_limit_is_passed_and_nothing_stays_held(url: str) -> None:
    machine = type("Machine", (HoldMachine,), {"url": url})
    run_state_machine_as_test(
        machine,
        settings=settings(
            deadline=None,
            max_examples=12 if url else 25,
            stateful_step_count=25,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.fixture
def rented(clock: SimulatedClock, bolt: str) -> Callable[..., HoldRequest]:
    """A hold of two hours around the end of January, UTC."""

    def make(nano: int, hours: float = 2) -> HoldRequest:
        start = datetime(2026, 1, 31, 23, 0, tzinfo=UTC)
        clock.set(start)
        window = Window(start, start + timedelta(hours=hours))
        return HoldRequest("hld_a", bolt, nano, window.end + timedelta(hours=1), window=window)

    return make


def test_a_window_is_held_in_the_periods_that_it_falls_into(
    priced: Ledger, bolt: str, rented: Callable[..., HoldRequest]
) -> None:
    day = priced.create_budget(new_budget(bolt, 51, period="day")).id
    month = priced.create_budget(new_budget(bolt, 1000)).id
    ever = priced.create_budget(new_budget(bolt, 101, period="ever")).id
    [outcome] = priced.reserve([rented(101)])
    assert outcome.error is None
    january, february = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    held = {key: held for key, (_, held) in states(priced).items() if held}
    assert held == {
        (day, datetime(2026, 1, 31, tzinfo=UTC)): 51,
        (day, february): 51,
        (month, january): 51,
        (month, february): 51,
        (ever, datetime(1970, 1, 1, tzinfo=UTC)): 101,
    }
    priced.store.write(lambda connection: priced.spending.finish(connection, "hld_a", priced.store.clock.now()))
    assert all(held == 0 for _, held in states(priced).values())


def test_the_next_period_refuses_what_does_not_fit_into_it(
    priced: Ledger, bolt: str, rented: Callable[..., HoldRequest]
) -> None:
    priced.create_budget(new_budget(bolt, 60, period="day"))
    [outcome] = priced.reserve([rented(100, hours=3)])
    assert isinstance(outcome.error, BudgetExceededError)
    assert outcome.error.details["resets_at"] == "2026-02-02T00:00:00Z"
    assert outcome.error.details["worst_case"] == "0.000000067"
    assert all(held == 0 for _, held in states(priced).values())


def test_a_hold_lasts_no_longer_than_its_window_and_a_day(
    priced: Ledger, bolt: str, rented: Callable[..., HoldRequest], clock: SimulatedClock
) -> None:
    priced.create_budget(new_budget(bolt, 1000, period="day"))
    found = rented(101)
    too_long = Window(clock.now(), clock.now() + timedelta(days=HOLD_WINDOW_DAYS_MAX + 1))
    for request in (
        HoldRequest("h1", bolt, 1, found.expires_at + timedelta(days=1), window=found.window),
        HoldRequest("h2", bolt, 1, too_long.end, window=too_long),
        HoldRequest("h3", bolt, 1, clock.now() + timedelta(days=2)),
    ):
        assert isinstance(priced.reserve([request])[0].error, InvalidInputError)
    assert priced.reserve([found])[0].error is None
    assert isinstance(priced.settle([Settlement("hld_a", 1)])[0].error, InvalidInputError)


def test_holds_that_are_over_are_forgotten_and_what_comes_after_is_harmless(
    priced: Ledger, bolt: str, clock: SimulatedClock, used: Callable[..., UsageEvent]
) -> None:
    priced.create_budget(new_budget(bolt, 10**12))
    requests = [HoldRequest(f"h{number}", bolt, 10**9, clock.now() + timedelta(hours=1)) for number in range(3)]
    assert [outcome.error for outcome in priced.reserve(requests)] == [None] * 3
    priced.take_now([used(bolt, "e", 10**6, hold_id="h0")])
    priced.rate()
    priced.settle([Settlement("h0", 10**9, 1), Settlement("h1", 7)])

    def known() -> list[str]:
        with priced.store.read() as connection:
            return sorted(connection.execute(select(holds.c.id)).scalars())

    priced.expire()
    assert known() == ["h0", "h1", "h2"]
    clock.advance(25 * 3600 + 1)
    priced.expire()
    # h1 was spent by itself: its row is all that shows it.
    assert known() == ["h1"]
    priced.take_now([used(bolt, "late", 10**6, hold_id="h2")])
    priced.rate()
    assert {state for state in states(priced).values() if state != (0, 0)} == {(300_000_007, 0)}
    assert priced.prove().ok


def test_a_budget_is_given_another_limit(priced: Ledger, bolt: str, clock: SimulatedClock) -> None:
    budget = priced.create_budget(new_budget(bolt, 10))
    until = clock.now() + timedelta(hours=1)
    assert priced.reserve([HoldRequest("a", bolt, 11, until)])[0].error is not None
    assert priced.change_budget(budget.id, 11).limit_nano == 11
    assert priced.reserve([HoldRequest("a", bolt, 11, until)])[0].error is None
    [state] = priced.budgets(bolt)
    assert (state.free_nano, state.held_nano) == (0, 11)
    with pytest.raises(InvalidInputError):
        priced.change_budget(budget.id, -1)
    prepay(priced, bolt, 5, "bank")
    [wallet] = [state.budget for state in priced.budgets(bolt) if state.budget.prepaid]
    with pytest.raises(Exception, match="no live budget"):
        priced.change_budget(wallet.id, 10**9)


def test_the_proof_finds_a_hold_that_let_go_of_too_much(
    priced: Ledger, bolt: str, clock: SimulatedClock, used: Callable[..., UsageEvent], tmp_path: Path
) -> None:
    priced.create_budget(new_budget(bolt, 10**12))
    priced.reserve([HoldRequest("h0", bolt, 10**9, clock.now() + timedelta(hours=1))])
    priced.take_now([used(bolt, "e", 10**6, hold_id="h0")])
    priced.rate()
    assert priced.prove().ok
    for statement in (
        "UPDATE ledger_budget_states SET held_nano = held_nano - 1",
        "UPDATE ledger_holds SET charges = replace(charges, '150000000]', '150000001]')",
    ):
        priced.store.write(lambda connection, words=statement: connection.execute(text(words)))  # type: ignore[misc]
        assert not priced.prove().ok
    assert [finding for finding in priced.prove().findings if "hold h0" in str(finding)]


def test_the_manuals_example_in_numbers(priced: Ledger, bolt: str, clock: SimulatedClock) -> None:
    """docs/ledger.md, "A budget in numbers"."""
    price = {
        "kind": "per_unit",
        "currency": "USD",
        "per": 1_000_000,
        "organization": bolt,
        "from": "2026-01-01T00:00:00Z",
    }
    own = [
        {"id": "own-in", "meter": "tokens.input", "amount": "0.05"} | price,
        {"id": "own-cached", "meter": "tokens.input_cached", "amount": "0.01"} | price,
        {"id": "own-out", "meter": "tokens.output", "amount": "0.10"} | price,
    ]
    content = dict(priced.prices().content)
    priced.publish_prices(book_from_dict({**content, "prices": [*content["prices"], *own]}, "with its own"))
    give_key(priced.store, bolt, "key_1")
    priced.create_budget(new_budget(bolt, 100_000, period="ever", scope="key", scope_id="key_1"))

    def shown() -> tuple[int, int, int]:
        [state] = priced.budgets(bolt)
        return state.spent_nano, state.held_nano, state.free_nano

    now = clock.now()
    usage = (Most(("tokens.input", "tokens.input_cached"), 120 + 1024), Most(("tokens.output",), 256))
    requests = [HoldRequest(f"req_{n}", bolt, 0, now + timedelta(hours=1), "", "key_1", usage) for n in (1, 2)]
    first, second = priced.reserve(requests)
    assert first.error is None and isinstance(second.error, BudgetExceededError)
    assert second.error.details["fits_later"]
    assert shown() == (0, 82_803, 17_197)
    events = [
        UsageEvent("g", meter, bolt, meter, quantity, now, key_id="key_1", hold_id="req_1")
        for meter, quantity in (("tokens.input", 21), ("tokens.output", 60))
    ]
    with priced.store.read() as connection:
        used = [Most(("tokens.input",), 21), Most(("tokens.output",), 60)]
        cost = priced.spending.most(connection, priced.spending.book(connection), bolt, used, now)
    priced.take_now(events)
    priced.settle([Settlement("req_1", cost, 2)])
    assert shown() == (0, 7_052, 92_948)
    priced.store.write(lambda connection: priced._rating.rate_arrived(connection, 10**9, 1, now))
    assert shown() == (1_050, 6_002, 92_948)
    priced.rate()
    assert shown() == (7_050, 0, 92_950)
