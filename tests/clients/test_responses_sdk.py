"""The Responses API through OpenAI's own SDK against the real model."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from tests.clients.conftest import Served
from tests.clients.test_openai_sdk import delta

from sublet.models.catalog import BUILT_IN

pytestmark = pytest.mark.real

MODEL = BUILT_IN.name
WORDS = "Write a short poem about the sea."
WEATHER: Any = {
    "type": "function",
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"rainy": {"type": "boolean"}},
        "required": ["rainy"],
        "additionalProperties": False,
    },
    "strict": True,
}


@pytest.fixture
def client(served: Served) -> Any:
    return OpenAI(base_url=f"{served.gateway.url}/v1", api_key=served.gateway.key)


@pytest.fixture
def async_client(served: Served) -> Any:
    return AsyncOpenAI(base_url=f"{served.gateway.url}/v1", api_key=served.gateway.key)


def test_whole_and_streamed_sync_and_async_usage_is_the_engines_to_the_token(
    served: Served, client: Any, async_client: Any
) -> None:
    engine_before, before = served.idle(), Counter(served.gateway.tokens())
    prompt = served.count_tokens([{"role": "user", "content": WORDS}])
    asked = {"model": MODEL, "input": WORDS, "max_output_tokens": 12, "temperature": 0}
    whole = client.responses.create(**asked)
    assert (whole.usage.input_tokens, whole.usage.output_tokens, whole.status) == (prompt, 12, "incomplete")
    with client.responses.stream(**asked) as stream:
        events = list(stream)
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final = events[-1].response
    assert text == whole.output_text == final.output_text and final.usage.total_tokens == prompt + 12
    assert client.responses.input_tokens.count(model=MODEL, input=WORDS).input_tokens == prompt

    async def again() -> None:
        async with async_client:
            assert (await async_client.responses.create(**asked)).output_text == text
            said = ""
            async for event in await async_client.responses.create(**asked, stream=True):
                said += event.delta if event.type == "response.output_text.delta" else ""
            assert said == text

    asyncio.run(again())
    delta(served, before, engine_before)


def test_a_forced_call_its_output_and_what_follows(client: Any) -> None:
    asked = {"model": MODEL, "tools": [WEATHER], "temperature": 0, "max_output_tokens": 60}
    first = client.responses.create(**asked, input=WORDS, tool_choice="required")
    [call] = first.output
    assert call.type == "function_call" and call.name == "weather" and '"rainy"' in call.arguments
    with client.responses.stream(**asked, input=WORDS, tool_choice={"type": "function", "name": "weather"}) as stream:
        assert stream.get_final_response().output[0].arguments == call.arguments
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "it is sunny"}
    second = client.responses.create(
        **asked, input=[{"role": "user", "content": WORDS}, *first.output, output], tool_choice="none"
    )
    assert second.output[0].type == "message"
    third = client.responses.create(
        model=MODEL, input=[*second.output, {"role": "user", "content": "More."}], max_output_tokens=3
    )
    assert third.usage.output_tokens == 3


def test_structured_output(client: Any) -> None:
    class City(BaseModel):
        capital: bool

    found = client.responses.parse(model=MODEL, input=WORDS, text_format=City, temperature=0, max_output_tokens=300)
    assert isinstance(found.output_parsed, City)


def test_logprobs(client: Any) -> None:
    found = client.responses.create(
        model=MODEL, input=WORDS, max_output_tokens=3, include=["message.output_text.logprobs"], top_logprobs=2
    )
    logprobs = found.output[0].content[0].logprobs
    assert len(logprobs) == 3 and len(logprobs[0].top_logprobs) == 2


def test_what_is_not_here_is_refused(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="web_search"):
        client.responses.create(model=MODEL, input=WORDS, tools=[{"type": "web_search"}])
    with pytest.raises(openai.NotFoundError, match="no such stored response"):
        client.responses.create(model=MODEL, input=WORDS, previous_response_id="resp_1")
