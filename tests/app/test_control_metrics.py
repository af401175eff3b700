"""The control plane's figures: who may see them, what they say, and that the alert rules stand on figures that there are."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from sublet.control.plane import NIGHTLY_S, ControlPlane, build_api
from sublet.leases import store as leases_sql
from sublet.leases.quotes.admission import QuoteRequest
from sublet.ledger.events import HARD_LIMIT_REACHED, BudgetStanding
from sublet.simulation.world import SSH_KEY, World

RULES = Path(__file__).parents[2] / "examples" / "prometheus" / "alerts.yml"
HERE, THERE = ("127.0.0.1", 40_000), ("203.0.113.7", 40_000)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w")
    yield made
    made.close()


@pytest.fixture
def api(world: World) -> FastAPI:
    plane = ControlPlane(world.system)
    {loop.name: loop for loop in plane.loops}["bookkeeping"].once()
    return build_api(world.system, plane)


def figures(api: FastAPI) -> dict[tuple[str, tuple[str, ...]], float]:
    text = TestClient(api, client=HERE).get("/metrics").text
    families = list(text_string_to_metric_families(text))
    return {(item.name, tuple(item.labels.values())): item.value for family in families for item in family.samples}


def test_outsiders_see_nothing_of_them(api: FastAPI, world: World) -> None:
    accounts = world.system.accounts
    operator = accounts.ensure_operator()
    customer = accounts.create_key(accounts.create_organization("acme").id, "c")[1]
    assert TestClient(api, client=HERE).get("/metrics").status_code == 200
    for where, headers, status in (
        (THERE, {}, 401),
        (THERE, {"authorization": f"Bearer {customer}"}, 403),
        (THERE, {"authorization": f"Bearer {operator}"}, 200),
        (HERE, {"x-forwarded-for": "203.0.113.7"}, 401),
        (HERE, {"forwarded": "for=203.0.113.7"}, 401),
    ):
        assert TestClient(api, client=where).get("/metrics", headers=headers).status_code == status, (where, headers)


def test_they_say_how_loops_books_and_requests_are(api: FastAPI, world: World) -> None:
    client = TestClient(api, client=THERE)
    client.get("/v1/pools")
    client.get("/health")
    world.clock.advance(NIGHTLY_S)
    found = figures(api)
    assert found["sublet_control_loop_leads", ("rating",)] == 1
    assert found["sublet_control_loop_failures", ("leases",)] == 0
    assert 0 <= found["sublet_control_loop_age_seconds", ("bookkeeping",)] < 600
    assert found["sublet_control_request_seconds_count", ("GET", "4xx")] == 1, "only the API is measured"
    assert found["sublet_ledger_proof_seconds", ()] == NIGHTLY_S
    assert found["sublet_ledger_books_agree", ()] == 1
    assert found["sublet_ledger_unrated_events", ()] == 0


def test_usage_that_is_not_rated_has_an_age(api: FastAPI, world: World) -> None:
    customer = world.system.accounts.create_organization("acme").id
    world.answer(customer, "key_1", "smollm2-135m-instruct", 10, 20, "req_1")
    world.clock.advance(90)
    found = figures(api)
    assert (found["sublet_ledger_unrated_seconds", ()], found["sublet_ledger_unrated_events", ()]) == (90, 2)
    world.system.ledger.rate()
    assert figures(api)["sublet_ledger_unrated_seconds", ()] == 0


def test_events_that_wait_have_an_age(api: FastAPI, world: World) -> None:
    customer = world.system.accounts.create_organization("acme").id
    payload = BudgetStanding("bud_1", "organization", "", "month", world.clock.now(), True, "1", "1", "USD")
    world.system.store.write(
        lambda connection: HARD_LIMIT_REACHED.record(connection, payload, world.clock.now(), organization_id=customer)
    )
    world.clock.advance(45)
    assert figures(api)["sublet_outbox_age_seconds", ("numbering",)] == 45
    {loop.name: loop for loop in ControlPlane(world.system).loops}["outbox"].once()
    assert figures(api)["sublet_outbox_age_seconds", ("numbering",)] == 0


def test_a_lease_that_is_late_is_told(world: World, api: FastAPI) -> None:
    world.remember(20, 0.1, 0.01)
    customer = world.system.accounts.create_organization("acme").id
    quote = world.system.leases.quote(customer, QuoteRequest(1, "spot", duration_s=3600, pool="simulated"))
    lease = world.system.leases.accept(customer, quote.id, [SSH_KEY])
    world.pass_time(120, 30)
    assert world.system.leases.lease(lease.id).state.value == "active"
    now = world.clock.now()
    due = now + timedelta(seconds=30)
    world.system.store.write(lambda connection: leases_sql.update_lease(connection, lease.id, reclaim_at=due))
    world.clock.advance(80)
    assert figures(api)["sublet_reclaim_deadlines", ("no",)] == 0, "its teardown may take a minute"
    world.clock.advance(20)
    assert figures(api)["sublet_reclaim_deadlines", ("no",)] == 1
    world.system.store.write(
        lambda connection: leases_sql.update_lease(connection, lease.id, ended_at=due + timedelta(seconds=5))
    )
    found = figures(api)
    assert (found["sublet_reclaim_deadlines", ("yes",)], found["sublet_reclaim_deadlines", ("no",)]) == (1, 0)


def test_alert_rules_stand_on_figures_that_there_are(api: FastAPI) -> None:
    text = TestClient(api, client=HERE).get("/metrics").text
    names = {match.group(1) for match in re.finditer(r"^# TYPE (\S+)", text, re.M)}
    named = set(re.findall(r"\bsublet_\w+", "".join(re.findall(r"expr:.*?labels:", RULES.read_text(), re.S))))
    assert len(named) > 8
    assert {re.sub(r"_(bucket|count|total)$", "", name) for name in named} <= {re.sub(r"_total$", "", n) for n in names}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool")
def test_promtool_reads_the_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    tests = RULES.with_name("alerts_test.yml")
    done = subprocess.run(["promtool", "test", "rules", str(tests)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
