"""The gateway's SQL: what it reads for its snapshot, and the minute figures that it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from sublet.accounts.permissions import ALL, reach
from sublet.gateway.metering.metrics import MinuteStats
from sublet.gateway.model import KeyGrant, ModelRoute, ReplicaRoute, Snapshot
from sublet.gateway.upstream.engine_watch import Trouble as ReplicaTrouble
from sublet.ledger.budgets.model import Budget
from sublet.ledger.budgets.spending import hard_budgets
from sublet.models.catalog import from_row
from sublet.models.model import CatalogEntry, Trouble
from sublet.store.tables.accounts import api_keys, organizations
from sublet.store.tables.gateway import model_stats
from sublet.store.tables.models import deployments, models, replicas
from sublet.values.clock import from_micros


def load_snapshot(
    connection: Connection, version: int, built_in: CatalogEntry, weights: Mapping[str, float] | None = None
) -> Snapshot:
    """Live keys, and the models that are deployed with their replicas."""
    return Snapshot(_keys(connection, weights or {}), _models(connection, built_in), version)


def save_minutes(connection: Connection, run: str, minutes: list[MinuteStats]) -> None:
    """Write a run's figures; the same minute again replaces what was there."""
    for stats in minutes:
        key = (model_stats.c.run == run) & (model_stats.c.minute == stats.minute) & (model_stats.c.model == stats.model)
        connection.execute(delete(model_stats).where(key))
        connection.execute(
            insert(model_stats).values(
                run=run,
                minute=stats.minute,
                model=stats.model,
                requests=stats.requests,
                failed=stats.failed,
                tokens_input=stats.tokens_input,
                tokens_input_cached=stats.tokens_input_cached,
                tokens_output=stats.tokens_output,
                ttft_ms_p50=stats.ttft_ms(0.5),
                ttft_ms_p95=stats.ttft_ms(0.95),
                queue_ms_p95=stats.queue_ms(0.95),
                busy_ms=stats.busy_ms,
            )
        )


def drop_minutes(connection: Connection, before: datetime) -> int:
    """Forget the figures of minutes before `before`; returns how many rows went."""
    return connection.execute(delete(model_stats).where(model_stats.c.minute < before)).rowcount


def told_trouble(trouble: ReplicaTrouble, run: str, at: datetime) -> Trouble:
    """What this run says of a replica, for the operator's list of models."""
    return Trouble(
        trouble.replica_id,
        run,
        trouble.failures,
        trouble.kind,
        trouble.status,
        trouble.said,
        from_micros(trouble.since_us),
        at,
    )


def recent_minutes(connection: Connection, since: datetime) -> list[dict[str, Any]]:
    """The minute figures since `since`, oldest first, as the console draws them."""
    rows = connection.execute(
        select(model_stats).where(model_stats.c.minute >= since).order_by(model_stats.c.minute, model_stats.c.model)
    )
    return [dict(row._mapping) for row in rows]


def _keys(connection: Connection, weights: Mapping[str, float]) -> dict[bytes, KeyGrant]:
    rows = connection.execute(
        select(
            api_keys.c.sha256,
            api_keys.c.id,
            api_keys.c.organization_id,
            api_keys.c.role,
            api_keys.c.scopes,
            api_keys.c.expires_at,
            api_keys.c.project,
            organizations.c.name,
        )
        .join(organizations, organizations.c.id == api_keys.c.organization_id)
        .where(api_keys.c.revoked_at.is_(None), organizations.c.status == "active")
    )
    limits: dict[str, list[Budget]] = {}
    for budget in hard_budgets(connection):
        limits.setdefault(budget.organization_id, []).append(budget)
    return {
        bytes.fromhex(row.sha256): KeyGrant(
            row.id,
            row.organization_id,
            row.expires_at,
            reach(row.role, row.scopes, "inference:use") != "",
            reach(row.role, row.scopes, "system:read") == ALL,
            project=row.project,
            budgeted=any(budget.covers(row.project, row.id) for budget in limits.get(row.organization_id, ())),
            weight=weights.get(row.organization_id, weights.get(row.name, 1.0)),
            key_weight=weights.get(row.id, 1.0),
        )
        for row in rows
    }


def _models(connection: Connection, built_in: CatalogEntry) -> dict[str, ModelRoute]:
    entries: dict[str, CatalogEntry] = {built_in.name: built_in}
    for row in connection.execute(select(models.c.entry)):
        entry = from_row(row.entry)
        entries[entry.name] = entry
    ready: dict[str, list[ReplicaRoute]] = {}
    began: dict[str, CatalogEntry] = {}
    coming: dict[str, int] = {}
    for row in connection.execute(
        select(replicas).where(replicas.c.state.in_(("starting", "ready"))).order_by(replicas.c.id)
    ):
        if row.state == "ready" and row.endpoint is not None:
            ready.setdefault(row.model, []).append(ReplicaRoute(row.id, row.endpoint, row.slots, row.pool_id))
            if row.entry:
                began[row.id] = from_row(row.entry)
        else:
            coming[row.model] = coming.get(row.model, 0) + row.slots
    routes = {}
    for row in connection.execute(select(deployments).where(deployments.c.state == "active")):
        entry_found = entries.get(row.model)
        if entry_found is not None:
            own = [
                _as_served(route, began.get(route.id), entry_found, row.created_at)
                for route in ready.get(row.model, ())
            ]
            routes[row.model] = _route(entry_found, row.created_at, tuple(own), coming.get(row.model, 0))
    return routes


def _as_served(
    route: ReplicaRoute, began: CatalogEntry | None, entry: CatalogEntry, created_at: datetime
) -> ReplicaRoute:
    """`route` with the entry that its engine was started from, where that is not the catalog's any more."""
    if began is None or (began.engine, began.source) == (entry.engine, entry.source):
        return route
    return replace(route, served_as=_route(began, created_at, (), 0))


def _route(
    entry: CatalogEntry, created_at: datetime, replica_routes: tuple[ReplicaRoute, ...], slots_coming: int
) -> ModelRoute:
    llamacpp = entry.engine == "llamacpp"
    return ModelRoute(
        name=entry.name,
        engine_model=entry.name if llamacpp else entry.source.get("model", entry.name),
        capabilities=entry.capabilities,
        context_tokens=entry.context_tokens,
        created_s=int(created_at.timestamp()),
        replicas=replica_routes,
        timings=llamacpp,
        stream_only=llamacpp,
        dialect="llamacpp" if llamacpp else entry.source.get("dialect", "openai"),
        # llama.cpp's server failed now and then on a connection used again.
        reuse_connections=not llamacpp,
        key_variable=entry.source.get("key_variable"),
        slots_coming=slots_coming,
    )
