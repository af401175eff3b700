"""The SQL of batches: each step is one transaction that only the gateway which works on the batch can make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from sublet.gateway.batches.model import (
    ACTIVE,
    CANCELING,
    FINALIZING,
    IN_PROGRESS,
    VALIDATING,
    WINDOW_S,
    Batch,
    NewBatch,
    Problem,
)
from sublet.gateway.files.model import BATCH, Owner
from sublet.gateway.files.store import Files, beyond, found, keep_until, limit_of, listing
from sublet.gateway.model import Tokens
from sublet.gateway.refusals import BatchNotFoundError, BatchOverError, InvalidRequestError, StorageQuotaError
from sublet.store.tables.gateway import batch_lines as lines
from sublet.store.tables.gateway import batches as rows
from sublet.values.ids import new_id

LIST_DEFAULT, LIST_MAX = 20, 100
UNFINISHED_MAX = 100
"""Batches of an organization that are not over."""
KEPT = timedelta(days=90)
"""What is known of a batch that is over is kept for so long; its files have an expiry of their own."""
DROPPED_MAX = 500


class LostBatchError(Exception):
    """Another gateway works on the batch by now, or it is over."""


class Batches:
    """The use cases of customers; blocks, so it is called on threads."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._store = files.store

    def create(self, owner: Owner, key_id: str, asked: NewBatch) -> Batch:
        """Raises InvalidRequestError, StorageQuotaError."""
        now = self._store.clock.now()
        batch_id = new_id("batch")
        expiry = asked.output_expires_after

        def write(connection: Connection) -> None:
            self._store.lock(connection, f"batches {owner.organization_id}")
            file = found(connection, owner, asked.input_file_id, now, param="input_file_id")
            if file.purpose != BATCH:
                raise InvalidRequestError("input_file_id must be a file with the purpose batch", param="input_file_id")
            # What a batch writes counts when it is there, so that a full organization begins no further one.
            self._files.check_room(connection, owner, 0)
            keep_until(connection, file, now + timedelta(seconds=2 * WINDOW_S))
            own = (rows.c.organization_id == owner.organization_id) & rows.c.status.in_(ACTIVE)
            if connection.execute(select(func.count()).select_from(rows).where(own)).scalar_one() >= UNFINISHED_MAX:
                raise StorageQuotaError(
                    f"this organization has {UNFINISHED_MAX} unfinished batches, the maximum; wait for one to end, or cancel one"
                )
            connection.execute(
                insert(rows).values(
                    id=batch_id,
                    organization_id=owner.organization_id,
                    project=owner.project,
                    key_id=key_id,
                    endpoint=asked.endpoint,
                    input_file_id=file.id,
                    output_file_id="",
                    error_file_id="",
                    status=VALIDATING,
                    reason="",
                    model="",
                    metadata=asked.metadata or {},
                    errors=[],
                    total=0,
                    completed=0,
                    failed=0,
                    input=0,
                    input_cached=0,
                    output=0,
                    created_at=now,
                    expires_at=now + timedelta(seconds=WINDOW_S),
                    output_keep_s=expiry.seconds if expiry is not None else 0,
                    times={},
                    worker="",
                    beat=0,
                )
            )

        self._store.write(write)
        return self.get(owner, batch_id)

    def get(self, owner: Owner, batch_id: str) -> Batch:
        """Raises BatchNotFoundError."""
        with self._store.read() as connection:
            return one(connection, owner, batch_id)

    def page(self, owner: Owner, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of batches as OpenAI lists them, the newest first. Raises InvalidRequestError, BatchNotFoundError."""
        limit = limit_of(query, LIST_DEFAULT, LIST_MAX)
        wanted = _visible(owner)
        with self._store.read() as connection:
            if (after := query.get("after")) is not None:
                at = one(connection, owner, after)
                wanted &= beyond(rows.c.created_at, rows.c.id, (at.created_at, at.id), later=False)
            listed = connection.execute(
                select(rows).where(wanted).order_by(rows.c.created_at.desc(), rows.c.id.desc()).limit(limit + 1)
            ).all()
        return listing([batch_of(row).as_dict() for row in listed], limit)

    def cancel(self, owner: Owner, batch_id: str) -> Batch:
        """Have a batch end early. Raises BatchNotFoundError, BatchOverError."""
        now = self._store.clock.now()

        def write(connection: Connection) -> None:
            row = _locked(connection, batch_id, _visible(owner))
            if row is None:
                raise BatchNotFoundError
            batch = batch_of(row)
            if batch.status in (CANCELING, FINALIZING):
                return
            if batch.status not in ACTIVE:
                raise BatchOverError(f"the batch is {batch.status}, so it can't be canceled")
            _change(connection, batch, CANCELING, now)

        self._store.write(write)
        return self.get(owner, batch_id)


def one(connection: Connection, owner: Owner, batch_id: str) -> Batch:
    """Raises BatchNotFoundError."""
    row = connection.execute(select(rows).where(_visible(owner), rows.c.id == batch_id[:64])).first()
    if row is None:
        raise BatchNotFoundError
    return batch_of(row)


def batch_of(row: Any) -> Batch:
    """The batch that a row stands for."""
    return Batch(
        row.id,
        row.organization_id,
        row.project,
        row.key_id,
        row.endpoint,
        row.input_file_id,
        row.output_file_id,
        row.error_file_id,
        row.status,
        row.reason,
        row.model,
        row.metadata,
        tuple(row.errors),
        row.total,
        row.completed,
        row.failed,
        Tokens(row.input, row.input_cached, row.output),
        row.created_at,
        row.expires_at,
        row.output_keep_s,
        row.times,
        row.worker,
        row.beat,
    )


# The worker's steps


def active_batches(connection: Connection) -> list[Batch]:
    """All that are not over, the oldest first."""
    wanted = select(rows).where(rows.c.status.in_(ACTIVE)).order_by(rows.c.created_at, rows.c.id)
    return [batch_of(row) for row in connection.execute(wanted)]


def claim(connection: Connection, batch: Batch, worker: str) -> bool:
    """Take a batch over from whom `batch` names, unless that one has moved meanwhile; whether that was possible."""
    seen = (rows.c.id == batch.id) & (rows.c.worker == batch.worker) & (rows.c.beat == batch.beat)
    return bool(
        connection.execute(
            update(rows).where(seen, rows.c.status.in_(ACTIVE)).values(worker=worker, beat=rows.c.beat + 1)
        ).rowcount
    )


def beat(connection: Connection, worker: str) -> set[str]:
    """Say that a worker is alive; the batches that are its own."""
    own = (rows.c.worker == worker) & rows.c.status.in_(ACTIVE)
    connection.execute(update(rows).where(own).values(beat=rows.c.beat + 1))
    return set(connection.execute(select(rows.c.id).where(own)).scalars())


def give_up(connection: Connection, worker: str) -> None:
    """A worker ends; others may go on at once."""
    connection.execute(update(rows).where(rows.c.worker == worker).values(worker="", beat=rows.c.beat + 1))


def refuse(connection: Connection, batch: Batch, problems: Sequence[Problem], now: datetime) -> None:
    """The input file can't be used. Raises LostBatchError."""
    _change(connection, _own(connection, batch), "failed", now, errors=[item.as_dict() for item in problems])


def begin(connection: Connection, batch: Batch, total: int, model: str, now: datetime) -> None:
    """The input file is in order. Raises LostBatchError."""
    held = _own(connection, batch)
    if held.status == VALIDATING:
        _change(connection, held, IN_PROGRESS, now, total=total, model=model[:80])
    else:
        connection.execute(update(rows).where(rows.c.id == batch.id).values(total=total, model=model[:80]))


def uses_file(connection: Connection, file_id: str) -> bool:
    """Whether a batch that is not over has it as its input."""
    return (
        connection.execute(
            select(rows.c.id).where(rows.c.input_file_id == file_id, rows.c.status.in_(ACTIVE)).limit(1)
        ).first()
        is not None
    )


def done_lines(connection: Connection, batch_id: str) -> set[int]:
    """The numbers of the lines that something has become of."""
    return set(connection.execute(select(lines.c.number).where(lines.c.batch_id == batch_id)).scalars())


def put_line(connection: Connection, batch: Batch, number: int, content: str, tokens: Tokens) -> None:
    """Write down the answer to a line, once. Raises LostBatchError."""
    own = (rows.c.id == batch.id) & (rows.c.worker == batch.worker)
    changed = (
        update(rows)
        .where(own, rows.c.status.in_((IN_PROGRESS, CANCELING)))
        .values(
            completed=rows.c.completed + 1,
            input=rows.c.input + tokens.input,
            input_cached=rows.c.input_cached + tokens.input_cached,
            output=rows.c.output + tokens.output,
            beat=rows.c.beat + 1,
        )
    )
    if not connection.execute(changed).rowcount:
        raise LostBatchError
    connection.execute(insert(lines).values(batch_id=batch.id, number=number, failed=False, content=content))


def put_failed(connection: Connection, batch: Batch, some: Sequence[tuple[int, str]]) -> None:
    """Write down that those lines of `some` failed of which nothing has become yet. Raises LostBatchError."""
    if _own(connection, batch).status not in (IN_PROGRESS, CANCELING):
        raise LostBatchError
    numbers = [number for number, _ in some]
    known = set(
        connection.execute(
            select(lines.c.number).where(lines.c.batch_id == batch.id, lines.c.number.in_(numbers))
        ).scalars()
    )
    new = [
        {"batch_id": batch.id, "number": number, "failed": True, "content": content}
        for number, content in some
        if number not in known
    ]
    if new:
        connection.execute(insert(lines), new)
        connection.execute(
            update(rows).where(rows.c.id == batch.id).values(failed=rows.c.failed + len(new), beat=rows.c.beat + 1)
        )


def finalize(connection: Connection, batch: Batch, reason: str, now: datetime) -> None:
    """Nothing more is asked: the files are to be made. Raises LostBatchError."""
    _change(connection, _own(connection, batch), FINALIZING, now, reason=reason)


def name_files(connection: Connection, batch: Batch, file_ids: tuple[str, str]) -> tuple[str, str]:
    """The files that are being made from now on; those of an earlier attempt. Raises LostBatchError."""
    held = _own(connection, batch)
    output, errors = file_ids
    connection.execute(update(rows).where(rows.c.id == batch.id).values(output_file_id=output, error_file_id=errors))
    return held.output_file_id, held.error_file_id


def lines_after(
    connection: Connection, batch_id: str, number: int, limit: int, *, failed: bool
) -> list[tuple[int, str]]:
    """The next lines of the output or of the error file, in the order of the input."""
    wanted = (lines.c.batch_id == batch_id) & (lines.c.failed == failed) & (lines.c.number > number)
    listed = select(lines.c.number, lines.c.content).where(wanted).order_by(lines.c.number).limit(limit)
    return [(row.number, row.content) for row in connection.execute(listed)]


def end(connection: Connection, batch: Batch, file_ids: tuple[str, str], now: datetime) -> None:
    """The files are there: the batch is over. An empty id: there is no such file. Raises LostBatchError."""
    held = _own(connection, batch)
    output, errors = file_ids
    _change(connection, held, held.reason, now, output_file_id=output, error_file_id=errors)
    connection.execute(delete(lines).where(lines.c.batch_id == batch.id))


def expire_batches(connection: Connection, now: datetime) -> int:
    """Forget batches that were over long ago; how many."""
    old = (rows.c.created_at <= now - KEPT) & rows.c.status.not_in(ACTIVE)
    gone = list(connection.execute(select(rows.c.id).where(old).limit(DROPPED_MAX)).scalars())
    if gone:
        connection.execute(delete(lines).where(lines.c.batch_id.in_(gone)))
        connection.execute(delete(rows).where(rows.c.id.in_(gone)))
    return len(gone)


def _own(connection: Connection, batch: Batch) -> Batch:
    row = _locked(connection, batch.id, rows.c.worker == batch.worker)
    if row is None or row.status not in ACTIVE:
        raise LostBatchError
    return batch_of(row)


def _locked(connection: Connection, batch_id: str, wanted: ColumnElement[bool]) -> Any:
    return connection.execute(select(rows).where(wanted, rows.c.id == batch_id[:64]).with_for_update()).first()


def _change(connection: Connection, batch: Batch, status: str, now: datetime, **values: Any) -> None:
    times = {**batch.times, status: int(now.timestamp())}
    connection.execute(
        update(rows).where(rows.c.id == batch.id).values(status=status, times=times, beat=rows.c.beat + 1, **values)
    )


def _visible(owner: Owner) -> ColumnElement[bool]:
    own = rows.c.organization_id == owner.organization_id
    return own & (rows.c.project == owner.project) if owner.project else own
