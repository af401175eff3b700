"""Fills the desk's records of what really was earned from the ledger, the fleet, the leases and the models."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from sqlalchemy import Connection

from sublet.desk.actuals import (
    Actuals,
    CreditRecord,
    ForecastRecord,
    OtherRecord,
    PoolRecord,
    UsageRecord,
    commitment,
    gather,
)
from sublet.desk.counterparties import Contract
from sublet.desk.report.actuals_page import render_actuals
from sublet.desk.report.attained import attained_section
from sublet.desk.statement import Statement
from sublet.leases import store as leases_sql
from sublet.leases.model import Lease, value_nano
from sublet.ledger.rating import figures
from sublet.ledger.usage.meters import METERS
from sublet.models import store as models_sql
from sublet.reporting import hindsight
from sublet.values.windows import Window
from sublet.wiring.system import Sublet

SECONDS_PER_HOUR = 3600
OWNER = "this owner"
PRODUCTS = frozenset(meter.product for meter in METERS.values())
NO_POOL = " (unknown pool)"
"""How revenue of usage is named whose pool is not known, or is not there any more."""


def actuals(system: Sublet, window: Window) -> Actuals:
    """What was sold in `window`, in the currency in which most accelerator-hours were; see `actuals_by_currency`."""
    return actuals_by_currency(system, window)[0]


def recent_actuals(system: Sublet, days: int) -> list[Actuals]:
    """What was sold in the last `days`, up to now, in each currency."""
    now = system.clock.now()
    return actuals_by_currency(system, Window(now - timedelta(days=days), now + timedelta(seconds=1)))


def recent_page(system: Sublet, days: int) -> str:
    """The page of what was earned in the last `days`, and of what could have been earned in their weeks."""
    first, *others = recent_actuals(system, days)
    attained = attained_section(system.allocation.report.weeks(-(-days // 7))["weeks"])
    return render_actuals(first, system.clock.now().date(), others=others, added=[attained])


def actuals_by_currency(system: Sublet, window: Window) -> list[Actuals]:
    """What was sold in `window` in each currency, the one of most accelerator-hours first: raw hours as metered, managed hours
    as replicas stood ready, everything else that was earned, and what was credited."""
    seen = _Seen.of(system, window)
    found = [seen.actuals(currency) for currency in sorted(seen.currencies)]
    return sorted(found, key=lambda item: -item.total.accelerator_hours)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the domains say of one window, read once for every currency."""

    window: Window
    names: Mapping[str, str]
    pool_names: Mapping[str, str]
    records: Sequence[PoolRecord]
    forecasts: Sequence[ForecastRecord]
    earned: Sequence[figures.Earned]
    booked: Sequence[figures.Booked]
    moved: Mapping[str, Mapping[str, int]]
    unrated: Mapping[str, int]
    given: Sequence[figures.Penalty]
    credited: Mapping[str, str]
    replica_hours: Mapping[str, float]
    homes: Mapping[str, str]
    leases: Sequence[Lease]

    @classmethod
    def of(cls, system: Sublet, window: Window) -> _Seen:
        pools = system.fleet.pools()
        since, until = window.start, window.end
        with system.store.read() as connection:
            earned = figures.earned(connection, since, until)
            booked = figures.booked(connection, since, until)
            moved = {
                "used in another period, booked in this one": figures.booked_of_other_times(connection, since, until),
                "used in this period, booked in another one": {
                    currency: -nano
                    for currency, nano in figures.booked_at_other_times(connection, since, until).items()
                },
            }
            unrated = figures.unrated(connection)
            replica_hours = _replica_hours(system, connection, window, system.clock.now())
            given = figures.penalties(connection, since, until)
            credited = leases_sql.credited_pools(connection, since)
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
        return cls(
            window,
            {item.id: item.name for item in system.accounts.organizations()},
            {pool.id: pool.name for pool in pools},
            records,
            [record for pool in pools for record in hindsight.forecasts(pool, hours[pool.id], window)],
            earned,
            booked,
            moved,
            unrated,
            given,
            credited,
            replica_hours,
            {
                row.deployment.model: row.deployment.pool_id
                for row in system.models.rows()
                if row.deployment is not None
            },
            system.leases.live_leases(),
        )

    @property
    def currencies(self) -> set[str]:
        """Every currency in which anything was earned or is committed; USD where there is none."""
        found = {item.currency for item in self.earned} | {item.currency for item in self.booked}
        found |= {item.currency for item in self.leases} | set(self.unrated)
        return found or {"USD"}

    def actuals(self, currency: str) -> Actuals:
        usage = [*self._raw(currency), *self._managed(currency)]
        known = {record.pool for record in self.records}
        owed = [
            CreditRecord(self.pool_names.get(self.credited.get(item.source_id, ""), ""), item.nano)
            for item in self.given
            if item.currency == currency
        ]
        return gather(
            OWNER,
            self.window,
            self.records,
            [item for item in usage if item.pool in known],
            currency=currency,
            contracts=_contracts(self.leases, self.names, currency),
            forecasts=self.forecasts,
            credits=owed,
            others=[*self._others(currency), *_unplaced([item for item in usage if item.pool not in known])],
            statement=self._statement(currency),
        )

    def _statement(self, currency: str) -> Statement:
        """Usage by product as it was used, the rest as it was booked."""
        parts: dict[str, int] = {}
        for item in self.earned:
            if item.currency == currency:
                parts[item.product] = parts.get(item.product, 0) + item.nano
        journal = 0
        for entry in self.booked:
            if entry.currency == currency:
                journal += entry.nano
                name = entry.account.removeprefix("revenue.")
                if name not in PRODUCTS:
                    parts[name] = parts.get(name, 0) + entry.nano
        moved = {reason: sums[currency] for reason, sums in self.moved.items() if sums.get(currency)}
        return Statement(currency, parts, journal, moved, self.unrated.get(currency, 0))

    def _others(self, currency: str) -> Iterator[OtherRecord]:
        for item in self.earned:
            if item.currency == currency and item.product not in ("leases", "models"):
                yield OtherRecord(item.product, self._customer(item.organization_id), item.nano)
        for entry in self.booked:
            name = entry.account.removeprefix("revenue.")
            if entry.currency == currency and name != entry.account and name not in PRODUCTS:
                yield OtherRecord(name, self._customer(entry.organization_id), entry.nano)

    def _customer(self, organization_id: str) -> str:
        return self.names.get(organization_id, organization_id)

    def _raw(self, currency: str) -> Iterator[UsageRecord]:
        for item in self.earned:
            if item.currency == currency and item.product == "leases":
                hours = float(item.units / Decimal(SECONDS_PER_HOUR))
                pool = item.dimensions.get("pool", "")
                customer = self._customer(item.organization_id)
                yield UsageRecord(self.pool_names.get(pool, pool), "raw", customer, hours, item.nano)

    def _managed(self, currency: str) -> Iterator[UsageRecord]:
        """A model's revenue by customer, in the pool that answered. Its replicas' hours are divided among currencies by what was
        used, and among the customers of each as they paid."""
        paid: dict[str, dict[tuple[str, str], int]] = defaultdict(lambda: defaultdict(int))
        used: dict[str, Decimal] = defaultdict(Decimal)
        mine: dict[str, Decimal] = defaultdict(Decimal)
        for item in self.earned:
            if item.product == "models":
                model = item.dimensions.get("model", "")
                used[model] += item.units
                if item.currency == currency:
                    mine[model] += item.units
                    pool = item.dimensions.get("pool") or self.homes.get(model, "")
                    paid[model][item.organization_id, self.pool_names.get(pool, pool)] += item.nano
        for model, customers in paid.items():
            whole = self.replica_hours.get(model, 0.0) * (float(mine[model] / used[model]) if used[model] else 0.0)
            total = sum(customers.values())
            for (organization_id, pool), nano in customers.items():
                share = nano / total if total else 1 / len(customers)
                yield UsageRecord(pool, "managed", self._customer(organization_id), max(0.0, whole * share), nano)


