"""Built-in prices follow the settings, and give way to what the operator publishes: also after the next start."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sublet.config.settings import Settings
from sublet.leases.quotes.admission import QuoteRequest
from sublet.ledger.prices.book import book_from_dict, book_from_toml
from sublet.simulation.world import SSH_KEY, World
from sublet.values.clock import SimulatedClock
from sublet.values.money import CurrencyMismatchError
from sublet.wiring.system import Sublet

NOW = datetime(2026, 7, 2, 14, 0, tzinfo=UTC)
EXAMPLE = Path(__file__).parents[2] / "examples" / "prices.toml"


def started(tmp_path: Path, clock: SimulatedClock, price: str = "0.05") -> Sublet:
    pool: dict[str, Any] = {"name": "gpus", "accelerators": 4, "generation": "sim", "backend": "simulated"}
    content = {"data_dir": tmp_path, "pools": [pool | {"watts": "100", "price_per_accelerator_hour": price}]}
    system = Sublet(Settings.model_validate(content), clock, {})
    system.sync_fleet()
    return system


@pytest.fixture
def clock() -> Iterator[SimulatedClock]:
    yield SimulatedClock(NOW)


def current(system: Sublet) -> dict[str, str]:
    """What each meter costs now, for everybody: the prices that hold, by meter."""
    prices = system.ledger.prices().prices
    return {price.meter: price.id for price in prices if price.holds_at(system.clock.now())}


def test_a_published_book_outlives_the_next_start(tmp_path: Path, clock: SimulatedClock) -> None:
    system = started(tmp_path, clock)
    assert all(price.startswith("settings-") for price in current(system).values())
    system.ledger.publish_prices(book_from_toml(EXAMPLE.read_text(), "prices.toml"))
    published = current(system)
    assert published["tokens.input"] == "input-2026" and published["accelerator.seconds"] == "accelerator-2026"
    version = system.ledger.prices().version
    system.close()
    clock.set(NOW + timedelta(days=1))
    again = started(tmp_path, clock, price="0.07")
    assert current(again) == published and again.ledger.prices().version == version
    again.close()


def test_a_price_of_the_settings_changes_from_now_on_and_the_start_after_changes_nothing(
    tmp_path: Path, clock: SimulatedClock
) -> None:
    started(tmp_path, clock).close()
    clock.set(NOW + timedelta(days=1))
    system = started(tmp_path, clock, price="0.07")
    ended = [price for price in system.ledger.prices().prices if price.valid_until == clock.now()]
    assert {price.meter for price in ended} == {"accelerator.seconds"} and len(ended) == len(Settings().service_classes)
    version = system.ledger.prices().version
    system.close()
    again = started(tmp_path, clock, price="0.07")
    assert again.ledger.prices().version == version
    again.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path, 1, accelerators=8)
    made.remember(days=30, need=0.2, spread=0.02)
    made.observe()
    yield made
    made.close()


def publish(world: World, *entries: dict[str, Any], **sections: Any) -> None:
    begun = {"from": "2020-01-01T00:00:00Z"}
    terms = {"meter": "accelerator.seconds", "kind": "per_unit", "per": 3600} | begun
    content = {"prices": [terms | entry for entry in entries], **sections}
    world.system.ledger.publish_prices(book_from_dict(content, "test"))


def quoted(world: World, organization: str) -> tuple[int, str]:
    quote = world.system.leases.quote(organization, QuoteRequest(1, "spot", pool="simulated", duration_s=3600))
    return quote.price_nano, quote.currency


def test_a_quote_is_at_the_customers_own_price_and_in_its_currency(world: World) -> None:
    accounts = world.system.accounts
    plain, own = accounts.create_organization("plain").id, accounts.create_organization("own").id
    euro = accounts.create_organization("euro", currency="EUR").id
    with pytest.raises(
        CurrencyMismatchError, match="euro is billed in EUR; ask the operator for a price in that currency"
    ):
        quoted(world, euro)
    publish(
        world,
        {"id": "all", "currency": "USD", "amount": "2"},
        {"id": "all-eur", "currency": "EUR", "amount": "1.80"},
        {"id": "negotiated", "currency": "USD", "amount": "1.50", "organization": own},
    )
    assert quoted(world, plain) == (2 * 10**9, "USD")
    assert quoted(world, own) == (1_500_000_000, "USD")
    assert quoted(world, euro) == (1_800_000_000, "EUR")


def test_a_discount_is_taken_off_a_lease_once(world: World) -> None:
    buyer = world.system.accounts.create_organization("buyer").id
    tenth = {"id": "tenth", "percent": "10", "product": "leases", "from": "2020-01-01T00:00:00Z"}
    publish(world, {"id": "all", "currency": "USD", "amount": "2"}, discounts=[tenth])
    quote = world.system.leases.quote(buyer, QuoteRequest(1, "spot", pool="simulated", duration_s=600))
    assert quote.price_nano == 2 * 10**9
    world.system.leases.accept(buyer, quote.id, [SSH_KEY])
    world.pass_time(900)
    world.system.ledger.rate()
    [line] = world.system.ledger.draft(buyer)["lines"]
    seconds = Decimal(line["quantity"])
    assert seconds > 500
    assert abs(Decimal(line["amount"]) - seconds / 3600 * 2 * Decimal("0.9")) < Decimal("0.00000001")
