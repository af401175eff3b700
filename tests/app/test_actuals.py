"""The desk's records as the running system fills them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest

from sublet.desk.actuals import forecast_scores, pool_lines, worth
from sublet.desk.report.actuals_page import actuals_json, render_actuals
from sublet.ledger.model import UsageEvent
from sublet.ledger.prices.book import book_from_toml
from sublet.ledger.rating import figures
from sublet.reporting.actuals import actuals, actuals_by_currency
from sublet.simulation.story import play
from sublet.simulation.world import World
from sublet.values.windows import Window

BOOK = """
[[prices]]
id = "tokens"
meter = "tokens.input"
kind = "per_unit"
currency = "EUR"
amount = "2"
per = 1_000_000
from = 2020-01-01T00:00:00Z

[[prices]]
id = "energy"
meter = "energy.wh"
kind = "per_unit"
currency = "EUR"
amount = "0.3"
per = 1_000
from = 2020-01-01T00:00:00Z

[[prices]]
id = "lease"
meter = "accelerator.seconds"
kind = "per_unit"
currency = "EUR"
amount = "3.60"
per = 3_600
from = 2020-01-01T00:00:00Z

[[prices]]
id = "dollars"
meter = "accelerator.seconds"
kind = "per_unit"
currency = "USD"
amount = "7.20"
per = 3_600
from = 2020-01-01T00:00:00Z

[[prices]]
id = "support"
organization = "{organization}"
kind = "flat"
currency = "EUR"
amount = "50"
from = 2020-01-01T00:00:00Z
backdated = "from_open"
"""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w", seed=5)
    yield made
    made.close()


def test_what_was_spare_and_what_was_foreseen_are_told_from_the_demand_that_was_seen(world: World) -> None:
    play(world)
    now = world.clock.now()
    seen = actuals(world.system, Window(now - timedelta(days=10), now))
    offered = seen.pools["simulated"].offered_hours
    # A quarter of 16 accelerators was in use: some 12 were idle in each of 240 hours.
    assert 0.65 * 16 * 240 < offered < 0.85 * 16 * 240
    (line,) = [line for line in pool_lines(seen) if line.channel == "raw"]
    assert line.utilization == pytest.approx(line.accelerator_hours / offered)
    # The lease was taken back: what was credited is what the books were charged with, in the pool that it was of.
    with world.system.store.read() as connection:
        charged = sum(figures.balance(connection, "penalties").values())
    assert charged > 0
    assert seen.by_pool_channel["simulated", "raw"].credits_nano == seen.total.credits_nano == charged
    (score,) = forecast_scores(seen)
    assert score.pool == "simulated"
    # Nine of ten hours should lie between the 5 % and the 95 % quantile.
    assert score.coverage > 0.75
    assert abs(score.bias) < 1.0


def test_a_forecast_knows_nothing_later(world: World) -> None:
    world.remember(days=20, need=0.3, spread=0.05)
    now = world.clock.now()
    early = actuals(world.system, Window(now - timedelta(days=3), now - timedelta(days=2)))
    late = actuals(world.system, Window(now - timedelta(days=3), now))
    shared = [record for record in late.forecasts if record.at < now - timedelta(days=2)]
    assert shared == list(early.forecasts) and shared


def test_every_currency_product_fee_and_credit_is_there_to_the_unit(world: World) -> None:
    system, start = world.system, world.clock.now()
    europe = system.accounts.create_organization("Europe", currency="EUR")
    states = system.accounts.create_organization("States")
    system.ledger.publish_prices(book_from_toml(BOOK.format(organization=europe.id), "prices.toml"))
    key, _ = system.accounts.create_key(europe.id)
    # The pool travels with a request; no deployment says where this model is.
    world.answer(europe.id, key.id, "some-model", 1_500_001, 0, "req_1")

    def used(owner: str, name: str, quantity: int, meter: str = "accelerator.seconds", **dimensions: str) -> UsageEvent:
        return UsageEvent("test", name, owner, meter, quantity, start, dimensions=dimensions)

    events = [
        used(europe.id, "heat", 10_000, "energy.wh"),
        used(europe.id, "here", 7_200, pool=world.pool.name),
        used(europe.id, "gone", 3_600, pool="a pool that was removed"),
        used(states.id, "there", 1_800, pool=world.pool.name),
    ]
    assert not system.ledger.take_now(events).refused
    system.ledger.rate()
    for nano, kind in ((5, "reclaim"), (10**9, "goodwill")):
        give = partial(
            system.ledger.credit, organization_id=europe.id, nano=nano, reason=kind, source_id=kind, kind=kind
        )
        system.store.write(give)
    world.clock.advance(32 * 24 * 3600)
    assert system.ledger.close(europe.id, format(start, "%Y-%m")).invoice
    now = world.clock.now()
    world.clock.advance(1)

    euros, dollars = actuals_by_currency(system, Window(start, world.clock.now()))

    statement = euros.statement
    assert statement is not None and dollars.statement is not None
    assert dict(statement.parts) == {
        "energy": 3 * 10**9,
        "leases": 3 * 3_600_000_000,
        "models": 3_000_002_000,
        "fees": 50 * 10**9,
        "penalties": -5,
        "adjustments": -(10**9),
    }
    assert (statement.total_nano, statement.journal_nano, statement.unexplained_nano) == (65_800_001_995,) * 2 + (0,)
    assert statement.sentence == "The total is what the journal has, to the billionth."
    assert dict(euros.others) == {"energy": 3 * 10**9, "fees": 50 * 10**9, "leases (unknown pool)": 3_600_000_000}
    assert euros.by_pool_channel["simulated", "raw"].revenue_nano == 7_200_000_000
    assert euros.by_pool_channel["simulated", "managed"].revenue_nano == 3_000_002_000
    assert euros.total.revenue_nano + sum(euros.others.values()) == statement.revenue_nano
    assert euros.by_customer["Europe"].revenue_nano == statement.revenue_nano
    assert worth(euros).earned == pytest.approx(66.800001995, abs=1e-9)
    assert (
        dict(dollars.statement.parts) == {"leases": 3_600_000_000} and dollars.statement.journal_nano == 3_600_000_000
    )
    page = render_actuals(euros, now.date(), others=[dollars])
    assert "65.800001995" in page and "Everything earned, USD" in page and "50.000000000" in page
    assert actuals_json(euros, now.date())["statement"]["total"] == "65.800001995"

    # A window that ends before the month was closed has no fee.
    early = actuals(system, Window(start, start + timedelta(seconds=1))).statement
    assert early is not None and set(early.parts) == {"energy", "leases", "models", "penalties", "adjustments"}
    assert early.journal_nano == early.total_nano == 65_800_000_000 - 50 * 10**9 + 1_995
