"""A suspended organization and a revoked key buy nothing, not even by what they left on the waiting list."""

from __future__ import annotations

from pathlib import Path

import pytest

from sublet.leases.quotes.request import QuoteRequest
from sublet.leases.waitlist.model import EntryState, NewEntry
from sublet.simulation.world import SSH_KEY, World
from sublet.values.errors import ConflictError


def test_nothing_is_bought_with_a_key_that_was_revoked(tmp_path: Path) -> None:
    world = World(tmp_path / "w", accelerators=4)
    system = world.system
    world.remember(days=30, need=0.0, spread=0.0)
    world.observe()
    owner = system.accounts.create_organization("tidal").id
    request = QuoteRequest(1, "spot", pool=world.pool.name, duration_s=3600)
    (leaked, _), (kept, _) = (system.accounts.create_key(owner, name, ["leases"]) for name in ("leaked", "kept"))
    wanted = NewEntry(request, ssh_public_keys=(SSH_KEY,))
    first, second = (system.leases.waitlist.join(owner, wanted, key.id) for key in (leaked, kept))
    system.accounts.revoke_key(leaked.id)
    assert [made.id for made in system.leases.waitlist.tend()] == [second.id]
    waits = system.leases.waitlist.entry(first.id, owner)
    assert waits.state is EntryState.WAITING and "was revoked" in waits.reason
    world.close()


def test_nothing_is_bought_for_a_suspended_organization_until_it_is_resumed(tmp_path: Path) -> None:
    world = World(tmp_path / "w", accelerators=4)
    system = world.system
    world.remember(days=30, need=0.0, spread=0.0)
    world.observe()
    owner = system.accounts.create_organization("tidal").id
    request = QuoteRequest(1, "spot", pool=world.pool.name, duration_s=3600)
    quote = system.leases.quote(owner, request)
    entry = system.leases.waitlist.join(owner, NewEntry(request, ssh_public_keys=(SSH_KEY,)))
    system.accounts.suspend(owner)
    for buy in (
        lambda: system.leases.quote(owner, request),
        lambda: system.leases.accept(owner, quote.id, [SSH_KEY]),
    ):
        with pytest.raises(ConflictError, match="tidal is suspended"):
            buy()
    assert system.leases.waitlist.tend() == [] and system.leases.leases(owner) == []
    waits = system.leases.waitlist.entry(entry.id, owner)
    assert waits.state is EntryState.WAITING and "tidal is suspended" in waits.reason
    system.accounts.resume(owner)
    [bought] = system.leases.waitlist.tend()
    assert bought.state is EntryState.LEASED and len(system.leases.leases(owner)) == 1
    world.close()
