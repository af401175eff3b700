"""Mail to one person that holds a link: written in the transaction that makes the link, sealed until it is sent, then deleted."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlalchemy import Connection, Row, delete, insert, select, update

from sublet.store import Store
from sublet.store.sealing import Sealing
from sublet.store.tables.accounts import letters
from sublet.values.errors import SubletError
from sublet.values.ids import new_id

LIFE = timedelta(days=1)
AT_ONCE = 20
WAIT_S_MAX = 3_600

Post = Callable[[str, str, str], None]
"""(address, subject, text): hands a mail over. Raises SubletError where it can't be delivered now."""

_log = structlog.get_logger("sublet.accounts")


def write_letter(
    connection: Connection, sealing: Sealing, address: str, content: tuple[str, str], now: datetime
) -> None:
    """A mail to `address` with a subject and a text."""
    letter_id = new_id("let")
    connection.execute(
        insert(letters).values(
            id=letter_id,
            address=address,
            sealed=sealing.seal(json.dumps(content), letter_id),
            created_at=now,
            next_at=now,
            attempts=0,
        )
    )


def send_letters(store: Store, sealing: Sealing, post: Post) -> int:
    """Send what is due; how many were sent. What can't be delivered is tried again at growing intervals, for a day. Killed
    between the mail and the deletion, it sends a letter twice."""
    now = store.clock.now()
    with store.read() as connection:
        due = connection.execute(
            select(letters).where(letters.c.next_at <= now).order_by(letters.c.next_at).limit(AT_ONCE)
        ).all()
    sent = 0
    for row in due:
        try:
            if now < row.created_at + LIFE:
                subject, text = json.loads(sealing.open(row.sealed, row.id))
                post(row.address, subject, text)
                sent += 1
            store.write(partial(_drop, letter_id=row.id))
        except SubletError as error:
            _log.warning("letter_not_sent", letter_id=row.id, reason=error.message)
            store.write(partial(_postpone, row=row, now=now, reason=error.message))
    return sent


def reseal_letters(store: Store, sealing: Sealing) -> int:
    """Seal what waits with the present key; how many were not."""

    def write(connection: Connection) -> int:
        rows = [row for row in connection.execute(select(letters)).all() if not sealing.is_current(row.sealed)]
        for row in rows:
            sealed = sealing.seal(sealing.open(row.sealed, row.id), row.id)
            connection.execute(update(letters).where(letters.c.id == row.id).values(sealed=sealed))
        return len(rows)

    return store.write(write)


def _drop(connection: Connection, letter_id: str) -> None:
    connection.execute(delete(letters).where(letters.c.id == letter_id))


def _postpone(connection: Connection, row: Row[Any], now: datetime, reason: str) -> None:
    wait = timedelta(seconds=min(WAIT_S_MAX, 15 * 2**row.attempts))
    connection.execute(
        update(letters)
        .where(letters.c.id == row.id)
        .values(attempts=row.attempts + 1, next_at=now + wait, last_error=reason)
    )
