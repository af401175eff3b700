"""Take usage events: at least once in, exactly once counted. An id and its row are written by one statement."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from sublet.ledger import store as sql
from sublet.ledger.model import EVENT_KINDS, USAGE, EventConflictError, IntakeResult, Party, Refusal, UsageEvent
from sublet.ledger.usage.meters import METERS
from sublet.store.tables.ledger import events as events_table
from sublet.values.clock import format_time, from_micros, to_micros
from sublet.values.errors import InvalidInputError, LimitExceededError, NotFoundError, SubletError
from sublet.values.text import refuse_unsafe

BATCH_MAX = 10_000
FUTURE_S_MAX = 300
AGE_DAYS_MAX = 1_100
PARTIES_CACHED_MAX = 100_000
DIMENSIONS_MAX = 16
ID_LENGTH_MAX = 256
_TEXT_MAX = {"source": 512, "id": ID_LENGTH_MAX, "resource": 200, "project": 80, "key_id": 80}

Row = tuple[Any, ...]


class Parties:
    """Organizations as the ledger needs them, remembered: their currency and time zone never change."""

    def __init__(self) -> None:
        self._known: dict[str, Party] = {}

    def get(self, connection: Connection, organization_id: str) -> Party:
        """Raises NotFoundError for an organization that does not exist."""
        found = self._known.get(organization_id)
        if found is not None:
            return found
        loaded = sql.party(connection, organization_id)
        if loaded is None:
            raise NotFoundError(f"there is no organization {organization_id!r}; create it before sending its usage")
        if len(self._known) >= PARTIES_CACHED_MAX:
            self._known.clear()
        self._known[organization_id] = loaded
        return loaded


class Intake:
    """The one way in for usage events."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties

    def take(self, connection: Connection, events: Iterable[UsageEvent], now: datetime) -> IntakeResult:
        """Write `events` in the caller's transaction. The good are taken, the bad returned with reasons.

        Raises LimitExceededError for more than BATCH_MAX events; nothing is then taken.
        """
        batch = list(events)
        if len(batch) > BATCH_MAX:
            raise LimitExceededError(f"a batch holds at most {BATCH_MAX} events, not {len(batch)}; send several")
        limits = Limits(now)
        rows: dict[tuple[str, str], tuple[int, Row]] = {}
        refused: list[Refusal] = []
        duplicates = 0
        for index, event in enumerate(batch):
            try:
                row = self._row(connection, event, limits)
                key = (row[0], row[1])
                earlier = rows.setdefault(key, (index, row))
                if earlier[0] != index:
                    ensure_same(earlier[1], row)
                    duplicates += 1
            except SubletError as error:
                refused.append(_refusal(index, event, error))
        new, known = insert(connection, rows)
        for index, row, stored in known:
            try:
                ensure_same(stored, row)
                duplicates += 1
            except SubletError as error:
                refused.append(_refusal(index, batch[index], error))
        return IntakeResult(new, duplicates, tuple(sorted(refused, key=lambda refusal: refusal.index)))

    def _row(self, connection: Connection, event: UsageEvent, limits: Limits) -> Row:
        """The event as a row, checked. Raises InvalidInputError or NotFoundError."""
        meter = METERS.get(event.meter)
        if meter is None:
            raise InvalidInputError(f"meter {event.meter!r} is not known; use one of {', '.join(METERS)}")
        self._parties.get(connection, event.organization_id)
        source, identifier = event.source, event.id
        if not source or not identifier:
            raise InvalidInputError("source and id must not be empty: together they identify the event")
        for name in _TEXT_MAX:
            checked_text(name, getattr(event, name))
        at = limits.check(event.at)
        corrects_source, corrects_id = _corrected(event)
        return (
            source,
            identifier,
            event.kind,
            event.organization_id,
            event.meter,
            meter.steps(event.quantity),
            at,
            limits.now,
            event.resource,
            event.project,
            event.key_id,
            dimensions_text(event.dimensions),
            corrects_source,
            corrects_id,
            event.hold_id,
        )


def checked_text(name: str, value: str) -> None:
    """Raises InvalidInputError where a field of that name may not hold `value`."""
    if len(value) > _TEXT_MAX[name]:
        raise InvalidInputError(f"{name} must be at most {_TEXT_MAX[name]} printable characters")
    refuse_unsafe(value, name)


class Limits:
    """The span of time that events may come from, in microseconds."""

    def __init__(self, now: datetime) -> None:
        self.now = to_micros(now)
        self.earliest_us = to_micros(now - timedelta(days=AGE_DAYS_MAX))
        self.latest_us = to_micros(now + timedelta(seconds=FUTURE_S_MAX))

    def check(self, moment: datetime) -> int:
        if moment.tzinfo is None:
            raise InvalidInputError(f"time {moment.isoformat()} has no offset; send it in UTC with a Z")
        at = to_micros(moment)
        if at > self.latest_us:
            raise InvalidInputError(
                f"time {format_time(moment)} is more than {FUTURE_S_MAX} seconds ahead of the server's clock "
                f"({format_time(from_micros(self.now))}); check the sender's clock and send it again"
            )
        if at < self.earliest_us:
            raise InvalidInputError(f"time {format_time(moment)} is more than {AGE_DAYS_MAX} days ago")
        return at


