"""The vendors' own SDKs wait as a refusal tells them, and try again by themselves."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import anthropic
import boto3
import openai
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from google import genai
from google.genai import types
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, ask, post, until, whole

WORDS = "hi"


class Busy:
    """One request that takes the only one that the key may have under way, until a second one was refused."""

    def __init__(self, gateway: Running, engine: ScriptedEngine) -> None:
        self.gateway = gateway
        self.refused_at = 0.0
        self._loop = engine.loop
        self._gate = asyncio.Event()
        engine.script = self._script
        self.wire = gateway.wire()
        self.wire.send(post(ask(), gateway.key))
        until(lambda: engine.asked)
        self._watching = threading.Thread(target=self._watch)
        self._watching.start()

    async def _script(self, answering: Answering) -> None:
        await asyncio.wait_for(self._gate.wait(), 20)
        await answering.answer(whole())

    def _watch(self) -> None:
        until(lambda: self.gateway.metric("sublet_gateway_refused_total"))
        self.refused_at = time.monotonic()
        self._loop.call_soon_threadsafe(self._gate.set)

    def over(self) -> float:
        """Seconds between the refusal and now."""
        self._watching.join(20)
        assert self.wire.answer().status == 200
        return time.monotonic() - self.refused_at


def with_openai(gateway: Running) -> str:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=2)
    messages: Any = [{"role": "user", "content": WORDS}]
    return str(client.chat.completions.create(model=MODEL, messages=messages).choices[0].message.content)


def with_anthropic(gateway: Running) -> str:
    client = anthropic.Anthropic(base_url=gateway.url, api_key=gateway.key, max_retries=2)
    messages: Any = [{"role": "user", "content": WORDS}]
    found: Any = client.messages.create(model=MODEL, max_tokens=8, messages=messages).content[0]
    return str(found.text)


def with_genai(gateway: Running) -> str:
    retries = types.HttpRetryOptions(attempts=4, initial_delay=0.5)
    client = genai.Client(
        api_key=gateway.key, http_options=types.HttpOptions(base_url=gateway.url, retry_options=retries)
    )
    return str(client.models.generate_content(model=MODEL, contents=WORDS).text)


def with_boto3(gateway: Running) -> str:
    config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 5, "mode": "standard"})
    client = boto3.client("bedrock-runtime", endpoint_url=gateway.url, region_name="us-east-1", config=config)
    header = f"Bearer {gateway.key}"
    client.meta.events.register(
        "before-send.*", lambda request, **_: request.headers.__setitem__("Authorization", header)
    )
    found = client.converse(modelId=MODEL, messages=[{"role": "user", "content": [{"text": WORDS}]}])
    client.close()
    return str(found["output"]["message"]["content"][0]["text"])


@pytest.mark.parametrize(
    ("call", "waits_s"), [(with_openai, 0.9), (with_anthropic, 0.9), (with_genai, 0.0), (with_boto3, 0.0)]
)
def test_an_sdk_tries_again_after_a_refusal(
    make_gateway: Any, engine: ScriptedEngine, call: Any, waits_s: float
) -> None:
    """OpenAI's and Anthropic's wait as long as `Retry-After` says; Google's and Amazon's back off by a rule of their own."""
    gateway: Running = make_gateway(concurrency_max=1)
    busy = Busy(gateway, engine)
    assert call(gateway) == "Hello"
    assert busy.over() >= waits_s
