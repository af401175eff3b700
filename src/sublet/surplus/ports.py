"""What the surplus needs from the rest of Sublet, provided by `wiring`. Each call reads through the caller's connection."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection

from sublet.surplus.model import PoolFacts, Promised, Sold, Standings
from sublet.surplus.record.calibration import Promise
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window


class Facts(Protocol):
    def __call__(self, pool_id: str, connection: Connection, /) -> PoolFacts:
        """The facts about a pool, by its id or name. Raises NotFoundError."""
        ...


class Book(Protocol):
    def __call__(self, pool_id: str, connection: Connection, /) -> Sequence[Sold]:
        """Everything that is sold or held of the pool."""
        ...


class Free(Protocol):
    def __call__(self, pool_id: str, window: Window, connection: Connection, /) -> int:
        """The number of accelerators that nobody holds at any time of the window."""
        ...


class Quota(Protocol):
    def __call__(self, pool_id: str, class_name: str, window: Window, connection: Connection, /) -> int | None:
        """How many more accelerators of the class may be sold over the window so that the rest serves a better use; None for no
        limit."""
        ...


class Orders(Protocol):
    def __call__(self, pool_id: str, connection: Connection, /) -> Sequence[Promised]:
        """Orders of the pool with a deadline that are promised or held and not completed."""
        ...


class Unchanged(Protocol):
    def __call__(self, pool_id: str, connection: Connection, /) -> Hashable | None:
        """A value that is the same while nothing that a view of the pool rests on changes, apart from the time and the book; None
        where that can't be told."""
        ...


class Promises(Protocol):
    def __call__(self, pool_id: str, since: datetime, limit: int, /) -> Sequence[Promise]:
        """The outcomes of promises of the pool that ended since then, at most `limit`."""
        ...


class Earned(Protocol):
    def __call__(
        self, pool_id: str, classes: Sequence[ServiceClass], patience_hours: int, connection: Connection, /
    ) -> Standings:
        """The standing of each kind of promise of the classes on the pool."""
        ...
