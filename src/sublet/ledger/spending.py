"""Reserve, settle, expire: holds on budgets, exact under any concurrency because the rows of the budgets are held
while they are read, compared and written.

spent = what was rated for the budget's scope in the period, plus what was settled without usage events.
held = what open holds may still cost, plus what was settled and is not rated yet.
A reservation is given only while spent + held + worst case stays within the limit of every hard budget that covers it.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, select, tuple_, update

from sublet.ledger import store as sql
from sublet.ledger.alerts import raise_alerts
from sublet.ledger.budgets import (
    HOLD_S_MAX,
    LIMIT_NANO_MAX,
    Budget,
    BudgetExceededError,
    BudgetState,
    HoldOutcome,
    HoldRequest,
    Settlement,
)
from sublet.ledger.intake import Parties
from sublet.ledger.model import USAGE, amount_text
from sublet.ledger.store import EventRow
from sublet.store.tables.ledger import budget_states, budgets, holds
from sublet.values.clock import format_time, from_micros, to_micros
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

OPEN, SETTLED, DONE, EXPIRED = "open", "settled", "done", "expired"
SETTLED_KEPT = timedelta(days=1)
EXPIRE_MAX = 1_000

_StateKey = tuple[str, int]


@dataclass(slots=True)
class _State:
    spent: int
    held: int


class Spending:
    """The one place where budgets' counters change."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties

    def reserve(self, connection: Connection, requests: Sequence[HoldRequest], now: datetime) -> list[HoldOutcome]:
        """Place holds, in order, each wholly or not at all. Repeating a request by its id changes nothing."""
        known = self._holds(connection, [request.hold_id for request in requests], lock=False)
        covering = self._budgets(connection, {request.organisation_id for request in requests})
        keys = [self._keys(connection, covering, request, now) for request in requests]
        states = _lock_states(connection, {key for found in keys for key, _ in found})
        outcomes: list[HoldOutcome] = []
        rows: list[tuple[Any, ...]] = []
        placed: dict[str, HoldRequest] = {}
        for request, charged in zip(requests, keys, strict=True):
            error = _wrong(request, now) or _repeated(request, known.get(request.hold_id), placed.get(request.hold_id))
            if error is None and request.hold_id not in known and request.hold_id not in placed:
                error = self._refusal(connection, request, charged, states)
                if error is None:
                    for key, _ in charged:
                        states[key].held += request.nano
                    placed[request.hold_id] = request
                    rows.append(_hold_row(request, [key for key, _ in charged], now))
            outcomes.append(HoldOutcome(request.hold_id, error))
        if rows:
            sql.bulk_insert(connection, holds, rows)
            _write_states(connection, states)
        return outcomes

    def settle(self, connection: Connection, settlements: Sequence[Settlement], now: datetime) -> list[HoldOutcome]:
        """Replace what is held by what it cost. Repeating a settlement changes nothing; another amount is refused."""
        found = self._holds(connection, [settlement.hold_id for settlement in settlements], lock=True)
        charges = {
            hold_id: [(key[0], int(key[1])) for key in json.loads(row.charges)] for hold_id, row in found.items()
        }
        states = _lock_states(connection, {key for keys in charges.values() for key in keys})
        outcomes: list[HoldOutcome] = []
        changes: dict[str, dict[str, Any]] = {}
        spent: set[_StateKey] = set()
        for settlement in settlements:
            hold = found.get(settlement.hold_id)
            error = _unsettleable(settlement, hold, changes.get(settlement.hold_id))
            repeated = settlement.hold_id in changes or (hold is not None and hold.state in (SETTLED, DONE))
            if error is not None or repeated or hold is None:
                outcomes.append(HoldOutcome(settlement.hold_id, error))
                continue
            keys = charges[settlement.hold_id]
            changes[settlement.hold_id] = _apply(settlement, hold, [states[key] for key in keys])
            if not settlement.events:
                spent.update(keys)
            outcomes.append(HoldOutcome(settlement.hold_id, None, max(0, settlement.nano - hold.nano)))
        _write_holds(connection, changes)
        if changes:
            _write_states(connection, states)
            self._alert(connection, spent, now)
        return outcomes

    def expire(self, connection: Connection, now: datetime) -> int:
        """Let go of holds that were never settled, and of settled ones whose usage never came. How many there were."""
        columns = holds.c
        overdue = ((columns.state == OPEN) & (columns.expires_at <= now)) | (
            (columns.state == SETTLED) & (columns.expires_at <= now - SETTLED_KEPT)
        )
        statement = select(holds).where(overdue).order_by(columns.id).limit(EXPIRE_MAX).with_for_update()
        rows = connection.execute(statement).all()
        charges = {row.id: [(key[0], int(key[1])) for key in json.loads(row.charges)] for row in rows}
        states = _lock_states(connection, {key for keys in charges.values() for key in keys})
        changes: dict[str, dict[str, Any]] = {}
        for row in rows:
            held = row.nano if row.state == OPEN else row.settled_nano
            for key in charges[row.id]:
                states[key].held -= held
            state = EXPIRED if row.state == OPEN else DONE
            changes[row.id] = _unchanged(row) | {"state": state}
        _write_holds(connection, changes)
        if changes:
            _write_states(connection, states)
        return len(rows)

    def charge(self, connection: Connection, rated: Iterable[tuple[EventRow, str, int]], now: datetime) -> None:
        """Add rated amounts to the budgets that cover them, and let go of the holds whose usage they are."""
        items = list(rated)
        released = self._released(connection, items)
        covering = self._budgets(connection, {event.organisation_id for event, _, _ in items})
        if not covering and not released:
            return
        change: dict[_StateKey, int] = defaultdict(int)
        for event, _, nano in items:
            for budget in covering.get(event.organisation_id, ()):
                if budget.covers(event.project, event.key_id):
                    timezone = self._parties.get(connection, event.organisation_id).timezone
                    start = budget.period_start(from_micros(event.at), timezone)
                    change[budget.id, to_micros(start)] += nano
        states = _lock_states(connection, {*change, *(key for key, _ in released)})
        for key, nano in change.items():
            states[key].spent += nano
        for key, nano in released:
            states[key].held -= nano
        _write_states(connection, states)
        self._alert(connection, set(change), now)

    def _released(
        self, connection: Connection, items: Sequence[tuple[EventRow, str, int]]
    ) -> list[tuple[_StateKey, int]]:
        """Count the rated events of each hold; what held amounts come free where the last one was rated."""
        arrived = Counter(event.hold_id for event, kind, _ in items if event.hold_id and kind == USAGE)
        if not arrived:
            return []
        found = self._holds(connection, [hold_id for hold_id in arrived if hold_id], lock=True)
        free: list[tuple[_StateKey, int]] = []
        changes: dict[str, dict[str, Any]] = {}
        for hold_id, row in found.items():
            if row.state == DONE:
                continue
            awaiting = row.awaiting - arrived[hold_id]
            state = row.state
            if state == SETTLED and awaiting <= 0:
                state = DONE
                free += [((key[0], int(key[1])), row.settled_nano) for key in json.loads(row.charges)]
            changes[hold_id] = _unchanged(row) | {"state": state, "awaiting": awaiting}
        _write_holds(connection, changes)
        return free

    def states(self, connection: Connection, organisation_id: str, now: datetime) -> list[BudgetState]:
        """Every budget of an organisation as it stands in its present period."""
        timezone = self._parties.get(connection, organisation_id).timezone
        found = []
        for budget in self._budgets(connection, {organisation_id}).get(organisation_id, ()):
            start = budget.period_start(now, timezone)
            row = connection.execute(
                select(budget_states).where(
                    budget_states.c.budget_id == budget.id, budget_states.c.period_start == start
                )
            ).first()
            found.append(BudgetState(budget, start, row.spent_nano if row else 0, row.held_nano if row else 0))
        return found

    def _alert(self, connection: Connection, keys: set[_StateKey], now: datetime) -> None:
        if not keys:
            return
        found = connection.execute(select(budgets).where(budgets.c.id.in_({key[0] for key in keys}))).all()
        by_id = {row.id: budget_of(row) for row in found if row.thresholds}
        for key in sorted(keys):
            budget = by_id.get(key[0])
            if budget is not None:
                party = self._parties.get(connection, budget.organisation_id)
                raise_alerts(connection, budget, from_micros(key[1]), party, now)

    def _keys(
        self, connection: Connection, covering: dict[str, list[Budget]], request: HoldRequest, now: datetime
    ) -> list[tuple[_StateKey, Budget]]:
        found = []
        for budget in covering.get(request.organisation_id, ()):
            if budget.covers(request.project, request.key_id):
                timezone = self._parties.get(connection, request.organisation_id).timezone
                found.append(((budget.id, to_micros(budget.period_start(now, timezone))), budget))
        return found

    def _refusal(
        self,
        connection: Connection,
        request: HoldRequest,
        charged: Sequence[tuple[_StateKey, Budget]],
        states: dict[_StateKey, _State],
    ) -> BudgetExceededError | None:
        for key, budget in charged:
            state = states[key]
            free = budget.limit_nano - state.spent - state.held
            if not budget.hard or request.nano <= free:
                continue
            party = self._parties.get(connection, request.organisation_id)
            end = budget.period_end(from_micros(key[1]), party.timezone)
            again = f"; it starts anew at {format_time(end)}" if end else ""
            covered = f"{budget.scope} {budget.scope_id}".strip()
            return BudgetExceededError(
                f"the {budget.period} budget {budget.id} of the {covered} has {amount_text(max(0, free))} "
                f"{party.currency} left and this may cost {amount_text(request.nano)}{again}",
                budget=budget.id,
                free=amount_text(max(0, free)),
                resets_at=format_time(end) if end else None,
            )
        return None

    def _budgets(self, connection: Connection, organisations: set[str]) -> dict[str, list[Budget]]:
        found: dict[str, list[Budget]] = defaultdict(list)
        for part in sql.chunks(sorted(organisations)):
            columns = budgets.c
            statement = select(budgets).where(columns.organisation_id.in_(part), columns.ended_at.is_(None))
            for row in connection.execute(statement.order_by(columns.id)):
                found[row.organisation_id].append(budget_of(row))
        return found

    def _holds(self, connection: Connection, ids: Sequence[str], *, lock: bool) -> dict[str, Row[Any]]:
        found: dict[str, Row[Any]] = {}
        for part in sql.chunks(sorted(set(ids))):
            statement = select(holds).where(holds.c.id.in_(part)).order_by(holds.c.id)
            rows = connection.execute(statement.with_for_update() if lock else statement)
            found.update((row.id, row) for row in rows)
        return found


