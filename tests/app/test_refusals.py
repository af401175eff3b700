"""What a refusal costs: the search for alternatives keeps nobody waiting who sells, and reads each pool once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sublet.leases.model import NoCapacityError
from sublet.leases.quotes.alternatives import Alternatives
from sublet.leases.quotes.request import QuoteRequest
from sublet.simulation.world import World
from sublet.surplus.service import Surplus


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w", accelerators=8)
    made.remember(days=8, need=0.6, spread=0.1)
    made.observe()
    yield made
    made.close()


def refused(world: World, request: QuoteRequest) -> list[Any]:
    customer = world.system.accounts.create_organization("acme").id
    with pytest.raises(NoCapacityError) as refusal:
        world.system.leases.quote(customer, request)
    return list(refusal.value.details["alternatives"])


def test_others_sell_while_alternatives_are_searched(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    find = Alternatives.find
    sold: list[str] = []

    def with_another_sale(self: Alternatives, *args: Any) -> Any:
        with ThreadPoolExecutor(1) as pool:
            sale = pool.submit(world.system.store.write, lambda connection: "sold")
            sold.append(sale.result(timeout=30))
        return find(self, *args)

    monkeypatch.setattr(Alternatives, "find", with_another_sale)
    assert refused(world, QuoteRequest(accelerators=8, pool="simulated", class_name="notice", duration_s=3600))
    assert sold == ["sold"]


@pytest.mark.parametrize("by", [None, timedelta(days=5)])
def test_a_pool_is_read_once_however_many_windows_are_tried(
    world: World, monkeypatch: pytest.MonkeyPatch, by: timedelta | None
) -> None:
    view = Surplus.view
    read: list[str] = []

    def counted(self: Surplus, pool_id: str, *args: Any) -> Any:
        read.append(pool_id)
        return view(self, pool_id, *args)

    monkeypatch.setattr(Surplus, "view", counted)
    until = None if by is None else world.clock.now() + by
    wanted = QuoteRequest(accelerators=8, pool="simulated", class_name="notice", duration_s=3600, finish_by=until)
    refused(world, wanted)
    assert len(read) == 2, "once for the request, once for its alternatives"
