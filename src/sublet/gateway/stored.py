"""Responses that are kept because their clients asked for it, and conversations that go on from them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, insert, select

from sublet.gateway.refusals import (
    ConversationTooLongError,
    InvalidRequestError,
    ResponseNotFoundError,
    ServerFullError,
    StoppingError,
)
from sublet.store import Store
from sublet.store.tables.gateway import stored_responses as rows

CHAIN_MAX = 200
"""Responses that a conversation may have behind it."""
CHAIN_BYTES_MAX = 10 * 1024 * 1024
WAITING_MAX = 1024
ITEMS_DEFAULT, ITEMS_MAX = 20, 100
DROPPED_MAX = 500
"""Rows that are dropped at once."""
_encode = msgspec.json.encode


@dataclass(frozen=True, slots=True)
class StoredResponse:
    """A response as its client was told it, with the items that it was asked with; both JSON. `previous_id` is the response that
    it goes on from; empty where it begins a conversation."""

    id: str
    organization_id: str
    previous_id: str
    model: str
    created_at: datetime
    items: bytes
    body: bytes


class Responses:
    """Reads and writes them, off the loop. All of it is for one organization at a time: nobody sees another one's."""

    def __init__(self, store: Store, keep: timedelta, count_max: int, bytes_max: int) -> None:
        """`count_max` and `bytes_max` are per organization; its oldest give way, but never the newest."""
        self._store = store
        self._keep_for = keep
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._threads = ThreadPoolExecutor(2, "stored-responses")
        self._room = threading.Semaphore(WAITING_MAX)

    def keep(self, item: StoredResponse) -> Future[None]:
        """The future raises what the database raises. Raises ServerFullError where too many wait already."""
        return self._submit(lambda: self._store.write(lambda connection: self.insert(connection, item)))

    def conversation(self, organization_id: str, response_id: str) -> Future[list[msgspec.Raw]]:
        """The items of a response and of all that it goes on from, the first first. The future raises ResponseNotFoundError,
        ConversationTooLongError, and what the database raises; raises ServerFullError."""

        def read() -> list[msgspec.Raw]:
            with self._store.read() as connection:
                return self._chain(connection, organization_id, response_id)

        return self._submit(read)

    def body(self, organization_id: str, response_id: str) -> bytes:
        """Raises ResponseNotFoundError."""
        with self._store.read() as connection:
            body: str = self._row(connection, organization_id, response_id).body
        return body.encode()

    def items(self, organization_id: str, response_id: str) -> list[dict[str, Any]]:
        """What it was asked with, what it goes on from included, the first first. Raises as `conversation`."""

        with self._store.read() as connection:
            row = self._row(connection, organization_id, response_id)
            before = self._chain(connection, organization_id, row.previous_id) if row.previous_id else []
        return [*map(msgspec.json.decode, before), *msgspec.json.decode(row.items)]

    def drop(self, organization_id: str, response_id: str) -> None:
        """Raises ResponseNotFoundError."""
        found = (rows.c.id == response_id) & (rows.c.organization_id == organization_id)
        if not self._store.write(lambda connection: connection.execute(delete(rows).where(found)).rowcount):
            raise ResponseNotFoundError

    def close(self) -> None:
        """Nothing more is taken; what waits is still done."""
        self._threads.shutdown(wait=False)

    def _submit(self, work: Callable[[], Any]) -> Future[Any]:
        if not self._room.acquire(blocking=False):
            raise ServerFullError("too many responses are being stored or read; try again in 1 s", retry_after_s=1.0)
        try:
            future = self._threads.submit(work)
        except RuntimeError as error:
            raise StoppingError(retry_after_s=1.0) from error
        future.add_done_callback(lambda done: self._room.release())
        return future

    def insert(self, connection: Connection, item: StoredResponse) -> None:
        """Keep a response, in the caller's transaction."""
        expires_at = item.created_at + self._keep_for
        connection.execute(
            insert(rows).values(
                id=item.id,
                organization_id=item.organization_id,
                previous_id=item.previous_id,
                model=item.model,
                created_at=item.created_at,
                expires_at=expires_at,
                items=item.items.decode(),
                body=item.body.decode(),
                bytes=len(item.items) + len(item.body),
            )
        )
        own = rows.c.organization_id == item.organization_id
        count, size = connection.execute(select(func.count(), func.sum(rows.c.bytes)).where(own)).one()
        if count <= self._count_max and size <= self._bytes_max:
            return
        others = select(rows.c.id, rows.c.bytes).where(own, rows.c.id != item.id)
        dropped = []
        for row in connection.execute(others.order_by(rows.c.created_at, rows.c.id).limit(DROPPED_MAX)):
            if count <= self._count_max and size <= self._bytes_max:
                break
            dropped.append(row.id)
            count, size = count - 1, size - row.bytes
        connection.execute(delete(rows).where(rows.c.id.in_(dropped)))

    def _row(self, connection: Connection, organization_id: str, response_id: str) -> Any:
        own = (rows.c.id == response_id[:64]) & (rows.c.organization_id == organization_id)
        row = connection.execute(select(rows).where(own, rows.c.expires_at > self._store.clock.now())).first()
        if row is None:
            raise ResponseNotFoundError
        return row

    def _chain(self, connection: Connection, organization_id: str, response_id: str) -> list[msgspec.Raw]:
        found: list[list[msgspec.Raw]] = []
        size = 0
        while response_id:
            row = self._row(connection, organization_id, response_id)
            size += len(row.items) + len(row.body)
            if len(found) >= CHAIN_MAX or size > CHAIN_BYTES_MAX:
                raise ConversationTooLongError
            found.append([*_raws.decode(row.items), *_output.decode(row.body).output])
            response_id = row.previous_id
        return [raw for part in reversed(found) for raw in part]


