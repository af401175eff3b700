"""The SQL of nodes and of leaders."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from sublet.fleet.node_model import Leader, Node
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.processes import delete_processes_of
from sublet.store.tables.fleet import leaders, nodes, pool_nodes

NODES = Listing("nodes", (nodes.c.created_at, nodes.c.id))


def node_page(connection: Connection, wanted: PageRequest) -> Page[Node]:
    """Nodes with the ids of their pools, oldest first."""
    found = NODES.read(connection, select(nodes), wanted)
    stated: dict[str, list[str]] = {}
    of_page = pool_nodes.c.node_id.in_([row.id for row in found.items])
    for row in connection.execute(select(pool_nodes).where(of_page).order_by(pool_nodes.c.pool_id)):
        stated.setdefault(row.node_id, []).append(row.pool_id)
    return found.map(
        lambda row: Node(row.id, row.name, row.version, row.created_at, row.seen_at, tuple(stated.get(row.id, ())))
    )


def all_nodes(connection: Connection) -> list[Node]:
    """Every node with the ids of its pools, by name."""
    stated: dict[str, list[str]] = {}
    for row in connection.execute(select(pool_nodes).order_by(pool_nodes.c.pool_id)):
        stated.setdefault(row.node_id, []).append(row.pool_id)
    found = connection.execute(select(nodes).order_by(nodes.c.name, nodes.c.id))
    return [
        Node(row.id, row.name, row.version, row.created_at, row.seen_at, tuple(stated.get(row.id, ()))) for row in found
    ]


def save_node(connection: Connection, node_id: str, name: str, version: str, now: datetime) -> None:
    """Store the node, or its new name and version."""
    done = connection.execute(update(nodes).where(nodes.c.id == node_id).values(name=name, version=version))
    if not done.rowcount:
        connection.execute(insert(nodes).values(id=node_id, name=name, version=version, created_at=now, seen_at=None))


def see_node(connection: Connection, node_id: str, now: datetime) -> None:
    connection.execute(update(nodes).where(nodes.c.id == node_id).values(seen_at=now))


def delete_node(connection: Connection, node_id: str) -> None:
    connection.execute(delete(pool_nodes).where(pool_nodes.c.node_id == node_id))
    delete_processes_of(connection, node_id)
    connection.execute(delete(leaders).where(leaders.c.node_id == node_id))
    connection.execute(delete(nodes).where(nodes.c.id == node_id))


def nodes_of_pools(connection: Connection) -> dict[str, frozenset[str]]:
    """The nodes of each pool. Pools without a node are left out."""
    found: dict[str, set[str]] = {}
    for row in connection.execute(select(pool_nodes)):
        found.setdefault(row.pool_id, set()).add(row.node_id)
    return {pool_id: frozenset(ids) for pool_id, ids in found.items()}


def set_pools(connection: Connection, node_id: str, pool_ids: Iterable[str]) -> None:
    """Set the pools of the node."""
    wanted = set(pool_ids)
    found = connection.execute(select(pool_nodes.c.pool_id).where(pool_nodes.c.node_id == node_id)).scalars()
    known = set(found)
    for pool_id in sorted(known - wanted):
        connection.execute(delete(pool_nodes).where(pool_nodes.c.node_id == node_id, pool_nodes.c.pool_id == pool_id))
    for pool_id in sorted(wanted - known):
        connection.execute(insert(pool_nodes).values(pool_id=pool_id, node_id=node_id))


def last_seen(connection: Connection, pool_id: str) -> datetime | None:
    """The last heartbeat of a node of the pool, or None."""
    query = select(func.max(nodes.c.seen_at)).join(pool_nodes, pool_nodes.c.node_id == nodes.c.id)
    found: datetime | None = connection.execute(query.where(pool_nodes.c.pool_id == pool_id)).scalar_one()
    return found


def all_leaders(connection: Connection) -> dict[str, Leader]:
    return {row.name: _leader(row) for row in connection.execute(select(leaders).order_by(leaders.c.name))}


def insert_leader(connection: Connection, leader: Leader, now: datetime) -> None:
    connection.execute(
        insert(leaders).values(
            name=leader.name,
            holder=leader.holder,
            node_id=leader.node_id,
            token=leader.token,
            beat=leader.beat,
            since=now,
        )
    )


def replace_leader(connection: Connection, leader: Leader, now: datetime) -> None:
    connection.execute(
        update(leaders)
        .where(leaders.c.name == leader.name)
        .values(holder=leader.holder, node_id=leader.node_id, token=leader.token, beat=leader.beat, since=now)
    )


def beat_leader(connection: Connection, name: str, holder: str, token: int) -> bool:
    """Send a heartbeat as the leader. Returns False if another process leads by now."""
    done = connection.execute(
        update(leaders)
        .where(leaders.c.name == name, leaders.c.holder == holder, leaders.c.token == token)
        .values(beat=leaders.c.beat + 1)
    )
    return done.rowcount == 1


def free_leader(connection: Connection, name: str, holder: str) -> None:
    """Resign, so that the next candidate need not wait. The row is kept so that tokens keep increasing."""
    connection.execute(
        update(leaders).where(leaders.c.name == name, leaders.c.holder == holder).values(holder="", node_id="")
    )


def _leader(row: Row[tuple[str]]) -> Leader:
    return Leader(row.name, row.holder, row.node_id, row.token, row.beat, row.since)
