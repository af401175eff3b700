"""Dismissals: a correction whose event never comes is put aside, with a reason, by a transaction that moves no money."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, select

from sublet.ledger import store as sql
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import USAGE, Entry, Posting
from sublet.ledger.periods import month_of
from sublet.ledger.proof.findings import Proof
from sublet.ledger.store import RATING, EventRow
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.ledger import transactions, waiting
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, NotFoundError
from sublet.values.text import checked_line

DISMISSAL = "dismissal"
DISMISSALS = Listing("dismissals", (transactions.c.transaction_no,), descending=True)
_NAMED = "event "
_EVENT = (
    "seq",
    "source",
    "event_id",
    "kind",
    "organization_id",
    "meter",
    "quantity",
    "at",
    "corrects_source",
    "corrects_id",
)


def dismiss(connection: Connection, source: str, event_id: str, reason: str, now: datetime) -> dict[str, Any]:
    """Put a waiting correction or cancellation aside for good: it is never rated, even if the event that it names comes.

    Raises NotFoundError for an unknown event, ConflictError for usage and for what does not wait, InvalidInputError without a reason.
    """
    # The rater holds the same head: nothing is rated while it is dismissed.
    sql.lock_head(connection, RATING)
    reason = checked_line(reason, "the reason why the correction is dismissed", 500, 1)
    event = sql.event_named(connection, source, event_id)
    if event is None:
        raise NotFoundError(
            f"there is no event {event_id!r} of {source!r}; `sublet ledger health` lists waiting events"
        )
    if event.kind == USAGE:
        raise ConflictError(
            f"{event_id!r} of {source!r} is usage and can't be dismissed; add a price for it (0 if it is free)"
        )
    if not connection.execute(delete(waiting).where(waiting.c.event_seq == event.seq)).rowcount:
        raise ConflictError(f"{event_id!r} of {source!r} is not waiting: it was already rated or dismissed")
    party = sql.party(connection, event.organization_id)
    assert party is not None
    entry = Entry(
        party.id,
        party.currency,
        DISMISSAL,
        f"{_NAMED}{event.seq}",
        month_of(now, party.timezone).start,
        _head(event) + reason,
        # A posting of nothing: so that the journal's export, one row per posting, has this transaction too.
        (Posting("unbilled", 0),),
        None,
        _digest(event),
    )
    [posted] = journal.post(connection, [entry], now)
    return _shown(event, posted.number, now, entry.memo)


def dismissed(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[dict[str, Any]]:
    """What was dismissed and why, newest first; of one organization or of all."""
    statement = select(transactions).where(transactions.c.kind == DISMISSAL)
    if organization_id:
        statement = statement.where(transactions.c.organization_id == organization_id)
    found = DISMISSALS.read(connection, statement, wanted)
    # Events are never deleted, so each dismissal still has the one that it names.
    events = sql.events_by_seq(connection, [_seq(row.source_id) for row in found.items])
    return found.map(lambda row: _shown(events[_seq(row.source_id)], row.transaction_no, row.booked_at, row.memo))


def prove(connection: Connection, proof: Proof, organization_id: str) -> None:
    """Every dismissal is of a correction that is still what it was, and that was never rated."""
    statement = select(transactions).where(transactions.c.kind == DISMISSAL)
    if organization_id:
        statement = statement.where(transactions.c.organization_id == organization_id)
    rows = connection.execute(statement.order_by(transactions.c.transaction_no)).all()
    for part in sql.chunks(rows):
        seqs = [_seq(row.source_id) for row in part]
        events = sql.events_by_seq(connection, seqs)
        rated = {line.event_seq for line in sql.lines_of_events(connection, seqs)}
        for row, seq in zip(part, seqs, strict=True):
            event = events.get(seq)
            if event is None or _digest(event) != row.lines_digest:
                proof.differs(f"event {seq} is not the one that transaction {row.transaction_no} dismissed", 1)
            elif seq in rated:
                proof.differs(f"event {event.event_id!r} of {event.source!r} was dismissed and yet rated", 1)


def _seq(source_id: str) -> int:
    return int(source_id.removeprefix(_NAMED))


def _head(event: EventRow) -> str:
    return f"{event.kind} {event.event_id!r} of {event.source!r} dismissed: "


def _digest(event: EventRow) -> str:
    content = json.dumps([getattr(event, name) for name in _EVENT], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()


def _shown(event: EventRow, number: int, at: datetime, memo: str) -> dict[str, Any]:
    return {
        "transaction": number,
        "dismissed_at": format_time(at),
        "organization_id": event.organization_id,
        "kind": event.kind,
        "source": event.source,
        "id": event.event_id,
        "corrects": {"source": event.corrects_source, "id": event.corrects_id},
        "reason": memo.removeprefix(_head(event)),
    }
