"""Rating: corrections in any order, late usage as adjustments, waiting events, months by their own time zone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from sublet.accounts.service import Accounts
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import book_from_dict, book_from_toml
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.clock import SimulatedClock

Used = Callable[..., UsageEvent]


def owed(ledger: Ledger, organization: str) -> int:
    return ledger.balances(organization).get("unbilled", 0)


def test_cheaper_than_a_nano_unit_is_not_lost(priced: Ledger, bolt: str, used: Used) -> None:
    """18.75 nano-units a token: single tokens are posted as 18 or 19, a thousand of them as 18,750."""
    priced.take_now([used(bolt, str(number), 1, meter="tokens.input_cached") for number in range(1000)])
    priced.rate(batch=7)
    assert owed(priced, bolt) == 18_750
    with priced.store.read() as connection:
        found = set(connection.execute(text("SELECT DISTINCT nano FROM ledger_lines")).scalars())
    assert found == {18, 19}


def test_corrections_and_cancellations_in_every_order(
    priced: Ledger, acme: str, used: Used, clock: SimulatedClock
) -> None:
    now = clock.now()
    base = 0
    for number, order in enumerate(itertools.permutations(range(4))):
        name = f"o{number}"
        events = [
            used(acme, name, 1000),
            used(acme, f"{name}-a", 400, at=now, kind="correction", corrects=("gateway", name)),
            used(acme, f"{name}-b", 0, at=now + timedelta(seconds=1), kind="cancellation", corrects=("gateway", name)),
            used(acme, f"{name}-c", 700, at=now + timedelta(seconds=2), kind="correction", corrects=("gateway", name)),
        ]
        for index in order:
            priced.take_now([events[index]])
            priced.rate()
        base += 700 * 150
        assert owed(priced, acme) == base, order
    assert priced.prove().ok


def test_a_correction_waits_for_its_event_and_health_says_so(priced: Ledger, acme: str, used: Used) -> None:
    priced.take_now([used(acme, "fix", 10, kind="correction", corrects=("gateway", "later"))])
    priced.rate()
    assert priced.health()["waiting"][0]["code"] == "no_original"
    priced.take_now([used(acme, "later", 5000)])
    priced.rate()
    assert owed(priced, acme) == 1500
    assert priced.health()["waiting"] == []


def test_a_correction_of_somebody_elses_event_never_counts(priced: Ledger, acme: str, bolt: str, used: Used) -> None:
    priced.take_now(
        [used(acme, "mine", 5000), used(bolt, "theirs", 0, kind="cancellation", corrects=("gateway", "mine"))]
    )
    priced.rate()
    assert owed(priced, acme) == 750_000
    assert priced.health()["waiting"][0]["code"] == "mismatch"


def test_usage_without_a_price_waits_until_it_has_one(ledger: Ledger, acme: str, used: Used) -> None:
    ledger.take_now([used(acme, "early", 1000)])
    ledger.rate()
    assert owed(ledger, acme) == 0 and ledger.health()["waiting"][0]["code"] == "no_price"
    priced = '[[prices]]\nid="a"\nmeter="tokens.input"\nkind="per_unit"\ncurrency="USD"\namount="1"\nper=1000\n'
    ledger.publish_prices(book_from_toml(priced + "from=2026-01-01T00:00:00Z", "prices.toml"))
    ledger.rate()
    assert owed(ledger, acme) == 10**9


def test_a_new_price_does_not_rate_the_past_again(ledger: Ledger, acme: str, used: Used) -> None:
    head = '[[prices]]\nid="a"\nmeter="tokens.input"\nkind="per_unit"\ncurrency="USD"\namount="1"\nper=1000\n'
    start = "from=2026-01-01T00:00:00Z\n"
    ledger.publish_prices(book_from_toml(head + start, "prices.toml"))
    ledger.take_now([used(acme, "one", 1000)])
    ledger.rate()
    own = head.replace('"a"', '"b"').replace('"1"', '"9"') + f'organization="{acme}"\n'
    ledger.publish_prices(book_from_toml(head + start + own + start, "prices.toml"))
    ledger.take_now([used(acme, "two", 1000), used(acme, "fix", 500, kind="correction", corrects=("gateway", "one"))])
    ledger.rate()
    assert owed(ledger, acme) == 9 * 10**9 + 500_000_000
    assert ledger.prove().ok


def test_told_to_the_past_is_rated_again_by_reversal(
    ledger: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    head = '[[prices]]\nid="a"\nmeter="tokens.input"\nkind="per_unit"\ncurrency="USD"\namount="1"\nper=1000\n'
    start = "from=2026-01-01T00:00:00Z\n"
    ledger.publish_prices(book_from_toml(head + start, "prices.toml"))
    ledger.take_now([used(bolt, "one", 1000), used(bolt, "two", 2000)])
    ledger.take_now([used(bolt, "fix", 500, kind="correction", corrects=("gateway", "one"))])
    ledger.rate()
    own = head.replace('"a"', '"b"').replace('"1"', '"9"') + f'organization="{bolt}"\n'
    ledger.publish_prices(book_from_toml(head + start + own + start, "prices.toml"))
    assert owed(ledger, bolt) == 2_500_000_000
    assert ledger.rerate(bolt, "2026-01").rated == 4
    assert ledger.rerate(bolt, "2026-01").rated == 0
    assert owed(ledger, bolt) == 9 * 2_500_000_000
    ledger.take_now(
        [used(bolt, "gone", 0, at=clock.now() + timedelta(seconds=1), kind="cancellation", corrects=("gateway", "one"))]
    )
    ledger.rate()
    assert owed(ledger, bolt) == 18 * 10**9
    assert ledger.prove().findings == []


def test_what_the_new_book_has_no_price_for_stays_and_is_named(
    ledger: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    def book(name: str, amount: int, terms: str) -> str:
        price = f'[[prices]]\nid="{name}"\nmeter="tokens.input"\nkind="per_unit"\ncurrency="USD"\namount="{amount}"\n'
        return f"{price}per=1000\n{terms}\n"

    clock.set(datetime(2026, 1, 25, tzinfo=UTC))
    january, tenth = "from=2026-01-01T00:00:00Z", "2026-01-10T00:00:00Z"
    ledger.publish_prices(book_from_toml(book("a", 1, january), "prices.toml"))
    late = [used(bolt, f"late/{number:02}", 1000, at=clock.now() - timedelta(days=5)) for number in range(12)]
    ledger.take_now([used(bolt, "early", 1000, at=clock.now() - timedelta(days=20)), *late])
    ledger.rate()
    ended = book("a", 1, f"{january}\nuntil={tenth}")
    own = book("b", 9, f'{january}\nuntil={tenth}\norganization="{bolt}"')
    ledger.publish_prices(book_from_toml(ended + own, "prices.toml"))
    report = ledger.rerate(bolt, "2026-01")
    assert (report.rated, report.transactions, report.left) == (2, 1, 12)
    assert [entry["id"] for entry in report.left_events] == [f"late/{number:02}" for number in range(10)]
    assert report.left_events[0]["code"] == "no_price" and "has no price in USD" in report.left_events[0]["reason"]
    assert owed(ledger, bolt) == (9 + 12) * 10**9
    assert ledger.health()["waiting_events"] == 0
    ledger.publish_prices(book_from_toml(ended + own + book("c", 2, f"from={tenth}"), "prices.toml"))
    report = ledger.rerate(bolt, "2026-01")
    assert (report.rated, report.left, report.left_events) == (24, 0, [])
    assert owed(ledger, bolt) == (9 + 24) * 10**9
    assert ledger.prove().findings == []


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    first=st.lists(st.integers(0, 3000), min_size=1, max_size=4),
    rounds=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3000), st.integers(0, 30)), max_size=4),
        min_size=1,
        max_size=4,
    ),
)
def test_what_was_corrected_and_rated_again_any_number_of_times_is_owed_once(
    first: list[int], rounds: list[list[tuple[int, int, int]]]
) -> None:
    """Corrections in any order between changes of the price, each rated again: the month costs what stands, at its price."""
    terms = {"meter": "tokens.input", "kind": "per_unit", "currency": "USD", "per": 1000}
    start = datetime(2026, 1, 5, tzinfo=UTC)
    with (
        TemporaryDirectory() as folder,
        closing(Store(f"sqlite:///{folder}/sublet.db", SimulatedClock(start))) as store,
    ):
        migrate(store)
        ledger = Ledger(store)
        owner = Accounts(store).create_organization("acme").id
        entries: list[dict[str, object]] = [terms | {"id": "all", "amount": "1", "from": "2026-01-01T00:00:00Z"}]
        ledger.publish_prices(book_from_dict({"prices": entries}, "test"))

        def event(identifier: str, quantity: int, at: datetime, **named: Any) -> UsageEvent:
            return UsageEvent("s", identifier, owner, "tokens.input", quantity, at, **named)

        ledger.take_now([event(f"e{number}", quantity, start) for number, quantity in enumerate(first)])
        stands = {number: (start, "", quantity) for number, quantity in enumerate(first)}
        for turn, corrections in enumerate(rounds, 1):
            for order, (which, quantity, after) in enumerate(corrections):
                number, identifier, at = which % len(first), f"c{turn}.{order}", start + timedelta(seconds=1 + after)
                ledger.take_now([event(identifier, quantity, at, kind="correction", corrects=("s", f"e{number}"))])
                stands[number] = max(stands[number], (at, identifier, quantity))
            if turn > 1:
                entries[-1]["until"] = f"2026-01-01T00:00:{turn:02d}Z"
            own = {
                "id": f"own{turn}",
                "organization": owner,
                "amount": str(turn + 1),
                "from": f"2026-01-01T00:00:{turn:02d}Z",
            }
            entries.append(terms | own)
            ledger.publish_prices(book_from_dict({"prices": entries}, "test"))
            ledger.rerate(owner, "2026-01")
            assert owed(ledger, owner) == sum(quantity for _, _, quantity in stands.values()) * (turn + 1) * 10**6
        assert ledger.prove().findings == []


@pytest.mark.parametrize(
    ("moment", "month"),
    [("2026-01-31T22:59:59.999999", "2026-01"), ("2026-01-31T23:00:00", "2026-02"), ("2026-03-31T22:00:00", "2026-04")],
)
def test_months_begin_at_midnight_of_the_organization(
    priced: Ledger, acme: str, used: Used, clock: SimulatedClock, moment: str, month: str
) -> None:
    clock.set(datetime(2026, 4, 15, tzinfo=UTC))
    priced.take_now([used(acme, "edge", 1_000_000, at=datetime.fromisoformat(moment).replace(tzinfo=UTC))])
    lines = priced.draft(acme, "2026-04")["lines"]
    assert [line["used"] for line in lines] == [month]


def test_late_usage_is_an_adjustment_of_the_next_invoice(
    priced: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    priced.take_now([used(bolt, "in time", 1_000_000)])
    clock.set(datetime(2026, 2, 1, tzinfo=UTC))
    first = priced.close(bolt, "2026-01").invoice
    assert first is not None and first["total"] == "0.150000000"
    priced.take_now([used(bolt, "late", 2_000_000, at=datetime(2026, 1, 7, tzinfo=UTC))])
    second = priced.invoice(bolt)
    assert second is not None
    [line] = second["lines"]
    assert (line["kind"], line["used"], line["amount"]) == ("adjustment", "2026-01", "0.300000000")
    assert "adjustment for 2026-01" in line["description"]


def test_tiers_go_on_where_they_were_for_late_usage(
    priced: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    """Split over two invoices, graduated usage costs what it costs in one."""
    priced.take_now([used(bolt, "a", 90_000_000, meter="tokens.output")])
    clock.set(datetime(2026, 2, 1, tzinfo=UTC))
    priced.close(bolt, "2026-01")
    priced.take_now([used(bolt, "b", 20_000_000, meter="tokens.output", at=datetime(2026, 1, 9, tzinfo=UTC))])
    second = priced.invoice(bolt)
    assert second is not None and second["total"] == "11.500000000"


def test_a_clock_that_steps_back_puts_no_usage_into_another_month(
    priced: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    clock.set(datetime(2026, 2, 1, 0, 30, tzinfo=UTC))
    priced.take_now([used(bolt, "february", 1_000_000)])
    clock.advance(-3600)
    priced.rate()
    priced.take_now([used(bolt, "january", 2_000_000)])
    priced.rate()
    clock.set(datetime(2026, 2, 2, tzinfo=UTC))
    january, february = priced.close(bolt, "2026-01").invoice, priced.draft(bolt, "2026-02")
    assert january is not None
    assert (january["total"], february["total"]) == ("0.300000000", "0.150000000")


def test_two_raters_at_once_rate_each_event_once(priced: Ledger, bolt: str, used: Used) -> None:
    import threading

    other = Ledger(priced.store)
    stop = threading.Event()

    def rate(ledger: Ledger) -> None:
        while not stop.is_set():
            ledger.rate(batch=5)

    threads = [threading.Thread(target=rate, args=(ledger,)) for ledger in (priced, other)]
    for thread in threads:
        thread.start()
    for number in range(60):
        priced.take_now([used(bolt, str(number), 10_000)])
    stop.set()
    for thread in threads:
        thread.join()
    priced.rate()
    assert owed(priced, bolt) == 60 * 1_500_000
    assert priced.prove().ok


def test_a_correction_beyond_the_limits_leaves_what_stands(
    ledger: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    """A volume price whose dearer tier would reprice the month beyond what a line holds: refused whole, and said."""
    text = '[[prices]]\nid="a"\nmeter="images"\nkind="volume"\ncurrency="USD"\nfrom=2026-01-01T00:00:00Z\n'
    text += 'tiers=[{up_to=100_000_000, amount="1"},{amount="900"}]\n'
    ledger.publish_prices(book_from_toml(text, "prices.toml"))
    events = [used(bolt, f"i{number}", 10**7, meter="images") for number in range(10)]
    ledger.take_now([*events, used(bolt, "small", 0, meter="images")])
    ledger.rate()
    before = owed(ledger, bolt)
    ledger.take_now([used(bolt, "huge", 10**7, meter="images", kind="correction", corrects=("gateway", "small"))])
    ledger.rate()
    assert owed(ledger, bolt) == before == 10**8 * 10**9
    assert ledger.health()["waiting"][0]["code"] == "beyond_limits"
    assert ledger.prove().findings == []
