"""A ledger on a database of its own, two organizations, and a month that has everything in it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.ledger.payer import Account
from tests.ledger.prepaid import prepay

from sublet.accounts.model import ApiKey, secret_sha256
from sublet.accounts.service import Accounts
from sublet.accounts.store import insert_key
from sublet.ledger.invoices.taxes import FlatTax
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import book_from_toml
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.values.clock import SimulatedClock

EXAMPLE = Path(__file__).parents[2] / "examples" / "prices.toml"

NEGOTIATED = """
[[prices]]
id = "cached-of-acme"
organization = "{acme}"
meter = "tokens.input_cached"
kind = "per_unit"
currency = "USD"
amount = "0.0125"
per = 1_000_000
from = 2026-01-01T00:00:00Z

[[prices]]
id = "support-of-acme"
organization = "{acme}"
kind = "flat"
currency = "USD"
amount = "100"
from = 2026-01-16T00:00:00Z

[[commitments]]
id = "minimum-of-acme"
organization = "{acme}"
description = "Monthly minimum"
product = "models"
currency = "USD"
minimum = "50"
from = 2025-12-31T23:00:00Z
"""


@pytest.fixture
def ledger(any_store: Store) -> Ledger:
    return Ledger(any_store)


@pytest.fixture
def acme(ledger: Ledger) -> str:
    """An organization whose months begin in Berlin."""
    return Accounts(ledger.store).create_organization("acme", timezone="Europe/Berlin").id


@pytest.fixture
def bolt(ledger: Ledger) -> str:
    """An organization whose months begin in UTC."""
    return Accounts(ledger.store).create_organization("bolt").id


@pytest.fixture
def account(any_store: Store, clock: SimulatedClock) -> Callable[..., Account]:
    """Opens the account of a customer who pays a percentage of tax, on 1 January."""
    clock.set(datetime(2026, 1, 1, tzinfo=UTC))

    def opened(percent: int = 0, **how: Any) -> Account:
        return Account(any_store, clock, FlatTax("VAT", Fraction(percent)) if percent else None, **how)

    return opened


def give_key(store: Store, organization: str, key_id: str) -> None:
    """A key of that organization with an id of the test's own choice."""
    key = ApiKey(key_id, organization, "test", "test", ("models",), store.clock.now(), None, None)
    store.write(lambda connection: insert_key(connection, key, secret_sha256(key_id)))


@pytest.fixture
def priced(ledger: Ledger, acme: str) -> Ledger:
    """The ledger with the example price book and what was negotiated with acme."""
    text = EXAMPLE.read_text() + NEGOTIATED.format(acme=acme)
    ledger.publish_prices(book_from_toml(text, "prices.toml"))
    return ledger


@pytest.fixture
def used(clock: SimulatedClock) -> Callable[..., UsageEvent]:
    """Makes usage events of input tokens, other fields by keyword."""

    def make(organization: str, identifier: str, quantity: Any = 1000, **fields: Any) -> UsageEvent:
        given: dict[str, Any] = {
            "source": "gateway",
            "meter": "tokens.input",
            "at": clock.now(),
            "project": "search",
            "dimensions": {"model": "smollm2"},
        } | fields
        return UsageEvent(id=identifier, organization_id=organization, quantity=quantity, **given)

    return make


@pytest.fixture
def busy(priced: Ledger, acme: str, bolt: str, clock: SimulatedClock, used: Callable[..., UsageEvent]) -> Ledger:
    """January with leases, every kind of token, credits, a commitment, a reversal, late usage, invoices, a payment."""
    start = datetime(2026, 1, 10, tzinfo=UTC)
    clock.set(start + timedelta(days=1))
    leased = {"pool": "h100-a", "generation": "h100", "class": "notice", "site": "north"}
    priced.store.write(lambda connection: priced.agree(connection, acme, "lse_one", 2_490_000_000))
    events = [
        used(
            acme,
            f"lse_one/{minute}",
            240,
            source="leases",
            meter="accelerator.seconds",
            at=start + timedelta(minutes=minute),
            resource="lse_one",
            dimensions=leased,
        )
        for minute in range(90)
    ]
    for number in range(40):
        at = start + timedelta(minutes=7 * number)
        for meter in ("tokens.input", "tokens.input_cached", "tokens.output", "tokens.reasoning"):
            for owner in (acme, bolt):
                quantity = 1 + number * 997 % 5000 * (3000 if meter == "tokens.output" else 1)
                events.append(
                    used(owner, f"{owner}/{number}/{meter}", quantity, meter=meter, at=at, resource=f"req_{number}")
                )
    events.append(used(bolt, "images", 17, meter="images", at=start))
    events.append(used(bolt, "energy", "12345.678", meter="energy.wh", at=start, dimensions={"pool": "h100-a"}))
    assert not priced.take_now(events).refused
    priced.rate()
    fixed = used(
        acme,
        "fix",
        12,
        at=start + timedelta(hours=9),
        kind="correction",
        corrects=("gateway", f"{acme}/3/tokens.input"),
    )
    gone = used(
        acme,
        "gone",
        0,
        at=start + timedelta(hours=9),
        kind="cancellation",
        corrects=("gateway", f"{acme}/4/tokens.input"),
    )
    assert priced.take_now([fixed, gone]).accepted == 2
    priced.store.write(lambda connection: priced.credit(connection, acme, 415_000_001, "reclaim of lse_one", "lse_one"))
    prepay(priced, bolt, 2 * 10**9, "bank-1")
    clock.set(datetime(2026, 2, 3, tzinfo=UTC))
    first = priced.close(acme, "2026-01").invoice
    priced.close(bolt, "2026-01")
    priced.take_now([used(acme, "late", 2_000_000, at=start + timedelta(hours=2))])
    priced.take_now([used(acme, "next", 3_000_000)])
    clock.set(datetime(2026, 3, 2, tzinfo=UTC))
    priced.close(acme, "2026-02")
    assert first is not None
    priced.pay(first["number"], 10_000_000_000, "bank-2")
    return priced
