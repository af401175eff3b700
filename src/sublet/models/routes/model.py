"""A route, and what comes of adding or changing one: planned first, and refused before anything changes."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sublet.models.model import CatalogEntry, UnknownModelError
from sublet.models.wire import PRIORITY_MAX, ROUTE_NAME_LENGTH_MAX, UPSTREAMS_MAX, WEIGHT_MAX, WEIGHT_MIN
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

ROUTES_MAX = 200
SETTINGS, OPERATOR = "settings", "operator"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._:/-]{0,78}[a-z0-9])?")


class RouteInUseError(ConflictError):
    """A route leads to this model; change or remove the route first (`sublet models route ls`)."""

    code = "route_in_use"


class UnknownRouteError(NotFoundError):
    """There is no such route; `sublet models route ls` lists them."""

    code = "unknown_route"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A model that serves a route: its share among those of the same priority, for each of its slots, and which are tried
    before it (those of a smaller one)."""

    model: str
    weight: float = 1.0
    priority: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {"model": self.model, "weight": self.weight, "priority": self.priority}


@dataclass(frozen=True, slots=True)
class Route:
    """A public name and the models that serve it.

    With `spill`, models of the next priority also serve while those before are busy, and not only when they fail. With
    `affinity`, prompts that begin alike go to the same replica. `source` is `settings` or `operator`; a route of the settings
    has no times.
    """

    name: str
    upstreams: tuple[Upstream, ...]
    spill: bool = False
    affinity: bool = True
    source: str = OPERATOR
    created_at: datetime | None = None
    updated_at: datetime | None = None

    def leads_to(self, model: str) -> bool:
        """Whether a model serves it."""
        return any(upstream.model == model for upstream in self.upstreams)

    def as_dict(self) -> dict[str, Any]:
        """What the operator stated, without what follows from it."""
        return {
            "name": self.name,
            "upstreams": [upstream.as_dict() for upstream in self.upstreams],
            "spill": self.spill,
            "affinity": self.affinity,
            "source": self.source,
            "created_at": format_time(self.created_at) if self.created_at else None,
            "updated_at": format_time(self.updated_at) if self.updated_at else None,
        }


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """What a route is judged by: the catalog, the number of ready replicas of each deployed model, and all routes by name."""

    catalog: Mapping[str, CatalogEntry]
    ready: Mapping[str, int]
    routes: Mapping[str, Route]
    stated: Mapping[str, Route] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoutePlan:
    """A route as it would be, and what to know about it: what its name can do, and what is not as it seems."""

    route: Route
    capabilities: tuple[str, ...]
    context_tokens: int
    ready: Mapping[str, int]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        stated = self.route.as_dict()
        return {
            **stated,
            "upstreams": [item | {"replicas_ready": self.ready.get(item["model"])} for item in stated["upstreams"]],
            "capabilities": list(self.capabilities),
            "context_tokens": self.context_tokens,
            "notes": list(self.notes),
        }


def effective(rows: Sequence[Route], stated: Sequence[Route]) -> dict[str, Route]:
    """The routes in force, by name: one that the operator made at run time replaces the one of the same name in the settings."""
    return {route.name: route for route in (*stated, *rows)}


def planned(wanted: Route, facts: RouteFacts) -> RoutePlan:
    """What `wanted` comes to. Raises InvalidInputError, UnknownModelError, ConflictError where it can't be."""
    _check_fields(wanted)
    others = {name: route for name, route in facts.routes.items() if name != wanted.name}
    for upstream in wanted.upstreams:
        _check_target(wanted.name, upstream.model, others, facts.catalog)
    for name, route in sorted(others.items()):
        if route.leads_to(wanted.name):
            raise ConflictError(
                f"the route {name!r} leads to the model {wanted.name!r}, so a route can't have that name; "
                f"choose another name, or remove {name!r} first"
            )
    described = described_as(wanted, facts)
    if not described.capabilities:
        raise InvalidInputError(
            "the models have no capability in common, so the route could serve no request; choose models of one kind",
            field="upstreams",
        )
    return described


def described_as(route: Route, facts: RouteFacts) -> RoutePlan:
    """A route that exists, with what its name can do now. Models that are not in the catalog anymore are left out."""
    entries = [facts.catalog[item.model] for item in route.upstreams if item.model in facts.catalog]
    shared = frozenset.intersection(*(entry.capabilities for entry in entries)) if entries else frozenset()
    context = min((entry.context_tokens for entry in entries), default=0)
    return RoutePlan(route, tuple(sorted(shared)), context, dict(facts.ready), tuple(_notes(route, facts)))


def _notes(route: Route, facts: RouteFacts) -> list[str]:
    names = [upstream.model for upstream in route.upstreams]
    notes = []
    away = [name for name in names if name not in facts.ready]
    if len(away) == len(names):
        notes.append("None of its models is deployed, so the name is not served yet.")
    else:
        notes += [f"{name} is not deployed; until it is, the route does without it." for name in away]
    if route.name in facts.catalog and route.name not in names:
        notes.append(
            f"There is also a model named {route.name}; requests for that name go to {', '.join(names)} instead."
        )
    if route.source == OPERATOR and route.name in facts.stated:
        notes.append("It replaces the route of the same name in the settings until it is removed.")
    return notes


def _check_fields(route: Route) -> None:
    if not _NAME.fullmatch(route.name):
        raise InvalidInputError(
            f"name: {route.name[:ROUTE_NAME_LENGTH_MAX]!r} must be lower-case letters, digits and . _ : / -, at most "
            f"{ROUTE_NAME_LENGTH_MAX} of them",
            field="name",
        )
    if not 1 <= len(route.upstreams) <= UPSTREAMS_MAX:
        raise InvalidInputError(f"upstreams: name 1 to {UPSTREAMS_MAX} models", field="upstreams")
    models = [upstream.model for upstream in route.upstreams]
    for upstream in route.upstreams:
        if models.count(upstream.model) > 1:
            raise InvalidInputError(f"upstreams: {upstream.model!r} is named twice; name it once", field="upstreams")
        if not math.isfinite(upstream.weight) or not WEIGHT_MIN <= upstream.weight <= WEIGHT_MAX:
            raise InvalidInputError(
                f"weight: {upstream.model!r} must have a weight of {WEIGHT_MIN} to {WEIGHT_MAX:.0f}, not {upstream.weight:g}; "
                "to send it nothing, leave it out or give it a higher priority number",
                field="weight",
            )
        if not 0 <= upstream.priority <= PRIORITY_MAX:
            raise InvalidInputError(
                f"priority: {upstream.model!r} must have a priority of 0 to {PRIORITY_MAX}, not {upstream.priority}",
                field="priority",
            )


def _check_target(name: str, model: str, others: Mapping[str, Route], catalog: Mapping[str, CatalogEntry]) -> None:
    if model in others:
        back = others[model].leads_to(name)
        loop = ", which leads back to it" if back else ""
        raise InvalidInputError(
            f"upstreams: {model!r} is a route{loop}; a route leads to models of the catalog, never to another route",
            field="upstreams",
        )
    if model in catalog:
        return
    if model == name:
        raise InvalidInputError(
            f"upstreams: the route {name!r} would lead to itself, because no model has that name; name models of the catalog",
            field="upstreams",
        )
    raise UnknownModelError(f"there is no model {model!r} in the catalog; `sublet models ls` lists them")
