"""How many connections there may be and how many bytes of requests they may hold, and who gives way when there are too many.

A connection is unauthenticated until a valid key arrives on it. Unauthenticated connections have small limits of their own, and
the oldest gives way to the newest: a customer's key arrives within milliseconds, so anyone who holds connections open without a key
only takes places from others who do. Connections and bytes of customers are shared by organization: the one that
holds the most gives way.
"""

from __future__ import annotations

import resource
from collections import Counter
from typing import Protocol

from sublet.gateway.model import GatewaySettings
from sublet.gateway.refusals import RateLimitError, ServerFullError
from sublet.values.errors import SubletError

YOUNG_S = 1.0
"""An unauthenticated connection younger than this does not give way to another one, however many come at once."""
SMALL_BODY_BYTES = 64 * 1024
"""Bodies up to this size are bounded by the number of connections alone."""
UNPROVED_BYTES_MAX = 32 * 1024 * 1024
"""What all requests together may hold whose signature can only be checked once their body is there."""
_FILES_RESERVED_MAX = 1024
"""Open files that are kept for engines, the journal and the database."""


class Holder(Protocol):
    """Anyone who holds bytes of a request."""

    organization: str
    """Empty while it is unauthenticated."""
    held_bytes: int


class Connection(Holder, Protocol):
    """A client's connection, as its limits see it."""

    source: str
    connected_at: float

    @property
    def idle_since(self) -> float:
        """Since when it has been between two requests; 0 while it is not."""
        ...

    def tick(self, now: float) -> None: ...

    def give_way(self) -> None:
        """Close, for another one."""
        ...

    def shed(self, error: SubletError) -> bool:
        """Refuse the request that holds bytes and release them; False if it is already in progress."""
        ...


