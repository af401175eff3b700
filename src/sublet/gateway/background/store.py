"""The SQL of background responses: what was asked, how far each is, and the events of those that are streamed.

Once one is over it is a stored response like all others; its row and its events stay for a while, for streams that go on.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, delete, func, insert, select, update

from sublet.gateway.refusals import ResponseNotFoundError
from sublet.store import Store
from sublet.store.tables.gateway import background_responses as rows
from sublet.store.tables.gateway import response_events as events
from sublet.values.errors import LimitExceededError

QUEUED, IN_PROGRESS, CANCELING = ACTIVE = ("queued", "in_progress", "cancelling")
OVER = "over"
UNFINISHED_MAX = 100
"""Of an organization at once."""
WINDOW = timedelta(hours=1)
"""One that has not ended in this time fails."""
EVENTS_KEPT = timedelta(hours=1)
"""After its end."""
DROPPED_MAX = 100
MIB = 1024 * 1024


class LostResponseError(Exception):
    """Another gateway works on it by now, or it is over."""


@dataclass(frozen=True, slots=True)
class Background:
    """A response as its row has it. `request` is the body of its request, `body` what is told while it is not over. `told` says
    that some of its events are written."""

    id: str
    organization_id: str
    key_id: str
    stream: bool
    request: bytes
    body: bytes
    status: str
    told: bool
    created_at: datetime
    expires_at: datetime
    worker: str
    beat: int


class Sighted(NamedTuple):
    """One that is not over, without what was asked: a round looks at all of them."""

    id: str
    organization_id: str
    status: str
    worker: str
    beat: int


def add(store: Store, connection: Connection, item: Background, bytes_max: int) -> None:
    """Write a request down, if all that are not over have `bytes_max` at most. Raises LimitExceededError."""
    if len(item.request) > bytes_max:
        raise LimitExceededError(
            f"a background response may have a request of {bytes_max // MIB} MiB at most; send it without `background`"
        )
    store.lock(connection, f"background {item.organization_id}")
    own = (rows.c.organization_id == item.organization_id) & (rows.c.status != OVER)
    held = select(func.count(), func.coalesce(func.sum(rows.c.request_bytes), 0)).select_from(rows).where(own)
    count, size = connection.execute(held).one()
    if size + len(item.request) > bytes_max:
        raise LimitExceededError(
            f"this organization's unfinished background responses may have {bytes_max // MIB} MiB of requests together; wait for "
            "one, or cancel one",
            retry_after_s=5.0,
        )
    if count >= UNFINISHED_MAX:
        raise LimitExceededError(
            f"this organization has {UNFINISHED_MAX} unfinished background responses, the maximum; wait for one, or cancel one",
            retry_after_s=5.0,
        )
    connection.execute(
        insert(rows).values(
            id=item.id,
            organization_id=item.organization_id,
            key_id=item.key_id,
            stream=item.stream,
            request=item.request.decode(),
            body=item.body.decode(),
            status=item.status,
            told=False,
            created_at=item.created_at,
            expires_at=item.expires_at,
            worker=item.worker,
            beat=0,
            request_bytes=len(item.request),
        )
    )


def active(connection: Connection) -> list[Sighted]:
    """All that are not over, the oldest first."""
    seen = select(rows.c.id, rows.c.organization_id, rows.c.status, rows.c.worker, rows.c.beat)
    wanted = seen.where(rows.c.status != OVER).order_by(rows.c.created_at, rows.c.id)
    return [Sighted(*row) for row in connection.execute(wanted)]


def one(connection: Connection, organization_id: str, response_id: str) -> Background | None:
    """That of an organization, if there is such a one; one that is over only as long as its events are kept."""
    own = (rows.c.id == response_id[:64]) & (rows.c.organization_id == organization_id)
    row = connection.execute(select(rows).where(own)).first()
    return _of(row) if row is not None else None


def status_of(connection: Connection, organization_id: str, response_id: str) -> str | None:
    """How far that of an organization is, as `one`, but without what was asked: those who follow it look often."""
    own = (rows.c.id == response_id[:64]) & (rows.c.organization_id == organization_id)
    found: str | None = connection.execute(select(rows.c.status).where(own)).scalar()
    return found


def claim(connection: Connection, item: Sighted, worker: str) -> Background | None:
    """Take one over from whom `item` names, unless that one has moved meanwhile; the one, if that was possible."""
    seen = (rows.c.id == item.id) & (rows.c.worker == item.worker) & (rows.c.beat == item.beat)
    taken = update(rows).where(seen, rows.c.status != OVER).values(worker=worker, beat=rows.c.beat + 1)
    return one(connection, item.organization_id, item.id) if connection.execute(taken).rowcount else None


def beat(connection: Connection, worker: str) -> None:
    """Say that a worker is alive."""
    own = (rows.c.worker == worker) & (rows.c.status != OVER)
    connection.execute(update(rows).where(own).values(beat=rows.c.beat + 1))


def give_up(connection: Connection, worker: str) -> None:
    """A worker ends; others may go on at once."""
    own = (rows.c.worker == worker) & (rows.c.status != OVER)
    connection.execute(update(rows).where(own).values(worker="", beat=rows.c.beat + 1))


def begin(connection: Connection, item: Background, body: bytes) -> None:
    """It is in progress. Raises LostResponseError."""
    _change(connection, item, (QUEUED, IN_PROGRESS), status=IN_PROGRESS, body=body.decode())


def cancel(connection: Connection, organization_id: str, response_id: str) -> Background | None:
    """Have one end early, unless it is over; the one, as it was. Raises ResponseNotFoundError."""
    item = one(connection, organization_id, response_id)
    if item is None:
        raise ResponseNotFoundError
    connection.execute(
        update(rows)
        .where(rows.c.id == item.id, rows.c.status.in_((QUEUED, IN_PROGRESS)))
        .values(status=CANCELING, beat=rows.c.beat + 1)
    )
    return item


def tell(connection: Connection, item: Background, number: int, content: bytes) -> None:
    """Write the next events of a stream. Raises LostResponseError."""
    _change(connection, item, (IN_PROGRESS, CANCELING), told=True)
    connection.execute(insert(events).values(response_id=item.id, number=number, content=content.decode()))


def end(connection: Connection, item: Background, now: datetime) -> None:
    """It is over. Raises LostResponseError."""
    _change(connection, item, ACTIVE, status=OVER, body="", request="", request_bytes=0, expires_at=now + EVENTS_KEPT)


def parts(connection: Connection, response_id: str, number: int) -> list[tuple[int, str]]:
    """The events that were written from this part on."""
    wanted = (events.c.response_id == response_id) & (events.c.number >= number)
    listed = select(events.c.number, events.c.content).where(wanted).order_by(events.c.number).limit(64)
    return [(row.number, row.content) for row in connection.execute(listed)]


def next_of(connection: Connection, response_id: str) -> tuple[int, int]:
    """The number of the next part, and of the next event."""
    listed = select(events.c.number, events.c.content).where(events.c.response_id == response_id)
    row = connection.execute(listed.order_by(events.c.number.desc()).limit(1)).first()
    if row is None:
        return 0, 0
    number = row.content.rpartition('"sequence_number":')[2].rstrip("}\n ")
    return row.number + 1, int(number) + 1 if number.isdecimal() else 0


def expire(connection: Connection, now: datetime) -> int:
    """Drop what is over and was kept long enough; how many."""
    old = (rows.c.status == OVER) & (rows.c.expires_at <= now)
    gone = list(connection.execute(select(rows.c.id).where(old).limit(DROPPED_MAX)).scalars())
    if gone:
        forget(connection, gone)
    return len(gone)


def forget(connection: Connection, response_ids: list[str]) -> None:
    """Drop rows with their events."""
    connection.execute(delete(events).where(events.c.response_id.in_(response_ids)))
    connection.execute(delete(rows).where(rows.c.id.in_(response_ids)))


def events_after(content: str, sequence: int) -> Iterator[str]:
    """The events of a part that come behind number `sequence`."""
    for event in content.split("\n\n"):
        if event:
            number = event.rpartition('"sequence_number":')[2].rstrip("}")
            if not number.isdecimal() or int(number) > sequence:
                yield event + "\n\n"


def _change(connection: Connection, item: Background, states: tuple[str, ...], **values: Any) -> None:
    own = (rows.c.id == item.id) & (rows.c.worker == item.worker) & rows.c.status.in_(states)
    if not connection.execute(update(rows).where(own).values(beat=rows.c.beat + 1, **values)).rowcount:
        raise LostResponseError


def _of(row: Any) -> Background:
    return Background(
        row.id,
        row.organization_id,
        row.key_id,
        row.stream,
        row.request.encode(),
        row.body.encode(),
        row.status,
        row.told,
        row.created_at,
        row.expires_at,
        row.worker,
        row.beat,
    )
