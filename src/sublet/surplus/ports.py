"""What the surplus needs of the rest of Sublet; `wiring` fills it in. A connection is the caller's: each answers as it sees."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from sublet.surplus.model import PoolFacts, Promised, Sold, Standings
from sublet.surplus.record.calibration import Promise
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window


class Facts(Protocol):
    def __call__(self, pool_id: str, connection: Connection, /) -> PoolFacts:
        """What the surplus counts with of a pool, by its id or name. Raises NotFoundError."""
        ...


class Book(Protocol):
    def __call__(self, pool_id: str, connection: Connection, /) -> Sequence[Sold]:
        """What is sold or held of the pool."""
        ...


class Free(Protocol):
    def __call__(self, pool_id: str, window: Window, connection: Connection, /) -> int:
        """How many accelerators nobody holds at any time of the window."""
        ...


class Orders(Protocol):
    def __call__(self, pool_id: str, connection: Connection, /) -> Sequence[Promised]:
        """What is promised or held of the pool by a deadline and not yet done."""
        ...


class Promises(Protocol):
    def __call__(self, pool_id: str, since: datetime, limit: int, /) -> Sequence[Promise]:
        """What became of what was sold of the pool and ended since then, at most `limit` of it."""
        ...


class Earned(Protocol):
    def __call__(
        self, pool_id: str, classes: Sequence[ServiceClass], patience_hours: int, connection: Connection, /
    ) -> Standings:
        """What each kind of promise of the classes has earned on the pool."""
        ...
