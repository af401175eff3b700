"""Google's GenAI SDK against the real model: answers, streams, forced calls, counts, and usage to the token."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from google import genai
from google.genai import errors, types
from pydantic import BaseModel
from tests.clients.conftest import Served
from tests.clients.test_openai_sdk import delta

from sublet.models.catalog import BUILT_IN

pytestmark = pytest.mark.real

MODEL = BUILT_IN.name
WORDS = "Write a short poem about the sea."


def client_of(served: Served, key: str = "", version: str = "") -> Any:
    options = types.HttpOptions(base_url=served.gateway.url, api_version=version or None)
    return genai.Client(api_key=key or served.gateway.key, http_options=options)


@pytest.fixture(params=["v1", "v1beta"])
def client(served: Served, request: pytest.FixtureRequest) -> Any:
    return client_of(served, version=request.param)


def test_whole_and_streamed_sync_and_async_usage_is_the_engines_to_the_token(served: Served, client: Any) -> None:
    engine_before, before = served.idle(), Counter(served.gateway.tokens())
    prompt = served.count_tokens([{"role": "system", "content": "Be brief."}, {"role": "user", "content": WORDS}])
    config = types.GenerateContentConfig(max_output_tokens=12, temperature=0, system_instruction="Be brief.")
    asked = {"model": MODEL, "contents": WORDS, "config": config}
    whole = client.models.generate_content(**asked)
    usage = whole.usage_metadata
    assert (usage.prompt_token_count, usage.candidates_token_count) == (prompt, 12)
    assert whole.candidates[0].finish_reason == types.FinishReason.MAX_TOKENS and whole.model_version == MODEL
    chunks = list(client.models.generate_content_stream(**asked))
    text = "".join(chunk.text or "" for chunk in chunks)
    assert text == whole.text and chunks[-1].usage_metadata.total_token_count == prompt + 12

    async def again() -> None:
        answer = await client.aio.models.generate_content(**asked)
        said = ""
        async for chunk in await client.aio.models.generate_content_stream(**asked):
            said += chunk.text or ""
        assert answer.text == said == text
        await client.aio.aclose()

    asyncio.run(again())
    counted = client.models.count_tokens(model=MODEL, contents=WORDS)
    assert counted.total_tokens == served.count_tokens([{"role": "user", "content": WORDS}])
    delta(served, before, engine_before)


def test_a_forced_call_and_its_answer(served: Served) -> None:
    def weather(rainy: bool) -> str:
        """Tells the weather."""
        return "fine"

    client = client_of(served)
    calling = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
    config = types.GenerateContentConfig(
        tools=[weather],
        tool_config=types.ToolConfig(function_calling_config=calling),
        automatic_function_calling=types.AutomaticFunctionCallingConfig(disable=True),
        temperature=0,
        max_output_tokens=60,
    )
    first = client.models.generate_content(model=MODEL, contents=WORDS, config=config)
    [call] = first.function_calls
    assert call.name == "weather" and isinstance(call.args["rainy"], bool)
    last = list(client.models.generate_content_stream(model=MODEL, contents=WORDS, config=config))
    assert [found.args for chunk in last for found in chunk.function_calls or ()] == [call.args]
    response = types.Part.from_function_response(name="weather", response={"sky": "blue"})
    contents = [types.UserContent(WORDS), first.candidates[0].content, types.UserContent(response)]
    answer = client.models.generate_content(
        model=MODEL, contents=contents, config=types.GenerateContentConfig(max_output_tokens=4)
    )
    assert answer.usage_metadata.candidates_token_count == 4


def test_structured_output(served: Served) -> None:
    class City(BaseModel):
        capital: bool

    config = types.GenerateContentConfig(
        response_mime_type="application/json", response_schema=City, temperature=0, max_output_tokens=300
    )
    client = client_of(served)
    found = client.models.generate_content(model=MODEL, contents=WORDS, config=config)
    assert isinstance(found.parsed, City)


def test_models_and_errors_are_the_sdks_own(served: Served, client: Any) -> None:
    assert [model.name for model in client.models.list()] == [f"models/{MODEL}"]
    assert client.models.get(model=MODEL).input_token_limit > 0
    stranger = client_of(served, "wrong")
    with pytest.raises(errors.ClientError) as wrong:
        stranger.models.generate_content(model=MODEL, contents=WORDS)
    assert (wrong.value.code, wrong.value.status) == (401, "UNAUTHENTICATED")
    with pytest.raises(errors.ClientError) as missing:
        client.models.generate_content(model="nope", contents=WORDS)
    assert missing.value.status == "NOT_FOUND"
    with pytest.raises(errors.ClientError, match="embeddings"):
        client.models.embed_content(model=MODEL, contents="x")
    search = types.GenerateContentConfig(tools=[types.Tool(google_search=types.GoogleSearch())])
    with pytest.raises(errors.ClientError, match="googleSearch"):
        client.models.generate_content(model=MODEL, contents=WORDS, config=search)
