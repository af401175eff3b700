"""Reserve, settle, expire: holds on budgets, exact under any concurrency because the rows of the budgets are held
while they are read, compared and written.

spent = what was rated for the budget's scope in the period, plus what was settled without usage events.
held = what open holds may still cost, plus what was settled and is not rated yet.
A reservation is given only while spent + held + worst case stays within the limit of every hard budget that covers it. For a credit
limit, what is owed counts in place of what was spent; a transaction that rates usage changes it and `held` at once.
Usage that names a hold moves from held to spent as it is rated, so that nothing is counted in both or in neither.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, tuple_

from sublet.ledger import store as sql
from sublet.ledger.budgets import holds as rows_of
from sublet.ledger.budgets.alerts import raise_alerts
from sublet.ledger.budgets.ceilings import Ceiling, Most, ceiling, most_nano
from sublet.ledger.budgets.exposure import exposure_nano
from sublet.ledger.budgets.holds import DONE, EXPIRED, OPEN, SETTLED, Hold, Part, StateKey
from sublet.ledger.budgets.model import (
    CREDIT,
    PREPAID,
    Budget,
    BudgetExceededError,
    BudgetState,
    HoldOutcome,
    HoldRequest,
    Settlement,
)
from sublet.ledger.model import USAGE, amount_text
from sublet.ledger.prices.book import PriceBook
from sublet.ledger.prices.booking import Books
from sublet.ledger.store import EventRow
from sublet.ledger.usage.intake import Parties
from sublet.store.changes import kept
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.ledger import budget_states, budgets, holds
from sublet.values.clock import format_time, from_micros, to_micros
from sublet.values.errors import ConflictError

EXPIRE_MAX = 1_000
_NAMES = {PREPAID: "prepaid credit", CREDIT: "credit limit"}

BUDGETS = Listing("budgets", (budgets.c.created_at, budgets.c.id))


@dataclass(slots=True)
class _State:
    spent: int
    held: int


_Charged = list[tuple[Part, Budget]]


class Spending:
    """The only place where the counters of budgets change."""

    def __init__(self, parties: Parties, books: Books) -> None:
        self._parties = parties
        self._books = books

    def book(self, connection: Connection) -> PriceBook:
        """The price book that rates usage now."""
        return self._books.current(connection)

    def most(
        self, connection: Connection, book: PriceBook, organization_id: str, usage: Sequence[Most], at: datetime
    ) -> int:
        """The most that `usage` can cost the organization under `book` at the prices of `at`, in nano-units."""
        return most_nano(self._books, book, self._parties.get(connection, organization_id), usage, to_micros(at))

    def reserve(self, connection: Connection, requests: Sequence[HoldRequest], now: datetime) -> list[HoldOutcome]:
        """Place holds, in order, each completely or not at all. Repeating a request with its id has no effect."""
        known = rows_of.load_holds(connection, [request.hold_id for request in requests], lock=False)
        covering = self._budgets(connection, {request.organization_id for request in requests})
        ceilings = self._ceilings(connection, requests, now)
        amounts = self._amounts(connection, requests, ceilings, now)
        charged = [
            self._charged(connection, covering, request, nano, now)
            for request, nano in zip(requests, amounts, strict=True)
        ]
        states = _lock_states(connection, {part.key for found in charged for part, _ in found})
        outcomes: list[HoldOutcome] = []
        rows: list[tuple[Any, ...]] = []
        placed: dict[str, tuple[str, str, str, int]] = {name: hold.request for name, hold in known.items()}
        for request, nano, found in zip(requests, amounts, charged, strict=True):
            wanted = (request.organization_id, request.project, request.key_id, nano)
            error: Exception | None = rows_of.wrong_request(request, nano, now)
            if error is None and request.hold_id in placed:
                if placed[request.hold_id] != wanted:
                    error = ConflictError(
                        f"hold {request.hold_id} was placed before with other content; use an id of its own"
                    )
            elif error is None:
                error = self._refusal(connection, request, found, states)
                if error is None:
                    for part, _ in found:
                        states[part.key].held += part.share
                    placed[request.hold_id] = wanted
                    rows.append(rows_of.insert_hold(request, nano, [part for part, _ in found], now))
            outcomes.append(HoldOutcome(request.hold_id, error, ceiling=ceilings.get(request.hold_id), nano=nano))
        if rows:
            sql.bulk_insert(connection, holds, rows)
            _write_states(connection, states)
        return outcomes

    def settle(self, connection: Connection, settlements: Sequence[Settlement], now: datetime) -> list[HoldOutcome]:
        """Replace what is held by the actual cost. Repeating a settlement has no effect; a different amount is refused."""
        found = rows_of.load_holds(connection, [settlement.hold_id for settlement in settlements], lock=True)
        states = _lock_states(connection, {part.key for hold in found.values() for part in hold.parts})
        outcomes: list[HoldOutcome] = []
        changed: dict[str, Hold] = {}
        spent: set[StateKey] = set()
        for settlement in settlements:
            hold = found.get(settlement.hold_id)
            error = rows_of.wrong_settlement(settlement, hold)
            if error is not None or hold is None or hold.state in (SETTLED, DONE):
                outcomes.append(HoldOutcome(settlement.hold_id, error))
                continue
            _apply(settlement, hold, states)
            changed[hold.id] = hold
            if not settlement.events:
                spent.update(part.key for part in hold.parts)
            outcomes.append(HoldOutcome(settlement.hold_id, None, max(0, settlement.nano - hold.nano)))
        rows_of.write_holds(connection, changed.values())
        if changed:
            _write_states(connection, states)
            self._alert(connection, spent, now)
        return outcomes

    def finish(self, connection: Connection, hold_id: str, now: datetime, nano: int | None = None) -> None:
        """The work of a hold is over and its usage is all announced: what is left comes free once that is rated, at once
        where there is none. Usage that costs at most `nano` releases the rest at once. Nothing happens where there is no
        such hold."""
        self.settle(connection, self.endings(connection, {hold_id: nano}), now)

    def endings(self, connection: Connection, ends: Mapping[str, int | None]) -> list[Settlement]:
        """The settlements of holds whose work is over and whose usage is all announced, for `settle`; of those that there are.
        The usage of each costs at most so much, or (None) as much as it holds."""
        found = rows_of.load_holds(connection, ends, lock=True)
        settlements = []
        for hold_id, hold in found.items():
            most = ends[hold_id]
            nano = (hold.nano if most is None else most) if hold.announced else 0
            settlements.append(Settlement(hold_id, nano, hold.announced))
        return settlements

    def expire(self, connection: Connection, now: datetime) -> int:
        """Release holds that were never settled, and settled ones whose usage never arrived, up to EXPIRE_MAX of them.

        Returns how many.
        """
        overdue = rows_of.overdue_holds(connection, now, EXPIRE_MAX)
        states = _lock_states(connection, {part.key for hold in overdue for part in hold.parts})
        for hold in overdue:
            for part in hold.parts:
                states[part.key].held -= part.held
            hold.state = EXPIRED if hold.state == OPEN else DONE
        rows_of.write_holds(connection, overdue)
        if overdue:
            _write_states(connection, states)
        return len(overdue)

    def charge(self, connection: Connection, rated: Iterable[tuple[EventRow, str, int]], now: datetime) -> None:
        """Add rated amounts to the budgets that cover them, and deduct them from the holds that reserved them."""
        items = list(rated)
        named = {event.hold_id for event, kind, _ in items if event.hold_id and kind == USAGE}
        found = rows_of.load_holds(connection, [name for name in named if name], lock=True) if named else {}
        covering = self._budgets(connection, {event.organization_id for event, _, _ in items})
        if not covering and not found:
            return
        spent: dict[StateKey, int] = defaultdict(int)
        freed: dict[StateKey, int] = defaultdict(int)
        for event, kind, nano in items:
            hold = found.get(event.hold_id) if event.hold_id and kind == USAGE else None
            for budget in covering.get(event.organization_id, ()):
                if budget.covers(event.project, event.key_id):
                    key = self._key(connection, budget, event)
                    spent[key] += nano
                    part = hold.part(key) if hold is not None and hold.live else None
                    if part is not None:
                        before = part.held
                        part.drawn += max(0, nano)
                        freed[key] += before - part.held
            if hold is not None:
                hold.awaiting -= 1
        for hold in found.values():
            if hold.state == SETTLED and hold.awaiting <= 0:
                hold.state = DONE
                for part in hold.parts:
                    freed[part.key] += part.held
        states = _lock_states(connection, {*spent, *freed})
        for key, nano in spent.items():
            states[key].spent += nano
        for key, nano in freed.items():
            states[key].held -= nano
        rows_of.write_holds(connection, found.values())
        _write_states(connection, states)
        self._alert(connection, set(spent), now)

    def states(self, connection: Connection, organization_id: str, now: datetime) -> list[BudgetState]:
        """Every budget of an organization in its current period."""
        timezone = self._parties.get(connection, organization_id).timezone
        found = self._budgets(connection, {organization_id}).get(organization_id, ())
        return [_state(connection, budget, timezone, now) for budget in found]

    def state_page(
        self, connection: Connection, organization_id: str, now: datetime, wanted: PageRequest
    ) -> Page[BudgetState]:
        """A page of an organization's budgets in their current periods, oldest first."""
        timezone = self._parties.get(connection, organization_id).timezone
        live = select(budgets).where(budgets.c.organization_id == organization_id, budgets.c.ended_at.is_(None))
        found = BUDGETS.read(connection, live, wanted)
        return found.map(lambda row: _state(connection, budget_of(row), timezone, now))

    def _ceilings(self, connection: Connection, requests: Sequence[HoldRequest], now: datetime) -> dict[str, Ceiling]:
        """The most that one piece of work costs, for each shared hold."""
        found: dict[str, Ceiling] = {}
        for request in requests:
            if request.times > 1:
                moments = [to_micros(request.at or now), to_micros(request.until or request.at or now)]
                party = self._parties.get(connection, request.organization_id)
                found[request.hold_id] = ceiling(self._books, self.book(connection), party, request.usage, moments)
        return found

    def _amounts(
        self,
        connection: Connection,
        requests: Sequence[HoldRequest],
        ceilings: dict[str, Ceiling],
        now: datetime,
    ) -> list[int]:
        if not any(request.usage for request in requests):
            return [request.nano for request in requests]
        book = self.book(connection)
        return [
            request.times * ceilings[request.hold_id].nano([item.steps for item in request.usage])
            if request.hold_id in ceilings
            else request.nano + self.most(connection, book, request.organization_id, request.usage, request.at or now)
            for request in requests
        ]

    def _alert(self, connection: Connection, keys: set[StateKey], now: datetime) -> None:
        if not keys:
            return
        found = connection.execute(select(budgets).where(budgets.c.id.in_({key[0] for key in keys}))).all()
        by_id = {row.id: budget_of(row) for row in found if row.thresholds or row.hard}
        for key in sorted(keys):
            budget = by_id.get(key[0])
            if budget is not None:
                party = self._parties.get(connection, budget.organization_id)
                raise_alerts(connection, budget, from_micros(key[1]), party, now)

    def _key(self, connection: Connection, budget: Budget, event: EventRow) -> StateKey:
        timezone = self._parties.get(connection, event.organization_id).timezone
        return budget.id, to_micros(budget.period_start(from_micros(event.at), timezone))

    def _charged(
        self, connection: Connection, covering: dict[str, list[Budget]], request: HoldRequest, nano: int, now: datetime
    ) -> _Charged:
        """What the request reserves in each budget that covers it, by period."""
        found: _Charged = []
        for budget in covering.get(request.organization_id, ()):
            if budget.covers(request.project, request.key_id):
                timezone = self._parties.get(connection, request.organization_id).timezone
                for start, share in budget.shares(nano, request.window or request.at or now, timezone):
                    found.append((Part(budget.id, to_micros(start), share), budget))
        return found

    def _refusal(
        self, connection: Connection, request: HoldRequest, charged: _Charged, states: dict[StateKey, _State]
    ) -> BudgetExceededError | None:
        for part, budget in charged:
            state = states[part.key]
            # Read behind the lock on the state: usage that is being rated now counts in `held` or here, never in neither.
            used = exposure_nano(connection, budget.organization_id) if budget.credit else state.spent
            free = budget.limit_nano - used - state.held
            if not budget.hard or part.share * request.spare <= free:
                continue
            party = self._parties.get(connection, request.organization_id)
            end = budget.period_end(from_micros(part.start), party.timezone)
            again = f"; it resets at {format_time(end)}" if end else ""
            again = "; pay open invoices, or ask for a higher limit" if budget.credit else again
            what = _NAMES.get(budget.kind, f"{budget.period} budget {budget.id}")
            whose = f"{budget.scope} {budget.scope_id}".strip()
            held = f" ({amount_text(state.held)} is held for work under way)" if state.held else ""
            return BudgetExceededError(
                f"the {what} of the {whose} has {amount_text(max(0, free))} {party.currency} left{held} "
                f"and this may cost {amount_text(part.share)}{again}",
                budget=budget.id,
                free=amount_text(max(0, free)),
                held=amount_text(state.held),
                worst_case=amount_text(part.share),
                # Most of what is held is released on its own.
                fits_later=part.share <= budget.limit_nano - used,
                resets_at=format_time(end) if end else None,
            )
        return None

    def _budgets(self, connection: Connection, organizations: set[str]) -> dict[str, list[Budget]]:
        wanted = tuple(sorted(organizations))
        found = kept(connection, ("ledger_budgets",), ("budgets", wanted), lambda: _standing(connection, wanted))
        return defaultdict(list, {owner: list(its) for owner, its in found.items()})


