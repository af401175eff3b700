"""Tiers: flex waits while anybody of the usual tier waits, is answered truthfully, and has a price of its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, Wire, ask, post, until, whole
from tests.gateway.test_bedrock import runtime, user
from tests.gateway.test_budgets import INPUT_NANO, OUTPUT_NANO, PRICES, UNIT, Money
from tests.gateway.test_budgets import money as money

from sublet.gateway.model import METER_OUTPUT
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
