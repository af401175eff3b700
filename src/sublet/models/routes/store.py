"""The SQL of routes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from sublet.models.routes.model import Route, Upstream
from sublet.store.tables.models import model_routes


def all_routes(connection: Connection) -> list[Route]:
    """The routes that the operator made, by name."""
    return [_route(row) for row in connection.execute(select(model_routes).order_by(model_routes.c.name))]


def route_by_name(connection: Connection, name: str) -> Route | None:
    row = connection.execute(select(model_routes).where(model_routes.c.name == name)).first()
    return _route(row) if row else None


def count_routes(connection: Connection) -> int:
    return connection.execute(select(func.count()).select_from(model_routes)).scalar_one()


def insert_route(connection: Connection, route: Route) -> None:
    connection.execute(
        insert(model_routes).values(
            name=route.name, created_at=route.created_at, updated_at=route.updated_at, **_values(route)
        )
    )


def change_route(connection: Connection, route: Route) -> None:
    connection.execute(
        update(model_routes)
        .where(model_routes.c.name == route.name)
        .values(updated_at=route.updated_at, **_values(route))
    )


def delete_route(connection: Connection, name: str) -> None:
    connection.execute(delete(model_routes).where(model_routes.c.name == name))


def _values(route: Route) -> dict[str, Any]:
    return {
        "upstreams": [upstream.as_dict() for upstream in route.upstreams],
        "spill": route.spill,
        "affinity": route.affinity,
    }


def _route(row: Row[Any]) -> Route:
    return Route(
        row.name,
        tuple(Upstream(item["model"], item["weight"], item["priority"]) for item in row.upstreams),
        row.spill,
        row.affinity,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )
