"""Limits set by API and enforced by gateways: two processes with many clients, and one gateway with each kind of limit."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.gateway import served
from tests.gateway.harness import (
    MODEL,
    Answering,
    Running,
    ScriptedEngine,
    Wire,
    add_model,
    add_replica,
    ask,
    post,
    until,
    whole,
)
from tests.gateway.processes import start_gateway

from sublet.accounts.limits.model import Allowed
from sublet.accounts.limits.service import Limits
from sublet.accounts.model import Actor
from sublet.accounts.service import Accounts
from sublet.store import Store
from sublet.values.etags import Condition

OPERATOR = Actor("key_o", "org_o", "operator", frozenset(), role="operator", reach="all")


@dataclass
class Site:
    """Gateways as processes on one database, and a key of one customer."""

    store: Store
    organization: str
    key: str
    key_id: str
    folder: Path
    children: list[subprocess.Popen[str]] = field(default_factory=list)

    def limit(self, **values: Any) -> None:
        Limits(self.store).create(OPERATOR, (self.organization, "key", self.key_id, ""), Allowed(**values))

    def start(self, name: str) -> tuple[str, int]:
        url = self.store.url.render_as_string(hide_password=False)
        command = [
            sys.executable,
            str(Path(served.__file__)),
            url,
            str(self.folder / name),
            str(self.folder / f"{name}.log"),
        ]
        return start_gateway(command, self.children)


@pytest.fixture
def site(any_store: Store, tmp_path: Path, engine: ScriptedEngine) -> Iterator[Site]:
    store = Store(any_store.url.render_as_string(hide_password=False))
    accounts = Accounts(store)
    organization = accounts.create_organization("customer").id
    key, secret = accounts.create_key(organization)
    add_model(store, MODEL)
    add_replica(store, MODEL, engine.url, slots=512)
    made = Site(store, organization, secret, key.id, tmp_path)
    yield made
    for child in made.children:
        if child.poll() is None:
            child.kill()
            child.wait()
    store.close()


def away_from_the_minutes_end() -> None:
    """What is counted within one minute of the system's clock has to fall into one."""
    left = 60 - time.time() % 60
    if left < 15:
        threading.Event().wait(left + 0.1)


def burst(site: Site, addresses: list[tuple[str, int]], clients: int) -> list[int]:
    """Every client asks once, all at the same time; the statuses of their answers, 0 where the connection broke."""
    got: list[int] = []
    begin = threading.Barrier(clients)

    def client(number: int) -> None:
        wire = Wire(addresses[number % len(addresses)])
        begin.wait(30)
        try:
            wire.send(post(ask(), site.key, extra="connection: close\r\n"))
            got.append(wire.answer().status)
        except (OSError, ValueError, IndexError):
            got.append(0)
        wire.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return got


def test_b16_256_clients_of_one_key_on_two_gateways_pass_a_limit_of_5_exactly(
    site: Site, engine: ScriptedEngine
) -> None:
    site.limit(requests_per_minute=5)
    addresses = [site.start("one"), site.start("two")]
    away_from_the_minutes_end()
    got = Counter(burst(site, addresses, 256))
    assert got == {200: 5, 429: 251}
    assert len(engine.asked) == 5
    # A gateway that is killed takes nothing back, and one that starts later finds what was used.
    site.children[0].send_signal(signal.SIGKILL)
    site.children[0].wait(20)
    assert Counter(burst(site, [site.start("one"), addresses[1]], 32)) == {429: 32}
    assert len(engine.asked) == 5


def test_b12_no_more_run_at_once_than_the_limit_on_two_gateways(site: Site, engine: ScriptedEngine) -> None:
    site.limit(concurrency=5)
    addresses = [site.start("one"), site.start("two")]
    at_once = most = 0

    async def script(answering: Answering) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)

        await asyncio.sleep(0.5)
        at_once -= 1
        await answering.answer(whole())

    engine.script = script
    got = Counter(burst(site, addresses, 96))
    assert most == 5 and got[200] >= 5 and set(got) == {200, 429}
    until(lambda: Counter(burst(site, addresses, 6))[200] == 5)


@pytest.fixture
def limits(store: Store) -> Limits:
    return Limits(store)


Make = Callable[..., Running]


def set_limit(gateway: Running, limits: Limits, scope: str = "key", model: str = "", **values: Any) -> str:
    """A limit of the gateway's key, its organization, or the model; returns its id once the gateway knows it."""
    owner = next(key for key in Accounts(gateway.store).organizations() if key.name.startswith("customer"))
    place = {"key": (owner.id, "key", gateway.key_id, model), "organization": (owner.id, "organization", "", model)}
    found = limits.create(OPERATOR, place.get(scope, ("", "model", "", model)), Allowed(**values))
    return found.id


def test_requests_a_minute_of_key_organization_and_model(make_gateway: Make, limits: Limits) -> None:
    gateway = make_gateway()
    away_from_the_minutes_end()
    mine = set_limit(gateway, limits, requests_per_minute=2)
    until(lambda: gateway.post(ask()).headers["x-ratelimit-limit-requests"] == "2")
    answers = [gateway.post(ask()) for _ in range(3)]
    refused = [answer for answer in answers if answer.status == 429]
    assert refused and refused[-1].json["error"]["code"] == "rate_limit_exceeded"
    assert refused[-1].json["error"]["message"].startswith("this key may start 2 requests a minute")
    assert 0 < int(refused[-1].headers["retry-after"]) <= 60
    limits.remove(OPERATOR, mine, Condition.read("If-Match", []))
    until(lambda: gateway.post(ask()).status == 200)
    set_limit(gateway, limits, "model", MODEL, requests_per_minute=1)
    until(lambda: gateway.post(ask()).status == 429)
    assert gateway.post(ask()).json["error"]["message"].startswith("this model may start 1 requests a minute")


def test_models_that_a_key_may_not_call_are_as_if_they_were_not_there(make_gateway: Make, limits: Limits) -> None:
    gateway = make_gateway()
    set_limit(gateway, limits, models=("other",))
    until(lambda: gateway.post(ask()).status == 404)
    assert gateway.post(ask()).json["error"]["code"] == "model_not_found"
    assert gateway.get("/v1/models").json["data"] == []
    assert gateway.get(f"/v1/models/{MODEL}").status == 404


def test_limits_the_operator_sets_replace_the_settings(make_gateway: Make, limits: Limits) -> None:
    gateway = make_gateway(requests_per_minute_max=1)
    assert gateway.post(ask()).status == 200
    assert gateway.post(ask()).status == 429
    set_limit(gateway, limits, "organization", requests_per_minute=100)
    until(lambda: gateway.post(ask()).status == 200)
    assert gateway.post(ask()).status == 200
