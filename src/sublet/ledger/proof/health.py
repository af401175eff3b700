"""How the books stand: how far rating is, what waits and why, and what the last proof said."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from sublet.ledger import store as sql
from sublet.ledger.store import LINES, RATING
from sublet.store.tables.ledger import events, proofs, waiting

WAITING_SHOWN = 10
LAG_EVENTS = 200


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the books are behind; None where nothing is."""

    unrated_events: int
    unrated: timedelta | None
    """Age of the oldest event that is not rated."""
    usage: timedelta | None
    """The longest that the tokens among the newest LAG_EVENTS events took from their use to the ledger. A lease's usage is told
    by the interval, and so says nothing of that."""


def lag_of(connection: Connection, now: datetime) -> Lag:
    """Reads the newest events alone, however many there are."""
    position, _ = sql.read_head(connection, RATING)
    last = sql.last_event_seq(connection)
    oldest = connection.execute(
        select(events.c.received_at).where(events.c.seq > position).order_by(events.c.seq).limit(1)
    )
    unrated = oldest.scalar()
    newest = (
        select(events.c.at, events.c.received_at, events.c.kind, events.c.meter)
        .order_by(events.c.seq.desc())
        .limit(LAG_EVENTS)
        .subquery()
    )
    took = [
        row.received_at - row.at
        for row in connection.execute(select(newest))
        if row.kind == "usage" and row.meter.startswith("tokens.")
    ]
    return Lag(
        max(0, last - position),
        now - unrated if unrated is not None else None,
        max(took, default=None),
    )


def health_of(connection: Connection) -> dict[str, Any]:
    """`waiting` names the oldest events without a line; `waiting_events` counts all of them."""
    position, _ = sql.read_head(connection, RATING)
    last = connection.execute(select(proofs).order_by(proofs.c.proved_at.desc()).limit(1)).first()
    held = connection.execute(
        select(waiting, events.c.source, events.c.event_id)
        .join(events, events.c.seq == waiting.c.event_seq)
        .order_by(waiting.c.event_seq)
        .limit(WAITING_SHOWN)
    ).all()
    return {
        "events": sql.last_event_seq(connection),
        "rated_to": position,
        "lines": sql.read_head(connection, LINES)[0],
        "waiting_events": connection.execute(select(func.count()).select_from(waiting)).scalar_one(),
        "waiting": [
            {
                "code": row.code,
                "reason": row.reason,
                "organization": row.organization_id,
                "source": row.source,
                "id": row.event_id,
            }
            for row in held
        ],
        "last_proof": last.report | {"proved_at": last.proved_at.isoformat()} if last else None,
        "ok": last is None or last.ok,
    }
