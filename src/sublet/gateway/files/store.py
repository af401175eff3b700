"""Where files are kept: in the database, in parts, so that every gateway has them and none is lost with a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, BinaryIO

from sqlalchemy import ColumnElement, Connection, delete, func, insert, select, update

from sublet.gateway.files.model import (
    LIST_DEFAULT,
    LIST_MAX,
    PURPOSES,
    Asked,
    FileLimits,
    Owner,
    StoredFile,
    parts_of,
)
from sublet.gateway.refusals import FileInUseError, InvalidRequestError, StorageQuotaError, StoredFileNotFoundError
from sublet.store import Store
from sublet.store.tables.gateway import file_parts as parts
from sublet.store.tables.gateway import stored_files as rows
from sublet.values.ids import new_id

DROPPED_MAX = 100
UNFINISHED = timedelta(hours=1)
"""An upload that was not finished in this time is one whose gateway was killed."""
MIB = 1024 * 1024


InUse = Callable[[Connection, str], bool]


class Files:
    """Reads and writes them; blocks, so it is called on threads. Everything is for one owner at a time."""

    def __init__(self, store: Store, limits: FileLimits, in_use: InUse) -> None:
        """`in_use` says which files must not be dropped."""
        self.store = store
        self.limits = limits
        self._in_use = in_use

    def add(self, owner: Owner, asked: Asked, file: BinaryIO, size: int) -> StoredFile:
        """Keep an upload of `size` bytes. Raises StorageQuotaError, and InvalidRequestError where it is not UTF-8 text; nothing
        of it is then kept."""
        file_id = new_id("file")
        limits = self.limits
        now = self.store.clock.now()
        row = {
            "id": file_id,
            "organization_id": owner.organization_id,
            "project": owner.project,
            "filename": asked.filename,
            "purpose": asked.purpose,
            "bytes": size,
            "ready": False,
            "created_at": now,
            "expires_at": now + UNFINISHED,
        }

        def begin(connection: Connection) -> None:
            self.check_room(connection, owner, size)
            connection.execute(insert(rows).values(row))

        self.store.write(begin)
        try:
            for number, text in enumerate(parts_of(file)):
                self.store.write(partial(add_part, file_id=file_id, number=number, text=text))
            expires_at = now + timedelta(seconds=asked.keep_s or limits.keep_s)
            self.store.write(lambda connection: finish(connection, file_id, size, expires_at))
        except BaseException:
            self.store.write(lambda connection: forget(connection, [file_id]))
            raise
        return self.get(owner, file_id)

    def check_room(self, connection: Connection, owner: Owner, size: int) -> None:
        """Raises StorageQuotaError where an organization may keep no further file of `size` bytes."""
        self.store.lock(connection, f"files {owner.organization_id}")
        own = rows.c.organization_id == owner.organization_id
        count, held = connection.execute(select(func.count(), func.sum(rows.c.bytes)).where(own)).one()
        if count >= self.limits.count_max:
            raise StorageQuotaError(
                f"this organization has {count} files, the maximum; delete some with DELETE /v1/files/ID"
            )
        if (held or 0) + size > self.limits.bytes_max:
            raise StorageQuotaError(
                f"this organization's files would have more than {self.limits.bytes_max // MIB} MiB together; delete some "
                "with DELETE /v1/files/ID"
            )

    def get(self, owner: Owner, file_id: str) -> StoredFile:
        """Raises StoredFileNotFoundError."""
        with self.store.read() as connection:
            return found(connection, owner, file_id, self.store.clock.now())

    def page(self, owner: Owner, query: Mapping[str, str]) -> dict[str, Any]:
        """A page of files as OpenAI lists them, the newest first unless `order` is asc. Raises InvalidRequestError."""
        order = query.get("order", "desc")
        limit = limit_of(query, LIST_DEFAULT, LIST_MAX)
        purpose = query.get("purpose")
        if order not in ("asc", "desc"):
            raise InvalidRequestError("order must be asc or desc", param="order")
        if purpose is not None and purpose not in PURPOSES:
            raise InvalidRequestError(f"purpose must be one of {', '.join(PURPOSES)}", param="purpose")
        wanted = _visible(owner, self.store.clock.now())
        if purpose is not None:
            wanted &= rows.c.purpose == purpose
        later = order == "asc"
        with self.store.read() as connection:
            if (after := query.get("after")) is not None:
                at = found(connection, owner, after, self.store.clock.now(), param="after")
                wanted &= beyond(rows.c.created_at, rows.c.id, (at.created_at, at.id), later=later)
            turned = (rows.c.created_at, rows.c.id) if later else (rows.c.created_at.desc(), rows.c.id.desc())
            listed = connection.execute(select(rows).where(wanted).order_by(*turned).limit(limit + 1)).all()
        return listing([file_of(row).as_dict() for row in listed], limit)

    def content(self, owner: Owner, file_id: str) -> Iterator[str]:
        """The file's text, a part at a time. Raises StoredFileNotFoundError, at once."""
        self.get(owner, file_id)
        return self.text(file_id)

    def text(self, file_id: str) -> Iterator[str]:
        """The parts of a file that is known to be there."""
        number = 0
        while True:
            with self.store.read() as connection:
                part = connection.execute(
                    select(parts.c.content).where(parts.c.file_id == file_id, parts.c.number == number)
                ).scalar()
            if part is None:
                return
            yield part
            number += 1

    def drop(self, owner: Owner, file_id: str) -> None:
        """Raises StoredFileNotFoundError, FileInUseError."""

        def write(connection: Connection) -> None:
            found(connection, owner, file_id, self.store.clock.now())
            if self._in_use(connection, file_id):
                raise FileInUseError
            forget(connection, [file_id])

        self.store.write(write)


