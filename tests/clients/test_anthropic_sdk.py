"""Anthropic's own SDK against the real model: answers, streams, forced tools, counts, and usage to the token."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import anthropic
import pytest
from anthropic import Anthropic, AsyncAnthropic
from tests.clients.conftest import Served
from tests.clients.test_openai_sdk import delta

from sublet.models.catalog import BUILT_IN

pytestmark = pytest.mark.real

MODEL = BUILT_IN.name
MESSAGES: Any = [{"role": "user", "content": "Write a short poem about the sea."}]
# The newest SDK has no word for it any more.
COLD: Any = {"extra_body": {"temperature": 0}}
WEATHER: Any = {
    "name": "weather",
    "description": "The weather of a city",
    "input_schema": {
        "type": "object",
        "properties": {"rainy": {"type": "boolean"}, "wind": {"enum": ["weak", "strong"]}},
        "required": ["rainy", "wind"],
        "additionalProperties": False,
    },
}
CLOCK: Any = {
    "name": "clock",
    "description": "The time",
    "input_schema": {"type": "object", "properties": {"utc": {"type": "boolean"}}, "required": ["utc"]},
}


@pytest.fixture
def client(served: Served) -> Any:
    return Anthropic(base_url=served.gateway.url, api_key=served.gateway.key)


@pytest.fixture
def async_client(served: Served) -> Any:
    return AsyncAnthropic(base_url=served.gateway.url, auth_token=served.gateway.key)


def test_whole_and_streamed_sync_and_async_usage_is_the_engines_to_the_token(
    served: Served, client: Any, async_client: Any
) -> None:
    engine_before, before = served.idle(), Counter(served.gateway.tokens())
    prompt = served.count_tokens([{"role": "system", "content": "Be brief."}, *MESSAGES])
    asked = {"model": MODEL, "messages": MESSAGES, "system": "Be brief.", "max_tokens": 12, **COLD}
    whole = client.messages.create(**asked)
    assert whole.stop_reason == "max_tokens" and whole.usage.output_tokens == 12
    assert whole.usage.input_tokens + whole.usage.cache_read_input_tokens == prompt
    with client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == whole.content[0].text and final.stop_reason == "max_tokens"
    assert final.usage.input_tokens + final.usage.cache_read_input_tokens == prompt
    assert final.usage.output_tokens == 12

    async def again() -> None:
        async with async_client:
            answer = await async_client.messages.create(**asked)
            assert answer.content[0].text == text and answer._request_id.startswith("req_")
            said = ""
            async for event in await async_client.messages.create(**asked, stream=True):
                if event.type == "content_block_delta":
                    said += event.delta.text
            assert said == text

    asyncio.run(again())
    delta(served, before, engine_before)


def test_a_count_is_what_the_answer_is_billed_for(served: Served, client: Any) -> None:
    before = Counter(served.gateway.tokens())
    counted = client.messages.count_tokens(model=MODEL, messages=MESSAGES, system="Be brief.")
    assert counted.input_tokens == served.count_tokens([{"role": "system", "content": "Be brief."}, *MESSAGES])
    served.idle()
    assert Counter(served.gateway.tokens()) == before


@pytest.mark.parametrize("tools", [[WEATHER], [CLOCK, WEATHER]], ids=["one tool", "two tools"])
def test_a_forced_call_of_a_model_without_tools(client: Any, tools: Any) -> None:
    schemas = {tool["name"]: set(tool["input_schema"]["required"]) for tool in tools}
    asked = {"model": MODEL, "messages": MESSAGES, "max_tokens": 200, "tools": tools, "tool_choice": {"type": "any"}}
    whole = client.messages.create(**asked, **COLD)
    [use] = whole.content
    assert whole.stop_reason == "tool_use" and set(use.input) == schemas[use.name]
    with client.messages.stream(**asked, **COLD) as stream:
        final = stream.get_final_message()
    assert (final.content[0].name, final.content[0].input) == (use.name, use.input)
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "sunny"}
    messages = [
        *MESSAGES,
        {"role": "assistant", "content": [use.model_dump()]},
        {"role": "user", "content": [result]},
    ]
    last = client.messages.create(
        model=MODEL, messages=messages, max_tokens=5, tools=tools, tool_choice={"type": "none"}
    )
    assert last.content[0].type == "text" and last.usage.output_tokens <= 5


def test_an_answer_goes_on_from_the_assistants_turn(client: Any) -> None:
    messages = [{"role": "user", "content": "Count from one to ten."}, {"role": "assistant", "content": "One, two,"}]
    found = client.messages.create(model=MODEL, messages=messages, max_tokens=6, **COLD)
    assert "three" in found.content[0].text.lower() and not found.content[0].text.startswith("One")


def test_structured_output(client: Any) -> None:
    schema = {"type": "object", "properties": {"capital": {"type": "boolean"}}, "required": ["capital"]}
    found = client.messages.create(
        model=MODEL,
        messages=MESSAGES,
        max_tokens=100,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert '"capital"' in found.content[0].text


def test_models_and_errors_are_the_sdks_own(served: Served, client: Any) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).max_input_tokens > 0
    with pytest.raises(anthropic.AuthenticationError) as wrong:
        Anthropic(base_url=served.gateway.url, api_key="wrong").models.list()
    body: Any = wrong.value.body
    assert body["error"]["type"] == "authentication_error"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.create(model="nope", messages=MESSAGES, max_tokens=5)
    with pytest.raises(anthropic.BadRequestError, match="can't choose tools by itself"):
        client.messages.create(model=MODEL, messages=MESSAGES, max_tokens=5, tools=[WEATHER])
    with pytest.raises(anthropic.BadRequestError, match="context"):
        client.messages.create(model=MODEL, messages=[{"role": "user", "content": "a " * 3000}], max_tokens=5)
