"""Pools as the settings and the machine give them."""

from __future__ import annotations

from decimal import Decimal

import pytest

from sublet.config.settings import Settings, SettingsError
from sublet.fleet import discovery
from sublet.wiring import owned


def _found(monkeypatch: pytest.MonkeyPatch, generation: str, count: int) -> None:
    kind = "cpu" if generation == "cpu" else "nvidia"
    devices = tuple(f"{kind}:{index}" for index in range(count))
    monkeypatch.setattr(discovery, "discover", lambda: discovery.Found(generation, devices, Decimal(10), "a test"))


def _settings(*pools: dict[str, object]) -> Settings:
    return Settings.model_validate({"pools": list(pools)})


@pytest.mark.parametrize(("cores", "accelerators"), [(1, 2), (2, 4), (3, 6), (4, 4), (64, 64)])
def test_a_machine_of_few_cores_sells_halves(cores: int, accelerators: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _found(monkeypatch, "cpu", cores)
    (pool,) = owned.pool_specs(_settings())
    assert len(pool.devices) == accelerators
    assert len(set(pool.devices)) == cores
    assert pool.watts * accelerators == 10 * cores


def test_a_gpu_is_never_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    _found(monkeypatch, "h100", 2)
    assert owned.pool_specs(_settings())[0].devices == ("nvidia:0", "nvidia:1")
    with pytest.raises(SettingsError, match="a GPU can't be shared"):
        owned.pool_specs(_settings({"name": "a", "accelerators": 3}))
    with pytest.raises(SettingsError, match="a GPU can't be shared"):
        owned.pool_specs(_settings({"name": "a", "accelerators": 1}, {"name": "b", "accelerators": 2}))
    first, second = owned.pool_specs(_settings({"name": "a", "accelerators": 1}, {"name": "b", "accelerators": 1}))
    assert set(first.devices).isdisjoint(second.devices)


def test_stated_watts_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    _found(monkeypatch, "h100", 1)
    (pool,) = owned.pool_specs(_settings({"name": "a", "watts": "1275"}))
    assert (pool.watts, pool.watts_source) == (Decimal(1275), "stated in the settings")