def found(connection: Connection, owner: Owner, file_id: str, now: datetime, param: str | None = None) -> StoredFile:
    """Raises StoredFileNotFoundError, or InvalidRequestError where the id stands in the parameter `param`."""
    row = connection.execute(select(rows).where(_visible(owner, now), rows.c.id == file_id[:64])).first()
    if row is None:
        if param is not None:
            raise InvalidRequestError(f"{param} must be the id of one of your files", param=param)
        raise StoredFileNotFoundError
    return file_of(row)


def file_of(row: Any) -> StoredFile:
    """The file that a row stands for."""
    return StoredFile(
        row.id, row.organization_id, row.project, row.filename, row.purpose, row.bytes, row.created_at, row.expires_at
    )


def add_part(connection: Connection, file_id: str, number: int, text: str) -> None:
    """Write a part of a file that is not ready."""
    connection.execute(insert(parts).values(file_id=file_id, number=number, content=text))


def add_output_part(connection: Connection, file_id: str, number: int, text: str) -> bool:
    """The same for a file of a batch; whether it is still being made."""
    unfinished = (rows.c.id == file_id) & ~rows.c.ready
    if connection.execute(select(rows.c.id).where(unfinished).with_for_update()).first() is None:
        return False
    add_part(connection, file_id, number, text)
    return True


def keep_until(connection: Connection, file: StoredFile, at: datetime) -> None:
    """Keep a file at least so long."""
    if file.expires_at < at:
        connection.execute(update(rows).where(rows.c.id == file.id).values(expires_at=at))


def finish(connection: Connection, file_id: str, size: int, expires_at: datetime) -> None:
    """All parts are there: from now on the file can be seen."""
    connection.execute(update(rows).where(rows.c.id == file_id).values(ready=True, bytes=size, expires_at=expires_at))


def begin_output(connection: Connection, file: StoredFile) -> None:
    """Begin a file that a batch makes."""
    connection.execute(
        insert(rows).values(
            id=file.id,
            organization_id=file.organization_id,
            project=file.project,
            filename=file.filename,
            purpose=file.purpose,
            bytes=0,
            ready=False,
            created_at=file.created_at,
            expires_at=file.expires_at,
        )
    )


def forget(connection: Connection, file_ids: list[str]) -> None:
    """Drop files with their content."""
    connection.execute(delete(parts).where(parts.c.file_id.in_(file_ids)))
    connection.execute(delete(rows).where(rows.c.id.in_(file_ids)))


def expire_files(connection: Connection, now: datetime) -> int:
    """Drop what has been kept long enough, a part of it at a time; how many went."""
    old = list(connection.execute(select(rows.c.id).where(rows.c.expires_at <= now).limit(DROPPED_MAX)).scalars())
    if old:
        forget(connection, old)
    return len(old)


def _visible(owner: Owner, now: datetime) -> ColumnElement[bool]:
    own = (rows.c.organization_id == owner.organization_id) & rows.c.ready & (rows.c.expires_at > now)
    return own & (rows.c.project == owner.project) if owner.project else own


def beyond(
    at: ColumnElement[Any], key: ColumnElement[Any], place: tuple[datetime, str], *, later: bool
) -> ColumnElement[bool]:
    """What comes behind `place` in the order of a time and an id."""
    moment, name = place
    if later:
        return (at > moment) | ((at == moment) & (key > name))
    return (at < moment) | ((at == moment) & (key < name))


def limit_of(query: Mapping[str, str], default: int, most: int) -> int:
    """How many a page has. Raises InvalidRequestError."""
    limit = query.get("limit", str(default))
    if not limit.isdecimal() or len(limit) > 9 or int(limit) < 1:
        raise InvalidRequestError(f"limit must be a whole number from 1 to {most}", param="limit")
    return min(int(limit), most)


def listing(items: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    """A page of at most `limit`, of `items` that may have one more."""
    page = items[:limit]
    ends = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"object": "list", "data": page, "first_id": ends[0], "last_id": ends[1], "has_more": len(items) > limit}
