"""Where the operator makes routes: what a name would come to is shown first, then it is served."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sublet.console.page import Act, Drawn, Go, Screen, Visit
from sublet.models.routes.model import OPERATOR, Route, RoutePlan, Upstream
from sublet.models.routes.service import Routes
from sublet.models.wire import ROUTE_NAME_LENGTH_MAX, UPSTREAMS_MAX
from sublet.store.paging import PageRequest, page_of
from sublet.values.errors import InvalidInputError

ROUTES = "/model-routes"
SHOWN_MAX = 100
LINES_MIN = 4
NUMBER_LENGTH_MAX = 20


class Routing:
    """The screen of routes."""

    def __init__(self, routes: Routes, models: Callable[[], Sequence[str]]) -> None:
        """`models` are the names in the catalog."""
        self._routes = routes
        self._models = models

    def screens(self) -> tuple[Screen, ...]:
        """`/model-routes`, for the operator."""
        write = "deployments:write"
        acts = {
            "plan": Act(write, lambda visit: self._drawn(visit, self._planned(visit))),
            "add": Act(write, self._add, once=RoutePlan),
            "change": Act(write, self._change, once=RoutePlan),
            "remove": Act(write, self._remove),
        }
        shown = Screen(
            ROUTES, "Routes", "deployments:read", lambda visit: self._drawn(visit, None), acts, everywhere=True
        )
        return (shown,)

    def _drawn(self, visit: Visit, plan: RoutePlan | None) -> Drawn:
        everything = self._routes.all()
        page = page_of(
            "console-routes", everything, lambda item: item.route.name, PageRequest(SHOWN_MAX, visit.query.get("after"))
        )
        names = {item.route.name for item in everything}
        edited = next((item.route for item in everything if item.route.name == visit.query.get("edit")), None)
        fields = visit.form.fields or (_fields_of(edited) if edited else {})
        filled = sum(1 for number in range(UPSTREAMS_MAX) if fields.get(f"model_{number}"))
        return Drawn(
            "model_routes.html",
            {
                "page": page,
                "plan": plan,
                "act": "change" if plan and plan.route.name in names else "add",
                "models": list(self._models()),
                "lines": range(min(UPSTREAMS_MAX, max(LINES_MIN, filled + 2))),
                "fields": fields,
                "sent": [(name, value) for name, value in sorted(fields.items()) if name.startswith(_SENT)],
                "operator": OPERATOR,
                "name_length_max": ROUTE_NAME_LENGTH_MAX,
                "may_write": bool(visit.actor.may("deployments:write")),
                "at": visit.at,
            },
        )

    def _planned(self, visit: Visit) -> RoutePlan:
        return self._routes.preview(_wanted(visit))

    def _add(self, visit: Visit) -> Go:
        self._routes.add(_wanted(visit))
        return Go(ROUTES)

    def _change(self, visit: Visit) -> Go:
        self._routes.change(_wanted(visit))
        return Go(ROUTES)

    def _remove(self, visit: Visit) -> Go:
        self._routes.remove(visit.form.text("route")[:ROUTE_NAME_LENGTH_MAX])
        return Go(ROUTES)


_SENT = ("name", "model_", "weight_", "priority_", "spill", "affinity")


def _fields_of(route: Route) -> Mapping[str, Any]:
    """A route as its form is filled in."""
    fields = {"name": route.name, "spill": "yes" if route.spill else "", "affinity": "yes" if route.affinity else ""}
    for number, upstream in enumerate(route.upstreams):
        fields |= {
            f"model_{number}": upstream.model,
            f"weight_{number}": f"{upstream.weight:g}",
            f"priority_{number}": str(upstream.priority),
        }
    return fields


def _wanted(visit: Visit) -> Route:
    """The route of the form. Raises InvalidInputError."""
    form = visit.form
    upstreams = []
    for number in range(UPSTREAMS_MAX):
        model = form.text(f"model_{number}").strip()
        if not model:
            continue
        priority = form.number(f"priority_{number}", "priority") if form.text(f"priority_{number}").strip() else 0
        upstreams.append(Upstream(model, _weight(form.text(f"weight_{number}").strip()), priority))
    name = form.text("name").strip()
    return Route(name, tuple(upstreams), form.text("spill") == "yes", form.text("affinity") == "yes")


def _weight(text: str) -> float:
    if not text:
        return 1.0
    try:
        return float(text[:NUMBER_LENGTH_MAX])
    except ValueError as error:
        raise InvalidInputError("weight must be a number, such as 1 or 2.5") from error
