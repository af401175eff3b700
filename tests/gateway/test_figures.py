"""What the gateway reads from and writes to the database, and the metrics that it shows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import select
from tests.gateway.harness import Running, add_model, add_replica, ask, set_replica

from sublet.accounts.service import Accounts
from sublet.gateway import server
from sublet.gateway.metering.metrics import Histogram, Metrics, MinuteStats
from sublet.gateway.store import drop_minutes, recent_minutes, save_minutes
from sublet.models.catalog import BUILT_IN
from sublet.store import Store
from sublet.store.tables.accounts import key_uses
from sublet.values.clock import EPOCH
from sublet.wiring.model_api import load_snapshot


def test_the_snapshot_has_live_keys_and_ready_replicas_of_active_deployments(any_store: Store) -> None:
    accounts = Accounts(any_store)
    owner = accounts.create_organization("customer")
    kept, secret = accounts.create_key(owner.id)
    gone, _ = accounts.create_key(owner.id)
    accounts.revoke_key(gone.id)
    add_model(
        any_store, "toy", engine="openai_url", source={"url": "http://x/v1", "model": "org/toy", "key_variable": "K"}
    )
    first = add_replica(any_store, "toy", "http://x", slots=2)
    add_replica(any_store, "toy", "http://y", slots=3)
    with any_store.read() as connection:
        found = load_snapshot(connection, 1, BUILT_IN)
    assert [grant.id for grant in found.keys.values()] == [kept.id]
    route = found.models["toy"]
    assert (route.engine_model, route.key_variable, route.slots, route.stream_only) == ("org/toy", "K", 5, False)
    set_replica(any_store, first, state="draining")
    with any_store.read() as connection:
        again = load_snapshot(connection, 2, BUILT_IN)
    assert [replica.endpoint for replica in again.models["toy"].replicas] == ["http://y"]
    assert secret not in repr(found)


def test_an_engine_behind_a_socket_of_another_machine_is_no_replica_here(any_store: Store, tmp_path: Path) -> None:
    add_model(any_store, "toy")
    here = tmp_path / "here.sock"
    here.touch()
    for endpoint in (f"unix://{here}", f"unix://{tmp_path}/elsewhere.sock", "http://far"):
        add_replica(any_store, "toy", endpoint, slots=2)
    with any_store.read() as connection:
        route = load_snapshot(connection, 1, BUILT_IN).models["toy"]
    assert {replica.endpoint for replica in route.replicas} == {f"unix://{here}", "http://far"}
    assert (route.slots, route.slots_coming) == (4, 0)


def test_minute_figures_are_written_once_and_forgotten_in_time(any_store: Store) -> None:
    now = any_store.clock.now()
    stats = MinuteStats(now, "toy", requests=3, tokens_output=9)
    for count in (3, 4):
        stats.requests = count
        any_store.write(lambda connection: save_minutes(connection, "run", [stats]))
    with any_store.read() as connection:
        rows = recent_minutes(connection, now)
    assert [(row["requests"], row["tokens_output"]) for row in rows] == [(4, 9)]
    assert any_store.write(lambda connection: drop_minutes(connection, now + timedelta(minutes=1))) == 1


def test_the_figures_of_the_present_minute_are_there_when_the_gateway_ends(gateway: Running, store: Store) -> None:
    gateway.post(ask(stream=True))
    gateway.settled(1)
    gateway.stop()
    with store.read() as connection:
        rows = recent_minutes(connection, store.clock.now() - timedelta(minutes=1))
        used = connection.execute(select(key_uses)).all()
    assert [(row["model"], row["requests"], row["tokens_output"]) for row in rows] == [("toy", 1, 3)]
    assert len(used) == 1 and abs(store.clock.now() - used[0].used_at) < timedelta(minutes=1)


class _Used:
    """What `_Figures` asks of a gateway."""

    def __init__(self) -> None:
        self.used_keys: set[str] = set()
        self.watch = SimpleNamespace(troubles=list)


def test_a_gateway_stores_the_last_use_of_a_key_at_most_once_a_minute(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now: list[float] = [100.0]
    noted: list[list[str]] = []
    monkeypatch.setattr("sublet.gateway.server.time.monotonic", lambda: now[0])
    gateway: Any = _Used()
    ports: Any = SimpleNamespace(note_uses=lambda connection, keys, at: noted.append(sorted(keys)))
    figures = server._Figures(store, "run", Metrics(), gateway, ports)
    for _ in range(100):
        gateway.used_keys |= {"key_1", "key_2"}
        figures.save()
        now[0] += 1
    assert [keys for keys in noted if keys] == [["key_1", "key_2"]] * 2
    gateway.used_keys = {f"key_{number}" for number in range(3, server.USES_AT_ONCE_MAX + 13)}
    figures.save(at_once=True)
    assert len(noted[-1]) == server.USES_AT_ONCE_MAX and len(gateway.used_keys) == 10


def test_percentiles_of_a_minute() -> None:
    stats = MinuteStats(EPOCH, "toy")
    assert stats.ttft_ms(0.5) == 0
    for bucket in range(10):
        stats.ttft_counts[bucket] += 1
    assert stats.ttft_ms(0.5) <= stats.ttft_ms(0.95) <= 8


def test_a_histogram_counts_up_to_and_with_its_edges() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        histogram.observe(value)
    assert histogram.cumulated() == [("1.0", 2.0), ("2.0", 3.0), ("+Inf", 4.0)] and histogram.sum_s == 12.0


def test_metrics_have_what_was_counted(gateway: Running) -> None:
    gateway.post(ask())
    gateway.post(ask(stream=True))
    gateway.post(ask(), key="wrong")
    assert gateway.metric("sublet_gateway_requests_total") == 2
    assert gateway.metric("sublet_gateway_refused_total") == 1
    assert gateway.metric("sublet_gateway_tokens_total") == 16
    assert gateway.metric("sublet_gateway_time_to_first_token_seconds_count") == 2
    assert gateway.metric("sublet_gateway_in_flight") == 0


def test_health_needs_no_key(gateway: Running) -> None:
    assert gateway.get("/health", key="none").status == 200