def expire(connection: Connection, now: datetime) -> int:
    """Drop what has been kept long enough, a part of it at a time; how many went."""
    old = select(rows.c.id).where(rows.c.expires_at <= now).limit(DROPPED_MAX)
    return connection.execute(delete(rows).where(rows.c.id.in_(old.scalar_subquery()))).rowcount


class _Output(msgspec.Struct):
    output: list[msgspec.Raw]


_raws = msgspec.json.Decoder(list[msgspec.Raw])
_output = msgspec.json.Decoder(_Output)


def items_json(response_id: str, items: str | Sequence[msgspec.Raw]) -> bytes:
    """The items of a request as they are kept: each with an id and whole."""
    if isinstance(items, str):
        items = [msgspec.Raw(_encode({"role": "user", "content": items}))]
    found: list[dict[str, Any]] = []
    for number, raw in enumerate(items):
        item = dict(msgspec.json.decode(raw))
        kind = item.setdefault("type", "message")
        if kind == "message":
            item.setdefault("status", "completed")
            if isinstance(item.get("content"), str):
                part = "output_text" if item.get("role") == "assistant" else "input_text"
                text = {"type": part, "text": item["content"]}
                item["content"] = [{**text, "annotations": []} if part == "output_text" else text]
        if not item.get("id"):
            prefix = {"function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}.get(kind, "msg")
            item["id"] = f"{prefix}_{response_id.removeprefix('resp_')}i{number:03x}"
        found.append(item)
    return _encode(found)


def item_page(items: list[dict[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """A page of items as OpenAI lists them, the last one first unless `order` is asc. Raises InvalidRequestError."""
    order, limit = query.get("order", "desc"), query.get("limit", str(ITEMS_DEFAULT))
    if order not in ("asc", "desc"):
        raise InvalidRequestError("order must be asc or desc", param="order")
    if not limit.isdecimal() or len(limit) > 9 or not 1 <= int(limit) <= ITEMS_MAX:
        raise InvalidRequestError(f"limit must be 1 to {ITEMS_MAX}", param="limit")
    found = items if order == "asc" else items[::-1]
    after = query.get("after")
    if after is not None:
        at = next((number for number, item in enumerate(found) if item["id"] == after), None)
        if at is None:
            raise InvalidRequestError("after must be the id of an item of this response", param="after")
        found = found[at + 1 :]
    page = found[: int(limit)]
    ends = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return {"object": "list", "data": page, "first_id": ends[0], "last_id": ends[1], "has_more": len(page) < len(found)}
