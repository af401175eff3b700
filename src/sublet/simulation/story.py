"""The whole story in simulated time: the same steps on the same code, in milliseconds."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sublet.desk.actuals import worth
from sublet.leases.model import LeaseState
from sublet.leases.quotes.admission import QuoteRequest
from sublet.reporting.actuals import actuals
from sublet.simulation.world import SSH_KEY, World
from sublet.values.windows import Window

LEASE_S = 4 * 3600


def play(world: World) -> dict[str, Any]:
    """Own, need, spare, sell raw, sell managed, reclaim, earn, worth; what each step saw."""
    system = world.system
    customer = system.accounts.create_organization("Aurora Research")
    key, _ = system.accounts.create_key(customer.id)
    facts: dict[str, Any] = {"own": world.pool.as_dict()}
    facts["spare_without_history"] = system.surplus.ladder(world.pool.id).as_dict()
    world.remember(days=28, need=0.25, spread=0.03)
    world.pass_time(600)
    facts["need"] = world.in_use
    facts["spare"] = system.surplus.ladder(world.pool.id).as_dict()
    end = world.clock.now() + timedelta(seconds=LEASE_S)
    quote = system.leases.quote(customer.id, QuoteRequest(2, "notice", end, pool=world.pool.id))
    lease = system.leases.accept(customer.id, quote.id, [SSH_KEY])
    world.pass_time(1800)
    facts["active"] = system.leases.lease(lease.id).as_dict()
    world.answer(customer.id, key.id, "smollm2-135m-instruct", 44, 38, "req_simulated")
    now = world.clock.now()
    system.demand.add_claim(
        world.pool.id, world.pool.accelerators, Window(now, now + timedelta(hours=6)), "training run"
    )
    facts["plan"] = system.plan().as_dict()
    world.pass_time(20)
    facts["notice"] = system.leases.lease(lease.id).as_dict()
    world.pass_time(900)
    ended = system.leases.lease(lease.id)
    facts["ended"] = ended.as_dict()
    assert ended.state is LeaseState.ENDED, ended.state
    facts["invoice"] = system.ledger.invoice(customer.id)
    facts["proof"] = system.ledger.prove().as_dict()
    window = Window(now - timedelta(days=1), world.clock.now())
    facts["worth"] = worth(actuals(system, window)).sentence
    return facts