def budget_of(row: Row[Any]) -> Budget:
    return Budget(
        row.id,
        row.organisation_id,
        row.scope,
        row.scope_id,
        row.period,
        row.limit_nano,
        row.hard,
        tuple(row.thresholds),
        row.webhook_url,
        row.webhook_secret,
        row.email,
        row.kind,
    )


def _wrong(request: HoldRequest, now: datetime) -> Exception | None:
    if type(request.nano) is not int or not 0 <= request.nano <= LIMIT_NANO_MAX:
        return InvalidInputError("a hold is for 0 to 4.6 billion")
    if not now < request.expires_at <= now + timedelta(seconds=HOLD_S_MAX):
        return InvalidInputError(f"a hold must expire within {HOLD_S_MAX} seconds from now")
    return None


def _repeated(request: HoldRequest, row: Row[Any] | None, placed: HoldRequest | None) -> Exception | None:
    wanted = (request.organisation_id, request.project, request.key_id, request.nano)
    for known in (row, placed):
        if known is not None and (known.organisation_id, known.project, known.key_id, known.nano) != wanted:
            return ConflictError(f"hold {request.hold_id} was placed before with other content; use an id of its own")
    return None


def _unsettleable(settlement: Settlement, hold: Row[Any] | None, change: dict[str, Any] | None) -> Exception | None:
    if type(settlement.nano) is not int or not 0 <= settlement.nano <= LIMIT_NANO_MAX or settlement.events < 0:
        return InvalidInputError("a hold is settled with 0 to 4.6 billion, and 0 or more events")
    if hold is None:
        return NotFoundError(f"there is no hold {settlement.hold_id!r}")
    before = change["settled_nano"] if change else hold.settled_nano
    if before is not None and before != settlement.nano:
        return ConflictError(f"hold {settlement.hold_id} was settled with another amount; that amount stands")
    return None


