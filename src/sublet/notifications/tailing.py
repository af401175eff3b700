"""Events as they happen, for anyone who asks over HTTP: a list that waits, and a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from starlette.concurrency import run_in_threadpool

from sublet.store import Store, outbox
from sublet.store.outbox import Event, Selection
from sublet.values.errors import LimitExceededError

LOOK_S = 0.5
KEEP_ALIVE_S = 15.0
STREAM_S_MAX = 600.0
"""A stream ends after so many seconds and the reader asks again, with a key that is checked again."""
PER_OWNER = 20
IN_ALL = 500
EVENTS_MAX = 200


class Tailing:
    """Reads of the outbox by many at once: who waits looks at one shared number, and reads when it has grown."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._last = 0
        self._looked_s = float("-inf")
        self._open: dict[str, int] = {}

    @contextmanager
    def place(self, owner: str) -> Iterator[None]:
        """Count one reader who waits. Raises LimitExceededError."""
        with self._lock:
            if self._open.get(owner, 0) >= PER_OWNER or sum(self._open.values()) >= IN_ALL:
                raise LimitExceededError(
                    f"there are already {PER_OWNER} open event streams, the maximum; close one", retry_after_s=5
                )
            self._open[owner] = self._open.get(owner, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._open[owner] -= 1
                if not self._open[owner]:
                    del self._open[owner]

    def last(self) -> int:
        """The newest number, not older than LOOK_S."""
        with self._lock:
            if time.monotonic() - self._looked_s < LOOK_S:
                return self._last
            self._looked_s = time.monotonic()
        with self._store.read() as connection:
            found = outbox.last_position(connection)
        with self._lock:
            self._last = max(found, self._last)
            return self._last

    def read(self, since: int, selection: Selection, limit: int = EVENTS_MAX) -> tuple[list[Event], int]:
        """Events after `since`, and the number to go on from: nothing of interest lies before it."""
        with self._store.read() as connection:
            last = outbox.last_position(connection)
            found = outbox.read_after(connection, since, min(limit, EVENTS_MAX), selection)
        return found, found[-1].position if len(found) == min(limit, EVENTS_MAX) else max(last, since)

    async def wait(self, since: int, selection: Selection, limit: int, wait_s: float) -> tuple[list[Event], int]:
        """The same; where there is nothing, wait up to `wait_s` seconds for something."""
        deadline = time.monotonic() + wait_s
        while True:
            found, last = await run_in_threadpool(self.read, since, selection, limit)
            if found or time.monotonic() >= deadline:
                return found, last
            since = last
            while await run_in_threadpool(self.last) <= since and time.monotonic() < deadline:
                await asyncio.sleep(min(LOOK_S, max(0.0, deadline - time.monotonic())))

    async def stream(self, since: int, selection: Selection, owner: str) -> AsyncIterator[bytes]:
        """Server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html); ids are sequence numbers, so
        that a reader that comes back with `Last-Event-ID` goes on where it was."""
        with self.place(owner):
            begun = said = time.monotonic()
            yield b"retry: 2000\n\n"
            while time.monotonic() - begun < STREAM_S_MAX:
                found, since = await run_in_threadpool(self.read, since, selection)
                for event in found:
                    yield _message(event)
                if found:
                    said = time.monotonic()
                while await run_in_threadpool(self.last) <= since:
                    if time.monotonic() - begun >= STREAM_S_MAX:
                        return
                    if time.monotonic() - said >= KEEP_ALIVE_S:
                        said = time.monotonic()
                        yield b": nothing new\n\n"
                    await asyncio.sleep(LOOK_S)


def _message(event: Event) -> bytes:
    data = json.dumps(event.as_dict(), separators=(",", ":"))
    return f"id: {event.position}\nevent: {event.kind}\ndata: {data}\n\n".encode()
