"""Tiers: flex waits while anybody of the usual tier waits, is answered truthfully, and has a price of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, Wire, ask, post, until, whole
from tests.gateway.test_bedrock import runtime, user
from tests.gateway.test_budgets import INPUT_NANO, OUTPUT_NANO, PRICES, UNIT, Money
from tests.gateway.test_budgets import money as money

from sublet.gateway.model import METER_OUTPUT, ReservedShare
from sublet.ledger.prices.book import book_from_dict
from sublet.store import Store


class Order:
    """An engine that answers one at a time, when it is told to, and notes in which order it was asked."""

    def __init__(self, engine: ScriptedEngine) -> None:
        self.asked: list[str] = []
        self._loop = engine.loop
        self._turns = asyncio.Semaphore(0)
        engine.script = self._script

    async def _script(self, answering: Answering) -> None:
        self.asked.append(answering.asked.body["messages"][0]["content"])
        await asyncio.wait_for(self._turns.acquire(), 20)
        await answering.answer(whole())

    def let(self, count: int) -> None:
        for _ in range(count):
            self._loop.call_soon_threadsafe(self._turns.release)


def sent(gateway: Running, name: str, tier: str | None = None) -> Wire:
    wire = gateway.wire()
    body: dict[str, Any] = {"model": MODEL, "messages": [{"role": "user", "content": name}]}
    wire.send(post(body | ({"service_tier": tier} if tier else {}), gateway.key))
    return wire


def test_flex_waits_while_anybody_else_does(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway(slots=1)
    order = Order(engine)
    wires = [sent(gateway, "first")]
    until(lambda: order.asked == ["first"])
    for name, tier in (("flex 1", "flex"), ("flex 2", "flex"), ("usual 1", None), ("usual 2", "auto")):
        wires.append(sent(gateway, name, tier))
        until(lambda count=len(wires) - 1: gateway.metric("sublet_gateway_waiting") == count)
    order.let(5)
    answers = [wire.answer() for wire in wires]
    assert [answer.status for answer in answers] == [200] * 5
    assert order.asked == ["first", "usual 1", "usual 2", "flex 1", "flex 2"]
    assert [answer.json.get("service_tier") for answer in answers] == [None, "flex", "flex", None, "default"]


def test_flex_has_a_patience_of_its_own(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway(slots=1, queue_s_max=0.3, flex_queue_s_max=60.0)
    order = Order(engine)
    first = sent(gateway, "first")
    until(lambda: order.asked)
    flex, usual = sent(gateway, "flex", "flex"), sent(gateway, "usual")
    assert usual.answer().json["error"]["code"] == "queue_timeout"
    order.let(2)
    assert first.answer().status == flex.answer().status == 200


def test_the_bill_names_the_tier_and_the_price_book_prices_it(gateway: Running) -> None:
    assert gateway.post(ask(service_tier="flex")).status == 200
    assert gateway.post(ask()).status == 200
    until(lambda: len({record.request_id for record in gateway.events}) == 2)
    tiers = [record.tier for record in gateway.events if record.meter == METER_OUTPUT]
    assert sorted(tiers) == ["", "flex"]


def test_flex_under_a_hard_budget_is_held_and_costs_its_own_price(money: Money, store: Store) -> None:
    half = {
        **PRICES["prices"][2],
        "id": "flex-output",
        "amount": "5",
        "match": {"tier": "flex"},
    }
    money.ledger.publish_prices(book_from_dict({"prices": [*PRICES["prices"], half]}, "with flex"))
    money.limit(1000 * UNIT)
    assert money.gateway.post(ask(max_tokens=100, service_tier="flex")).status == 200
    # Five tokens of prompt and three of answer.
    assert money.rated() == (5 * INPUT_NANO + 3 * OUTPUT_NANO // 2, 0)
    assert money.gateway.post(ask(max_tokens=100)).status == 200
    assert money.rated() == (10 * INPUT_NANO + 3 * OUTPUT_NANO // 2 + 3 * OUTPUT_NANO, 0)


@pytest.mark.parametrize(("tier", "told"), [(None, None), ("default", None), ("flex", "flex")])
def test_amazons_sdk_is_told_the_tier(gateway: Running, tier: str | None, told: str | None) -> None:
    client = runtime(gateway.url, gateway.key)
    more: dict[str, Any] = {"serviceTier": {"type": tier}} if tier else {}
    found = client.converse(modelId=MODEL, messages=[user()], **more)
    assert found.get("serviceTier", {}).get("type") == told


def test_responses_tell_the_tier(gateway: Running) -> None:
    for tier, told in (("flex", "flex"), ("auto", "default")):
        body = {"model": MODEL, "input": "hi", "service_tier": tier, "store": False}
        assert gateway.post(body, path="/v1/responses").json["service_tier"] == told


def test_other_tiers_are_refused_by_name(gateway: Running) -> None:
    answer = gateway.post(ask(service_tier="priority"))
    assert answer.status == 400 and "auto, default and flex" in answer.json["error"]["message"]


def test_googles_sdk_asks_for_flex_and_is_told(gateway: Running) -> None:
    for tier, told in ((None, "STANDARD"), ("standard", "STANDARD"), ("flex", "FLEX")):
        with google(gateway) as client:
            found = client.models.generate_content(
                model=MODEL, contents="hi", config={"service_tier": tier} if tier else {}
            )
            streamed = list(
                client.models.generate_content_stream(
                    model=MODEL, contents="hi", config={"service_tier": tier} if tier else {}
                )
            )
        for usage in (found.usage_metadata, streamed[-1].usage_metadata):
            assert usage is not None and usage.total_token_count
        assert raw_tier(gateway, tier) == (told.lower())
    until(lambda: {record.tier for record in gateway.events} == {"", "flex"})


def google(gateway: Running) -> Any:
    from google import genai

    return genai.Client(api_key=gateway.key, http_options={"base_url": gateway.url})


def raw_tier(gateway: Running, tier: str | None) -> str:
    body = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]} | ({"serviceTier": tier} if tier else {})
    answer = gateway.post(body, path=f"/v1beta/models/{MODEL}:generateContent")
    found: str = answer.json["usageMetadata"]["serviceTier"]
    return found


def test_reserved_slots_are_for_nobody_else_and_used_first(make_gateway: Any, engine: ScriptedEngine) -> None:
    shares = (ReservedShare("customer 0", MODEL, 0.5),)
    gateway: Running = make_gateway(slots=4, reserved=shares)
    other: Running = make_gateway()
    order = Order(engine)
    wires = []

    def ask_as(key: str, name: str, count: int) -> None:
        wire = gateway.wire()
        wire.send(post({"model": MODEL, "messages": [{"role": "user", "content": name}]}, key))
        wires.append(wire)
        until(lambda: len(order.asked) + gateway.metric("sublet_gateway_waiting") == count)

    until(lambda: gateway.get("/v1/models", other.key).status == 200)
    for number in range(4):
        ask_as(other.key, f"other {number}", number + 1)
    assert order.asked == ["other 0", "other 1"], "half of the slots stay free"
    for number in range(3):
        ask_as(gateway.key, f"own {number}", 5 + number)
    assert order.asked == ["other 0", "other 1", "own 0", "own 1"], "its own are before those who wait"
    order.let(7)
    answers = [wire.answer() for wire in wires]
    assert [answer.status for answer in answers] == [200] * 7
    told = [answer.json.get("service_tier") for answer in answers]
    assert told[:4] == [None] * 4 and told[4:6] == ["scale", "scale"]
    for path, body, where, said in (
        ("/v1/responses", {"model": MODEL, "input": "x"}, ("service_tier",), "scale"),
        (
            "/v1/messages",
            {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
            ("usage", "service_tier"),
            "priority",
        ),
        (
            f"/v1beta/models/{MODEL}:generateContent",
            {"contents": [{"role": "user", "parts": [{"text": "x"}]}]},
            ("usageMetadata", "serviceTier"),
            "priority",
        ),
        (
            f"/model/{MODEL}/converse",
            {"messages": [{"role": "user", "content": [{"text": "x"}]}]},
            ("serviceTier", "type"),
            "reserved",
        ),
    ):
        engine.script = instant
        found = gateway.post(body, path=path).json
        for name in where:
            found = found[name]
        assert found == said


async def instant(answering: Answering) -> None:
    await answering.answer(whole())
