"""What this process may act on. "My backend does not know it" says something only of what is this backend's own."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, select

from sublet.fleet.leadership import Leads
from sublet.fleet.node_store import all_leaders, all_nodes, nodes_of_pools
from sublet.store.tables.fleet import pools


def beside(connection: Connection, pool_id: str) -> frozenset[str]:
    """The other pools that are stated by the very nodes that state this one."""
    stated_by = nodes_of_pools(connection)
    here = stated_by.get(pool_id)
    every = connection.execute(select(pools.c.id)).scalars()
    return frozenset(other for other in every if other != pool_id and stated_by.get(other) == here)


class Reach(Protocol):
    """Which pools this process acts on."""

    def pools(self, connection: Connection) -> frozenset[str]:
        """Ids of the pools whose leases and replicas this process starts and ends now."""
        ...

    def claim(self, pool_id: str) -> bool:
        """Whether that still holds, right before a step."""
        ...


class Everything:
    """Every pool: one process alone."""

    def pools(self, connection: Connection) -> frozenset[str]:
        return frozenset(connection.execute(select(pools.c.id)).scalars())

    def claim(self, pool_id: str) -> bool:
        return True


class OwnReach:
    """The pools of this node's own machine, and of the shared ones that its settings state those that it leads."""

    def __init__(self, node_id: Callable[[], str | None], leadership: Callable[[], Leads]) -> None:
        self._node_id = node_id
        self._leadership = leadership
        self._local: frozenset[str] = frozenset()

    def pools(self, connection: Connection) -> frozenset[str]:
        node_id, leadership = self._node_id(), self._leadership()
        stated_by = nodes_of_pools(connection)
        mine, local = set(), set()
        for row in connection.execute(select(pools.c.id, pools.c.backend)):
            stated = stated_by.get(row.id)
            if stated is not None and node_id not in stated:
                continue
            if row.backend == "local" and stated is not None:
                local.add(row.id)
            elif leadership.leads(pool_lead(row.id)):
                mine.add(row.id)
        self._local = frozenset(local)
        return frozenset(mine | local)

    def shared(self, connection: Connection) -> list[str]:
        """What to stand for: the shared pools that this node's settings state."""
        node_id, stated_by = self._node_id(), nodes_of_pools(connection)
        found = connection.execute(select(pools.c.id).where(pools.c.backend != "local").order_by(pools.c.id)).scalars()
        return [pool_lead(pool_id) for pool_id in found if node_id in stated_by.get(pool_id, {node_id})]

    def claim(self, pool_id: str) -> bool:
        return pool_id in self._local or self._leadership().claim(pool_lead(pool_id))


class MachineReach:
    """What a process beside the control plane acts on: this machine's pools, and the shared ones that its control plane leads."""

    def __init__(self, node_id: Callable[[], str | None], *, alone: bool) -> None:
        """`alone` where no other control plane may serve the database, as on SQLite: then nobody writes down who leads."""
        self._node_id = node_id
        self._alone = alone

    def pools(self, connection: Connection) -> frozenset[str]:
        node_id, stated_by, leaders = self._node_id(), nodes_of_pools(connection), all_leaders(connection)
        mine = set()
        for row in connection.execute(select(pools.c.id, pools.c.backend)):
            stated = stated_by.get(row.id)
            leader = leaders.get(pool_lead(row.id))
            led = self._alone or (leader is not None and leader.node_id == node_id)
            if (stated is None or node_id in stated) and (led or (row.backend == "local" and stated is not None)):
                mine.add(row.id)
        return frozenset(mine)

    def claim(self, pool_id: str) -> bool:
        return True


def unreachable_pools(connection: Connection, mine: frozenset[str], now: datetime) -> dict[str, str]:
    """By pool none of whose nodes gave a sign of life lately, their names; empty for a machine's pool whose node is forgotten.
    The caller's own, `mine`, are none of them."""
    named: dict[str, list[str]] = {}
    reachable = set(mine)
    for node in all_nodes(connection):
        for pool_id in node.pool_ids:
            named.setdefault(pool_id, []).append(node.name)
            if node.reachable(now):
                reachable.add(pool_id)
    found = {pool_id: ", ".join(names) for pool_id, names in named.items() if pool_id not in reachable}
    for row in connection.execute(select(pools.c.id).where(pools.c.backend == "local")):
        if row.id not in named and row.id not in mine:
            found[row.id] = ""
    return found


def pool_lead(pool_id: str) -> str:
    """The name under which a shared pool is led."""
    return f"pool:{pool_id}"
