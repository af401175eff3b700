"""Budgets and holds: never past a hard limit, whatever happens at once; alerts that arrive."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.ledger.conftest import give_key
from tests.ledger.prepaid import prepay

from sublet.ledger.budgets.ceilings import Most
from sublet.ledger.budgets.desk import HoldDesk
from sublet.ledger.budgets.holds import announce
from sublet.ledger.budgets.model import BudgetExceededError, HoldRequest, Settlement
from sublet.ledger.model import UsageEvent
from sublet.ledger.service import Ledger, new_budget
from sublet.store import Store
from sublet.store import outbox as outbox_of_store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError

Used = Callable[..., UsageEvent]


@pytest.fixture
def hold(clock: SimulatedClock, bolt: str) -> Callable[..., HoldRequest]:
    def make(identifier: str, nano: int, **fields: Any) -> HoldRequest:
        return HoldRequest(f"hld_{identifier}", bolt, nano, clock.now() + timedelta(seconds=60), **fields)

    return make


def state(ledger: Ledger, owner: str) -> tuple[int, int]:
    [found] = ledger.budgets(owner)
    return found.spent_nano, found.held_nano


def test_reserve_settle_and_what_is_left(priced: Ledger, bolt: str, hold: Callable[..., HoldRequest]) -> None:
    priced.create_budget(new_budget(bolt, 100))
    assert [outcome.error for outcome in priced.reserve([hold("a", 60), hold("b", 40)])] == [None, None]
    [refused] = priced.reserve([hold("c", 1)])
    assert isinstance(refused.error, BudgetExceededError)
    assert refused.error.details["resets_at"] == "2026-02-01T00:00:00Z"
    priced.settle([Settlement("hld_a", 10)])
    assert state(priced, bolt) == (10, 40)
    assert priced.reserve([hold("c", 50)])[0].error is None
    assert priced.reserve([hold("d", 1)])[0].error is not None


def test_repeats_change_nothing_and_other_content_is_refused(
    priced: Ledger, bolt: str, hold: Callable[..., HoldRequest]
) -> None:
    priced.create_budget(new_budget(bolt, 100))
    outcomes = priced.reserve([hold("a", 60), hold("a", 60), hold("a", 61)])
    assert [type(outcome.error) for outcome in outcomes] == [type(None), type(None), ConflictError]
    outcomes = priced.settle([Settlement("hld_a", 30), Settlement("hld_a", 30), Settlement("hld_a", 31)])
    assert [type(outcome.error) for outcome in outcomes] == [type(None), type(None), ConflictError]
    assert isinstance(priced.settle([Settlement("hld_z", 1)])[0].error, NotFoundError)
    assert isinstance(priced.settle([Settlement("hld_a", -1)])[0].error, InvalidInputError)
    assert state(priced, bolt) == (30, 0)


def test_what_is_never_settled_expires_and_a_late_settlement_still_counts(
    priced: Ledger, bolt: str, hold: Callable[..., HoldRequest], clock: SimulatedClock
) -> None:
    priced.create_budget(new_budget(bolt, 100))
    priced.reserve([hold("a", 60)])
    clock.advance(59)
    assert priced.expire() == 0
    clock.advance(1)
    assert (priced.expire(), state(priced, bolt)) == (1, (0, 0))
    assert priced.settle([Settlement("hld_a", 25)])[0].error is None
    assert state(priced, bolt) == (25, 0)


@pytest.mark.parametrize("order", ["settle first", "usage first"])
def test_settled_usage_is_held_until_it_is_rated_then_spent_exactly(
    priced: Ledger, bolt: str, used: Used, hold: Callable[..., HoldRequest], order: str
) -> None:
    """The counter of a budget is the sum of the ledger's own lines: the two can't disagree."""
    priced.create_budget(new_budget(bolt, 10**9))
    priced.reserve([hold("a", 500_000_000)])
    events = [
        used(bolt, "in", 1_000_000, hold_id="hld_a"),
        used(bolt, "out", 100_000, meter="tokens.output", hold_id="hld_a"),
    ]
    if order == "settle first":
        priced.settle([Settlement("hld_a", 220_000_000, events=2)])
        assert state(priced, bolt) == (0, 220_000_000)
    priced.take_now(events)
    priced.rate()
    if order == "usage first":
        assert state(priced, bolt) == (210_000_000, 290_000_000)
        priced.settle([Settlement("hld_a", 220_000_000, events=2)])
    assert state(priced, bolt) == (210_000_000, 0)


def test_scopes_and_periods(priced: Ledger, bolt: str, used: Used, clock: SimulatedClock) -> None:
    clock.set(datetime(2026, 1, 31, 23, 59, tzinfo=UTC))
    priced.take_now([used(bolt, "a", 10**6, project="search", key_id="key_1"), used(bolt, "b", 10**6, project="chat")])
    priced.rate()
    give_key(priced.store, bolt, "key_1")
    made = {
        "all": priced.create_budget(new_budget(bolt, 1000, hard=False)),
        "search": priced.create_budget(new_budget(bolt, 10**9, scope="project", scope_id="search")),
        "key": priced.create_budget(new_budget(bolt, 10**9, scope="key", scope_id="key_1", period="day")),
        "ever": priced.create_budget(new_budget(bolt, 10**9, period="ever")),
    }

    def spent() -> dict[str, int]:
        by_id = {found.budget.id: found.spent_nano for found in priced.budgets(bolt)}
        return {name: by_id[budget.id] for name, budget in made.items()}

    expected = {"all": 300_000_000, "search": 150_000_000, "key": 150_000_000, "ever": 300_000_000}
    assert spent() == expected
    priced.take_now([used(bolt, "fix", 0, kind="cancellation", corrects=("gateway", "a"))])
    priced.rate()
    assert spent() == {"all": 150_000_000, "search": 0, "key": 0, "ever": 150_000_000}
    clock.advance(120)
    assert spent() == {"all": 0, "search": 0, "key": 0, "ever": 150_000_000}


def test_prepaid_money_is_a_hard_budget_that_grows_with_payments(
    priced: Ledger, bolt: str, hold: Callable[..., HoldRequest]
) -> None:
    prepay(priced, bolt, 100, "p1")
    prepay(priced, bolt, 100, "p1")
    assert [outcome.error is None for outcome in priced.reserve([hold("a", 100), hold("b", 1)])] == [True, False]
    prepay(priced, bolt, 50, "p2")
    assert priced.reserve([hold("c", 50)])[0].error is None


def test_sixty_four_clients_on_two_desks_never_pass_the_limit(
    priced: Ledger, bolt: str, hold: Callable[..., HoldRequest]
) -> None:
    priced.create_budget(new_budget(bolt, 1000, thresholds=()))
    desks = [HoldDesk(priced.store, Ledger(priced.store).spending) for _ in range(2)]
    most = []

    def client(number: int) -> None:
        for serial in range(12):
            name = f"{number}/{serial}"
            if desks[number % 2].reserve(hold(name, 7)).error is None:
                spent, held = state(priced, bolt)
                most.append(spent + held)
                assert desks[(number + 1) % 2].settle(Settlement(f"hld_{name}", 3)).error is None

    threads = [threading.Thread(target=client, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for desk in desks:
        desk.close()
    spent, held = state(priced, bolt)
    assert max(most) <= 1000 and held == 0
    assert spent <= 1000 and spent % 3 == 0
    # 7 more would not have fitted, or every request was served: nothing was refused without need.
    assert spent > 1000 - 7 or spent == 64 * 12 * 3
    with pytest.raises(UnavailableError):
        desks[0].reserve(hold("after", 1))


@pytest.mark.parametrize(
    "fields",
    [
        {"scope": "team"},
        {"scope": "key"},
        {"period": "week"},
        {"thresholds": (0,)},
        {"email": "nobody"},
    ],
)
def test_a_bad_budget_is_refused(bolt: str, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        new_budget(bolt, 1, **fields)


def test_a_budget_for_a_key_that_the_organization_does_not_have_is_refused(
    priced: Ledger, acme: str, bolt: str
) -> None:
    give_key(priced.store, acme, "key_of_acme")
    for key_id in ("nope", "key_of_acme"):
        with pytest.raises(NotFoundError, match=f"bolt has no key '{key_id}'; `sublet key ls {bolt}` lists"):
            priced.create_budget(new_budget(bolt, 1, scope="key", scope_id=key_id))
    assert priced.budgets(bolt) == []
    priced.create_budget(new_budget(acme, 1, scope="key", scope_id="key_of_acme"))


def events_of(store: Store) -> list[tuple[str, Any]]:
    outbox_of_store.number(store)
    with store.read() as connection:
        return [(event.kind, event.payload) for event in outbox_of_store.read_after(connection, 0)]


def test_each_threshold_and_a_spent_hard_budget_are_events_once(
    priced: Ledger, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    made = priced.create_budget(new_budget(bolt, 300_000_000, hard=True, thresholds=(50, 120)))
    for number in range(7):
        priced.take_now([used(bolt, f"a{number}", 400_000)])
        priced.rate()
    found = events_of(priced.store)
    assert [(kind, payload["spent"]) for kind, payload in found] == [
        ("budget.threshold_reached", "0.180000000"),
        ("budget.hard_limit_reached", "0.300000000"),
        ("budget.threshold_reached", "0.360000000"),
    ]
    assert found[0][1] == {
        "budget": made.id,
        "scope": "organization",
        "scope_id": "",
        "period": "month",
        "period_start": "2026-01-01T00:00:00Z",
        "hard": True,
        "limit": "0.300000000",
        "spent": "0.180000000",
        "currency": "USD",
        "threshold_percent": 50,
    }


def test_several_processes_never_pass_the_limit(
    priced: Ledger, bolt: str, hold: Callable[..., HoldRequest], clock: SimulatedClock
) -> None:
    """Gateways are processes of their own: each has its own connections, and only the rows of the budgets between them."""
    priced.create_budget(new_budget(bolt, 1000, thresholds=()))
    url = priced.store.url.render_as_string(hide_password=False)
    priced.store.engine.dispose()
    requests = [[hold(f"{process}/{serial}", 7) for serial in range(60)] for process in range(4)]
    children = []
    for mine in requests:
        child = os.fork()
        if child == 0:
            granted = 0
            try:
                own = Ledger(Store(url, clock))
                for request in mine:
                    granted += own.reserve([request])[0].error is None
            finally:
                os._exit(granted)
        children.append(child)
    counts = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    assert sum(counts) == 1000 // 7
    assert state(priced, bolt) == (0, 7 * sum(counts))


def test_a_hold_that_is_shared_is_for_its_times_the_most_and_leaves_something_to_spare(
    priced: Ledger, bolt: str, hold: Callable[..., HoldRequest], clock: SimulatedClock
) -> None:
    usage = (Most(("tokens.input", "tokens.input_cached"), 7), Most(("tokens.output",), 11))
    [single] = priced.reserve([hold("single", 0, usage=usage)])
    one = single.nano
    assert one > 0 and single.ceiling is None
    [shared] = priced.reserve([hold("shared", 0, usage=usage, times=5, until=clock.now() + timedelta(seconds=5))])
    assert shared.error is None and shared.ceiling is not None
    each = shared.ceiling.nano([7, 11])
    assert shared.nano == 5 * each and each >= one
    for steps in ([1, 1], [7, 0], [1000, 3]):
        asked = tuple(Most(item.meters, count) for item, count in zip(usage, steps, strict=True))
        [found] = priced.reserve([hold(f"of{steps}", 0, usage=asked)])
        assert found.nano <= shared.ceiling.nano(steps)


def test_a_shared_hold_is_refused_where_too_little_would_be_left_and_gives_back_what_was_not_used(
    priced: Ledger, bolt: str, hold: Callable[..., HoldRequest], clock: SimulatedClock
) -> None:
    usage = (Most(("tokens.output",), 10),)
    [probe] = priced.reserve([hold("probe", 0, usage=usage, times=2)])
    nano = probe.nano
    assert nano
    budget = priced.create_budget(new_budget(bolt, 8 * nano - 1))
    assert priced.reserve([hold("a", 0, usage=usage, times=2, spare=8)])[0].error is not None
    priced.change_budget(budget.id, 8 * nano)
    assert priced.reserve([hold("a", 0, usage=usage, times=2, spare=8)])[0].error is None
    assert state(priced, bolt) == (0, nano)
    store = priced.store
    store.write(lambda connection: announce(connection, "hld_a", 1))
    store.write(lambda connection: priced.spending.finish(connection, "hld_a", clock.now(), nano // 4))
    assert state(priced, bolt) == (0, nano // 4)
    priced.reserve([hold("b", 0, usage=usage, times=2)])
    store.write(lambda connection: priced.spending.finish(connection, "hld_b", clock.now(), nano // 4))
    # Nothing named it: nothing is left held.
    assert state(priced, bolt) == (0, nano // 4)