def _state(connection: Connection, budget: Budget, timezone: str, now: datetime) -> BudgetState:
    start = budget.period_start(now, timezone)
    query = select(budget_states).where(budget_states.c.budget_id == budget.id, budget_states.c.period_start == start)
    row = connection.execute(query).first()
    spent = row.spent_nano if row else 0
    used = exposure_nano(connection, budget.organization_id) if budget.credit else spent
    return BudgetState(budget, start, used, row.held_nano if row else 0)


def budget_of(row: Row[Any]) -> Budget:
    return Budget(
        row.id,
        row.organization_id,
        row.scope,
        row.scope_id,
        row.period,
        row.limit_nano,
        row.hard,
        tuple(row.thresholds),
        row.kind,
    )


def hard_budgets(connection: Connection) -> list[Budget]:
    """Every live budget that refuses work, including prepaid money."""
    rows = connection.execute(select(budgets).where(budgets.c.ended_at.is_(None), budgets.c.hard.is_(True)))
    return [budget_of(row) for row in rows]


def _apply(settlement: Settlement, hold: Hold, states: dict[StateKey, _State]) -> None:
    """Apply one settlement to a hold and to the budget states that it reserved."""
    hold.awaiting += settlement.events
    waits = settlement.events > 0 and hold.awaiting > 0
    for part in hold.parts:
        before = part.held if hold.state == OPEN else 0
        part.share = settlement.nano if part.share == hold.nano else min(part.share, settlement.nano)
        states[part.key].held += (part.held if waits else 0) - before
        if not settlement.events:
            states[part.key].spent += settlement.nano
    hold.state = SETTLED if waits else DONE
    hold.settled_nano = settlement.nano
    hold.events = settlement.events


