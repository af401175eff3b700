"""Blocks: a part of a pool that its owner has decided to sell, whatever its own demand does. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np

from sublet.demand.model import HOUR_S, Floats
from sublet.values.clock import format_time, to_micros
from sublet.values.money import text_from_nano
from sublet.values.windows import Window

BLOCK_DAYS_MAX = 3 * 366
"""The longest block, and how far ahead one may end: three years."""

BLOCKS_PER_POOL_MAX = 200
"""Standing blocks of one pool."""

CHANGES_MAX = 1_000
"""Changes of one block."""


class BlockState(StrEnum):
    """A block begins and ends by the clock; only its withdrawal is an act."""

    SCHEDULED = "scheduled"
    ACTIVE = "active"
    ENDED = "ended"
    WITHDRAWN = "withdrawn"


class ChangeKind(StrEnum):
    """What a change of a block was."""

    CREATED = "created"
    WIDENED = "widened"
    SHRUNK = "shrunk"
    MOVED = "moved"
    REPRICED = "repriced"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True)
class Block:
    """`accelerators` of a pool that the owner sells over `window`: its own demand beyond the rest of the pool waits.

    `min_price_nano` is the least that a firm lease in the block costs per accelerator-hour, in `currency`; None for the
    price book's price alone.
    """

    id: str
    pool_id: str
    accelerators: int
    window: Window
    min_price_nano: int | None
    currency: str
    reason: str
    created_at: datetime
    withdrawn_at: datetime | None = None

    def state(self, now: datetime) -> BlockState:
        """What it is at `now`."""
        if self.withdrawn_at is not None:
            return BlockState.WITHDRAWN
        if now < self.window.start:
            return BlockState.SCHEDULED
        return BlockState.ACTIVE if now < self.window.end else BlockState.ENDED

    def stands(self, now: datetime) -> bool:
        """Whether it still binds the owner: neither withdrawn nor over."""
        return self.withdrawn_at is None and now < self.window.end

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """What everybody who may see blocks sees of it."""
        return {
            "id": self.id,
            "pool_id": self.pool_id,
            "state": self.state(now).value,
            "accelerators": self.accelerators,
            "start": format_time(self.window.start),
            "end": format_time(self.window.end),
            "min_price_per_accelerator_hour": None
            if self.min_price_nano is None
            else text_from_nano(self.min_price_nano),
            "currency": self.currency,
            "reason": self.reason,
            "created_at": format_time(self.created_at),
            "withdrawn_at": format_time(self.withdrawn_at) if self.withdrawn_at else None,
        }


@dataclass(frozen=True, slots=True)
class BlockChange:
    """What a block became at `at`, by whom and why. Changes are only ever added; the last one is the block as it stands."""

    block_id: str
    number: int
    kind: ChangeKind
    at: datetime
    actor: str
    reason: str
    accelerators: int
    window: Window
    min_price_nano: int | None

    def as_dict(self) -> dict[str, Any]:
        return {
            "number": self.number,
            "kind": self.kind.value,
            "at": format_time(self.at),
            "actor": self.actor,
            "reason": self.reason,
            "accelerators": self.accelerators,
            "start": format_time(self.window.start),
            "end": format_time(self.window.end),
            "min_price_per_accelerator_hour": None
            if self.min_price_nano is None
            else text_from_nano(self.min_price_nano),
        }


def without(capacity: Floats, first_hour: int, kept: Sequence[tuple[Window, int]]) -> Floats:
    """The hourly `capacity` of a pool from `first_hour` on (hours since the epoch), less what blocks kept off its owner: the
    most of each hour. What was not seen stays unseen."""
    hour_us = HOUR_S * 1_000_000
    begin, end = first_hour * hour_us, (first_hour + capacity.size) * hour_us
    spans = [(to_micros(window.start), to_micros(window.end), count) for window, count in kept]
    spans = [span for span in spans if span[0] < end and span[1] > begin]
    if not spans:
        return capacity
    hours = np.arange(first_hour, first_hour + capacity.size, dtype=np.int64) * hour_us
    moments = np.unique(np.concatenate([hours, [start for start, _, _ in spans if begin <= start < end]]))
    sums = np.zeros(moments.size)
    for start, stop, count in spans:
        first, last = np.searchsorted(moments, [start, stop], side="left")
        sums[first:last] += count
    most = np.zeros(capacity.size)
    np.maximum.at(most, moments.astype(np.int64) // hour_us - first_hour, sums)
    return np.maximum(capacity - most, 0.0)


def longest() -> timedelta:
    """The longest that a block may last."""
    return timedelta(days=BLOCK_DAYS_MAX)


def kept_off(changes: Sequence[BlockChange]) -> list[tuple[Window, int]]:
    """What blocks really kept off the owner, and when, by their `changes` in order: a change tells nothing of the time before
    it, and one of today nothing of yesterday."""
    found: list[tuple[Window, int]] = []
    by_block: dict[str, list[BlockChange]] = {}
    for change in changes:
        by_block.setdefault(change.block_id, []).append(change)
    for listed in by_block.values():
        for change, following in zip(listed, [*listed[1:], None], strict=True):
            until = change.window.end if following is None else min(change.window.end, following.at)
            start = max(change.window.start, change.at)
            if change.kind is not ChangeKind.WITHDRAWN and start < until:
                found.append((Window(start, until), change.accelerators))
    return found
