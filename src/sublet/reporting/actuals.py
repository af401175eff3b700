"""Fills the desk's records of what really was earned from the ledger, the fleet, the leases and the models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection, select

from sublet.desk.actuals import Actuals, CreditRecord, PoolRecord, UsageRecord, commitment, gather
from sublet.desk.counterparties import Contract
from sublet.leases import store as leases_sql
from sublet.leases.model import value_nano
from sublet.ledger import figures
from sublet.reporting import hindsight
from sublet.store.tables.models import replicas
from sublet.values.windows import Window
from sublet.wiring.system import Sublet

SECONDS_PER_HOUR = 3600
OWNER = "this owner"


def actuals(system: Sublet, window: Window, currency: str = "USD") -> Actuals:
    """What was sold in `window` and billed in `currency`: raw hours as metered, managed hours as replicas stood ready; and
    what was credited in it for broken promises."""
    names = {item.id: item.name for item in system.accounts.organizations()}
    pools = system.fleet.pools()
    with system.store.read() as connection:
        earned = [item for item in figures.earned(connection, window.start, window.end) if item.currency == currency]
        replica_hours = _replica_hours(connection, window, system.clock.now())
        given = figures.penalties(connection, window.start, window.end)
        credited = leases_sql.credited_pools(connection, window.start)
    homes = {row.deployment.model: row.deployment.pool_id for row in system.models.rows() if row.deployment is not None}
    pool_names = {pool.id: pool.name for pool in pools}
    hours = {pool.id: hindsight.hours_of(system.demand, pool, window) for pool in pools}
    records = [
        PoolRecord(
            pool.name,
            pool.generation,
            pool.accelerators,
            float(pool.watts),
            hindsight.spare_hours(hours[pool.id], window),
        )
        for pool in pools
    ]
    foreseen = [record for pool in pools for record in hindsight.forecasts(pool, hours[pool.id], window)]
    usage = [*_raw(earned, names), *_managed(earned, names, homes, pool_names, replica_hours)]
    known = {record.pool for record in records}
    sold = [item for item in usage if item.pool in known]
    owed = [
        CreditRecord(pool_names.get(credited.get(item.source_id, ""), ""), item.nano)
        for item in given
        if item.currency == currency
    ]
    contracts = _contracts(system, names, currency)
    return gather(
        OWNER, window, records, sold, currency=currency, contracts=contracts, forecasts=foreseen, credits=owed
    )


def _contracts(system: Sublet, names: dict[str, str], currency: str) -> Iterator[Contract]:
    """What is committed now: leases that have not ended, at the price they were sold for. A managed model commits to nothing."""
    for lease in system.leases.leases(live_only=True):
        value = value_nano(lease.price_nano, lease.accelerators, int(lease.window.seconds))
        if lease.currency == currency and value > 0:
            customer = names.get(lease.organization_id, lease.organization_id)
            yield commitment(lease.id, customer, value, lease.window)


def _raw(earned: list[figures.Earned], names: dict[str, str]) -> Iterator[UsageRecord]:
    for item in earned:
        if item.meter == "accelerator.seconds":
            hours = float(item.units / Decimal(SECONDS_PER_HOUR))
            customer = names.get(item.organization_id, item.organization_id)
            yield UsageRecord(item.dimensions.get("pool", ""), "raw", customer, hours, item.nano)


def _managed(
    earned: list[figures.Earned],
    names: dict[str, str],
    homes: dict[str, str],
    pool_names: dict[str, str],
    replica_hours: dict[str, float],
) -> Iterator[UsageRecord]:
    """A model's revenue by customer. Its replicas' hours are divided among customers as they paid."""
    by_model: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for item in earned:
        if item.product == "models":
            by_model[item.dimensions.get("model", "")][item.organization_id] += item.nano
    for model, customers in by_model.items():
        pool = pool_names.get(homes.get(model, ""), "")
        total = sum(customers.values())
        for organization_id, nano in customers.items():
            share = nano / total if total else 1 / len(customers)
            hours = replica_hours.get(model, 0.0) * share
            yield UsageRecord(pool, "managed", names.get(organization_id, organization_id), hours, nano)


def _replica_hours(connection: Connection, window: Window, now: datetime) -> dict[str, float]:
    """Accelerator-hours in which replicas stood ready, by model."""
    found: dict[str, float] = defaultdict(float)
    rows = connection.execute(
        select(replicas).where(replicas.c.ready_at.is_not(None), replicas.c.ready_at < window.end)
    )
    for row in rows:
        end = min(row.stopped_at or now, window.end)
        stood = (end - max(row.ready_at, window.start)) / timedelta(hours=1)
        found[row.model] += max(0.0, stood) * row.accelerators
    return dict(found)
