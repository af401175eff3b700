"""How budgets stand, as a page of them: the same figures as one by one, in a fixed number of queries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import event, insert
from tests.store.events import recorded

from sublet.accounts.service import Accounts
from sublet.ledger.budgets.model import HoldRequest
from sublet.ledger.budgets.standing import PAGE_MAX, Standings, standings
from sublet.ledger.model import UsageEvent
from sublet.ledger.service import Ledger, new_budget
from sublet.store import Store
from sublet.store.tables.ledger import budget_states
from sublet.values.clock import EPOCH, SimulatedClock

Used = Callable[..., UsageEvent]
DOLLAR = 10**9


def standing(ledger: Ledger, **asked: object) -> Standings:
    with ledger.store.read() as connection:
        return standings(connection, ledger.store.clock.now(), **asked)  # type: ignore[arg-type]


@contextmanager
def counted(store: Store) -> Iterator[list[str]]:
    """The statements that are sent in the meantime."""
    sent: list[str] = []

    def note(connection: object, cursor: object, statement: str, *rest: object) -> None:
        sent.append(statement)

    event.listen(store.engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(store.engine, "before_cursor_execute", note)


def test_each_budget_stands_as_it_does_alone(
    priced: Ledger, acme: str, bolt: str, used: Used, clock: SimulatedClock
) -> None:
    # In Berlin the day and the month have begun already; in UTC it is the last evening of January.
    clock.set(datetime(2026, 1, 31, 23, 30, tzinfo=UTC))
    key, _ = Accounts(priced.store).create_key(acme, "notebooks", project="search")
    for owner in (acme, bolt):
        for period in ("day", "month", "ever"):
            priced.create_budget(new_budget(owner, 100 * DOLLAR, period=period))
        priced.create_budget(new_budget(owner, DOLLAR, scope="project", scope_id="search", hard=False))
    priced.create_budget(new_budget(acme, DOLLAR, scope="key", scope_id=key.id))
    priced.take_now(
        [
            used(owner, f"{owner}/{n}", 10**8, at=clock.now() - timedelta(hours=n))
            for owner in (acme, bolt)
            for n in (0, 2)
        ]
    )
    priced.rate()
    expires = clock.now() + timedelta(seconds=60)
    assert priced.reserve([HoldRequest("hld_1", acme, DOLLAR // 4, expires, key_id=key.id)])[0].error is None
    clock.advance(20)
    found = standing(priced)
    alone = {state.budget.id: state for owner in (acme, bolt) for state in priced.budgets(owner)}
    assert {item.budget.id: item.state for item in found.items} == alone
    assert found.many == len(found.items) == 9
    spent = {
        (item.organization, item.budget.period): item.state.spent_nano
        for item in found.items
        if not item.budget.scope_id
    }
    assert spent["acme", "day"] < spent["acme", "ever"] and spent["bolt", "day"] == spent["bolt", "ever"]
    [mine] = [item for item in found.items if item.budget.scope == "key"]
    assert (mine.key_name, mine.key_hint, mine.state.held_nano) == ("notebooks", key.hint, DOLLAR // 4)
    assert mine.resets_at == datetime(2026, 2, 28, 23, 0, tzinfo=UTC)
    assert {item.resets_at for item in found.items if item.budget.period == "ever"} == {None}


def test_the_most_used_come_first_and_are_counted_by_how_they_stand(ledger: Ledger, acme: str, bolt: str) -> None:
    names: dict[str, str] = {}

    def budget(name: str, owner: str, limit: int, spent: int, held: int = 0, **fields: object) -> None:
        scope = {"scope": "project", "scope_id": name}
        made = ledger.create_budget(new_budget(owner, limit, period="ever", **scope, **fields))
        names[made.id] = name
        values = {"spent_nano": spent, "held_nano": held}
        ledger.store.write(
            lambda connection: connection.execute(
                budget_states.update().where(budget_states.c.budget_id == made.id).values(**values)
            )
        )

    budget("untouched", acme, 100, 0)
    budget("nothing allowed, nothing used", bolt, 0, 0, hard=False)
    budget("nothing allowed", acme, 0, 1)
    budget("most of a fortune", bolt, 2**62, 2**61, 2**60 + 2**59)
    budget("used up", acme, 100, 60, 40)
    budget("passed softly", bolt, 100, 101, hard=False)
    budget("79 percent", acme, 100, 79)
    budget("80 percent", acme, 100, 79, 1)
    found = standing(ledger)
    order = [names[item.budget.id] for item in found.items]
    assert order[:6] == ["nothing allowed", "passed softly", "used up", "most of a fortune", "80 percent", "79 percent"]
    assert (found.many, found.refusing, found.passed, found.near) == (8, 2, 2, 2)
    assert [item.organization for item in standing(ledger, order="organization").items] == ["acme"] * 5 + ["bolt"] * 3


def test_names_are_found_as_they_are_written_and_nothing_is_a_pattern(ledger: Ledger, acme: str, bolt: str) -> None:
    key, _ = Accounts(ledger.store).create_key(bolt, "100% of nights")
    ledger.create_budget(new_budget(acme, 1, scope="project", scope_id="se_rch"))
    ledger.create_budget(new_budget(bolt, 1, scope="key", scope_id=key.id))
    for find, many in (("ACM", 1), ("se_r", 1), ("e_c", 0), ("%", 1), ("0% of", 1), ("_", 2), ("nobody", 0), ("", 2)):
        found = standing(ledger, find=find)
        assert (find, found.many, len(found.items)) == (find, many, many)


def test_a_page_costs_the_same_queries_however_many_there_are(ledger: Ledger, acme: str) -> None:
    def queries(**asked: object) -> int:
        with counted(ledger.store) as sent:
            standing(ledger, **asked)
        return len([statement for statement in sent if statement.lstrip().upper().startswith(("SELECT", "WITH"))])

    ledger.create_budget(new_budget(acme, 1))
    few = queries()
    for number in range(PAGE_MAX + 5):
        ledger.create_budget(new_budget(acme, 1 + number, scope="project", scope_id=f"p{number:03}"))
    assert queries() == few <= 3
    first, rest = standing(ledger), standing(ledger, offset=PAGE_MAX)
    assert (len(first.items), len(rest.items), first.many, rest.many) == (PAGE_MAX, 6, 106, 106)
    assert not {item.budget.id for item in first.items} & {item.budget.id for item in rest.items}
    assert standing(ledger, offset=1000) == Standings()
    assert len(standing(ledger, limit=10**9).items) == PAGE_MAX


def test_thresholds_that_were_reached_are_told(priced: Ledger, acme: str, used: Used, clock: SimulatedClock) -> None:
    made = priced.create_budget(new_budget(acme, DOLLAR, period="day", thresholds=(50, 90)))
    assert standing(priced).items[0].told == ()
    priced.take_now([used(acme, "one", 12 * 10**6)])
    priced.rate()
    [item] = standing(priced).items
    assert [(told.percent, told.at) for told in item.told] == [(50, clock.now()), (90, clock.now())]
    events = {event.id: event.payload["threshold_percent"] for event in recorded(priced.store, "budget.threshold")}
    assert events == {told.event_id: told.percent for told in item.told}
    clock.advance(90_000)
    # By now another day has begun, and nothing was told in it.
    assert standing(priced).items[0].told == ()
    priced.end_budget(made.id)
    assert standing(priced) == Standings()


def test_the_state_of_another_period_is_not_this_ones(ledger: Ledger, bolt: str, clock: SimulatedClock) -> None:
    made = ledger.create_budget(new_budget(bolt, 100))
    later = datetime(2026, 2, 1, tzinfo=UTC)
    other = [{"budget_id": made.id, "period_start": start, "spent_nano": 7, "held_nano": 9} for start in (EPOCH, later)]
    ledger.store.write(lambda connection: connection.execute(insert(budget_states), other))
    assert [(item.state.spent_nano, item.state.held_nano) for item in standing(ledger).items] == [(0, 0)]
    clock.set(later)
    assert [(item.state.spent_nano, item.state.held_nano) for item in standing(ledger).items] == [(7, 9)]


def test_without_budgets_there_is_nothing(ledger: Ledger) -> None:
    assert standing(ledger) == Standings()
    assert standing(ledger, find="x", order="organization", offset=5) == Standings()


def test_every_timezone_of_an_organization_has_its_own_day(ledger: Ledger, clock: SimulatedClock) -> None:
    clock.set(datetime(2026, 3, 29, 0, 30, tzinfo=UTC))
    for name, timezone in (("a", "Pacific/Kiritimati"), ("b", "America/Los_Angeles"), ("c", "Europe/Berlin")):
        owner = Accounts(ledger.store).create_organization(name, timezone=timezone).id
        for period in ("day", "month", "ever"):
            ledger.create_budget(new_budget(owner, 100, period=period))
    for item in standing(ledger, order="organization").items:
        assert item.state.period_start == item.budget.period_start(clock.now(), item.timezone)
        assert item.resets_at == item.budget.period_end(item.state.period_start, item.timezone)
        assert item.resets_at is None or item.resets_at > clock.now()


@pytest.mark.parametrize("find", ["'; DROP TABLE ledger_budgets; --", "\\", "%_\\%", "é" * 300])
def test_no_name_breaks_the_query(ledger: Ledger, acme: str, find: str) -> None:
    ledger.create_budget(new_budget(acme, 1))
    assert standing(ledger, find=find).many == 0
    assert standing(ledger).many == 1
