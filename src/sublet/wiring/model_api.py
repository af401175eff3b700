"""What the gateway needs from accounts, models and the ledger; see gateway.ports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from sqlalchemy import Connection

from sublet.accounts import store as accounts_sql
from sublet.accounts.limits.model import MODEL, PROJECT, Limit
from sublet.accounts.limits.store import live_limits
from sublet.accounts.permissions import ALL, reach
from sublet.gateway.batches.worker import Bill
from sublet.gateway.metering.shipper import Emit
from sublet.gateway.model import KeyGrant, ModelRoute, ReplicaRoute, RouteRule, SharedLimit, Snapshot, UpstreamRule
from sublet.gateway.ports import GatewayPorts
from sublet.gateway.requests.held import Holds
from sublet.gateway.upstream.dialects import DIALECTS
from sublet.gateway.upstream.engine_watch import Trouble as FailingReplica
from sublet.ledger.budgets.model import Budget
from sublet.ledger.budgets.spending import hard_budgets
from sublet.models import store as models_sql
from sublet.models.catalog import BUILT_IN, CONTEXT_TOKENS_DEFAULT
from sublet.models.engines.kinds import kind_of
from sublet.models.model import CatalogEntry, Trouble
from sublet.models.routes.store import all_routes
from sublet.store.sealing import Sealing
from sublet.values.clock import from_micros

UNIX = "unix://"


def gateway_ports(
    emit: Emit,
    *,
    built_in: CatalogEntry = BUILT_IN,
    holds: Holds | None = None,
    sealing: Sealing | None = None,
    bill: Bill | None = None,
) -> GatewayPorts:
    """`built_in` is the model that needs no catalog entry. Without `sealing`, no key can sign requests; without `bill`, there are no
    batches."""

    def load(
        connection: Connection, version: int, weights: Mapping[str, float], routes: Sequence[RouteRule] = ()
    ) -> Snapshot:
        return load_snapshot(connection, version, built_in, weights, routes)

    return GatewayPorts(
        emit, load, report_troubles, accounts_sql.note_uses, holds, sealing.open if sealing is not None else None, bill
    )


def load_snapshot(
    connection: Connection,
    version: int,
    built_in: CatalogEntry = BUILT_IN,
    weights: Mapping[str, float] | None = None,
    routes: Sequence[RouteRule] = (),
) -> Snapshot:
    """Live keys, deployed models with their replicas, and the names that several models serve."""
    limits = live_limits(connection)
    models = _models(connection, built_in)
    rules = rules_in_force(connection, routes)
    if rules:
        models = routed(models, rules)
    for name, model in models.items():
        shared = [
            found for limit in limits if limit.scope == MODEL and limit.model == name and (found := _shared(limit))
        ]
        if shared:
            models[name] = replace(model, limits=tuple(shared))
    return Snapshot(_keys(connection, weights or {}, limits), models, version)


def rules_in_force(connection: Connection, stated: Sequence[RouteRule]) -> list[RouteRule]:
    """The routes of the settings (`stated`), and those that the operator made at run time, which replace them by name."""
    made = [
        RouteRule(
            route.name,
            tuple(UpstreamRule(to.model, to.weight, to.priority) for to in route.upstreams),
            route.spill,
            route.affinity,
        )
        for route in all_routes(connection)
    ]
    return list({rule.name: rule for rule in (*stated, *made)}.values())


def report_troubles(connection: Connection, run: str, troubles: Sequence[FailingReplica], at: datetime) -> None:
    """Store a gateway's reports of replicas that fail."""
    told = [
        Trouble(item.replica_id, run, item.failures, item.kind, item.status, item.said, from_micros(item.since_us), at)
        for item in troubles
    ]
    models_sql.save_troubles(connection, run, told, at)


def _keys(connection: Connection, weights: Mapping[str, float], limits: Sequence[Limit]) -> dict[bytes, KeyGrant]:
    budgets: dict[str, list[Budget]] = {}
    for budget in hard_budgets(connection):
        budgets.setdefault(budget.organization_id, []).append(budget)
    limited: dict[str, list[Limit]] = {}
    for limit in limits:
        if limit.organization_id:
            limited.setdefault(limit.organization_id, []).append(limit)
    grants = {}
    for key in accounts_sql.live_keys(connection):
        whose = key.organization_id
        own = [budget for budget in budgets.get(whose, ()) if budget.covers(key.project, key.id)]
        grant = KeyGrant(
            key.id,
            whose,
            key.expires_at,
            reach(key.role, key.scopes, "inference:use") != "",
            reach(key.role, key.scopes, "system:read") == ALL,
            project=key.project,
            budgeted=bool(own),
            budgets=tuple((budget.id, budget.limit_nano) for budget in own),
            weight=weights.get(whose, weights.get(key.organization_name, 1.0)),
            key_weight=weights.get(key.id, 1.0),
            signing_secret=key.signing_secret,
            organization_name=key.organization_name,
        )
        covering = [limit for limit in limited.get(whose, ()) if limit.covers(whose, key.project, key.id)]
        grants[bytes.fromhex(key.sha256)] = limited_grant(grant, covering) if covering else grant
    return grants


