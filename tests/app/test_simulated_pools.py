"""A pool that the settings call simulated, in a system that nobody gave backends of their own: its leases start and end."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from sublet.demand.model import Sample
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.world import SSH_KEY, settings_for
from sublet.values.clock import SimulatedClock
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
