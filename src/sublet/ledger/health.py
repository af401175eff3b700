"""How the books stand: how far rating is, what waits and why, and what the last proof said."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, func, select

from sublet.ledger import store as sql
from sublet.ledger.store import LINES, RATING
from sublet.store.tables.ledger import events, proofs, waiting

WAITING_SHOWN = 10


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
