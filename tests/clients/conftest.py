"""The real thing: SmolLM2 on llama.cpp under its host, and a gateway in front of it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.harness import Running, until
from tests.ports import free_port

import sublet.store.tables  # noqa: F401  registers every table
from sublet.accounts.service import Accounts
from sublet.gateway.model import GatewaySettings
from sublet.models.catalog import BUILT_IN, is_present
from sublet.models.engines.llamacpp import LlamaCppEngine
from sublet.models.host import HostSettings
from sublet.models.host import run as run_host
from sublet.models.model import EngineMetrics, Replica
from sublet.models.service import Models
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.store.sealing import Sealing

START_S_MAX = 90.0


@dataclass
class Served:
    """A model that is served for real."""

    gateway: Running
    models: Models

    @property
    def replica(self) -> Replica:
        return self.models.replicas()[0]

    @property
    def engine(self) -> LlamaCppEngine:
        """A driver that asks the running engine."""
        replica = self.replica
        assert replica.endpoint is not None
        return LlamaCppEngine(BUILT_IN, replica.id, Path(replica.endpoint.removeprefix("unix://")).parent, 1)

    def engine_metrics(self) -> EngineMetrics:
        """The engine's own counters."""
        return self.engine.metrics()

    def count_tokens(self, messages: list[dict[str, Any]]) -> int:
        """By the engine's own tokenizer and template."""
        return self.engine.count_tokens(messages)

    def ready(self) -> None:
        """Wait until the model answers."""
        until(lambda: [item.state for item in self.models.replicas()] == ["ready"], START_S_MAX)
        until(lambda: self.gateway.get("/v1/models").json["data"][0]["available"])

    def idle(self) -> EngineMetrics:
        """Wait until the engine has nothing to do, and everything is emitted."""
        until(lambda: (found := self.engine_metrics()).processing == found.waiting == 0, 30)
        until(lambda: self.gateway.metric("sublet_gateway_in_flight") == 0, 30)

        def settled() -> set[str]:
            lines = self.gateway.journal("settle")
            return {line["request"] for line in lines if line.get("input", 0) + line.get("output", 0)}

        until(lambda: settled() == {item.request_id for item in self.gateway.events}, 10)
        return self.engine_metrics()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    if not is_present(BUILT_IN):
        pytest.fail(
            "the weights of the built-in model are not installed; run `sublet models pull smollm2-135m-instruct`"
        )
    folder: Path = tmp_path_factory.mktemp("real")
    store = Store(f"sqlite:///{folder}/sublet.db")
    metadata.create_all(store.engine)
    models = Models(store)
    models.deploy(BUILT_IN.name, "pool", floor=1)
    models.carry_out(models.plan({"pool": 1}))
    stop = threading.Event()
    host = threading.Thread(target=run_host, args=(HostSettings(folder), store), kwargs={"stop": stop}, daemon=True)
    host.start()
    sealing = Sealing([b"k" * 32])
    accounts = Accounts(store, lambda: sealing)
    key, secret = accounts.create_key(accounts.create_organization("customer").id)
    settings = GatewaySettings(
        data_dir=folder,
        port=0,
        operator_port=free_port(),
        requests_per_minute_max=10_000,
        concurrency_max=256,
        queue_per_key_max=256,
        queue_s_max=120,
    )
    gateway = Running(settings, store, secret, key.id, sealing=sealing).start()
    made = Served(gateway, models)
    made.ready()
    yield made
    gateway.stop()
    stop.set()
    host.join(10)
    store.close()
    assert not host.is_alive()
