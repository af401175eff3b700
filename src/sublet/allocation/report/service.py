"""Weeks of every pool, from its booked hours and the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import Connection

from sublet.allocation.chargeback import store as sql
from sublet.allocation.report.weeks import WEEK, Earnings, Week, week_of
from sublet.store import Store
from sublet.values.clock import format_time
from sublet.values.errors import NotFoundError

WEEKS_MAX = 26


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """What a report needs of a pool: name, watts of an accelerator, and what the energy of one in use costs an hour."""

    name: str
    watts: float
    energy: float


class Earned(Protocol):
    def __call__(
        self, connection: Connection, since: datetime, until: datetime, /
    ) -> Mapping[tuple[str, str], Earnings]:
        """What was earned with pools in `[since, until)`, by pool id and currency."""
        ...


class Figures(Protocol):
    def __call__(self, connection: Connection, /) -> Mapping[str, PoolFigures]:
        """Pools by id."""
        ...


class Report:
    """Realized against attainable yield, by pool and week. Reading changes nothing."""

    def __init__(self, store: Store, earned: Earned, pools: Figures) -> None:
        self._store, self._earned, self._pools = store, earned, pools

    def weeks(self, count: int, pool: str = "") -> dict[str, Any]:
        """The last `count` weeks, the running one with them, newest first; of one pool (id or name) where it is given. Raises
        NotFoundError."""
        now = self._store.clock.now()
        first = week_of(now) - WEEK * (min(count, WEEKS_MAX) - 1)
        found: dict[tuple[datetime, str], Week] = {}
        earned: dict[datetime, Mapping[tuple[str, str], Earnings]] = {}
        with self._store.read() as connection:
            pools = {key: item for key, item in self._pools(connection).items() if pool in ("", key, item.name)}
            if pool and not pools:
                raise NotFoundError(f"there is no pool {pool!r}; `sublet pool ls` lists them")
            for row in sql.books_between(connection, first, now):
                if row.pool_id in pools:
                    here, start = pools[row.pool_id], week_of(row.hour)
                    week = found.setdefault(
                        (start, row.pool_id), Week(row.pool_id, start, row.currency, here.watts, here.energy)
                    )
                    week.add(row.book, row.worth)
            for start in {start for start, _ in found}:
                earned[start] = self._earned(connection, start, min(start + WEEK, now))
        ordered = sorted(found.values(), key=lambda item: (-item.start.timestamp(), pools[item.pool_id].name))
        return {
            "since": format_time(first),
            "until": format_time(now),
            "weeks": [
                item.as_dict(
                    pools[item.pool_id].name, earned[item.start].get((item.pool_id, item.currency), Earnings())
                )
                for item in ordered
            ],
        }
