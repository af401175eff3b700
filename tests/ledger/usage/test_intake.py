"""Intake: at least once in, exactly once counted; the good are taken, the bad come back with reasons."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from sublet.ledger.model import UsageEvent
from sublet.ledger.service import Ledger
from sublet.ledger.usage.meters import METERS
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError, LimitExceededError

Used = Callable[..., UsageEvent]


def count(ledger: Ledger) -> int:
    with ledger.store.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM ledger_events")).scalar_one())


@pytest.mark.parametrize(
    ("fields", "code", "named"),
    [
        ({"quantity": -1}, "invalid_input", "negative"),
        ({"quantity": Decimal("NaN")}, "invalid_input", "not a finite"),
        ({"quantity": Decimal("Infinity")}, "invalid_input", "not a finite"),
        ({"quantity": "1.5"}, "invalid_input", "more precise"),
        ({"quantity": 1.5}, "invalid_input", "binary fraction"),
        ({"quantity": 10**13}, "invalid_input", "exceeds"),
        ({"quantity": Decimal("1e400000")}, "invalid_input", "exceeds"),
        ({"quantity": Decimal("1e-999999999")}, "invalid_input", "a whole number"),
        ({"meter": "tokens.guessed"}, "invalid_input", "not known"),
        ({"organization": "org_nobody"}, "not_found", "create it before"),
        ({"id": ""}, "invalid_input", "identify"),
        ({"id": "x" * 257}, "invalid_input", "256"),
        ({"project": "new\nline"}, "invalid_input", "project holds U+000A"),
        ({"dimensions": {"model": 5}}, "invalid_input", "strings"),
        ({"dimensions": {str(n): "x" for n in range(17)}}, "invalid_input", "16 dimensions"),
        ({"kind": "refund"}, "invalid_input", "must be one of"),
        ({"kind": "correction"}, "invalid_input", "must contain"),
        ({"corrects": ("a", "b")}, "invalid_input", "can't correct another"),
        ({"kind": "correction", "corrects": ("gateway", "bad")}, "invalid_input", "can't correct itself"),
        (
            {"kind": "cancellation", "corrects": ("gateway", "e"), "quantity": 3},
            "invalid_input",
            "quantity of a cancellation must be 0",
        ),
    ],
)
def test_a_bad_event_is_refused_and_the_good_ones_taken(
    ledger: Ledger, acme: str, used: Used, fields: dict[str, Any], code: str, named: str
) -> None:
    given = {"organization": acme, "id": "bad", "quantity": 1} | fields
    bad = used(given.pop("organization"), given.pop("id"), given.pop("quantity"), **given)
    result = ledger.take_now([used(acme, "one"), bad, used(acme, "two")])
    assert (result.accepted, result.duplicates) == (2, 0)
    [refusal] = result.refused
    assert (refusal.index, refusal.code) == (1, code)
    assert named in refusal.message


def test_an_event_from_the_future_or_long_past_is_refused(
    ledger: Ledger, acme: str, used: Used, clock: SimulatedClock
) -> None:
    now = clock.now()
    ahead, past = used(acme, "a", at=now + timedelta(minutes=6)), used(acme, "b", at=now - timedelta(days=1200))
    naive = used(acme, "c", at=datetime(2026, 1, 1))  # noqa: DTZ001
    result = ledger.take_now([ahead, past, naive, used(acme, "d", at=now + timedelta(minutes=4))])
    assert [refusal.id for refusal in result.refused] == ["a", "b", "c"]
    assert result.accepted == 1


def test_a_repeat_is_harmless_and_other_content_under_the_same_id_is_shown(
    ledger: Ledger, acme: str, used: Used, clock: SimulatedClock
) -> None:
    first = used(acme, "one", 5)
    assert ledger.take_now([first, first]).duplicates == 1
    clock.advance(60)
    assert ledger.take_now([first]).duplicates == 1
    result = ledger.take_now([used(acme, "one", 6, at=first.at)])
    [refusal] = result.refused
    assert refusal.code == "event_conflict"
    assert (refusal.details["stored"]["quantity"], refusal.details["sent"]["quantity"]) == ("5", "6")
    assert count(ledger) == 1


def test_two_contents_of_one_id_in_one_batch(ledger: Ledger, acme: str, used: Used) -> None:
    result = ledger.take_now([used(acme, "one", 5), used(acme, "one", 6)])
    assert (result.accepted, [refusal.index for refusal in result.refused]) == (1, [1])


def test_a_failed_transaction_takes_nothing_and_its_retry_takes_all(ledger: Ledger, acme: str, used: Used) -> None:
    """The id is claimed by the row itself: a write that fails leaves no claim behind that would meter its retry as zero."""
    events = [used(acme, str(number)) for number in range(10)]

    def fails(connection: Any) -> None:
        assert ledger.take(connection, events).accepted == 10
        raise RuntimeError("the caller's transaction fails")

    with pytest.raises(RuntimeError):
        ledger.store.write(fails)
    assert count(ledger) == 0
    assert ledger.take_now(events).accepted == 10


def test_a_batch_has_a_limit(ledger: Ledger, acme: str, used: Used) -> None:
    with pytest.raises(LimitExceededError):
        ledger.take_now([used(acme, str(number)) for number in range(10_001)])
    assert count(ledger) == 0


def test_the_same_events_from_many_threads_count_once(ledger: Ledger, acme: str, used: Used) -> None:
    batches = [[used(acme, f"e{number}") for number in range(start, start + 40)] for start in (0, 20, 0, 30, 10, 20)]
    accepted: list[int] = []

    def take(batch: list[UsageEvent]) -> None:
        accepted.append(ledger.take_now(batch).accepted)

    threads = [threading.Thread(target=take, args=(batch,)) for batch in batches]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(accepted) == count(ledger) == 70


def test_energy_is_metered_to_the_thousandth(ledger: Ledger, acme: str, used: Used) -> None:
    event = used(acme, "wh", "0.125", meter="energy.wh", dimensions={})
    assert ledger.take_now([event]).accepted == 1
    assert ledger.take_now([used(acme, "finer", "0.0001", meter="energy.wh")]).refused


def test_a_full_disk_refuses_and_tears_nothing(ledger: Ledger, acme: str, used: Used) -> None:
    if not ledger.store.is_sqlite:
        pytest.skip("the limit on pages is SQLite's")
    ledger.take_now([used(acme, "first")])
    with ledger.store.engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Exception, match="disk") as caught:
        for batch in range(50):
            ledger.take_now([used(acme, f"{batch}/{number}") for number in range(200)])
    assert getattr(caught.value, "code", "") == "storage_full"
    taken = count(ledger)
    assert (taken - 1) % 200 == 0
    with ledger.store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1073741823")
    result = ledger.take_now([used(acme, f"{batch}/{number}") for batch in range(50) for number in range(200)])
    assert result.accepted + result.duplicates == 10_000
    assert count(ledger) == 10_001


@given(quantity=st.decimals(min_value=0, max_value=10**9, places=9, allow_nan=False))
def test_a_quantity_is_metered_exactly_or_refused(quantity: Decimal) -> None:
    """Against the arithmetic that a short number with a far exponent would keep busy for ever."""
    for meter in METERS.values():
        whole, rest = divmod(Fraction(quantity) * meter.steps_per_unit, 1)
        if rest:
            with pytest.raises(InvalidInputError, match="more precise"):
                meter.steps(quantity)
        elif quantity <= meter.quantity_max:
            assert meter.steps(quantity) == meter.steps(str(quantity)) == whole
