"""Two machines with real engines on one PostgreSQL serve one name: either gateway answers, and the death of one leaves the other."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.scenarios.house import until

from sublet.accounts.service import Accounts
from sublet.models.catalog import BUILT_IN, verified_weights
from sublet.models.host import socket_dir
from sublet.store import Store
from sublet.story.demo import write_settings
from sublet.story.stage import UpProcess

pytestmark = [pytest.mark.real, pytest.mark.timeout(500)]

NAMES = ("alpha", "beta")
ROUTE = '\n[[gateway.routes]]\nname = "small"\nupstreams = [{ model = "small-alpha" }, { model = "small-beta" }]\n'


def machine(folder: Path, name: str, database: str) -> UpProcess:
    """The settings of one machine: a pool, a node and a data directory of its own, the same database and route."""
    config = write_settings(folder / name)
    words = (
        config.read_text().replace("this-machine", f"of-{name}").replace("[control]\n", f'[control]\nnode = "{name}"\n')
    )
    config.write_text(f'{words}\n[database]\nurl = "{database}"\n\n[models]\ndefault = ""\n{ROUTE}')
    return UpProcess(config)


@pytest.fixture
def machines(tmp_path: Path, postgres_url: str) -> Iterator[dict[str, UpProcess]]:
    made = {name: machine(tmp_path, name, postgres_url) for name in NAMES}
    try:
        for up in made.values():
            up.start()
        yield made
    finally:
        for up in made.values():
            kill(up)


def kill(up: UpProcess) -> None:
    """The whole machine at once, as when its power fails."""
    for pid in up.pids().values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    if up.process is not None:
        up.process.wait()
        assert up.process.stdout is not None
        up.process.stdout.close()
        up.process = None


def send(url: str, key: str, body: Any = None, kind: str = "application/json") -> Any:
    content = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, content, {"authorization": f"Bearer {key}", "content-type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise AssertionError(f"{url}: {error.code} {error.read()!r}") from error


def catalog(name: str) -> bytes:
    able = ", ".join(f'"{word}"' for word in sorted(BUILT_IN.capabilities))
    return (
        f'[[models]]\nname = "small-{name}"\nengine = "llamacpp"\nsha256 = "{BUILT_IN.sha256}"\ncapabilities = [{able}]\n'
        f'source = {{ path = "{verified_weights(BUILT_IN)}" }}\n'
    ).encode()


def answer(up: UpProcess, key: str) -> str:
    body = {"model": "small", "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 4}
    found = send(f"{up.address('gateway')}/v1/chat/completions", key, body)
    assert found["model"] == "small" and found["usage"]["completion_tokens"] > 0
    return str(found["choices"][0]["message"]["content"])


def ready(up: UpProcess, key: str) -> dict[str, str]:
    """By model, the endpoint of the replica that is ready."""
    rows = send(f"{up.address('control')}/v1/deployments", key)["models"]
    return {
        row["name"]: replica["endpoint"] for row in rows for replica in row["replicas"] if replica["state"] == "ready"
    }


def runs_on(up: UpProcess, endpoint: str) -> bool:
    """Whether the engine's socket is this machine's. Where a path is too long for a socket, its folder is elsewhere."""
    return Path(endpoint.removeprefix("unix://")).parent == socket_dir(up.settings.data_dir / "engines")


def test_either_gateway_answers_and_one_machines_death_leaves_the_other(
    machines: dict[str, UpProcess], postgres_url: str
) -> None:
    alpha, beta = machines.values()
    store = Store(postgres_url)
    operator = Accounts(store).create_key("operator", "test")[1]
    customer = Accounts(store).create_organization("customer").id
    key = Accounts(store).create_key(customer, "test", ["models"])[1]
    store.close()
    for name in NAMES:
        # Both control planes take part: each is told of what the other's machine runs.
        other = beta if name == "alpha" else alpha
        send(f"{other.address('control')}/v1/catalog", operator, catalog(name), "application/toml")
        order = {"model": f"small-{name}", "pool_id": f"of-{name}", "floor": 1}
        send(f"{other.address('control')}/v1/deployments", operator, order)
    found = until(lambda: len(seen := ready(alpha, operator)) == 2 and seen, "an engine on each machine", 150)
    assert runs_on(alpha, found["small-alpha"]) and runs_on(beta, found["small-beta"])
    for up in (alpha, beta):
        assert [answer(up, key) for _ in range(4)]
    kill(alpha)
    # What waits at the dead engine's socket is refused there, and asked of the other within the same request.
    assert [answer(beta, key) for _ in range(8)]
    nodes = send(f"{beta.address('control')}/v1/nodes", operator)["nodes"]
    assert {node["name"] for node in nodes} == set(NAMES)
    alpha.start()
    until(lambda: len(ready(alpha, operator)) == 2, "the machine's engine to be back", 150)
    for up in (alpha, beta):
        assert answer(up, key)


def test_one_deployment_spans_both_machines_and_a_dead_ones_replica_is_lost(
    machines: dict[str, UpProcess], postgres_url: str
) -> None:
    alpha, beta = machines.values()
    store = Store(postgres_url)
    operator = Accounts(store).create_key("operator", "test")[1]
    store.close()
    send(f"{beta.address('control')}/v1/catalog", operator, catalog("both"), "application/toml")
    order = {"model": "small-both", "pool_ids": ["of-alpha", "of-beta"], "floor": 1, "scale": 1}
    send(f"{beta.address('control')}/v1/deployments", operator, order)
    found = until(lambda: ready(beta, operator).get("small-both"), "an engine on the preferred machine", 150)
    assert runs_on(alpha, found)
    kill(alpha)
    replaced = {"lost": ["alpha"], "ready": [None]}
    until(lambda: told(beta, operator) == replaced, "the loss to be seen, and an engine on the other machine", 150)
    figures = urllib.request.urlopen(f"{beta.address('control')}/metrics", timeout=30).read().decode()
    assert 'sublet_replicas{state="lost"} 1.0' in figures
    path = f"{beta.address('control')}/v1/deployments/small-both"
    delete(path, operator)
    until(lambda: not told(beta, operator), "both replicas to be over, the dead machine's too", 120)
    delete(path, operator)
    assert "small-both" not in {row["name"] for row in listed(beta, operator)}
    alpha.start()
    until(lambda: reachable(beta, operator) == {"alpha", "beta"}, "the machine to be back", 60)
    assert not list(socket_dir(alpha.settings.data_dir / "engines").glob("*.child")), "what it left is cleaned up"


def listed(up: UpProcess, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = send(f"{up.address('control')}/v1/deployments", key)["models"]
    return found


def told(up: UpProcess, key: str) -> dict[str, list[str | None]]:
    """By state of the replicas that are not over, the nodes that do not answer."""
    found: dict[str, list[str | None]] = {}
    for row in listed(up, key):
        for replica in row["replicas"]:
            found.setdefault(replica["state"], []).append(replica["lost_node"])
    return found


def reachable(up: UpProcess, key: str) -> set[str]:
    nodes = send(f"{up.address('control')}/v1/nodes", key)["nodes"]
    return {node["name"] for node in nodes if node["state"] == "reachable"}


def delete(url: str, key: str) -> None:
    request = urllib.request.Request(url, method="DELETE", headers={"authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 204
