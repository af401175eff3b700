"""What the yield report reads of the ledger and the fleet."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from sublet.allocation.report.service import PoolFigures, Report
from sublet.allocation.report.weeks import Earnings
from sublet.config.settings import Settings
from sublet.fleet import store as fleet_sql
from sublet.leases import store as leases_sql
from sublet.ledger.rating import figures
from sublet.models import store as models_sql
from sublet.store import Store
from sublet.values.money import NANO

USES = {"leases": "raw", "models": "managed"}
"""By the ledger's product."""


def earned(connection: Connection, since: datetime, until: datetime) -> dict[tuple[str, str], Earnings]:
    """Rated usage by pool and currency, and what was credited for broken promises. Usage of a model whose pool is not known counts
    for the pool that the model is deployed on first."""
    pools = {pool.name: pool.id for pool in fleet_sql.all_pools(connection)}
    homes = {item.model: item.pool_id for item in models_sql.all_deployments(connection)}
    by_use: dict[tuple[str, str], dict[str, float]] = {}
    for item in figures.earned(connection, since, until):
        use = USES.get(item.product)
        said = item.dimensions.get("pool", "") or homes.get(item.dimensions.get("model", ""), "")
        if use is not None and said:
            found = by_use.setdefault((pools.get(said, said), item.currency), {})
            found[use] = found.get(use, 0.0) + item.nano / NANO
    given_back: dict[tuple[str, str], float] = {}
    where = leases_sql.credited_pools(connection, since)
    for given in figures.penalties(connection, since, until):
        key = where.get(given.source_id, ""), given.currency
        given_back[key] = given_back.get(key, 0.0) + given.nano / NANO
    return {key: Earnings(by_use.get(key, {}), given_back.get(key, 0.0)) for key in {*by_use, *given_back}}


def yield_report(settings: Settings, store: Store) -> Report:
    """The report of the running system."""
    price = float(settings.allocation.energy_price_per_kwh)

    def pools(connection: Connection) -> dict[str, PoolFigures]:
        return {
            pool.id: PoolFigures(pool.name, float(pool.watts), price * float(pool.watts) / 1000)
            for pool in fleet_sql.all_pools(connection)
        }

    return Report(store, earned, pools)
