"""Anthropic's SDK, and a coding agent's kind of request, before an engine with tools whose answers are replayed."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic
from sqlalchemy import update
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, chunk, usage

from sublet.store import Store
from sublet.store.tables.models import models

HINT = {"type": "ephemeral"}
TOOLS: Any = [
    {
        "name": name,
        "description": f"Does {name}. " * 40,
        "input_schema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
    }
    for name in ("Bash", "Edit", "Glob", "Grep", "Read", "Task", "TodoWrite", "WebFetch", "Write")
]
ASKED: Any = {
    "model": MODEL,
    "max_tokens": 32_000,
    "system": [{"type": "text", "text": "You are an agent. " * 500, "cache_control": HINT}] * 2,
    "tools": TOOLS,
    "metadata": {"user_id": "user_1"},
    "messages": [{"role": "user", "content": [{"type": "text", "text": "What is in a.py?", "cache_control": HINT}]}],
}


def delta(**fields: Any) -> dict[str, Any]:
    found = chunk()
    found["choices"][0]["delta"] = fields
    return found


def call(index: int, arguments: str, **more: Any) -> dict[str, Any]:
    name = {"name": more.pop("name")} if "name" in more else {}
    return delta(tool_calls=[{"index": index, **more, "function": {**name, "arguments": arguments}}])


@pytest.fixture
def gateway(make_gateway: Any, store: Store) -> Running:
    """Before a model that has tools."""
    running: Running = make_gateway(start=False)

    def make_able(connection: Any) -> None:
        entry = connection.execute(models.select()).mappings().one()["entry"]
        able = {"capabilities": ["chat", "tools", "json_schema"], "context_tokens": 131_072}
        connection.execute(update(models).values(entry={**entry, **able}))

    store.write(make_able)
    return running.start()


def test_an_agents_request_streams_thoughts_texts_and_parallel_calls(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        await answering.stream(
            delta(role="assistant", content=None),
            delta(reasoning_content="Two files."),
            delta(content="I look."),
            call(0, "", id="call_a", name="Read"),
            call(0, '{"path": '),
            call(0, '"a.py"}'),
            call(1, '{"path": "b.py"}', id="call_b", name="Read"),
            chunk(finish="tool_calls"),
            {**chunk(), "choices": [], "usage": usage(9000, 40, 8000)},
        )

    engine.script = script
    client = Anthropic(base_url=gateway.url, auth_token=gateway.key)
    with client.beta.messages.stream(**ASKED, betas=["interleaved-thinking-2025-05-14"]) as stream:
        message = stream.get_final_message()
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    first, second = message.content[2:]
    assert (first.id, first.name, first.input) == ("call_a", "Read", {"path": "a.py"})  # type: ignore[union-attr]
    assert (second.id, second.input) == ("call_b", {"path": "b.py"})  # type: ignore[union-attr]
    assert message.stop_reason == "tool_use"
    told = message.usage
    assert (told.input_tokens, told.cache_read_input_tokens, told.output_tokens) == (1000, 8000, 40)
    sent = engine.asked[0].body
    assert [tool["function"]["name"] for tool in sent["tools"]] == [tool["name"] for tool in TOOLS]
    assert sent["messages"][0]["content"].count("You are an agent.") == 1000 and sent["max_tokens"] == 32_000
    # What the SDK gives is what it may send again.
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": "x = 1"} for use in (first, second)]  # type: ignore[union-attr]
    history = [*ASKED["messages"], {"role": "assistant", "content": [block.model_dump() for block in message.content]}]
    with client.messages.stream(**{**ASKED, "messages": [*history, {"role": "user", "content": results}]}) as again:
        again.until_done()
    roles = [turn["role"] for turn in engine.asked[1].body["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "tool"]
    assert [use["id"] for use in engine.asked[1].body["messages"][2]["tool_calls"]] == ["call_a", "call_b"]


def test_whole_answers_and_request_ids(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        function = {"name": "Read", "arguments": '{"path": "a.py"}'}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c", "type": "function", "function": function}],
        }
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
        await answering.answer({"choices": [choice], "usage": usage(9, 4)})

    engine.script = script
    client = Anthropic(base_url=gateway.url, api_key=gateway.key)
    message = client.messages.create(**{**ASKED, "max_tokens": 100})
    assert message.content[0].input == {"path": "a.py"} and message._request_id  # type: ignore[union-attr]
    assert client.models.with_raw_response.list().headers["request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("status", "kind", "told"),
    [(503, anthropic.InternalServerError, 529), (429, anthropic.RateLimitError, 429)],
)
def test_the_sdk_knows_what_to_try_again(
    gateway: Running, engine: ScriptedEngine, status: int, kind: type[anthropic.APIStatusError], told: int
) -> None:
    async def script(answering: Answering) -> None:
        await answering.answer(json.dumps({"error": {"message": "busy"}}).encode(), status)

    engine.script = script
    client = Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)
    with pytest.raises(kind) as refused:
        client.messages.create(**{**ASKED, "max_tokens": 100})
    assert refused.value.status_code == told and client._should_retry(refused.value.response)
    assert int(refused.value.response.headers["retry-after"]) >= 1
