"""A pool that the settings call simulated, in a system that nobody gave backends of their own: its leases start and end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from sublet.demand.model import Sample
from sublet.launch.running import end_leases
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.world import SSH_KEY, settings_for
from sublet.values.clock import SimulatedClock, SystemClock
from sublet.wiring.system import Sublet


def test_its_leases_start_outlive_a_restart_and_end(tmp_path: Path, clock: SimulatedClock) -> None:
    settings = settings_for(tmp_path, 8)
    system = Sublet(settings, clock)
    [pool] = system.sync_fleet()
    hours = [Sample(clock.now() - timedelta(hours=hour), 8, 2) for hour in range(10 * 24, -1, -1)]
    system.demand.record_samples(pool.id, hours)
    customer = system.accounts.create_organization("customer").id
    quote = system.leases.quote(customer, QuoteRequest(1, "spot", duration_s=1200, pool=pool.id))
    lease = system.leases.accept(customer, quote.id, [SSH_KEY])

    def pass_s(seconds: int) -> str:
        for _ in range(seconds // 60):
            clock.advance(60)
            system.leases.tick()
        return system.leases.lease(lease.id).state.value

    assert pass_s(180) == "active"
    system.close()
    system = Sublet(settings, clock)
    assert pass_s(180) == "active"
    assert pass_s(1200) == "ended"
    assert system.leases.lease(lease.id).end_reason == "window_over"
    system.close()


@pytest.mark.parametrize("elsewhere", [False, True])
def test_down_ends_its_leases_and_nobody_elses(tmp_path: Path, elsewhere: bool) -> None:
    clock = SimulatedClock(SystemClock().now())
    settings = settings_for(tmp_path, 8)
    system = Sublet(settings, clock)
    [pool] = system.sync_fleet()
    system.demand.record_samples(
        pool.id, [Sample(clock.now() - timedelta(hours=hour), 8, 2) for hour in range(10 * 24, -1, -1)]
    )
    customer = system.accounts.create_organization("customer").id
    quote = system.leases.quote(customer, QuoteRequest(1, "spot", duration_s=7200, pool=pool.id))
    lease = system.leases.accept(customer, quote.id, [SSH_KEY])
    for _ in range(3):
        clock.advance(60)
        system.leases.tick()
    assert system.leases.lease(lease.id).state.value == "active"
    if elsewhere:
        # The same database, and a data directory of its own: another machine.
        settings = settings.model_copy(
            update={
                "data_dir": tmp_path / "other",
                "database": settings.database.model_copy(update={"url": settings.database_url}),
            }
        )
    assert end_leases(settings) == ([] if elsewhere else [lease.id])
    assert system.leases.lease(lease.id).state.value == ("active" if elsewhere else "ended")
    system.close()
