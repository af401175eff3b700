"""Holds in the database: what each has reserved, by budget and period."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from sublet.ledger import store as sql
from sublet.ledger.budgets.model import HOLD_S_MAX, HOLD_WINDOW_DAYS_MAX, LIMIT_NANO_MAX, HoldRequest, Settlement
from sublet.store.tables.ledger import holds
from sublet.values.clock import to_micros
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

OPEN, SETTLED, DONE, EXPIRED = "open", "settled", "done", "expired"
LIVE = (OPEN, SETTLED)
HOLDS_KEPT = timedelta(days=1)
"""For so long after its expiry the hold of work that is over is known, and so are repeats of its settlement."""
PRUNE_MAX = 5_000

_ONE = select(holds).where(holds.c.id == bindparam("hold"))

StateKey = tuple[str, int]
"""A budget, and the start of one of its periods in microseconds."""


@dataclass(slots=True)
class Part:
    """What a hold has reserved of one budget in one period, and how much of that was billed since."""

    budget_id: str
    start: int
    share: int
    drawn: int = 0

    @property
    def key(self) -> StateKey:
        return self.budget_id, self.start

    @property
    def held(self) -> int:
        return max(0, self.share - self.drawn)


@dataclass(slots=True)
class Hold:
    """A hold that is being changed; `write_holds` writes it back."""

    id: str
    state: str
    nano: int
    settled_nano: int | None
    events: int | None
    awaiting: int
    announced: int
    parts: list[Part]
    request: tuple[str, str, str, int]
    """What it was placed with: organization, project, key, amount."""

    @property
    def live(self) -> bool:
        return self.state in LIVE

    def part(self, key: StateKey) -> Part | None:
        return next((part for part in self.parts if part.key == key), None)


def hold_of(row: Row[Any]) -> Hold:
    return Hold(
        row.id,
        row.state,
        row.nano,
        row.settled_nano,
        row.events,
        row.awaiting,
        row.announced,
        [Part(*part) for part in json.loads(row.charges)],
        (row.organization_id, row.project, row.key_id, row.nano),
    )


def load_holds(connection: Connection, ids: Iterable[str], *, lock: bool) -> dict[str, Hold]:
    """Existing holds by id. Rows are always locked in the same order, so that no two writers deadlock."""
    found: dict[str, Hold] = {}
    wanted = sorted(set(ids))
    if len(wanted) == 1 and not lock:
        rows = connection.execute(_ONE, {"hold": wanted[0]})
        return {row.id: hold_of(row) for row in rows}
    for part in sql.chunks(wanted):
        statement = select(holds).where(holds.c.id.in_(part)).order_by(holds.c.id)
        rows = connection.execute(statement.with_for_update() if lock else statement)
        found.update((row.id, hold_of(row)) for row in rows)
    return found


def overdue_holds(connection: Connection, now: datetime, limit: int) -> list[Hold]:
    """Holds that were never settled, and settled ones whose usage never arrived. Their rows are locked."""
    columns = holds.c
    late = ((columns.state == OPEN) & (columns.expires_at <= now)) | (
        (columns.state == SETTLED) & (columns.expires_at <= now - HOLDS_KEPT)
    )
    statement = select(holds).where(late).order_by(columns.id).limit(limit).with_for_update()
    return [hold_of(row) for row in connection.execute(statement)]


def insert_hold(request: HoldRequest, nano: int, parts: Sequence[Part], now: datetime) -> tuple[Any, ...]:
    """The row of a new hold, for `store.bulk_insert`."""
    return (
        request.hold_id,
        request.organization_id,
        request.project,
        request.key_id,
        nano,
        None,
        None,
        0,
        0,
        OPEN,
        _charges(parts),
        to_micros(now),
        to_micros(request.expires_at),
    )


def write_holds(connection: Connection, changed: Iterable[Hold]) -> None:
    """Store the current state of holds."""
    names = ("state", "settled_nano", "events", "awaiting", "charges")
    rows = [
        {
            "hold": hold.id,
            "state": hold.state,
            "settled_nano": hold.settled_nano,
            "events": hold.events,
            "awaiting": hold.awaiting,
            "charges": _charges(hold.parts),
        }
        for hold in sorted(changed, key=lambda hold: hold.id)
    ]
    if rows:
        statement = update(holds).where(holds.c.id == bindparam("hold"))
        connection.execute(statement.values(**{name: bindparam(name) for name in names}), rows)


def announce(connection: Connection, hold_id: str, events: int) -> None:
    """Record that `events` more usage events name the hold."""
    columns = holds.c
    connection.execute(update(holds).where(columns.id == hold_id).values(announced=columns.announced + events))


def buyer_of(connection: Connection, hold_id: str) -> tuple[str, str]:
    """The project and key of a hold; empty if there is no such hold."""
    row = connection.execute(select(holds.c.project, holds.c.key_id).where(holds.c.id == hold_id)).first()
    return (row.project, row.key_id) if row else ("", "")


def prune(connection: Connection, now: datetime) -> int:
    """Delete holds that have long been over, up to PRUNE_MAX of them. Returns how many.

    Holds that were spent without usage events are kept, because nothing else shows what was spent.
    """
    columns = holds.c
    over = (
        select(columns.id)
        .where(columns.state.in_((DONE, EXPIRED)), columns.expires_at <= now - HOLDS_KEPT)
        .where((columns.state == EXPIRED) | (columns.events > 0) | (columns.settled_nano == 0))
        .limit(PRUNE_MAX)
    )
    return connection.execute(delete(holds).where(columns.id.in_(over))).rowcount


def wrong_request(request: HoldRequest, nano: int, now: datetime) -> InvalidInputError | None:
    """What is wrong with a request for a hold, if anything."""
    if type(request.nano) is not int or request.nano < 0 or nano > LIMIT_NANO_MAX:
        return InvalidInputError("a hold is for 0 to 4.6 billion")
    if request.window is not None and request.window.end - request.window.start > timedelta(days=HOLD_WINDOW_DAYS_MAX):
        return InvalidInputError(f"a hold's window has at most {HOLD_WINDOW_DAYS_MAX} days")
    last = max(now, request.window.end) if request.window is not None else now
    if not now < request.expires_at <= last + timedelta(seconds=HOLD_S_MAX):
        return InvalidInputError(f"a hold must expire within {HOLD_S_MAX} seconds from now, or from its window's end")
    return None


def wrong_settlement(settlement: Settlement, hold: Hold | None) -> Exception | None:
    """What is wrong with a settlement, if anything."""
    if type(settlement.nano) is not int or not 0 <= settlement.nano <= LIMIT_NANO_MAX or settlement.events < 0:
        return InvalidInputError("a hold is settled with 0 to 4.6 billion, and 0 or more events")
    if hold is None:
        return NotFoundError(f"there is no hold {settlement.hold_id!r}")
    if hold.settled_nano is not None and hold.settled_nano != settlement.nano:
        return ConflictError(f"hold {settlement.hold_id} was settled with another amount; that amount stands")
    by_itself = settlement.nano and not settlement.events and hold.state in (OPEN, EXPIRED)
    if by_itself and any(part.share != hold.nano for part in hold.parts):
        return InvalidInputError(f"hold {settlement.hold_id} is for a window; settle it with the usage that it was for")
    return None


def _charges(parts: Sequence[Part]) -> str:
    rows = [[part.budget_id, part.start, part.share, part.drawn] for part in parts]
    return json.dumps(rows, separators=(",", ":"))