class Connections:
    """Every client connection of a gateway. For the event loop's thread alone."""

    def __init__(self, settings: GatewaySettings, evicted: Counter[str]) -> None:
        """`evicted` counts who gave way, by kind."""
        self._settings = settings
        self.connections_max = settings.connections_max
        self.organization_max = max(1, settings.connections_max // 4)
        self._all: set[Connection] = set()
        # In the order in which they came.
        self._unauthenticated: dict[Connection, None] = {}
        self._sources: dict[str, dict[Connection, None]] = {}
        self._organizations: dict[str, set[Connection]] = {}
        self._bytes: Counter[str] = Counter()
        self.bytes = 0
        self._evicted = evicted

    def __len__(self) -> int:
        return len(self._all)

    @property
    def unauthenticated(self) -> int:
        return len(self._unauthenticated)

    def tick(self, now: float) -> None:
        for connection in list(self._all):
            connection.tick(now)

    # Connections

    def enter(self, connection: Connection, now: float, *, proxied: bool = False) -> None:
        """Count a new connection in, unauthenticated. `proxied` says that a trusted proxy made it, whose address stands for many.

        Raises ServerFullError where nobody can give way to it."""
        if len(self._all) >= self.connections_max and not self._make_room():
            raise ServerFullError(
                "the gateway has reached its limit of connections; try again in 1 s", retry_after_s=1.0
            )
        self._all.add(connection)
        self._unauthenticated[connection] = None
        self._sources.setdefault(connection.source, {})[connection] = None
        settings = self._settings
        if not proxied:
            self._trim(self._sources[connection.source], settings.unauthenticated_per_address_max, now)
        self._trim(self._unauthenticated, settings.unauthenticated_max, now)

    def authenticated(self, connection: Connection, organization: str) -> None:
        """A valid key of `organization` arrived on it. Raises RateLimitError where the organization has as many as it may, and
        none of them is idle."""
        before = connection.organization
        if before == organization:
            return
        own = self._organizations.setdefault(organization, set())
        if len(own) >= self.organization_max and not self._evict_idle(own):
            raise RateLimitError(
                f"this organization has {len(own)} connections, the maximum; close some and try again in 1 s",
                retry_after_s=1.0,
            )
        self._forget_place(connection)
        connection.organization = organization
        own.add(connection)

    def leave(self, connection: Connection) -> None:
        """It is closed."""
        self.release(connection)
        self._all.discard(connection)
        self._forget_place(connection)

    def _forget_place(self, connection: Connection) -> None:
        if connection.organization:
            own = self._organizations.get(connection.organization)
            if own is not None:
                own.discard(connection)
                if not own:
                    del self._organizations[connection.organization]
        elif connection in self._unauthenticated:
            del self._unauthenticated[connection]
            source = self._sources[connection.source]
            del source[connection]
            if not source:
                del self._sources[connection.source]

    def _trim(self, connections: dict[Connection, None], most: int, now: float) -> None:
        while len(connections) > most:
            oldest = next(iter(connections))
            if now - oldest.connected_at < YOUNG_S:
                return
            self._evict(oldest, "unauthenticated")

    def _make_room(self) -> bool:
        if self._unauthenticated:
            crowd = max(self._sources.values(), key=len)
            self._evict(next(iter(crowd)), "unauthenticated")
            return True
        most = max(self._organizations.values(), key=len, default=None)
        return most is not None and self._evict_idle(most)

    def _evict_idle(self, connections: set[Connection]) -> bool:
        idle = [connection for connection in connections if connection.idle_since]
        if not idle:
            return False
        self._evict(min(idle, key=lambda connection: connection.idle_since), "idle")
        return True

    def _evict(self, connection: Connection, kind: str) -> None:
        self._evicted[kind] += 1
        # At once: that its transport reports the loss only in a later turn must not keep the place taken.
        self.leave(connection)
        connection.give_way()

    # Bytes

    def hold(self, connection: Connection, held: int) -> None:
        """`connection` holds `held` bytes of a request's body by now. Where all hold more than they may, requests of the
        organization that holds the most are refused, its largest first, until they do not."""
        change = held - connection.held_bytes
        connection.held_bytes = held
        self._bytes[connection.organization] += change
        self.bytes += change
        if not connection.organization and change > 0:
            self._shed_unproved()
        while self.bytes > self._settings.receiving_bytes_max and self._shed(connection):
            pass

    def _shed_unproved(self) -> None:
        """Bodies of requests that are signed and not proved yet have a small share of their own. Those of the address that has the
        most give way, the oldest first, so that nobody who knows a key's id can keep its owner's requests out."""
        error = ServerFullError(
            "the gateway holds as many unproved requests as it may; try again in 1 s", retry_after_s=1.0
        )
        holding: dict[str, list[Connection]] = {}
        for connection in self._unauthenticated:
            if connection.held_bytes:
                holding.setdefault(connection.source, []).append(connection)
        while self._bytes[""] > UNPROVED_BYTES_MAX and holding:
            most = max(holding, key=lambda source: sum(item.held_bytes for item in holding[source]))
            oldest = holding[most].pop(0)
            if not holding[most]:
                del holding[most]
            if oldest.shed(error):
                self.release(oldest)

    def release(self, connection: Holder) -> None:
        """The body is gone."""
        held, connection.held_bytes = connection.held_bytes, 0
        if held:
            self.bytes -= held
            self._bytes[connection.organization] -= held
            if self._bytes[connection.organization] <= 0:
                del self._bytes[connection.organization]

    def _shed(self, newest: Connection) -> bool:
        error = ServerFullError(
            "the gateway holds as many bytes of requests as it may; try again in 1 s", retry_after_s=1.0
        )
        for organization, _ in self._bytes.most_common():
            own = self._organizations.get(organization, ())
            # Among equals the one that wants more now.
            for connection in sorted(own, key=lambda one: (one.held_bytes, one is newest), reverse=True):
                if connection.held_bytes and connection.shed(error):
                    self.release(connection)
                    return True
        return False


def files_for_connections(wanted: int) -> int:
    """How many connections the process may have by its limit on open files, at most `wanted`; the soft limit is raised first.

    Without files to spare neither an engine nor the journal could be opened.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # A request under way has a file for its client and one for its engine.
    enough = 2 * wanted + _FILES_RESERVED_MAX
    if soft != resource.RLIM_INFINITY and soft < enough:
        soft = enough if hard == resource.RLIM_INFINITY else min(enough, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return wanted
    return max(1, min(wanted, soft - min(_FILES_RESERVED_MAX, soft // 2)))