def _standing(connection: Connection, organizations: Sequence[str]) -> Mapping[str, Sequence[Budget]]:
    """The budgets of organizations that have not ended."""
    found: dict[str, list[Budget]] = defaultdict(list)
    for part in sql.chunks(organizations):
        columns = budgets.c
        statement = select(budgets).where(columns.organization_id.in_(part), columns.ended_at.is_(None))
        for row in connection.execute(statement.order_by(columns.id)):
            found[row.organization_id].append(budget_of(row))
    return found


def _lock_states(connection: Connection, keys: set[StateKey]) -> dict[StateKey, _State]:
    """Lock the rows of `keys`, always in the same order, so that two writers can't deadlock."""
    found: dict[StateKey, _State] = {}
    columns = budget_states.c
    for part in sql.chunks(sorted(keys)):
        pairs = [(budget_id, from_micros(start)) for budget_id, start in part]
        statement = (
            select(budget_states)
            .where(tuple_(columns.budget_id, columns.period_start).in_(pairs))
            .order_by(columns.budget_id, columns.period_start)
            .with_for_update()
        )
        rows = connection.execute(statement).all()
        if len(rows) < len(part):
            new = [(budget_id, start, 0, 0) for budget_id, start in part]
            sql.bulk_insert(connection, budget_states, new, "ON CONFLICT (budget_id, period_start) DO NOTHING")
            rows = connection.execute(statement).all()
        found.update(
            ((row.budget_id, to_micros(row.period_start)), _State(row.spent_nano, row.held_nano)) for row in rows
        )
    return found


def _write_states(connection: Connection, states: dict[StateKey, _State]) -> None:
    for state in states.values():
        assert state.held >= 0, "more was released than was held"
    rows = [(budget_id, start, state.spent, state.held) for (budget_id, start), state in sorted(states.items())]
    sql.bulk_insert(
        connection,
        budget_states,
        rows,
        "ON CONFLICT (budget_id, period_start) "
        "DO UPDATE SET spent_nano = excluded.spent_nano, held_nano = excluded.held_nano",
    )
