"""Yield in the running system: what it sees, what it decides, and that turning it on and off breaks no promise."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from sublet.allocation import store as allocation_sql
from sublet.allocation.model import FRESH, Mode
from sublet.config.settings import Settings
from sublet.demand.model import Sample
from sublet.gateway.metering.metrics import MinuteStats
from sublet.gateway.store import save_minutes
from sublet.leases.model import Lease, LeaseState
from sublet.leases.quotes.admission import QuoteRequest
from sublet.models import store as models_sql
from sublet.models.catalog import BUILT_IN
from sublet.simulation.world import SSH_KEY, settings_for
from sublet.store.tables.models import replicas
from sublet.surplus.model import REASONS
from sublet.values.clock import SimulatedClock
from sublet.values.windows import Window
from sublet.wiring.system import Sublet

SIZE = 16
MODEL = "made-up"
LATER_MODEL = "later"


class House:
    """A pool of sixteen that its owner hardly uses, a model that is asked for around the clock, and one that nobody calls."""

    def __init__(self, folder: Path, clock: SimulatedClock, mode: str) -> None:
        self.folder, self.clock = folder, clock
        self.system = self.opened(mode)
        clock.set(clock.now().replace(minute=0, second=0, microsecond=0) + timedelta(hours=1))
        now = clock.now()
        self.pool_id = self.system.sync_fleet()[0].id
        samples = [Sample(now - timedelta(hours=hour), SIZE, 2.0) for hour in range(40 * 24, -1, -1)]
        self.system.demand.record_samples(self.pool_id, samples)
        for name in (MODEL, LATER_MODEL):
            entry = replace(BUILT_IN, name=name, accelerators=2, slots=4)
            self.system.models.add_entries([entry])
            self.system.models.deploy(name, self.pool_id, replicas_max=8)
        self.customer = self.system.accounts.create_organization("customer").id
        self.leases: list[str] = []

    def open(self, mode: str) -> None:
        """Start the system again, with yield in that mode."""
        self.system.close()
        self.system = self.opened(mode)
        self.system.sync_fleet()

    def opened(self, mode: str) -> Sublet:
        stated: dict[str, Any] = settings_for(self.folder, SIZE).model_dump(include={"data_dir", "models", "pools"})
        pool = {name: value for name, value in stated["pools"][0].items() if value is not None}
        told = stated | {"pools": [pool], "allocation": {"mode": mode, "energy_price_per_kwh": "0.05"}}
        return Sublet(Settings.model_validate(told), self.clock)

    def is_called(self, tokens_per_s: float, hours: int = 30) -> None:
        """Gateways report requests of the last hours. At list price a full accelerator earns 3.60 USD an hour."""
        end = self.clock.now().replace(minute=0, second=0, microsecond=0)
        minutes = []
        for hour in range(hours, 0, -1):
            for minute in (0, 30):
                tokens = round(tokens_per_s * 1800)
                at = end - timedelta(hours=hour) + timedelta(minutes=minute)
                # Each slot serves 5,000 tokens a second: a replica 20,000, an accelerator 10,000.
                minutes.append(MinuteStats(at, MODEL, 100, 0, 1000, 0, tokens, round(tokens / 5000 * 1000)))
        self.system.store.write(lambda connection: save_minutes(connection, "run", minutes))

    def go(self, minutes: int) -> None:
        for _ in range(minutes):
            self.clock.advance(60)
            now = self.clock.now()
            self.system.demand.record_samples(self.pool_id, [Sample(now, SIZE, 2.0)])
            self.system.leases.tick()
            self.system.models.carry_out(
                self.system.models.plan(*self.system.room(), reach=self.system.reach), self.system.capacity.model_spare
            )
            self.engines()

    def engines(self) -> None:
        """An engine host that starts and stops at once."""
        now = self.clock.now()
        with self.system.store.read() as connection:
            live = models_sql.live_replicas(connection)
        for item in live:
            values = {
                "starting": {"state": "ready", "ready_at": now},
                "draining": {"state": "stopped", "stopped_at": now},
            }
            if item.state in values:
                change = update(replicas).where(replicas.c.id == item.id).values(**values[item.state])
                self.system.store.write(lambda connection, change=change: connection.execute(change))

    def running(self) -> Counter[str]:
        with self.system.store.read() as connection:
            return Counter(item.model for item in models_sql.live_replicas(connection) if item.state == "ready")

    def takes(self, count: int, name: str = "notice", hours: float = 4) -> Lease:
        asked = QuoteRequest(count, name, self.clock.now() + timedelta(hours=hours), None, self.pool_id)
        quote = self.system.leases.quote(self.customer, asked)
        lease = self.system.leases.accept(self.customer, quote.id, [SSH_KEY])
        self.leases.append(lease.id)
        return lease

    def promised(self) -> list[tuple[str, LeaseState, object]]:
        found = [self.system.leases.lease(lease_id) for lease_id in self.leases]
        return [(item.id, item.state, item.reclaim_at) for item in found]


@pytest.fixture
def house(tmp_path: Path, clock: SimulatedClock) -> Iterator[House]:
    made = House(tmp_path, clock, "advise")
    yield made
    made.system.close()


def test_a_pool_that_is_off_is_not_looked_at(house: House) -> None:
    house.open("off")
    found = house.system.allocation.decide()
    assert not found.facts.modes and found.as_dict()["pools"] == []


def test_it_sees_capacity_prices_quotes_and_load_with_their_sources(house: House) -> None:
    house.is_called(30_000.0)
    house.takes(2)
    house.clock.advance(3600 * 2)
    house.system.demand.record_samples(house.pool_id, [Sample(house.clock.now(), SIZE, 2.0)])
    assert house.system.allocation.count_quotes() == 1
    house.clock.advance(-0.0)
    facts = house.system.allocation.facts()
    assert facts.modes == {"simulated": Mode.ADVISE}
    pool = facts.state.pool("simulated")
    assert 0 < pool.idle[0] <= SIZE - 2 - 2
    assert pool.energy == pytest.approx(0.05 * 1.275)
    notice = next(item for item in pool.offers if item.class_name == "notice")
    classes = house.system.capacity.classes
    assert notice.price == pytest.approx(2.0 * float(classes["notice"].price_ratio))
    fit = next(item for item in facts.state.fits if item.model == MODEL)
    assert fit.speed == pytest.approx(10_000, rel=0.01)
    explained = house.system.allocation.explain("simulated")
    told = {item["class"]: item for item in explained["products"]}
    assert told["notice"]["asked_per_hour"]["source"] == "1 quotes in 1 hours"
    assert told["notice"]["asked_per_hour"]["value"] == 2
    advice = told["notice"]["advice"]
    assert abs(advice["price"] / told["notice"]["price"] - 1) <= 0.1 + 1e-9 and "1 quotes" in advice["reason"]
    unmeasured = next(item for item in explained["models"] if item["model"] == LATER_MODEL)
    assert unmeasured["speed_source"] == "not measured yet"
    assert {"what": f"{LATER_MODEL} on simulated", "why": "its speed was not measured yet"} in explained["left_out"]


def test_advice_changes_nothing(house: House) -> None:
    house.is_called(30_000.0)
    house.go(3)
    before = house.running()
    plan = house.system.allocation.tick()
    assert plan.steps == ()
    house.go(3)
    assert house.running() == before
    with house.system.store.read() as connection:
        assert house.system.allocation.room(connection) == {}
        assert (
            len(allocation_sql.rounds_between(connection, house.clock.now() - timedelta(hours=1), house.clock.now()))
            == 1
        )


def test_acting_scales_models_by_what_they_earn_and_off_gives_them_back(house: House) -> None:
    """On and off in a running system: replicas follow, leases keep every promise, and what was automatic is automatic again."""
    house.go(2)
    lease = house.takes(3)
    house.go(2)
    assert house.running()[MODEL] == 1
    house.is_called(60_000.0)
    house.open("act")
    steps = house.system.allocation.tick().steps
    assert [(step.kind, step.subject) for step in steps] == [("scale_model", MODEL)]
    wanted = steps[0].details["replicas"]
    assert wanted > 1 and "start" in steps[0].reason
    house.go(5)
    assert house.running()[MODEL] == wanted
    promised = house.promised()
    assert promised == [(lease.id, LeaseState.ACTIVE, None)]
    for _ in range(3):
        house.go(10)
        house.system.allocation.tick()
    assert house.running()[MODEL] == wanted and house.promised() == promised
    house.open("off")
    released = house.system.allocation.tick().steps
    assert [(step.kind, step.subject) for step in released] == [("release_model", MODEL)]
    assert house.system.models.deployment(MODEL).scale is None
    house.go(5)
    assert house.running()[MODEL] == 1 and house.promised() == promised
    assert house.system.allocation.tick().steps == ()
    house.open("act")
    house.system.allocation.tick()
    house.go(5)
    assert house.running()[MODEL] == wanted and house.promised() == promised


def test_a_number_set_by_hand_wins_until_it_is_automatic_again(house: House) -> None:
    house.is_called(60_000.0)
    house.open("act")
    house.system.allocation.tick()
    house.system.models.scale(MODEL, 2)
    plan = house.system.allocation.tick()
    assert MODEL not in {step.subject for step in plan.steps if step.kind == "scale_model"}
    assert house.system.models.deployment(MODEL).scale == 2
    assert house.system.allocation.decide().mix.replicas[MODEL, "simulated"] == 2
    house.system.models.scale(MODEL, None)
    house.system.allocation.tick()
    assert (house.system.models.deployment(MODEL).scale or 0) > 2


def test_a_floor_is_kept_where_nobody_calls_the_model(house: House) -> None:
    house.is_called(1.0)
    house.open("act")
    deployed, now = house.system.models.deployment(MODEL), house.clock.now()
    house.system.store.write(lambda connection: models_sql.update_deployment(connection, deployed.id, now, floor=2))
    house.system.allocation.tick()
    house.go(3)
    assert house.system.models.deployment(MODEL).floor == 2
    assert house.running()[MODEL] == 2


def test_a_quota_keeps_capacity_for_a_better_use_and_a_high_price_sells_beyond_it(house: House) -> None:
    house.is_called(180_000.0)
    ruled = house.system.surplus.sellable(house.pool_id, "spot", Window.starting(house.clock.now(), 3600)).count
    house.open("act")
    house.system.allocation.tick()
    window = Window.starting(house.clock.now(), 3600)
    found = house.system.surplus.sellable(house.pool_id, "spot", window)
    assert found.count < ruled
    assert [item.reason_code for item in found.withheld].count("better_use") == 1 and "better_use" in REASONS
    assert found.count + sum(item.count for item in found.withheld) == SIZE
    rungs = [item for item in house.system.surplus.ladder(house.pool_id).alone if item.class_name == "spot"]
    assert all(item.count <= found.count for item in rungs)
    with house.system.store.read() as connection:
        product = (house.pool_id, "spot", 1.0)
        assert house.system.allocation.allowed(connection, product, lambda: 1e6) is None
        assert house.system.allocation.allowed(connection, product, lambda: 0.0) == found.count


def test_an_old_round_limits_nothing(house: House) -> None:
    house.is_called(180_000.0)
    house.open("act")
    house.system.allocation.tick()
    with house.system.store.read() as connection:
        assert house.system.allocation.room(connection)
    house.clock.advance(FRESH.total_seconds() + 1)
    with house.system.store.read() as connection:
        assert house.system.allocation.room(connection) == {}


def test_quotes_of_an_hour_count_once_and_only_when_they_are_decided(house: House) -> None:
    house.system.allocation.count_quotes()
    house.takes(1)
    asked = QuoteRequest(2, "notice", house.clock.now() + timedelta(hours=4), None, house.pool_id)
    house.system.leases.quote(house.customer, asked)
    assert house.system.allocation.count_quotes() == 0
    house.clock.advance(3600 + 600)
    assert house.system.allocation.count_quotes() == 2
    assert house.system.allocation.count_quotes() == 0
    with house.system.store.read() as connection:
        (row,) = allocation_sql.asked_since(connection, house.clock.now() - timedelta(days=1))
    assert (row.quotes, row.accepted, row.accelerators, row.accelerators_accepted) == (2, 1, 3, 1)


def test_the_api_and_the_commands_show_the_plan(house: House) -> None:
    from starlette.testclient import TestClient

    from sublet.control.plane import ControlPlane, build_api

    house.is_called(60_000.0)
    _, key = house.system.accounts.create_key(house.system.accounts.create_organization("op", kind="operator").id)
    with TestClient(build_api(house.system, ControlPlane(house.system))) as client:
        headers = {"Authorization": f"Bearer {key}"}
        found = client.get("/v1/yield", headers=headers)
        assert found.status_code == 200, found.text
        assert found.json()["pools"][0]["mode"] == "advise" and found.json()["moves"]
        assert client.get("/v1/yield/simulated", headers=headers).json()["next_accelerator"] is not None
        assert client.get("/v1/yield/nowhere", headers=headers).status_code == 404
        assert client.get("/v1/yield").status_code == 401
        _, customer = house.system.accounts.create_key(house.customer)
        refused = client.get("/v1/yield", headers={"Authorization": f"Bearer {customer}"})
        assert refused.status_code == 403