def _apply(settlement: Settlement, hold: Row[Any], states: Sequence[_State]) -> dict[str, Any]:
    """Change the states by one settlement; the new columns of its hold."""
    awaiting = hold.awaiting + settlement.events
    for state in states:
        if hold.state == OPEN:
            state.held -= hold.nano
        if not settlement.events:
            state.spent += settlement.nano
        elif awaiting > 0:
            state.held += settlement.nano
    waits = settlement.events > 0 and awaiting > 0
    return {
        "state": SETTLED if waits else DONE,
        "settled_nano": settlement.nano,
        "events": settlement.events,
        "awaiting": awaiting,
    }


def _unchanged(row: Row[Any]) -> dict[str, Any]:
    return {"state": row.state, "settled_nano": row.settled_nano, "events": row.events, "awaiting": row.awaiting}


def _hold_row(request: HoldRequest, keys: Sequence[_StateKey], now: datetime) -> tuple[Any, ...]:
    return (
        request.hold_id,
        request.organisation_id,
        request.project,
        request.key_id,
        request.nano,
        None,
        None,
        0,
        OPEN,
        json.dumps(keys, separators=(",", ":")),
        to_micros(now),
        to_micros(request.expires_at),
    )


def _lock_states(connection: Connection, keys: set[_StateKey]) -> dict[_StateKey, _State]:
    """Hold the rows of `keys` in one order everywhere, so that two writers can't wait for each other."""
    found: dict[_StateKey, _State] = {}
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


def _write_states(connection: Connection, states: dict[_StateKey, _State]) -> None:
    for state in states.values():
        assert state.held >= 0, "more was let go than was held"
    rows = [(budget_id, start, state.spent, state.held) for (budget_id, start), state in sorted(states.items())]
    sql.bulk_insert(
        connection,
        budget_states,
        rows,
        "ON CONFLICT (budget_id, period_start) "
        "DO UPDATE SET spent_nano = excluded.spent_nano, held_nano = excluded.held_nano",
    )


def _write_holds(connection: Connection, changes: dict[str, dict[str, Any]]) -> None:
    if not changes:
        return
    statement = (
        update(holds)
        .where(holds.c.id == bindparam("hold"))
        .values(**{name: bindparam(name) for name in ("state", "settled_nano", "events", "awaiting")})
    )
    connection.execute(statement, [{"hold": hold_id, **change} for hold_id, change in sorted(changes.items())])