def limited_grant(grant: KeyGrant, covering: Sequence[Limit]) -> KeyGrant:
    """The grant with its limits. Limits that the operator sets for a key or its organization replace those in the settings,
    which apply to every key without its own."""
    models = grant.models
    expiries = [grant.expires_at] if grant.expires_at is not None else []
    for limit in covering:
        if limit.allowed.models is not None:
            models = frozenset(limit.allowed.models) & (
                models if models is not None else frozenset(limit.allowed.models)
            )
        if limit.allowed.expires_at is not None:
            expiries.append(limit.allowed.expires_at)
    own = [limit.allowed for limit in covering if limit.by_operator and not limit.model]
    return replace(
        grant,
        models=models,
        expires_at=min(expiries) if expiries else None,
        limits=tuple(found for limit in covering if (found := _shared(limit)) is not None),
        default_rate=all(allowed.requests_per_minute is None for allowed in own),
        default_concurrency=all(allowed.concurrency is None for allowed in own),
    )


def _shared(limit: Limit) -> SharedLimit | None:
    """The shared part of a limit, or None if it has no number."""
    allowed = limit.allowed
    numbers = (
        allowed.requests_per_minute,
        allowed.input_tokens_per_minute,
        allowed.output_tokens_per_minute,
        allowed.concurrency,
    )
    if all(number is None for number in numbers):
        return None
    whose = f"the project {limit.scope_id}" if limit.scope == PROJECT else f"this {limit.scope}"
    return SharedLimit(limit.id, whose, limit.model, *numbers)


def _models(connection: Connection, built_in: CatalogEntry) -> dict[str, ModelRoute]:
    entries = {built_in.name: built_in} | {entry.name: entry for entry in models_sql.catalog_rows(connection)}
    ready: dict[str, list[ReplicaRoute]] = {}
    began: dict[str, CatalogEntry] = {}
    coming: dict[str, int] = {}
    for replica in models_sql.serving_replicas(connection):
        if not _on_this_machine(replica.endpoint):
            continue
        if replica.state == "ready" and replica.endpoint is not None:
            route = ReplicaRoute(replica.id, replica.endpoint, replica.slots, replica.pool_id)
            ready.setdefault(replica.model, []).append(route)
            if replica.entry is not None:
                began[replica.id] = replica.entry
        else:
            coming[replica.model] = coming.get(replica.model, 0) + replica.slots
    routes = {}
    for deployment in models_sql.active_deployments(connection):
        model, created_at = deployment.model, deployment.created_at
        if (entry := entries.get(model)) is not None:
            own = [_as_served(route, began.get(route.id), entry, created_at) for route in ready.get(model, ())]
            routes[model] = _route(entry, created_at, tuple(own), coming.get(model, 0))
    return routes


def _on_this_machine(endpoint: str | None) -> bool:
    """Whether an endpoint can be asked from here: the Unix socket of an engine is its own machine's. Another one's gateways would
    take its replicas for broken, and say so."""
    if endpoint is None or not endpoint.startswith(UNIX):
        return True
    return Path(endpoint.removeprefix(UNIX)).exists()


def routed(models: Mapping[str, ModelRoute], rules: Sequence[RouteRule]) -> dict[str, ModelRoute]:
    """The models, and the names of `rules` for those of their upstreams that are deployed. A name can do what all of its upstreams
    can, and its context is the smallest of theirs."""
    used = {upstream.model for rule in rules for upstream in rule.upstreams}
    # A replica says how it is served wherever it is listed: it is the same one by its id.
    found = {name: _served_by_itself(model) if name in used else model for name, model in models.items()}
    result = dict(found)
    for rule in rules:
        parts = [(upstream, found[upstream.model]) for upstream in rule.upstreams if upstream.model in found]
        if parts:
            result[rule.name] = _routed(rule, parts)
    return result


def _served_by_itself(model: ModelRoute) -> ModelRoute:
    itself = replace(model, replicas=(), slots_coming=0)
    return replace(
        model, replicas=tuple(replace(route, served_as=route.served_as or itself) for route in model.replicas)
    )


def _routed(rule: RouteRule, parts: Sequence[tuple[UpstreamRule, ModelRoute]]) -> ModelRoute:
    models = [model for _, model in parts]
    replicas = [
        replace(route, weight=upstream.weight, priority=upstream.priority)
        for upstream, model in parts
        for route in model.replicas
    ]
    return replace(
        models[0],
        name=rule.name,
        engine_model=rule.name,
        capabilities=frozenset.intersection(*(model.capabilities for model in models)),
        context_tokens=min(model.context_tokens for model in models),
        created_s=min(model.created_s for model in models),
        replicas=tuple(sorted(replicas, key=lambda route: route.priority)),
        # Only where all engines are our own is waiting for one that fails the right thing.
        timings=all(model.timings for model in models),
        slots_coming=sum(model.slots_coming for model in models),
        context_known=all(model.context_known for model in models),
        spill=rule.spill,
        affinity=rule.affinity,
    )


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
    kind = kind_of(entry.engine)
    dialect = kind.dialect_of(entry.source)
    return ModelRoute(
        name=entry.name,
        engine_model=entry.source.get("model", entry.name),
        capabilities=entry.capabilities,
        context_tokens=entry.context_tokens,
        created_s=int(created_at.timestamp()),
        replicas=replica_routes,
        timings=DIALECTS[dialect].timings,
        stream_only=kind.stream_only,
        dialect=dialect,
        reuse_connections=kind.reuse_connections,
        key_variable=entry.source.get("key_variable"),
        slots_coming=slots_coming,
        # The default says nothing of an engine that somebody else runs.
        context_known=kind.stream_only or entry.context_tokens != CONTEXT_TOKENS_DEFAULT,
    )
