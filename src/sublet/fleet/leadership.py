"""Elects the leader of each task if several control planes serve one database.

A leader increments a number every second. A candidate that has seen the same number for STANDSTILL_S seconds of its own time
takes over, so clocks of different machines are never compared. A leader that could not increment the number for HELD_S seconds
stops by itself, before anybody can have taken over.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from sqlalchemy import Connection

from sublet.fleet import node_store as sql
from sublet.fleet.node_model import Leader
from sublet.store import Store
from sublet.values.ids import new_id

STAND_INTERVAL_S = 1.0
STANDSTILL_S = 6.0
HELD_S = 4.0


class Leads(Protocol):
    """What this process leads."""

    def leads(self, name: str) -> bool:
        """Whether this process leads `name` now."""
        ...

    def claim(self, name: str) -> bool:
        """Confirm in the database that this process still leads, right before an irreversible operation."""
        ...

    def stand(self, names: Iterable[str]) -> None:
        """Send a heartbeat, and lead those of `names` that have no leader. Call it every STAND_INTERVAL_S."""
        ...

    def resign(self) -> None:
        """Stop leading, so that others need not wait."""
        ...


class Alone:
    """Leads everything: no other control plane may serve the same database."""

    def leads(self, name: str) -> bool:
        return True

    def claim(self, name: str) -> bool:
        return True

    def stand(self, names: Iterable[str]) -> None:
        return None

    def resign(self) -> None:
        return None


class Leadership:
    """One candidate among several. It leads nothing before its first `stand`."""

    def __init__(
        self, store: Store, node_id: Callable[[], str | None], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        """`node_id` is the node of this control plane. An earlier control plane of the same node is known to be gone."""
        self._store = store
        self._node_id = node_id
        self._monotonic = monotonic
        self._holder = new_id("prc")
        self._lock = threading.Lock()
        self._led: dict[str, int] = {}
        self._until = 0.0
        self._watched: dict[str, tuple[tuple[str, int, int], float]] = {}

    def leads(self, name: str) -> bool:
        with self._lock:
            return name in self._led and self._monotonic() < self._until

    def claim(self, name: str) -> bool:
        with self._lock:
            token = self._led.get(name) if self._monotonic() < self._until else None
        if token is None:
            return False
        return self._store.write(lambda connection: sql.beat_leader(connection, name, self._holder, token))

    def stand(self, names: Iterable[str]) -> None:
        """Raises the errors of the database. What this process leads then expires by itself."""
        begun = self._monotonic()
        wanted = sorted(set(names))
        node_id = self._node_id() or ""

        def write(connection: Connection) -> dict[str, int]:
            self._store.lock(connection, "leaders")
            known = sql.all_leaders(connection)
            now = self._store.clock.now()
            for other in known.values():
                if other.holder == self._holder and other.name not in wanted:
                    sql.free_leader(connection, other.name, self._holder)
            led: dict[str, int] = {}
            for name in wanted:
                leader = known.get(name)
                if leader is not None and leader.holder == self._holder:
                    sql.beat_leader(connection, name, self._holder, leader.token)
                    led[name] = leader.token
                elif leader is None:
                    sql.insert_leader(connection, Leader(name, self._holder, node_id, 1, 0, now), now)
                    led[name] = 1
                elif self._free(leader, node_id, begun):
                    taken = Leader(name, self._holder, node_id, leader.token + 1, leader.beat + 1, now)
                    sql.replace_leader(connection, taken, now)
                    led[name] = taken.token
            return led

        led = self._store.write(write)
        with self._lock:
            self._led, self._until = led, begun + HELD_S

    def resign(self) -> None:
        with self._lock:
            led, self._led = list(self._led), {}

        def write(connection: Connection) -> None:
            for name in led:
                sql.free_leader(connection, name, self._holder)

        if led:
            self._store.write(write)

    def _free(self, leader: Leader, node_id: str, now: float) -> bool:
        """Whether nobody leads any more, as far as it can be seen from here."""
        sign = (leader.holder, leader.token, leader.beat)
        seen, since = self._watched.get(leader.name, (None, now))
        if seen != sign:
            self._watched[leader.name] = (sign, now)
            since = now
        return not leader.holder or leader.node_id == node_id or now - since >= STANDSTILL_S