def _corrected(event: UsageEvent) -> tuple[str | None, str | None]:
    if event.kind not in EVENT_KINDS:
        raise InvalidInputError(f"kind {event.kind!r} must be one of {', '.join(EVENT_KINDS)}")
    if event.kind == USAGE:
        if event.corrects is not None:
            raise InvalidInputError("an event of kind usage can't correct another; send a correction or a cancellation")
        return None, None
    if event.corrects is None:
        raise InvalidInputError(f"a {event.kind} must contain the source and id of the event that it corrects")
    if event.corrects == (event.source, event.id):
        raise InvalidInputError("an event can't correct itself; send the correction with a new id")
    if event.kind == "cancellation" and event.quantity != 0:
        raise InvalidInputError("the quantity of a cancellation must be 0; to change the quantity, send a correction")
    return event.corrects


_PLAIN_DIMENSIONS: dict[tuple[tuple[str, str], ...], str] = {}


def dimensions_text(dimensions: Any) -> str:
    """Canonical JSON; the same few combinations come again and again, so they are remembered."""
    if not dimensions:
        return "{}"
    try:
        key = tuple(dimensions.items())
        known = _PLAIN_DIMENSIONS.get(key)
    except (TypeError, AttributeError) as error:
        raise InvalidInputError("dimensions must be an object of strings") from error
    if known is not None:
        return known
    if len(key) > DIMENSIONS_MAX:
        raise InvalidInputError(f"an event may have at most {DIMENSIONS_MAX} dimensions")
    for name, value in key:
        if not isinstance(name, str) or not isinstance(value, str) or len(name) > 40 or len(value) > 200:
            raise InvalidInputError("dimensions must be strings: names of at most 40 characters, values of 200")
        refuse_unsafe(name, "the name of a dimension")
        refuse_unsafe(value, f"dimension {name}")
    written = json.dumps(dict(key), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    if len(_PLAIN_DIMENSIONS) > 50_000:
        _PLAIN_DIMENSIONS.clear()
    _PLAIN_DIMENSIONS[key] = written
    return written


def insert(
    connection: Connection, rows: dict[tuple[str, str], tuple[int, Row]]
) -> tuple[int, list[tuple[int, Row, Row]]]:
    """Write what is new; return how many were, and the others with the row that was there before."""
    if not rows:
        return 0, []
    if not sql.is_sqlite(connection):
        connection.execute(text("SELECT pg_advisory_xact_lock_shared(:key)"), {"key": sql.INTAKE_LOCK})
    before = sql.last_event_seq(connection)
    # In one order everywhere: two batches that share ids can't deadlock on the unique index.
    ordered = [rows[key] for key in sorted(rows)]
    written = sql.bulk_insert(
        connection, events_table, [row for _, row in ordered], "ON CONFLICT (source, event_id) DO NOTHING"
    )
    if written == len(ordered):
        return written, []
    return written, _known(connection, ordered, written, before)


def _known(
    connection: Connection, ordered: Sequence[tuple[int, Row]], written: int, before: int
) -> list[tuple[int, Row, Row]]:
    """The rows of this batch that were in the database before it.

    On SQLite nobody else writes meanwhile, so what was there has a number up to `before`. On PostgreSQL another
    intake may commit in between; equal content is then harmless either way, and `written` says how many are ours.
    """
    known: list[tuple[int, Row, Row]] = []
    there = sql.events_named(connection, [(row[0], row[1]) for _, row in ordered])
    for index, row in ordered:
        stored = there[row[0], row[1]]
        content = tuple(stored)[1:]
        if stored.seq <= before or content[:7] != row[:7] or content[8:] != row[8:]:
            known.append((index, row, content))
    missing = len(ordered) - written - len(known)
    if missing > 0:
        taken = {index for index, _, _ in known}
        known += [(index, row, row) for index, row in ordered if index not in taken][:missing]
    return known


def ensure_same(stored: Row, sent: Row) -> None:
    """A repeat has the same content; when it was received does not matter. Raises EventConflictError."""
    if stored[:7] == sent[:7] and stored[8:] == sent[8:]:
        return
    raise EventConflictError(
        f"event {sent[1]!r} of {sent[0]!r} was already received with different content; send a correction with a new id",
        stored=_shown(stored),
        sent=_shown(sent),
    )


def _shown(row: Row) -> dict[str, Any]:
    meter = METERS[row[4]]
    return {
        "kind": row[2],
        "organization": row[3],
        "meter": row[4],
        "quantity": str(meter.units(row[5])),
        "time": format_time(from_micros(row[6])),
        "resource": row[8],
        "project": row[9],
        "key": row[10],
        "dimensions": json.loads(row[11]),
        "corrects": {"source": row[12], "id": row[13]} if row[13] else None,
        "hold": row[14],
    }


def _refusal(index: int, event: UsageEvent, error: SubletError) -> Refusal:
    return Refusal(index, str(event.source)[:512], str(event.id)[:256], error.code, error.message, error.details)
