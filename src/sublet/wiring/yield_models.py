"""What yield knows of managed models: the load that gateways measured, what a replica serves, and what a token earns."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sublet.allocation import load as loads
from sublet.allocation import store as allocation_sql
from sublet.allocation.mix.model import Fit, Limit, ModelState
from sublet.allocation.model import Estimate, Load
from sublet.gateway import store as gateway_sql
from sublet.gateway.store import ModelHour
from sublet.ledger.prices.book import PriceBook
from sublet.ledger.rating import figures
from sublet.models import store as models_sql
from sublet.models.model import DRAIN_S, CatalogEntry, Deployment, Replica
from sublet.models.service import Models
from sublet.values.money import NANO

LOAD_DAYS = 7
REQUESTS_MIN = 20
"""Requests that a model's speed is measured from at least."""
START_HOURS = 3 / 60
"""What a replica takes to start where none was seen to."""
STARTS_MIN = 3


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """Deployments on pools that yield looks at, with their replicas and what was measured of them. `names` are pools by id."""

    names: Mapping[str, str]
    deployments: Sequence[Deployment]
    catalog: Mapping[str, CatalogEntry]
    replicas: Sequence[Replica]
    hours: Mapping[str, Mapping[datetime, ModelHour]]
    scaled: Mapping[str, int]
    starts: Mapping[str, float]

    @classmethod
    def read(cls, models: Models, connection: Connection, names: Mapping[str, str], now: datetime) -> ModelFacts:
        catalog = models.catalog(connection)
        live = models_sql.live_replicas(connection)
        lost = models.lost(connection, live)
        found: dict[str, dict[datetime, ModelHour]] = {}
        end = now.replace(minute=0, second=0, microsecond=0)
        for hour in gateway_sql.model_hours(connection, end - timedelta(days=LOAD_DAYS), end):
            found.setdefault(hour.model, {})[hour.hour] = hour
        deployments = [
            item
            for item in models_sql.active_deployments(connection)
            if (entry := catalog.get(item.model)) is not None and entry.accelerators and {*item.pool_ids} & {*names}
        ]
        return cls(
            names,
            deployments,
            catalog,
            [item for item in live if item.id not in lost and item.state != "draining" and item.reclaim_at is None],
            found,
            allocation_sql.scale_of(connection),
            {item.model: _start_hours(live, item.model) for item in deployments},
        )

    def pinned(self) -> frozenset[str]:
        """Models whose number of replicas somebody set by hand: another one than a round requested."""
        return frozenset(
            item.model
            for item in self.deployments
            if item.scale is not None and item.scale != self.scaled.get(item.model)
        )

    def limits(self) -> tuple[Limit, ...]:
        """What was set by hand: a scale is a floor and a cap at once."""
        by_hand = self.pinned()
        return tuple(
            Limit(item.model, None, item.target, item.target)
            if item.model in by_hand
            else Limit(item.model, None, item.floor, item.replicas_max)
            for item in self.deployments
        )

    def fits(self) -> tuple[Fit, ...]:
        running = Counter((item.model, item.pool_id) for item in self.replicas)
        return tuple(
            Fit(
                item.model,
                self.names[pool_id],
                self.catalog[item.model].accelerators,
                self.speed(item.model),
                running[item.model, pool_id],
                self.starts[item.model],
                DRAIN_S / 3600,
            )
            for item in self.deployments
            for pool_id in item.pool_ids
            if pool_id in self.names
        )

    def speed(self, model: str) -> float | None:
        """Answer tokens a second that one accelerator serves: what its requests got in the last week, with every slot in use. An
        upper bound where slots slow each other down. None with less than REQUESTS_MIN requests."""
        hours = self.hours.get(model, {}).values()
        busy_s = sum(item.busy_s for item in hours)
        if sum(item.requests for item in hours) < REQUESTS_MIN or busy_s <= 0:
            return None
        entry = self.catalog[model]
        return sum(item.tokens_output for item in hours) / busy_s * entry.slots / entry.accelerators

    def states(
        self, connection: Connection, currency: str, book: PriceBook, now: datetime
    ) -> list[tuple[ModelState, Load]]:
        """Each model's load and value, with their sources. What replicas on pools that yield does not look at serve is not load
        here."""
        earned = _earned(connection, currency, now)
        found = []
        for item in self.deployments:
            series = self._series(item.model, now)
            elsewhere = sum(
                each.accelerators * (self.speed(item.model) or 0.0)
                for each in self.replicas
                if each.model == item.model and each.pool_id not in self.names
            )
            ahead = [max(0.0, value - elsewhere) for value in loads.forecast(series, 6)]
            spread = loads.spreads(6)
            value, source = self._value(item.model, earned, book, currency, now)
            requests = sum(each.requests for each in self.hours.get(item.model, {}).values())
            load = Estimate(
                ahead[0],
                max(0.0, ahead[0] * (1 - 1.645 * spread[0])),
                ahead[0] * (1 + 1.645 * spread[0]),
                f"forecast from {len(series)} hours of the gateways' figures",
            )
            speed = (
                f"{requests} requests in {LOAD_DAYS} days" if self.speed(item.model) is not None else "not measured yet"
            )
            found.append((ModelState(item.model, tuple(ahead), value, spread), Load(item.model, load, speed, source)))
        return found

    def _series(self, model: str, now: datetime) -> list[float]:
        """Answer tokens a second by hour, from the first hour in which anything was asked for. Hours without requests are zero:
        gateways write a row for every minute in which they serve."""
        known = self.hours.get(model, {})
        if not known:
            return []
        end, at = now.replace(minute=0, second=0, microsecond=0), min(known)
        series: list[float | None] = []
        while at < end:
            series.append(known[at].tokens_output / 3600 if at in known else 0.0)
            at += timedelta(hours=1)
        return loads.filled(series)

    def _value(
        self, model: str, earned: Mapping[str, int], book: PriceBook, currency: str, now: datetime
    ) -> tuple[float | None, str]:
        """What one answer token a second earns in an hour: as rated in the last days, else the list price of answer tokens."""
        tokens = sum(item.tokens_output for item in self.hours.get(model, {}).values())
        if earned.get(model, 0) > 0 and tokens > 0:
            value = earned[model] / NANO / tokens * 3600
            return (value if math.isfinite(value) else None), f"what was rated for it in {LOAD_DAYS} days"
        rate = book.rate_for("", currency, "tokens.output", {"model": model}, now)
        unit = rate.price.tariff.unit_price() if rate is not None else None
        if unit is None:
            return None, "no price"
        return float(unit) / NANO * 3600, "the list price of answer tokens; prompts not counted"


def _earned(connection: Connection, currency: str, now: datetime) -> dict[str, int]:
    """Nano-units rated for each model over the time of its measured load."""
    end = now.replace(minute=0, second=0, microsecond=0)
    found: dict[str, int] = {}
    for item in figures.earned(connection, end - timedelta(days=LOAD_DAYS), end):
        if item.product == "models" and item.currency == currency:
            model = item.dimensions.get("model", "")
            found[model] = found.get(model, 0) + item.nano
    return found


def _start_hours(replicas: Sequence[Replica], model: str) -> float:
    """The longest of the starts that were seen, or what is usual."""
    seen = [
        (item.ready_at - item.created_at).total_seconds() / 3600
        for item in replicas
        if item.model == model and item.ready_at is not None and not item.restarts
    ]
    return min(2.0, max(seen)) if len(seen) >= STARTS_MIN else START_HOURS
