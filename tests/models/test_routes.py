"""Names that several models serve, as the operator changes them at run time."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sublet.models.model import CatalogEntry, Deployment, Replica, UnknownModelError
from sublet.models.routes.model import (
    ROUTES_MAX,
    SETTINGS,
    Route,
    RouteFacts,
    RouteInUseError,
    UnknownRouteError,
    Upstream,
    planned,
)
from sublet.models.routes.service import Routes
from sublet.models.service import Models
from sublet.models.store import insert_deployment, insert_replica, update_replica
from sublet.store import Store
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError, SubletError
from sublet.values.etags import Condition, PreconditionFailedError, tag_of

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


def entry(name: str, *capabilities: str, context: int = 4096) -> CatalogEntry:
    kinds = frozenset(capabilities or ("chat", "tools"))
    return CatalogEntry(name, "openai_url", {"url": "http://one/v1"}, context_tokens=context, capabilities=kinds)


ENTRIES = {
    item.name: item
    for item in (entry("a", "chat", "tools"), entry("b", "chat", context=1024), entry("vectors", "embeddings"))
}


def route(name: str, *models: str, **more: object) -> Route:
    return Route(name, tuple(Upstream(model) for model in models), **more)  # type: ignore[arg-type]


def facts(*routes: Route, ready: dict[str, int] | None = None) -> RouteFacts:
    return RouteFacts(ENTRIES, {"a": 2, "b": 0} if ready is None else ready, {item.name: item for item in routes})


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (route("x", "x"), "would lead to itself"),
        (route("x", "other"), "'other' is a route; a route leads to models"),
        (route("y", "looped"), "'looped' is a route, which leads back to it"),
        (route("x", "nobody"), "no model 'nobody'"),
        (route("x"), "1 to 16 models"),
        (route("x", *[f"m{number}" for number in range(17)]), "1 to 16 models"),
        (route("x", "a", "a"), "named twice"),
        (route("x", "a", "vectors"), "no capability in common"),
        (route("b", "a"), "'other' leads to the model 'b'"),
        (route("", "a"), "name: ''"),
        (route("Has Space", "a"), "name: 'Has Space'"),
        *(
            (Route("x", (Upstream("a", weight),)), "to send it nothing, leave it out")
            for weight in (0.0, -1.0, 101.0, float("nan"), float("inf"))
        ),
        *((Route("x", (Upstream("a", 1.0, priority),)), "priority of 0 to 100") for priority in (-1, 101)),
    ],
)
def test_what_can_not_be_a_route_is_refused_in_words(wanted: Route, words: str) -> None:
    with pytest.raises(SubletError) as caught:
        planned(wanted, facts(route("other", "b"), route("looped", "y")))
    assert words in caught.value.message


def test_a_plan_says_what_the_name_can_do_and_what_may_surprise() -> None:
    found = planned(route("a", "a", "b"), facts())
    assert (found.capabilities, found.context_tokens) == (("chat",), 1024)
    assert found.notes == () and found.ready == {"a": 2, "b": 0}
    assert "None of its models is deployed" in planned(route("x", "a"), facts(ready={})).notes[0]
    assert "b is not deployed" in planned(route("x", "a", "b"), facts(ready={"a": 1})).notes[0]
    assert "requests for that name go to a instead" in planned(route("vectors", "a"), facts()).notes[0]
    stated = replace(facts(), stated={"x": route("x", "b", source=SETTINGS)})
    assert "replaces the route of the same name in the settings" in planned(route("x", "a"), stated).notes[0]


def routes_of(store: Store, *stated: Route) -> Routes:
    models = Models(store)
    models.add_entries(list(ENTRIES.values()))
    return Routes(store, models.catalog, stated)


def test_a_route_of_the_operator_replaces_that_of_the_settings_until_it_is_removed(store: Store) -> None:
    routes = routes_of(store, route("chat", "a", source=SETTINGS))
    assert [(plan.route.name, plan.route.source) for plan in routes.all()] == [("chat", "settings")]
    with pytest.raises(ConflictError, match="in the settings; remove it from"):
        routes.remove("chat")
    changed = routes.change(route("chat", "b"))
    assert "replaces the route of the same name" in changed.notes[-1]
    assert [plan.route.upstreams[0].model for plan in routes.all()] == ["b"]
    again = routes.change(replace(route("chat", "b", "a"), spill=True, affinity=False))
    assert again.route.created_at == changed.route.created_at
    assert routes.route("chat").route == again.route
    left = routes.remove("chat")
    assert left is not None and left.source == SETTINGS
    assert routes.route("chat").route.upstreams[0].model == "a"


def test_a_change_is_refused_where_somebody_else_was_first(store: Store) -> None:
    routes = routes_of(store)
    seen = Condition(frozenset({tag_of(routes.add(route("chat", "a")).route.as_dict())}))
    routes.change(route("chat", "b"), seen)
    for change in (lambda: routes.change(route("chat", "a"), seen), lambda: routes.remove("chat", seen)):
        with pytest.raises(PreconditionFailedError):
            change()
    with pytest.raises(ConflictError, match="already"):
        routes.add(route("chat", "a"))
    routes.remove("chat")
    for gone in (
        lambda: routes.change(route("chat", "a")),
        lambda: routes.remove("chat"),
        lambda: routes.route("chat"),
    ):
        with pytest.raises(UnknownRouteError):
            gone()


def test_their_number_is_limited(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ROUTES_MAX >= 100
    monkeypatch.setattr("sublet.models.routes.service.ROUTES_MAX", 1)
    routes = routes_of(store)
    routes.add(route("one", "a"))
    with pytest.raises(LimitExceededError):
        routes.add(route("two", "a"))


def test_a_model_that_a_route_leads_to_stays_in_the_catalog(store: Store) -> None:
    routes, models = routes_of(store), Models(store)
    routes.add(route("chat", "a"))
    with pytest.raises(RouteInUseError, match="'chat' leads to a"):
        models.remove("a")
    models.remove("b")
    routes.remove("chat")
    models.remove("a")
    with pytest.raises(UnknownModelError):
        routes.add(route("chat", "a"))


def test_it_says_how_many_replicas_answer(store: Store) -> None:
    routes = routes_of(store)

    def deploy(connection: object) -> None:
        made = Deployment("dep_1", "a", (), 0, 4, None, "active", NOW, NOW)
        insert_deployment(connection, made)  # type: ignore[arg-type]
        for number in range(2):
            replica = Replica(f"rep_{number}", "dep_1", "a", "", 0, "starting", 4, "", NOW)
            insert_replica(connection, replica)  # type: ignore[arg-type]
        update_replica(connection, "rep_0", ("starting",), state="ready", endpoint="http://one")  # type: ignore[arg-type]

    store.write(deploy)
    found = routes.add(route("chat", "a", "b")).as_dict()["upstreams"]
    assert [(item["model"], item["replicas_ready"]) for item in found] == [("a", 1), ("b", None)]
    with pytest.raises(InvalidInputError):
        routes.preview(route("other", "chat"))
    assert len(routes.all()) == 1
