"""What the overview gathers from a living system: what needs the operator is said, and nothing that lives is left out."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Connection, insert, select

from sublet.console.model import BudgetsQuery
from sublet.control.plane import ControlPlane, build_api
from sublet.control.telling import Telling
from sublet.gateway.metering.metrics import MinuteStats
from sublet.gateway.store import save_minutes
from sublet.leases.model import Lease
from sublet.leases.quotes.admission import QuoteRequest
from sublet.ledger.budgets.model import HoldRequest, Settlement
from sublet.ledger.service import new_budget
from sublet.notifications.service import NewSubscription, Owner
from sublet.reporting.overview import BUDGETS_MAX, FRESH, Overviews
from sublet.simulation.world import SSH_KEY, World
from sublet.store.paging import PAGE_MAX
from sublet.store.tables.leases import leases
from sublet.values.windows import Window


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w", accelerators=16)
    made.remember(days=10, need=0.25, spread=0.03)
    made.observe()
    yield made
    made.close()


def overviews(world: World) -> Overviews:
    plane = ControlPlane(world.system)
    return Overviews(world.system, plane.health)


def take(world: World, organization: str, seconds: int, count: int = 1) -> Lease:
    end = world.clock.now() + timedelta(seconds=seconds)
    quote = world.system.leases.quote(organization, QuoteRequest(count, "spot", end, pool=world.pool.id))
    return world.system.leases.accept(organization, quote.id, [SSH_KEY])


def test_what_the_owner_takes_back_is_an_alert_and_its_end_is_what_happens_next(world: World) -> None:
    customer = world.system.accounts.create_organization("معهد").id
    lease = take(world, customer, 4 * 3600, count=2)
    world.pass_time(300)
    calm = overviews(world).now()
    assert calm.alerts == () and [item.id for item in calm.leases] == [lease.id]
    assert lease.id not in [line.subject for line in calm.plan], "it ends in hours"
    now = world.clock.now()
    world.system.demand.add_claim(world.pool.id, 16, Window(now, now + timedelta(hours=6)), "training run")
    world.pass_time(60)
    told = overviews(world).now()
    [alert] = told.alerts
    assert alert.severity == "warning"
    assert alert.sentence.startswith("the owner is reclaiming 2 accelerators of simulated: 1 lease ends by ")
    [line] = [line for line in told.plan if line.subject == lease.id and line.kind == "end"]
    assert line.reason == "2 of simulated, معهد: reclaimed by the owner"
    assert line.at == told.leases[0].reclaim_at


def test_a_pool_that_is_no_longer_seen_is_an_alert(world: World) -> None:
    assert overviews(world).now().alerts == ()
    world.clock.advance(6 * 3600)
    [alert] = overviews(world).now().alerts
    assert alert.sentence.startswith(
        "the last sample of simulated is 6 h 00 min old: none of its capacity is sold until"
    )
    [pool] = overviews(world).now().pools
    reasons = [item.reason for item in pool.withheld]
    assert any(reason.startswith("because the last sample is") for reason in reasons), reasons
    world.observe()
    assert overviews(world).now().alerts == ()


def test_a_lease_that_lives_is_shown_however_many_were_over_since(world: World) -> None:
    customer = world.system.accounts.create_organization("customer").id
    kept = take(world, customer, 4 * 3600)
    world.clock.advance(1)
    over = take(world, customer, 3600)
    world.system.leases.end(over.id, customer)

    def repeat(connection: Connection) -> None:
        row = connection.execute(select(leases).where(leases.c.id == over.id)).one()
        others = [{**row._mapping, "id": f"lse_{n}", "quote_id": f"quo_{n}"} for n in range(PAGE_MAX)]
        connection.execute(insert(leases), others)

    world.system.store.write(repeat)
    assert kept.id not in [lease.id for lease in world.system.leases.leases()]
    assert [lease.id for lease in overviews(world).now().leases] == [kept.id]


def test_budgets_are_shown_as_they_stand_and_found_by_name(world: World) -> None:
    system = world.system
    customer = system.accounts.create_organization("Aurora <b>").id
    key, secret = system.accounts.create_key(customer, "notebooks")
    made = system.ledger.create_budget(new_budget(customer, 40 * 10**9, scope="key", scope_id=key.id))
    hook = NewSubscription("webhook", "https://hooks.example.com/", ("budget.*",))
    system.notifications.create(Owner(customer), hook, "key_1")
    for number in range(BUDGETS_MAX):
        system.ledger.create_budget(new_budget(customer, 10**12 + number, scope="project", scope_id=f"p{number}"))
    end = world.clock.now() + timedelta(hours=1)
    quote = system.leases.quote(customer, QuoteRequest(1, "spot", end, pool=world.pool.id))
    system.leases.accept(customer, quote.id, [SSH_KEY], key_id=key.id)
    shown = overviews(world).now().budgets
    assert shown is not None and (len(shown.rows), shown.many) == (BUDGETS_MAX, BUDGETS_MAX + 1)
    first = shown.rows[0]
    assert (first.id, first.organization, first.subject) == (made.id, "Aurora <b>", f"notebooks …{key.hint}")
    assert (first.held.nano > 0, first.spent.nano, first.channels, first.hard) == (True, 0, 1, True)
    assert [row.subject for row in overviews(world).budgets(BudgetsQuery(find="p3")).rows] == ["p3"]
    with TestClient(build_api(system, ControlPlane(system)), follow_redirects=False) as client:
        assert client.get("/budgets").headers["location"] == "/login?next=/budgets"
        assert client.post("/login", data={"key": secret}).status_code == 303
        assert client.get("/budgets").status_code == 403
        assert "Aurora" not in client.get("/").text


def test_a_model_whose_requests_all_failed_has_no_time_to_the_first_token(world: World) -> None:
    stats = MinuteStats(world.clock.now().replace(second=0, microsecond=0), "m")
    stats.requests, stats.failed = 3, 3
    world.system.store.write(lambda connection: save_minutes(connection, "run", [stats]))
    system = world.system
    name = system.models.rows()[0].entry.name
    system.models.deploy(name, world.pool.id)
    stats.model = name
    system.store.write(lambda connection: save_minutes(connection, "run", [stats]))
    [model] = overviews(world).now().models
    assert (model.requests, model.ttft_ms) == (3, None)


def test_many_who_look_at_once_see_what_was_gathered_for_one(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = overviews(world)
    gathered: list[object] = []
    gather = shown._gather
    monkeypatch.setattr(shown, "_gather", lambda at: gathered.append(at) or gather(at))
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda _: shown.now(), range(12)))
    assert len(gathered) == 1 and len(set(map(id, seen))) == 1
    world.clock.advance(FRESH.total_seconds())
    assert shown.now().as_of == world.clock.now()
    # The clock of the machine is set back.
    world.clock.set(world.clock.now() - timedelta(seconds=1))
    assert shown.now().as_of == world.clock.now()
    assert len(gathered) == 3


def test_what_failed_in_telling_of_a_budget_is_said_and_what_goes_well_is_not(world: World) -> None:
    system, now = world.system, world.clock.now()
    customer = system.accounts.create_organization("customer").id
    hook = NewSubscription("webhook", "https://nowhere.invalid/", ("budget.threshold_reached",))
    system.notifications.create(Owner(customer), hook, "key_1")
    system.ledger.create_budget(new_budget(customer, 100, thresholds=(50,)))
    system.ledger.reserve([HoldRequest("hld_1", customer, 60, now + timedelta(seconds=60))])
    system.ledger.settle([Settlement("hld_1", 60)])

    def trouble() -> str:
        [told] = overviews(world).budgets().rows[0].told
        return told.trouble

    assert trouble() == ""
    telling = Telling(system)
    telling.round()
    telling.settle()
    assert trouble().startswith("webhook will be tried again: the host name can't be resolved")
    for _ in range(40):
        world.clock.advance(10_000)
        telling.round()
        telling.settle()
    assert trouble().startswith("webhook given up: the host name can't be resolved")
    telling.stop()
