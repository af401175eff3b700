"""What yield needs of the rest of Sublet; `wiring` fills it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from sublet.allocation.model import Facts


@dataclass(frozen=True, slots=True)
class AskedHour:
    """Quotes of one hour for one pool, class, length and price."""

    hour: datetime
    pool_id: str
    class_name: str
    length_h: float
    price_nano: int
    currency: str
    quotes: int
    accepted: int
    accelerators: int
    accelerators_accepted: int


class Observe(Protocol):
    def __call__(self, asked: Sequence[AskedHour], asked_hours: float, /) -> Facts:
        """The state of the system now. `asked` are the quotes of the last `asked_hours` hours."""
        ...


class Quotes(Protocol):
    def __call__(self, connection: Connection, since: datetime, until: datetime, /) -> Sequence[AskedHour]:
        """Quotes that were made in `[since, until)`, by hour."""
        ...


class SoldSince(Protocol):
    def __call__(self, connection: Connection, product: tuple[str, str, float], since: datetime, /) -> int:
        """Accelerators of a product (pool id, class, hours) that were sold, or that open quotes hold, since then."""
        ...


class SetScale(Protocol):
    def __call__(self, connection: Connection, model: str, replicas: int | None, before: int | None, /) -> int | None:
        """Request so many replicas of a model, or None for automatic. Returns what stands: never below its floor; None where it
        is not deployed any more, or where somebody has set another number than `before`."""
        ...


@dataclass(frozen=True, slots=True)
class AllocationPorts:
    """The calls that yield runs with."""

    observe: Observe
    quotes: Quotes
    sold_since: SoldSince
    set_scale: SetScale
