"""A public name that several deployed models serve: by weight, by priority, and by who has the least to do."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError
from tests.gateway.harness import (
    MODEL,
    Answering,
    Running,
    ScriptedEngine,
    add_model,
    add_replica,
    ask,
    post,
    until,
    whole,
)

from sublet.config.gateway import Gateway
from sublet.gateway.model import GatewaySettings, ModelRoute, ReplicaRoute, RouteRule, UpstreamRule
from sublet.gateway.requests.admission import Admission
from sublet.gateway.requests.affinity import favorite_of, prefix_of
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import ChatRequest, EmbeddingRequest, Role, Text, Turn
from sublet.gateway.surfaces.openai import OpenAISurface
from sublet.models.routes.model import SETTINGS, Route, Upstream
from sublet.models.routes.service import Routes
from sublet.models.service import Models
from sublet.store import Store
from sublet.wiring.model_api import routed

Make = Callable[..., Running]


@pytest.fixture
def other() -> Iterator[ScriptedEngine]:
    scripted = ScriptedEngine()
    yield scripted
    scripted.stop()


def rule(*upstreams: tuple[str, float, int], spill: bool = False) -> RouteRule:
    return RouteRule("public", tuple(UpstreamRule(*item) for item in upstreams), spill)


def both(make_gateway: Make, store: Store, other: ScriptedEngine, wanted: RouteRule, **settings: Any) -> Running:
    """A gateway with the models `toy` and `spare`, which serves `public` by both."""
    gateway = make_gateway(start=False, routes=(wanted,), **settings)
    add_model(store, "spare", source={"url": "http://unused", "model": "their-name"})
    add_replica(store, "spare", other.url, slots=4)
    return gateway.start()


def test_the_second_serves_while_the_first_cannot(
    make_gateway: Make, store: Store, engine: ScriptedEngine, other: ScriptedEngine
) -> None:
    gateway = both(make_gateway, store, other, rule((MODEL, 1, 0), ("spare", 1, 1)))
    public = ask(model="public")
    assert gateway.post(public).json["model"] == "public"
    assert (len(engine.asked), len(other.asked)) == (1, 0)

    async def broken(answering: Answering) -> None:
        await answering.answer({"error": {"message": "no"}}, status=500)

    engine.script = broken
    answers = [gateway.post(public) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 6
    assert len(other.asked) == 6, "the request that failed was asked again there, and the others with it"
    assert other.asked[0].body["model"] == "their-name"
    assert gateway.post(ask()).status >= 500, "by its own name, nobody else serves it"
    until(lambda: {record.model for record in gateway.events} == {"public"})
    assert "public" in [model["id"] for model in gateway.get("/v1/models").json["data"]]


@pytest.mark.parametrize("spill", [False, True])
def test_a_busy_first_is_waited_for_unless_the_route_spills(
    make_gateway: Make, store: Store, engine: ScriptedEngine, other: ScriptedEngine, spill: bool
) -> None:
    gateway = both(make_gateway, store, other, rule((MODEL, 1, 0), ("spare", 1, 1), spill=spill), slots=1)
    gate = asyncio.Event()

    async def held(answering: Answering) -> None:
        await asyncio.wait_for(gate.wait(), 20)
        await answering.answer(whole())

    engine.script = held
    wires = [gateway.wire() for _ in range(2)]
    for wire in wires:
        wire.send(post(ask(model="public"), gateway.key))
    until(lambda: len(engine.asked) + len(other.asked) + gateway.metric("sublet_gateway_waiting") == 2)
    assert len(other.asked) == (1 if spill else 0)
    engine.loop.call_soon_threadsafe(gate.set)
    assert [wire.answer().status for wire in wires] == [200, 200]


def test_a_route_may_have_the_name_of_a_model_that_serves_it(
    make_gateway: Make, store: Store, engine: ScriptedEngine, other: ScriptedEngine
) -> None:
    wanted = RouteRule(MODEL, (UpstreamRule(MODEL), UpstreamRule("spare", 1.0, 1)))
    gateway = both(make_gateway, store, other, wanted)
    engine.close_port()
    assert [gateway.post(ask(stream=True)).status for _ in range(3)] == [200] * 3


def test_a_gateway_learns_of_a_route_that_is_made_at_run_time(
    make_gateway: Make, store: Store, engine: ScriptedEngine, other: ScriptedEngine
) -> None:
    gateway = both(make_gateway, store, other, RouteRule("public", (UpstreamRule(MODEL),)))
    names = Models(store)
    stated = (Route("public", (Upstream(MODEL),), source=SETTINGS),)
    routes = Routes(store, names.catalog, stated)
    assert gateway.post(ask(model="fresh")).status == 404
    routes.add(Route("fresh", (Upstream(MODEL), Upstream("spare", 1.0, 1)), affinity=False))
    routes.change(Route("public", (Upstream("spare"),)))
    until(lambda: gateway.post(ask(model="fresh")).status == 200)
    assert (len(engine.asked), len(other.asked)) == (1, 0)
    # The operator's route replaces that of the settings.
    until(lambda: (gateway.post(ask(model="public")), len(other.asked))[1] == 1)
    routes.change(Route("fresh", (Upstream("spare"),)))
    routes.remove("public")
    until(lambda: (gateway.post(ask(model="fresh")), len(other.asked))[1] > 1)
    before = len(engine.asked)
    until(lambda: (gateway.post(ask(model="public")), len(engine.asked))[1] > before)
    routes.remove("fresh")
    until(lambda: gateway.post(ask(model="fresh")).status == 404)


def test_without_affinity_the_same_prompt_goes_to_the_least_busy() -> None:
    wanted = replace(rule(("a", 1, 0), ("b", 1, 0)), affinity=False)
    assert not routed({"a": model("a", "a1"), "b": model("b", "b1")}, [wanted])["public"].affinity
    assert routed({"a": model("a", "a1")}, [rule(("a", 1, 0))])["public"].affinity


def model(name: str, *replicas: str, slots: int = 4, **more: Any) -> ModelRoute:
    found = tuple(ReplicaRoute(replica, f"http://{replica}", slots) for replica in replicas)
    return ModelRoute(name, name, frozenset({"chat", "tools"}), 4096, 5, found, **more)


def admission() -> Admission:
    return Admission(GatewaySettings(data_dir=None))  # type: ignore[arg-type]


def test_weights_divide_what_comes_one_by_one() -> None:
    public = routed({"a": model("a", "a1"), "b": model("b", "b1")}, [rule(("a", 3, 0), ("b", 1, 0))])["public"]
    admits, got = admission(), Counter[str]()
    for _ in range(400):
        state = admits.pick(public, 0.0)
        assert state is not None
        got[state.route.id] += 1
        state.in_flight -= 1
    assert 295 <= got["a1"] <= 305


def test_what_has_the_fewest_tokens_under_way_is_asked() -> None:
    public = routed({"a": model("a", "a1"), "b": model("b", "b1")}, [rule(("a", 1, 0), ("b", 1, 0))])["public"]
    admits = admission()
    first = admits.pick(public, 0.0)
    assert first is not None
    first.tokens += 30_000
    for _ in range(3):
        state = admits.pick(public, 0.0)
        assert state is not None and state is not first, "one long request is more than three short ones"
        state.tokens += 100


def test_prompts_that_begin_alike_go_to_one_replica_while_its_load_allows() -> None:
    wide = model("a", "a1", "a2", "a3", slots=4)
    admits = admission()
    for prefix in range(1, 30):
        states = [admits.pick(wide, 0.0, prefix=prefix) for _ in range(3)]
        names = [state.route.id for state in states if state is not None]
        # The third would make it fuller by more than half its slots than one that has nothing to do.
        assert len(names) == 3 and names[0] == names[1] == names[2]
        more = [admits.pick(wide, 0.0, prefix=prefix) for _ in range(2)]
        assert all(state is not None and state.route.id != names[0] for state in more)
        for state in (*states, *more):
            assert state is not None
            state.in_flight -= 1


def test_favorites_are_shared_by_size_and_stay_when_others_come_and_go() -> None:
    sizes = {"a": 1.0, "b": 1.0, "c": 2.0}
    got = Counter(favorite_of(prefix * 2_654_435_761 % 2**32, sizes) for prefix in range(1, 4001))
    assert 850 < got["a"] < 1150 and 850 < got["b"] < 1150 and 1800 < got["c"] < 2200, got
    for prefix in range(1, 200):
        before = favorite_of(prefix, sizes)
        after = favorite_of(prefix, {**sizes, "d": 1.0})
        assert after in (before, "d")


def test_a_favorite_that_is_asked_later_or_cools_down_is_passed_by() -> None:
    rules = [rule(("a", 1, 0), ("b", 1, 1))]
    public = routed({"a": model("a", "a1", slots=9), "b": model("b", "b1", slots=9)}, rules)["public"]
    admits = admission()
    for prefix in range(1, 9):
        state = admits.pick(public, 0.0, prefix=prefix)
        assert state is not None and state.route.id == "a1"


def test_only_long_prompts_have_a_beginning_that_matters() -> None:
    def prefix(content: str) -> int:
        return prefix_of(
            OpenAISurface().parse("chat", json.dumps(ask(messages=[{"role": "user", "content": content}])).encode())
        )

    text = "system " * 400
    assert prefix("hi") == 0
    assert prefix(text + "one") == prefix(text + "two") != prefix("other " * 500) != 0
    chat = ChatRequest("m", (Turn(Role.SYSTEM, (Text(text),)), Turn(Role.USER, (Text("a"),))))
    other = ChatRequest("m", (Turn(Role.SYSTEM, (Text(text),)), Turn(Role.USER, (Text("b"),))))
    assert prefix_of(Call.of(chat)) == prefix_of(Call.of(other)) != 0
    assert prefix_of(Call.of(EmbeddingRequest("m", (text,)))) == 0


def test_a_route_can_do_what_all_of_its_models_can() -> None:
    small = model("b", "b1", timings=True, slots_coming=2)
    narrow = ModelRoute("c", "c", frozenset({"chat"}), 1024, 9)
    models = {"a": model("a", "a1"), "b": small, "c": narrow}
    public = routed(models, [rule(("b", 2, 1), ("a", 1, 0), ("c", 1, 0), ("gone", 1, 0))])["public"]
    assert (public.capabilities, public.context_tokens, public.slots_coming) == (frozenset({"chat"}), 1024, 2)
    assert [(route.id, route.priority, route.weight) for route in public.replicas] == [("a1", 0, 1), ("b1", 1, 2)]
    assert [route.served_as.name for route in public.replicas if route.served_as] == ["a", "b"]
    assert not public.timings
    assert "public" not in routed({"x": model("x")}, [rule(("a", 1, 0))])


@pytest.mark.parametrize(
    ("routes", "word"),
    [
        ([{"name": "x", "upstreams": []}], "upstreams"),
        ([{"name": "x", "upstreams": [{"model": "a"}]}] * 2, "two routes"),
        ([{"name": "x", "upstreams": [{"model": "a"}, {"model": "a"}]}], "twice"),
        ([{"name": "x", "upstreams": [{"model": "y"}]}, {"name": "y", "upstreams": [{"model": "a"}]}], "leads to"),
        ([{"name": "x", "upstreams": [{"model": "a", "weight": 0}]}], "weight"),
    ],
)
def test_settings_that_cannot_be_are_refused(routes: list[Any], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        Gateway(routes=routes)
