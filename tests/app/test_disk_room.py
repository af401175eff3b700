"""What the disk can't hold is not sold: a quote is refused before a lease could fail at its start."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sublet.config.pools import PoolSettings
from sublet.config.settings import Settings
from sublet.demand.model import Sample
from sublet.leases.backends.local import disk
from sublet.leases.backends.local.backend import LocalBackend
from sublet.leases.model import NoCapacityError
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.simulation.world import SSH_KEY
from sublet.values.clock import SimulatedClock
from sublet.values.ids import new_id
from sublet.values.windows import Window
from sublet.wiring.system import Sublet

MIB = 1 << 20


@pytest.fixture
def system(tmp_path: Path, clock: SimulatedClock) -> Iterator[Sublet]:
    pool = PoolSettings(name="here", accelerators=8, backend="local", generation="cpu")
    opened = Sublet(Settings(data_dir=tmp_path, pools=(pool,)), clock)
    [made] = opened.sync_fleet()
    hours = [Sample(clock.now() - timedelta(hours=hour), 8, 0) for hour in range(10 * 24, -1, -1)]
    opened.demand.record_samples(made.id, hours)
    yield opened
    opened.close()


def sell(system: Sublet, count: int) -> None:
    customer = system.accounts.create_organization(f"customer {new_id('org')}").id
    quote = system.leases.quote(customer, QuoteRequest(count, "spot", duration_s=600, pool="here"))
    system.leases.accept(customer, quote.id, [SSH_KEY])


def test_f29_only_what_the_disk_can_hold_is_sold(system: Sublet, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = system.backends["local"]
    assert isinstance(backend, LocalBackend)
    each = backend._settings.disk_bytes
    monkeypatch.setattr(disk, "lease_bytes_max", lambda _: 3 * each + each // 2)
    assert backend.without_room() == 5
    sell(system, 2)
    sell(system, 1)
    with pytest.raises(NoCapacityError):
        sell(system, 1)
    monkeypatch.setattr(disk, "lease_bytes_max", lambda _: 8 * each)
    monkeypatch.setattr("sublet.leases.backends.local.backend.ROOM_KEPT_S", -1.0)
    sell(system, 1)


def test_nothing_is_sold_on_a_disk_that_has_less_than_nothing(system: Sublet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "lease_bytes_max", lambda _: -MIB)
    with pytest.raises(NoCapacityError):
        sell(system, 1)


def test_f23_a_reclaim_compares_accelerators_alone(system: Sublet, monkeypatch: pytest.MonkeyPatch) -> None:
    """F23: what is short beside accelerators, such as the disk, neither blocks a reclaim nor makes it break more leases."""
    for _ in range(3):
        sell(system, 2)
    window = Window.starting(system.clock.now(), 600)

    def planned(wanted: int) -> tuple[list[str], int]:
        plan = system.leases.preview_reclaim(ReclaimOrder("here", wanted, window, "a deadline of ours"))
        return [victim.id for victim in plan.victims], plan.short

    before = {wanted: planned(wanted) for wanted in range(1, 9)}
    assert before[8] == (before[8][0], 0) and len(before[8][0]) == 3
    monkeypatch.setattr(disk, "lease_bytes_max", lambda _: -MIB)
    monkeypatch.setattr("sublet.leases.backends.local.backend.ROOM_KEPT_S", -1.0)
    with pytest.raises(NoCapacityError):
        sell(system, 1)
    assert {wanted: planned(wanted) for wanted in before} == before
