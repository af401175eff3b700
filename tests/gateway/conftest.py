"""Fixtures: a scripted engine, and gateways in front of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.gateway.harness import MODEL, Running, ScriptedEngine, add_model, add_replica
from tests.ports import free_port

from sublet.accounts.service import Accounts
from sublet.gateway.model import GatewaySettings
from sublet.store import Store


@pytest.fixture
def engine() -> Iterator[ScriptedEngine]:
    scripted = ScriptedEngine()
    yield scripted
    scripted.stop()


@pytest.fixture
def make_gateway(tmp_path: Path, store: Store, engine: ScriptedEngine) -> Iterator[Callable[..., Running]]:
    """Make a gateway with given settings in front of the scripted engine (model `toy`, four slots)."""
    made: list[Running] = []

    def make(*, slots: int = 4, start: bool = True, llamacpp: bool = False, **settings: Any) -> Running:
        accounts = Accounts(store)
        organization = accounts.create_organization(f"customer {len(made)}")
        key, secret = accounts.create_key(organization.id)
        if not made:
            add_model(store, MODEL, engine="llamacpp" if llamacpp else "openai_url")
            add_replica(store, MODEL, engine.url, slots)
        values = {"port": 0, "snapshot_interval_s": 0.05, "durability": "process", "drain_s_max": 1.0, **settings}
        values.setdefault("operator_port", free_port())
        running = Running(GatewaySettings(data_dir=tmp_path / f"gateway{len(made)}", **values), store, secret, key.id)
        made.append(running)
        return running.start() if start else running

    yield make
    for running in made:
        running.stop()


@pytest.fixture
def gateway(make_gateway: Callable[..., Running]) -> Running:
    return make_gateway()
