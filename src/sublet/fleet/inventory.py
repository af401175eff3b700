"""What other domains may read of the fleet: pools and accelerators as selectables to join with.

The tables behind them are this package's own. Whole `Pool` objects come from `fleet.service`.
"""

from __future__ import annotations

from sqlalchemy import select

from sublet.store.tables.fleet import pool_nodes as _pool_nodes
from sublet.store.tables.fleet import pools as _pools
from sublet.store.tables.fleet import units as _units

pools = select(
    _pools.c.id,
    _pools.c.name,
    _pools.c.generation,
    _pools.c.backend,
    _pools.c.currency,
    _pools.c.online_at,
    _pools.c.offline_at,
).subquery("pools")
"""Every pool, retired ones too: id, name, generation, backend, currency, online_at, offline_at."""

pool_nodes = select(_pool_nodes.c.pool_id, _pool_nodes.c.node_id).subquery("pool_nodes")
"""Which nodes state a pool: pool_id, node_id. A pool that was made without a node has no row."""

units = select(
    _units.c.id,
    _units.c.pool_id,
    _units.c.position,
    _units.c.device,
    _units.c.in_service,
    _units.c.out_reason,
    _units.c.out_at,
).subquery("units")
"""Every accelerator: id, pool_id, position, device, in_service (0 or 1), and since when it is out and why."""
