"""The files that a batch leaves: its answers, and what went wrong, each in the order of the input."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from sublet.gateway.batches import store as sql
from sublet.gateway.batches.model import Batch
from sublet.gateway.batches.store import LostBatchError
from sublet.gateway.files.model import BATCH_OUTPUT, PART_CHARACTERS, FileLimits, StoredFile
from sublet.gateway.files.store import add_output_part, begin_output, finish, forget
from sublet.store import Store
from sublet.values.ids import new_id

UNFINISHED = timedelta(hours=26)
LINES_AT_ONCE = 100


def make_files(store: Store, limits: FileLimits, batch: Batch) -> None:
    """Write both files and end the batch. What an attempt that was killed had written is dropped first. Raises LostBatchError."""
    file_ids = (new_id("file"), new_id("file"))
    now = store.clock.now()

    def begin(connection: Connection) -> None:
        old = sql.name_files(connection, batch, file_ids)
        forget(connection, [name for name in old if name])
        for file_id, kind in zip(file_ids, ("output", "error"), strict=True):
            name = f"{batch.id}_{kind}.jsonl"
            begin_output(
                connection,
                StoredFile(file_id, batch.organization_id, batch.project, name, BATCH_OUTPUT, 0, now, now + UNFINISHED),
            )

    store.write(begin)
    sizes = [
        _write(store, batch, file_id, failed=failed) for file_id, failed in zip(file_ids, (False, True), strict=True)
    ]
    keep = timedelta(seconds=batch.output_keep_s or limits.keep_s)

    def end(connection: Connection) -> None:
        ended_at = store.clock.now()
        there = []
        for file_id, size in zip(file_ids, sizes, strict=True):
            if size:
                finish(connection, file_id, size, ended_at + keep)
            else:
                forget(connection, [file_id])
            there.append(file_id if size else "")
        sql.end(connection, batch, (there[0], there[1]), ended_at)

    store.write(end)


def _write(store: Store, batch: Batch, file_id: str, *, failed: bool) -> int:
    """The bytes that were written."""
    at = size = number = 0
    waiting: list[str] = []
    held = 0

    def put() -> None:
        nonlocal number, held
        text = "".join(waiting)

        def write(connection: Connection) -> None:
            if not add_output_part(connection, file_id, number, text):
                raise LostBatchError

        store.write(write)
        number += 1
        held = 0
        waiting.clear()

    while True:
        with store.read() as connection:
            some = sql.lines_after(connection, batch.id, at, LINES_AT_ONCE, failed=failed)
        if not some:
            break
        at = some[-1][0]
        for _, text in some:
            waiting.append(text)
            held += len(text)
            size += len(text.encode())
            if held >= PART_CHARACTERS:
                put()
    if waiting:
        put()
    return size
