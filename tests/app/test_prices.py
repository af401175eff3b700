"""Built-in prices follow the settings, and give way to what the operator publishes: also after the next start."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from sublet.app import Sublet
from sublet.ledger.book import book_from_toml
from sublet.settings import Settings
from sublet.values.clock import SimulatedClock

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
    assert {price.meter for price in ended} == {"accelerator.seconds"} and len(ended) == 3
    version = system.ledger.prices().version
    system.close()
    again = started(tmp_path, clock, price="0.07")
    assert again.ledger.prices().version == version
    again.close()
