"""Lines that failed, written down together: a batch whose lines all fail would otherwise be a transaction for each of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

Line = tuple[int, str]
"""The number of a line, and what is written down of it."""


class FailedLines:
    """What comes while a transaction is under way shares the next one. For one event loop."""

    def __init__(self, write: Callable[[Sequence[Line]], Awaitable[None]]) -> None:
        """`write` is one transaction, and passes over lines that are there already."""
        self._write = write
        self._waiting: list[Line] = []
        self._turn = asyncio.Lock()

    async def put(self, number: int, content: str) -> None:
        """Return once the line is written down. Raises what `write` raises."""
        line = (number, content)
        self._waiting.append(line)
        async with self._turn:
            if line not in self._waiting:
                return
            some, self._waiting = self._waiting, []
            try:
                await self._write(some)
            except BaseException:
                # Who waits tries again, and hears of it, too.
                self._waiting = [*some, *self._waiting]
                raise
