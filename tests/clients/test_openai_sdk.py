"""OpenAI's own SDK against the real model: answers, streams, usage to the token, disconnects, and a killed engine."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from tests.clients.conftest import Served
from tests.gateway.harness import ask, post, until

from sublet.models.catalog import BUILT_IN

pytestmark = pytest.mark.real

MODEL = BUILT_IN.name
MESSAGES: list[dict[str, str]] = [{"role": "user", "content": "Write a short poem about the sea."}]


@pytest.fixture
def client(served: Served) -> OpenAI:
    return OpenAI(base_url=f"{served.gateway.url}/v1", api_key=served.gateway.key)


@pytest.fixture
def async_client(served: Served) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{served.gateway.url}/v1", api_key=served.gateway.key)


def delta(served: Served, before: Counter[str], engine_before: object) -> None:
    """What was emitted since is what the engine itself counted since, kind by kind."""
    after = served.idle()
    emitted = Counter(served.gateway.tokens()) - before
    assert emitted["tokens.input"] == after.tokens_input - engine_before.tokens_input  # type: ignore[attr-defined]
    assert emitted["tokens.input_cached"] == after.tokens_input_cached - engine_before.tokens_input_cached  # type: ignore[attr-defined]
    assert emitted["tokens.output"] == after.tokens_output - engine_before.tokens_output  # type: ignore[attr-defined]


def test_models(client: Any) -> None:
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "sublet"


def test_whole_and_streamed_sync_and_async_usage_is_the_engines_to_the_token(
    served: Served, client: Any, async_client: Any
) -> None:
    engine_before, before = served.idle(), Counter(served.gateway.tokens())
    prompt_tokens = served.count_tokens(MESSAGES)
    whole = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12, seed=1)
    assert whole.usage.completion_tokens == 12 and whole.usage.prompt_tokens == prompt_tokens
    assert whole.model == MODEL and whole.choices[0].finish_reason == "length"
    chunks = list(
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, max_tokens=12, seed=1, stream=True, stream_options={"include_usage": True}
        )
    )
    assert chunks[-1].usage.completion_tokens == 12 and chunks[-1].usage.prompt_tokens == prompt_tokens
    assert "".join(item.choices[0].delta.content or "" for item in chunks[:-1]) == whole.choices[0].message.content
    assert {item.id for item in chunks} == {chunks[0].id}

    async def again() -> None:
        async with async_client:
            answer = await async_client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=12, seed=1)
            assert answer.usage.total_tokens == prompt_tokens + 12
            stream = await async_client.chat.completions.create(
                model=MODEL, messages=MESSAGES, max_tokens=12, seed=1, stream=True
            )
            text = ""
            async for item in stream:
                text += item.choices[0].delta.content or ""
            assert text == whole.choices[0].message.content

    asyncio.run(again())
    delta(served, before, engine_before)


def test_the_streaming_helper_of_the_sdk(client: Any) -> None:
    with client.chat.completions.stream(model=MODEL, messages=MESSAGES, max_tokens=8) as stream:
        kinds = [found.type for found in stream]
    assert "content.delta" in kinds


def test_structured_output(client: Any) -> None:
    class City(BaseModel):
        capital: bool

    parsed = client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_format=City, max_tokens=300, temperature=0
    )
    assert isinstance(parsed.choices[0].message.parsed, City)


def test_completions(client: Any) -> None:
    answer = client.completions.create(model=MODEL, prompt="Once upon a time", max_tokens=5)
    assert answer.choices[0].text and answer.usage is not None and answer.usage.completion_tokens == 5


def test_errors_are_the_sdks_own(served: Served, client: Any) -> None:
    with pytest.raises(openai.AuthenticationError):
        OpenAI(base_url=f"{served.gateway.url}/v1", api_key="wrong").models.list()
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nope", messages=MESSAGES)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="does not support embeddings"):
        client.embeddings.create(model=MODEL, input="x")
    with pytest.raises(openai.BadRequestError, match="can't choose tools by itself"):
        client.chat.completions.create(
            model=MODEL, messages=MESSAGES, tools=[{"type": "function", "function": {"name": "f", "parameters": {}}}]
        )
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "a " * 3000}])
    assert long.value.code == "context_length_exceeded"


def test_sixty_four_at_once(served: Served, async_client: Any) -> None:
    engine_before, before = served.idle(), Counter(served.gateway.tokens())

    async def many() -> None:
        async with async_client:
            answers = await asyncio.gather(
                *(
                    async_client.chat.completions.create(
                        model=MODEL, messages=[{"role": "user", "content": f"Say {number}"}], max_tokens=3
                    )
                    for number in range(64)
                )
            )
            assert len({answer.id for answer in answers}) == 64

    asyncio.run(many())
    delta(served, before, engine_before)


def test_a4_a5_forty_disconnects_stop_the_engine_forty_times(served: Served) -> None:
    """30 of 30 cut streams and 10 of 10 whole answers: the engine is idle at once and has not gone on in secret."""
    gateway = served.gateway
    served.idle()
    settled = len(gateway.journal("settle"))
    wires = []
    for number in range(40):
        wire = gateway.wire()
        stream = number < 30
        wire.send(post({**ask(stream=stream, max_tokens=1500), "model": MODEL, "messages": MESSAGES}, gateway.key))
        wires.append(wire)
        if len(wires) == 4:
            for item in wires:
                if stream:
                    item.read_until(b"data: ")
            until(lambda: served.engine_metrics().processing > 0)
            for item in wires:
                item.close()
            wires = []
            until(lambda: (found := served.engine_metrics()).processing == found.waiting == 0, seconds=3)
    until(lambda: len(gateway.journal("settle")) == settled + 40)
    cut = gateway.journal("settle")[settled:]
    assert {(line["status"], line["incomplete"]) for line in cut} == {(499, True)}
    first = served.engine_metrics().tokens_output
    served.idle()
    assert served.engine_metrics().tokens_output == first
    assert all(line.get("output", 0) < 200 for line in cut)


def test_a6_a_killed_engine_ends_the_stream_with_an_error_and_is_back_for_the_next_request(
    served: Served, client: Any
) -> None:
    served.idle()
    pid, prompt_tokens = served.replica.pid, served.count_tokens(MESSAGES)
    assert pid is not None
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1500, stream=True)
    received = 0
    with pytest.raises(openai.APIError):
        for _ in stream:
            received += 1
            if received == 5:
                os.kill(pid, signal.SIGKILL)
    record = served.gateway.journal("settle")[-1]
    assert record["incomplete"] and record["reason"] == "engine_failed"
    # A chunk may carry several tokens, the first one carries only the role.
    assert record["output"] >= received - 1 and record["input"] == prompt_tokens
    until(lambda: served.replica.pid not in (None, pid), 30)
    served.ready()
    assert client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=3).usage is not None
    assert served.replica.restarts == 1
