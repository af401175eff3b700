"""The database's work for the event loop: on threads, so that the loop goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection

from sublet.gateway.refusals import StoppingError
from sublet.store import Store

T = TypeVar("T")


class OffLoop:
    """A store as the loop uses it. Everything raises what the work raises, and StoppingError after `close`."""

    def __init__(self, store: Store, threads: int, name: str) -> None:
        self._store = store
        self._threads = ThreadPoolExecutor(threads, name)

    def close(self) -> None:
        """Take nothing more; what has begun goes on."""
        self._threads.shutdown(wait=False)

    def submit(self, work: Callable[[], T]) -> Future[T]:
        """Begin something, without waiting for it."""
        try:
            return self._threads.submit(work)
        except RuntimeError as error:
            raise StoppingError(retry_after_s=1.0) from error

    async def run(self, work: Callable[[], T]) -> T:
        """What some work returns."""
        return await asyncio.wrap_future(self.submit(work))

    async def write(self, write: Callable[[Connection], T]) -> T:
        """In a transaction of its own."""
        return await self.run(lambda: self._store.write(write))

    async def read(self, read: Callable[[Connection], T]) -> T:
        """In a reading transaction of its own."""

        def work() -> T:
            with self._store.read() as connection:
                return read(connection)

        return await self.run(work)
