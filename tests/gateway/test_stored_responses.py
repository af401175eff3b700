"""Responses that are stored: continued, read, deleted, of nobody else, on any gateway, and bounded."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from openai import AsyncOpenAI, BadRequestError, NotFoundError, OpenAI
from sqlalchemy import func, select, update
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, ask, chunk, timings, until

from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import (
    ContextLengthError,
    ConversationTooLongError,
    InvalidRequestError,
    ResponseNotFoundError,
)
from sublet.gateway.requests.context import check_context
from sublet.gateway.stored import CHAIN_MAX, Responses, StoredResponse, expire, item_page, items_json
from sublet.gateway.surfaces.responses import ResponsesSurface
from sublet.store import Store
from sublet.store.tables.gateway import stored_responses


def client_of(gateway: Running, key: str | None = None) -> OpenAI:
    return OpenAI(base_url=gateway.url + "/v1", api_key=key or gateway.key, max_retries=0)


def stored(response: Any) -> bool:
    return bool(response.store)


def messages(engine: ScriptedEngine) -> list[dict[str, Any]]:
    """What the engine was shown last."""
    found: list[dict[str, Any]] = engine.asked[-1].body["messages"]
    return found


def test_a_conversation_goes_on_from_what_is_stored(make_gateway: Any, engine: ScriptedEngine, store: Store) -> None:
    gateway: Running = make_gateway()
    with client_of(gateway) as client:
        first = client.responses.create(model=MODEL, input="one", instructions="Be brief.", store=True)
        assert stored(first) and first.output_text == "Hello"
        second = client.responses.create(
            model=MODEL, input=[{"role": "user", "content": "two"}], previous_response_id=first.id, store=True
        )
        assert second.previous_response_id == first.id
        third = client.responses.create(model=MODEL, input="three", previous_response_id=second.id)
        assert not stored(third)
        assert [(turn["role"], turn["content"]) for turn in messages(engine)] == [
            ("user", "one"),
            ("assistant", "Hello"),
            ("user", "two"),
            ("assistant", "Hello"),
            ("user", "three"),
        ]
        assert client.responses.retrieve(first.id) == first
        items: list[Any] = list(client.responses.input_items.list(second.id, order="asc").data)
        assert [(item.role, item.content[0].text) for item in items] == [
            ("user", "one"),
            ("assistant", "Hello"),
            ("user", "two"),
        ]
        newest = client.responses.input_items.list(second.id, limit=1)
        assert newest.data[0].id == items[-1].id and newest.has_more
        for limit in ("0000000010000", "9" * 5000, "0", "x"):
            with pytest.raises(BadRequestError, match="limit must be 1 to 100"):
                client.responses.input_items.list(second.id, extra_query={"limit": limit})
        client.responses.delete(first.id)
        for _ in range(2):
            with pytest.raises(NotFoundError):
                client.responses.retrieve(first.id)
            with pytest.raises(NotFoundError):
                client.responses.create(model=MODEL, input="x", previous_response_id=second.id)
        with pytest.raises(NotFoundError):
            client.responses.delete(first.id)
        with pytest.raises(NotFoundError):
            client.responses.retrieve(third.id)
    gateway.settled(3)


def test_streams_are_stored_once_they_are_told(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway()
    with client_of(gateway) as client:
        with client.responses.stream(model=MODEL, input="one", store=True) as stream:
            for _ in stream:
                pass
            final = stream.get_final_response()
        found = client.responses.retrieve(final.id)
        assert (found.output_text, found.usage, found.status) == ("Hello", final.usage, "completed")
        told = client.responses.create(model=MODEL, input="two", previous_response_id=final.id, stream=True)
        assert [event.type for event in told][-1] == "response.completed"
        assert len(messages(engine)) == 3

    async def several() -> list[str]:
        async with AsyncOpenAI(base_url=gateway.url + "/v1", api_key=gateway.key, max_retries=0) as client:
            made = [client.responses.create(model=MODEL, input=str(n), store=True) for n in range(8)]
            ids = [response.id for response in await asyncio.gather(*made)]
            read = await asyncio.gather(*(client.responses.retrieve(name) for name in ids))
            return [response.id for response in read]

    assert len(set(asyncio.run(several()))) == 8


def test_what_broke_off_is_not_stored(make_gateway: Any, engine: ScriptedEngine, store: Store) -> None:
    gateway: Running = make_gateway()

    async def script(answering: Answering) -> None:
        await answering.stream(chunk("Hel", timings=timings(5, 1)), done=False)
        answering.writer.close()

    engine.script = script
    answer = gateway.post({"model": MODEL, "input": "x", "stream": True, "store": True}, path="/v1/responses")
    assert b"response.failed" in answer.body
    assert count(store) == 0


def count(store: Store) -> int:
    with store.read() as connection:
        return connection.execute(select(func.count()).select_from(stored_responses)).scalar_one()


def test_a_tenant_sees_nothing_of_another_and_any_gateway_goes_on(make_gateway: Any, store: Store) -> None:
    first: Running = make_gateway()
    second: Running = make_gateway()
    with client_of(first) as client:
        mine = client.responses.create(model=MODEL, input="secret", store=True)
    # The second gateway's own key is another organization's.
    with client_of(second) as stranger:
        for act in (stranger.responses.retrieve, stranger.responses.delete, stranger.responses.input_items.list):
            with pytest.raises(NotFoundError, match="no such stored response"):
                act(mine.id)
        with pytest.raises(NotFoundError, match="no such stored response"):
            stranger.responses.create(model=MODEL, input="x", previous_response_id=mine.id)
    with client_of(second, first.key) as client:
        assert client.responses.create(model=MODEL, input="x", previous_response_id=mine.id).output_text == "Hello"
        assert client.responses.retrieve(mine.id).id == mine.id
    for path in (f"/v1/responses/{mine.id}", f"/v1/responses/{mine.id}/input_items"):
        assert first.get(path, "sublet_wrong").status == 401
        assert first.get(path + "?stream=true").status == (400 if path.endswith(mine.id) else 200)


def test_what_can_not_be_is_refused_and_uses_nothing(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway(responses_keep_days=0)
    with client_of(gateway) as client:
        with pytest.raises(BadRequestError, match="turned off"):
            client.responses.create(model=MODEL, input="x", store=True)
        with pytest.raises(BadRequestError, match="not stored here"):
            client.responses.create(model=MODEL, input="x", previous_response_id="resp_1")
        with pytest.raises(NotFoundError):
            client.responses.retrieve("resp_1")
        assert not stored(client.responses.create(model=MODEL, input="x", store=False))
    assert len(engine.asked) == 1


def test_a_client_that_leaves_while_its_conversation_is_read_gives_its_place_back(
    make_gateway: Any, store: Store
) -> None:
    gateway: Running = make_gateway(concurrency_max=1)
    body = json.dumps({"model": MODEL, "input": "x", "previous_response_id": "resp_1"}).encode()
    for _ in range(3):
        wire = gateway.wire()
        head = f"POST /v1/responses HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {gateway.key}\r\n"
        wire.send(head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body)
        wire.close()
    until(lambda: gateway.post(ask()).status == 200)


def test_one_that_can_not_be_stored_says_so(make_gateway: Any, store: Store) -> None:
    gateway: Running = make_gateway()
    store.write(lambda connection: stored_responses.drop(connection))
    for stream in (False, True):
        asked = {"model": MODEL, "input": "x", "store": True, "stream": stream}
        answer = gateway.post(asked, path="/v1/responses")
        assert answer.status == 200
        last = answer.body.decode().strip().split("data: ")[-1]
        response = json.loads(last)
        assert response.get("response", response)["store"] is False


def kept(number: int, organization: str = "org_1", previous: str = "", at: Any = None) -> StoredResponse:
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": str(number)}]}]
    body = json.dumps({"id": f"resp_{number}", "output": output}).encode()
    return StoredResponse(f"resp_{number}", organization, previous, MODEL, at, items_json(f"resp_{number}", "q"), body)


@pytest.fixture
def responses(store: Store) -> Any:
    found = Responses(store, timedelta(days=1), 3, 1024 * 1024)
    yield found
    found.close()


def test_the_oldest_of_an_organization_give_way_and_all_expire(store: Store, responses: Responses) -> None:
    now = store.clock.now()
    for number in range(5):
        responses.keep(kept(number, at=now + timedelta(seconds=number))).result(5)
    responses.keep(kept(9, "org_2", at=now)).result(5)
    for number in (0, 1):
        with pytest.raises(ResponseNotFoundError):
            responses.body("org_1", f"resp_{number}")
    assert json.loads(responses.body("org_1", "resp_4"))["id"] == "resp_4"
    with pytest.raises(ResponseNotFoundError):
        responses.body("org_1", "resp_9")
    assert store.write(lambda connection: expire(connection, now + timedelta(days=1))) == 1
    store.clock.advance(86_500)  # type: ignore[attr-defined]
    with pytest.raises(ResponseNotFoundError):
        responses.body("org_1", "resp_4")


def test_what_an_organization_stores_is_bounded_in_bytes_and_the_newest_stays(store: Store) -> None:
    now = store.clock.now()
    one = kept(0, at=now)
    size = len(one.items) + len(one.body)
    small = Responses(store, timedelta(days=1), 100, 2 * size + size // 2)

    def there() -> set[str]:
        with store.read() as connection:
            return set(connection.execute(select(stored_responses.c.id)).scalars())

    for number in range(4):
        small.keep(kept(number, at=now + timedelta(seconds=number))).result(5)
    assert there() == {"resp_2", "resp_3"}
    small.keep(kept(7, "org_2", at=now)).result(5)
    large = kept(8, at=now + timedelta(seconds=8))
    small.keep(replace(large, items=items_json("resp_8", "q" * 3 * size))).result(5)
    assert there() == {"resp_7", "resp_8"}, "it is told as stored, and another organization's stay"
    small.close()


def test_a_conversation_has_a_bound_and_a_circle_ends(store: Store, responses: Responses) -> None:
    now = store.clock.now()
    responses.keep(kept(0, previous="", at=now)).result(5)
    responses.keep(kept(1, previous="resp_0", at=now)).result(5)
    assert len(responses.conversation("org_1", "resp_1").result(5)) == 4
    store.write(lambda connection: connection.execute(update(stored_responses).values(previous_id="resp_1")))
    with pytest.raises(ConversationTooLongError):
        responses.conversation("org_1", "resp_1").result(5)
    assert CHAIN_MAX > 1


def test_items_are_kept_whole() -> None:
    found = json.loads(
        items_json(
            "resp_a",
            [
                json.dumps(item).encode()
                for item in (  # type: ignore[misc]
                    {"role": "assistant", "content": "yes"},
                    {"type": "function_call_output", "call_id": "c", "output": "1", "id": "mine"},
                )
            ],
        )
    )
    assert found[0]["content"] == [{"type": "output_text", "text": "yes", "annotations": []}]
    assert found[0]["id"] == "msg_ai000" and found[1]["id"] == "mine" and found[1].get("status") is None


def test_pages_of_items() -> None:
    items = [{"id": str(number)} for number in range(5)]
    assert [item["id"] for item in item_page(items, {})["data"]] == ["4", "3", "2", "1", "0"]
    page = item_page(items, {"order": "asc", "after": "1", "limit": "2"})
    assert ([item["id"] for item in page["data"]], page["has_more"]) == (["2", "3"], True)
    for query in ({"order": "up"}, {"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"after": "9"}):
        with pytest.raises(InvalidRequestError):
            item_page(items, query)
    assert item_page([], {})["first_id"] is None


def test_earlier_items_count_for_budgets_and_context() -> None:
    """What was stored is as much a part of the prompt as what is sent."""
    earlier = [msgspec.Raw(json.dumps({"role": "user", "content": "word " * 20_000}).encode())]
    body = json.dumps({"model": MODEL, "input": "x", "previous_response_id": "resp_1"}).encode()
    surface = ResponsesSurface()
    assert surface.continues(body) == "resp_1"
    assert surface.continues(b'{"previous_response_id": null}') == surface.continues(b"previous_response_id") == ""
    bound = surface.after(earlier)
    assert bound.continues(body) == ""
    call = bound.parse("chat", body)
    assert call.earlier_bytes == len(earlier[0])
    with pytest.raises(ContextLengthError):
        check_context(call, len(body) + call.earlier_bytes, ModelRoute("toy", "e", frozenset({"chat"}), 2048, 1, ()))
