"""Rounds over work in the database that several gateways share: one takes up an item and beats while it works on it, and another
takes over when the beats stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Protocol

import structlog

log = structlog.get_logger(__name__)


class Item(Protocol):
    """Work that a gateway takes up. `worker` is the run that works on it, empty where none does."""

    @property
    def id(self) -> str: ...

    @property
    def worker(self) -> str: ...

    @property
    def beat(self) -> int: ...


class Sights:
    """When each item's worker was last seen to beat, by this process's own clock."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[str, int, float]] = {}

    def look(self, items: Iterable[Item], now: float) -> None:
        """Note what has beaten since the last look; forget items that are not there any more."""
        self._seen = {item.id: self._sight(item, now) for item in items}

    def silent_s(self, item: Item, now: float) -> float:
        """Seconds without a beat of an item of the last look."""
        return now - self._seen[item.id][2]

    def _sight(self, item: Item, now: float) -> tuple[str, int, float]:
        seen = self._seen.get(item.id)
        return seen if seen is not None and seen[:2] == (item.worker, item.beat) else (item.worker, item.beat, now)


async def rounds_for_ever(once: Callable[[], Awaitable[None]], pause_s: float, what: str) -> None:
    """One round after another. What fails is tried again at the next; the log says once that `what` waits."""
    failing = False
    while True:
        try:
            await once()
            failing = False
        except Exception as error:
            if not failing:
                log.warning(f"{what} wait: the database does not answer", error=str(error)[:300])
            failing = True
        await asyncio.sleep(pause_s)
