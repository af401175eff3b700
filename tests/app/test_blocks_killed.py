"""Blocks, and a control plane that dies at any statement of their changes: all of a change is there or nothing, and what it breaks
is broken and credited once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from sublet.leases.blocks.service import BlockChangeRequest, NewBlockRequest
from sublet.leases.model import LeaseState
from sublet.leases.quotes.admission import BlockSale, QuoteRequest
from sublet.simulation.world import SSH_KEY
from sublet.simulation.world import World as SimulatedWorld

STATEMENTS_MAX = 200
STEP_S = 15
CHANGES = ("INSERT", "UPDATE", "DELETE")


class KilledError(Exception):
    """The process is gone: no statement after this one reaches the database, and the transaction is never committed."""


class World(SimulatedWorld):
    """A pool of eight with a customer, on the database that `url` names; empty: a file."""

    url = ""
    customer: str

    def crash(self) -> None:
        if self.url:
            database = self.settings.database.model_copy(update={"url": self.url})
            self.settings = self.settings.model_copy(update={"database": database})
        super().crash()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.real)])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    url = request.getfixturevalue("postgres_url") if request.param == "postgres" else ""
    made = type("World", (World,), {"url": url})(tmp_path / "w", accelerators=8, firm={"broken_per_1000_max": 10})
    made.customer = made.system.accounts.create_organization("tidal").id
    made.in_use = 2.0
    made.observe()
    yield made
    made.close()


def _create(world: World) -> Any:
    request = NewBlockRequest(world.pool.name, 2, world.clock.now() + timedelta(days=90), reason="term")
    return world.system.blocks.create(request, "operator", BlockSale(world.customer, (SSH_KEY,)))


def _change(**what: Any) -> Callable[[World], Any]:
    def do(world: World) -> Any:
        [found] = world.system.blocks.page().items
        return world.system.blocks.change(found.block.id, BlockChangeRequest(**what), "operator")

    return do


def _sold_block(world: World) -> None:
    end = world.clock.now() + timedelta(days=90)
    world.system.blocks.create(NewBlockRequest(world.pool.name, 4, end), "operator")
    asked = QuoteRequest(3, "firm", world.clock.now() + timedelta(days=60), None, world.pool.id)
    quote = world.system.leases.quote(world.customer, asked)
    world.system.leases.accept(world.customer, quote.id, [SSH_KEY])
    _go(world, 30)


def _go(world: World, seconds: int) -> None:
    for _ in range(0, seconds, STEP_S):
        world.clock.advance(STEP_S)
        world.observe()
        world.system.leases.tick()


def _books(world: World) -> list[Any]:
    """What a customer and an owner can see of blocks and leases, and how many notices the owner's reclaims stand behind."""
    views = [world.system.blocks.block(item.block.id) for item in world.system.blocks.page().items]
    leases = [(item.id, item.state, item.deadline, item.credit_nano) for item in world.system.leases.leases()]
    told = [(view.block, len(view.changes), [item.id for item in view.leases]) for view in views]
    return [told, sorted(leases), len(world.system.leases.reclaims().items)]


def _killed_at(world: World, number: int, do: Callable[[World], Any]) -> bool:
    """Whether the process died at the change of that number; False where the operation was over before."""
    seen = 0

    def before(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        nonlocal seen
        seen += statement.lstrip().upper().startswith(CHANGES)
        if seen >= number:
            raise KilledError

    engine = world.system.store.engine
    event.listen(engine, "before_cursor_execute", before)
    try:
        do(world)
    except KilledError:
        return True
    finally:
        event.remove(engine, "before_cursor_execute", before)
    return False


@pytest.mark.parametrize(
    ("prepare", "do", "broken"),
    [
        (lambda world: None, _create, 0),
        (_sold_block, _change(accelerators=3), 0),
        (_sold_block, _change(accelerators=6), 0),
        (_sold_block, _change(accelerators=1, force=True), 1),
        (_sold_block, _change(withdraw=True, force=True), 1),
    ],
    ids=["create and sell", "shrink", "widen", "break", "withdraw"],
)
def test_a_change_that_is_killed_at_any_statement_is_whole_or_nothing(
    world: World, prepare: Callable[[World], None], do: Callable[[World], Any], broken: int
) -> None:
    prepare(world)
    before = _books(world)
    kills = 0
    while _killed_at(world, kills + 1, do):
        kills += 1
        world.crash()
        assert _books(world) == before, f"killed at statement {kills}"
        assert kills < STATEMENTS_MAX
    assert kills >= 2
    # It went through, and the process dies before it does anything else.
    after = _books(world)
    world.crash()
    assert _books(world) == after != before
    _go(world, 60)
    world.crash()
    # A lease that was broken by force ends after its notice, and is cleaned up. On PostgreSQL the pool is led by a control plane
    # with its loops, which is not here: the books alone are looked at.
    _go(world, 600 if broken and not world.url else STEP_S)
    gone = [lease for lease in world.system.leases.leases() if lease.reclaim_at is not None]
    assert len(gone) == broken and all(lease.credit_nano > 0 for lease in gone)
    assert world.url or all(lease.state is LeaseState.ENDED for lease in gone)
    [found] = world.system.blocks.page().items
    assert len(world.system.blocks.block(found.block.id).changes) == (1 if not before[0] else 2)
