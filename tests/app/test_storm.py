"""Many customers at once on PostgreSQL: nobody is kept waiting by a connection, and nothing is sold twice."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from sqlalchemy import select

from sublet.config.settings import Settings
from sublet.control.plane import ControlPlane, build_api
from sublet.demand.model import Sample
from sublet.fleet.model import Pool
from sublet.launch.supervisor import bind
from sublet.simulation.world import SSH_KEY, settings_for
from sublet.store.tables.leases import fences
from sublet.wiring.system import Sublet

pytestmark = pytest.mark.real

CUSTOMERS = 200
ORGANIZATIONS = 20
ACCELERATORS = 48
ANSWER_S_MAX = 60.0

Ask = Callable[[str, str, dict[str, Any]], tuple[int, dict[str, Any]]]


@pytest.fixture
def system(tmp_path: Path, postgres_url: str) -> Iterator[Sublet]:
    stated = settings_for(tmp_path, ACCELERATORS).model_dump() | {"database": {"url": postgres_url}}
    made = Sublet(Settings.model_validate(stated))
    yield made
    made.close()


@contextmanager
def _served(system: Sublet) -> Iterator[Ask]:
    """The control plane with its loops, over HTTP."""
    plane = ControlPlane(system)
    plane.start()
    held = bind("127.0.0.1", 0, "control.port")
    server = uvicorn.Server(uvicorn.Config(build_api(system, plane), log_config=None, lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [held]}, daemon=True)
    thread.start()

    def ask(key: str, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        request = urllib.request.Request(
            f"http://127.0.0.1:{held.getsockname()[1]}{path}",
            json.dumps(body).encode(),
            {"authorization": f"Bearer {key}", "content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S_MAX) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    try:
        yield ask
    finally:
        server.should_exit = True
        thread.join(10)
        plane.stop()


def test_two_hundred_quotes_accepts_and_reclaims_at_once(system: Sublet) -> None:
    [pool] = system.sync_fleet()
    now = system.clock.now()
    hours = [Sample(now - timedelta(hours=hour), ACCELERATORS, 4) for hour in range(10 * 24, -1, -1)]
    system.demand.record_samples(pool.id, hours)
    owner = system.accounts.ensure_operator()
    assert owner is not None
    names = [system.accounts.create_organization(f"customer {number}").id for number in range(ORGANIZATIONS)]
    keys = [system.accounts.create_key(name, "storm", ["leases"])[1] for name in names]
    with _served(system) as ask:

        def customer(number: int) -> list[tuple[int, dict[str, Any]]]:
            if number % 10 == 0:
                body = {"pool": pool.name, "accelerators": 1, "duration_s": 3600, "reason": f"run {number}"}
                return [ask(owner, "/v1/reclaims", body)]
            key = keys[number % ORGANIZATIONS]
            order = {"pool": pool.name, "accelerators": 1, "class": ("spot", "notice")[number % 2], "duration_s": 1200}
            status, quote = ask(key, "/v1/quotes", order)
            if status != 201:
                return [(status, quote)]
            accepted = ask(key, "/v1/leases", {"quote_id": quote["id"], "ssh_public_keys": [SSH_KEY]})
            return [(status, quote), accepted]

        with ThreadPoolExecutor(CUSTOMERS) as crowd:
            answers = [answer for found in crowd.map(customer, range(CUSTOMERS)) for answer in found]
    told = Counter((status, body.get("error", {}).get("code", "")) for status, body in answers)
    assert all(status < 500 for status, _ in told), told
    assert told[(201, "")] > ACCELERATORS, told
    _nothing_is_sold_twice(system, pool)


def _nothing_is_sold_twice(system: Sublet, pool: Pool) -> None:
    with system.store.read() as connection:
        rows = connection.execute(select(fences.c.unit_id, fences.c.fence_start, fences.c.fence_end)).all()
    assert rows and len({row.unit_id for row in rows}) <= pool.accelerators
    spans: dict[str, list[tuple[Any, Any]]] = {}
    for row in rows:
        spans.setdefault(row.unit_id, []).append((row.fence_start, row.fence_end))
    for held in spans.values():
        assert all(end <= start for (_, end), (start, _) in pairwise(sorted(held)))
    leased = sum(lease.accelerators for lease in system.leases.leases(live_only=True))
    assert leased <= pool.accelerators