def _unplaced(usage: Iterable[UsageRecord]) -> Iterator[OtherRecord]:
    """Usage whose pool is not known, as revenue beside the pools."""
    for item in usage:
        yield OtherRecord(
            {"raw": "leases", "managed": "models"}[item.channel] + NO_POOL, item.customer, item.revenue_nano
        )


def _contracts(leases: Iterable[Lease], names: Mapping[str, str], currency: str) -> Iterator[Contract]:
    """What is committed now: leases that have not ended, at the price they were sold for. A managed model commits to nothing."""
    for lease in leases:
        value = round(lease.worth(lease.window.start, lease.window.end))
        if lease.service_s is not None:
            value = value_nano(lease.price_nano, lease.accelerators, lease.service_s)
        if lease.currency == currency and value > 0:
            customer = names.get(lease.organization_id, lease.organization_id)
            yield commitment(lease.id, customer, value, lease.window)


def _replica_hours(system: Sublet, connection: Connection, window: Window, now: datetime) -> dict[str, float]:
    """Accelerator-hours in which replicas stood ready, by model."""
    found: dict[str, float] = defaultdict(float)
    lost = system.models.lost(connection)
    for replica in models_sql.replicas_ready_before(connection, window.end):
        assert replica.ready_at is not None
        # One whose node does not answer served as long as anybody heard of it.
        end = min(replica.stopped_at or (replica.sign_of_life() if replica.id in lost else now), window.end)
        stood = (end - max(replica.ready_at, window.start)) / timedelta(hours=1)
        found[replica.model] += max(0.0, stood) * replica.accelerators
    return dict(found)
