"""Files that came in as a pool's history: another pool's is refused, and a wrong one can be taken out again."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.terminal import sit_at
from typer.testing import CliRunner

from sublet.accounts.service import Accounts
from sublet.api.http import frame, requirement
from sublet.commands import demand as commands
from sublet.demand import api as demand_api
from sublet.demand.model import Sample
from sublet.demand.service import Demand
from sublet.store import Store
from sublet.store.paging import PageRequest
from sublet.values.clock import SimulatedClock, format_time
from sublet.values.errors import InvalidInputError, NotFoundError
from sublet.values.windows import Window


def csv(start: datetime, rows: list[tuple[float, float]]) -> bytes:
    lines = [f"{format_time(start + timedelta(hours=hour))},{one},{two}" for hour, (one, two) in enumerate(rows)]
    return "\n".join(["time,capacity,in_use", *lines]).encode()


def state(demand: Demand, clock: SimulatedClock) -> list[tuple[float, float]]:
    series = demand.history("pool_a", clock.now() - timedelta(days=10), clock.now() + timedelta(seconds=1))
    return list(zip(series.capacity.tolist(), series.in_use.tolist(), strict=True))


def test_a_file_of_a_far_larger_pool_is_refused_with_both_numbers(store: Store, clock: SimulatedClock) -> None:
    demand, start = Demand(store), clock.now() - timedelta(hours=10)
    content = csv(start, [(3456, 3000)] * 5)
    with pytest.raises(InvalidInputError, match=r"usually 3000.* 16 accelerators") as refused:
        demand.import_history("pool_a", content, 16)
    assert "force" in refused.value.message
    assert state(demand, clock) == []
    assert demand.import_history("pool_a", content, 16, force=True).taken == 5
    # Work that queues is no other pool's demand.
    demand.import_history("pool_b", csv(start, [(16, 30)] * 5), 16)


def test_undoing_an_import_puts_back_what_it_wrote_over_and_nothing_that_came_since(
    store: Store, clock: SimulatedClock
) -> None:
    demand, start = Demand(store), clock.now() - timedelta(hours=10)
    demand.record_samples(
        "pool_a", [Sample(start + timedelta(hours=1), 16, 4), Sample(start + timedelta(hours=7), 16, 5)]
    )
    before = state(demand, clock)
    demand.import_history("pool_a", csv(start, [(16, 12)] * 5), 16, "wrong.csv")
    found = demand.import_page("pool_a", PageRequest()).items
    assert [(item.source, item.samples, item.undone_at) for item in found] == [("wrong.csv", 5, None)]
    demand.record_samples("pool_a", [Sample(start + timedelta(hours=3), 16, 14)])
    undone = demand.undo_import(found[0].id)
    assert undone.undone_at == clock.now()
    assert state(demand, clock) == [before[0], (16, 14), before[1]]
    assert demand.undo_import(found[0].id) == undone
    with pytest.raises(NotFoundError):
        demand.undo_import("imp_none")


def test_importing_twice_and_undoing_both_leaves_nothing(store: Store, clock: SimulatedClock) -> None:
    demand, content = Demand(store), csv(clock.now() - timedelta(hours=10), [(16, 12)] * 5)
    for _ in range(2):
        demand.import_history("pool_a", content, 16)
        clock.advance(1)
    for item in demand.import_page("pool_a", PageRequest()).items:
        demand.undo_import(item.id)
    assert state(demand, clock) == []


def test_imports_are_listed_and_undone_over_http(
    store: Store, clock: SimulatedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts, demand = Accounts(store), Demand(store)
    api = frame("test")
    api.include_router(demand_api.router(demand, requirement(accounts), clock.now, accelerators_of=lambda pool_id: 16))
    sit_at(monkeypatch, api, accounts.ensure_operator() or "")
    demand.import_history("pool_a", csv(clock.now() - timedelta(hours=10), [(16, 12)] * 5), 16, "wrong.csv")
    listed = CliRunner().invoke(commands.app, ["imports", "pool_a"])
    assert listed.exit_code == 0 and "wrong.csv" in listed.stdout
    imported = demand.import_page("pool_a", PageRequest()).items[0].id
    undone = CliRunner().invoke(commands.app, ["undo", imported])
    assert undone.exit_code == 0 and "is undone" in undone.stdout
    assert state(demand, clock) == []


def test_a_claim_that_can_wait_is_needed_later(store: Store, clock: SimulatedClock) -> None:
    demand, now = Demand(store), clock.now()
    claim = demand.add_claim("pool_a", 4, Window.starting(now, 7200), "retraining", patience_s=1800)
    assert demand.claim(claim.id) == claim
    assert claim.needed == Window(now + timedelta(minutes=30), now + timedelta(minutes=150))
    assert claim.as_dict()["patience_s"] == 1800
    clock.advance(7500)
    assert [item.id for item in demand.claims("pool_a")] == [claim.id]
    clock.advance(1800)
    assert demand.claims("pool_a") == []


@pytest.mark.parametrize("patience_s", [-1, 86_401])
def test_patience_is_neither_negative_nor_longer_than_a_day(
    store: Store, clock: SimulatedClock, patience_s: int
) -> None:
    with pytest.raises(InvalidInputError, match="patience_s"):
        Demand(store).add_claim("pool_a", 4, Window.starting(clock.now(), 7200), "", patience_s=patience_s)
