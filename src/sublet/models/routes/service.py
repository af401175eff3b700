"""Add, change, list and remove routes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from sublet.models import store as models_sql
from sublet.models.model import CatalogEntry
from sublet.models.routes import store as sql
from sublet.models.routes.model import (
    OPERATOR,
    ROUTES_MAX,
    Route,
    RouteFacts,
    RoutePlan,
    UnknownRouteError,
    described_as,
    effective,
    planned,
)
from sublet.store import Store
from sublet.values.errors import ConflictError, LimitExceededError
from sublet.values.etags import ANY_STATE, Condition

Catalog = Callable[[Connection], dict[str, CatalogEntry]]
LOCK = "deployments"
"""As for deployments: a route is judged by the catalog, and a model that a route leads to can't be removed from it."""


class Routes:
    """The use cases of routes. What is set holds on every gateway within a second."""

    def __init__(self, store: Store, catalog: Catalog, stated: Sequence[Route] = ()) -> None:
        """`stated` are the routes in the settings, which hold where the operator made none of the same name."""
        self._store = store
        self._catalog = catalog
        self._stated = tuple(stated)

    def all(self) -> list[RoutePlan]:
        """The routes in force, by name."""
        with self._store.read() as connection:
            facts = self._facts(connection)
        return [described_as(route, facts) for _, route in sorted(facts.routes.items())]

    def route(self, name: str) -> RoutePlan:
        """The route in force. Raises UnknownRouteError."""
        with self._store.read() as connection:
            facts = self._facts(connection)
        if name not in facts.routes:
            raise UnknownRouteError(f"there is no route {name!r}; `sublet models route ls` lists them")
        return described_as(facts.routes[name], facts)

    def preview(self, wanted: Route) -> RoutePlan:
        """What adding the route, or changing it to this, comes to. Raises as they do; nothing changes."""
        with self._store.read() as connection:
            return planned(wanted, self._facts(connection))

    def add(self, wanted: Route) -> RoutePlan:
        """Serve a new name from now on. Raises InvalidInputError, UnknownModelError, ConflictError, LimitExceededError."""
        now = self._store.clock.now()
        made = replace(wanted, source=OPERATOR, created_at=now, updated_at=now)

        def write(connection: Connection) -> RoutePlan:
            self._store.lock(connection, LOCK)
            plan = planned(made, self._facts(connection))
            if sql.route_by_name(connection, made.name) is not None:
                raise ConflictError(f"there is a route {made.name!r} already; `sublet models route set` changes it")
            if sql.count_routes(connection) >= ROUTES_MAX:
                raise LimitExceededError(f"there are {ROUTES_MAX} routes already; remove one first")
            sql.insert_route(connection, made)
            return plan

        return self._store.write(write)

    def change(self, wanted: Route, seen: Condition = ANY_STATE) -> RoutePlan:
        """Serve a name by this from now on. A route of the settings is replaced by one of the operator's. Raises
        UnknownRouteError, PreconditionFailedError, and as `add` does."""
        now = self._store.clock.now()

        def write(connection: Connection) -> RoutePlan:
            self._store.lock(connection, LOCK)
            facts = self._facts(connection)
            before = facts.routes.get(wanted.name)
            if before is None:
                raise UnknownRouteError(f"there is no route {wanted.name!r}; `sublet models route ls` lists them")
            seen.require(before.as_dict())
            made = replace(wanted, source=OPERATOR, created_at=before.created_at or now, updated_at=now)
            plan = planned(made, facts)
            if before.source == OPERATOR:
                sql.change_route(connection, made)
            else:
                sql.insert_route(connection, made)
            return plan

        return self._store.write(write)

    def remove(self, name: str, seen: Condition = ANY_STATE) -> Route | None:
        """Forget the operator's route; returns the one of the settings that holds again, if there is one. Raises
        UnknownRouteError, ConflictError for a route that only the settings have, PreconditionFailedError."""
        stated = next((route for route in self._stated if route.name == name), None)

        def write(connection: Connection) -> None:
            self._store.lock(connection, LOCK)
            found = sql.route_by_name(connection, name)
            if found is None and stated is not None:
                raise ConflictError(f"the route {name!r} is in the settings; remove it from [[gateway.routes]] there")
            if found is None:
                raise UnknownRouteError(f"there is no route {name!r}; `sublet models route ls` lists them")
            seen.require(found.as_dict())
            sql.delete_route(connection, name)

        self._store.write(write)
        return stated

    def _facts(self, connection: Connection) -> RouteFacts:
        counts = Counter(
            replica.model for replica in models_sql.serving_replicas(connection) if replica.state == "ready"
        )
        ready = {item.model: counts[item.model] for item in models_sql.active_deployments(connection)}
        stated = {route.name: route for route in self._stated}
        routes = effective(sql.all_routes(connection), self._stated)
        return RouteFacts(self._catalog(connection), ready, routes, stated)
