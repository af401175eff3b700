"""Amazon's SDK against the real model: answers, streams, forced tools, counts, and usage to the token."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import boto3
import pytest
from botocore.config import Config
from tests.clients.conftest import Served
from tests.clients.test_openai_sdk import delta
from tests.gateway.test_bedrock import runtime

from sublet.accounts.model import signing_secret_of
from sublet.models.catalog import BUILT_IN

pytestmark = pytest.mark.real

MODEL = BUILT_IN.name
WORDS = "Write a short poem about the sea."
MESSAGES: Any = [{"role": "user", "content": [{"text": WORDS}]}]
SCHEMA = {"type": "object", "properties": {"rainy": {"type": "boolean"}}, "required": ["rainy"]}
TOOL: Any = {"toolSpec": {"name": "weather", "description": "The weather", "inputSchema": {"json": SCHEMA}}}


@pytest.fixture(params=["bearer", "signed"])
def client(request: pytest.FixtureRequest, served: Served) -> Any:
    if request.param == "bearer":
        return runtime(served.gateway.url, served.gateway.key)
    return signing(served.gateway.url, served.gateway.key, served)


def signing(url: str, key: str, served: Served) -> Any:
    """Amazon's SDK with the key's id and its signing secret, as it signs for Amazon."""
    return boto3.client(
        "bedrock-runtime",
        endpoint_url=url,
        region_name="eu-west-1",
        aws_access_key_id=served.gateway.key_id,
        aws_secret_access_key=signing_secret_of(key),
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_whole_and_streamed_usage_is_the_engines_to_the_token(served: Served, client: Any) -> None:
    engine_before, before = served.idle(), Counter(served.gateway.tokens())
    prompt = served.count_tokens([{"role": "system", "content": "Be brief."}, {"role": "user", "content": WORDS}])
    asked: dict[str, Any] = {
        "modelId": MODEL,
        "messages": MESSAGES,
        "system": [{"text": "Be brief."}],
        "inferenceConfig": {"maxTokens": 12, "temperature": 0.0},
    }
    whole = client.converse(**asked)
    assert (whole["stopReason"], whole["usage"]["totalTokens"]) == ("max_tokens", prompt + 12)
    told = list(client.converse_stream(**asked)["stream"])
    text = "".join(event["contentBlockDelta"]["delta"]["text"] for event in told if "contentBlockDelta" in event)
    assert text == whole["output"]["message"]["content"][0]["text"]
    assert told[-1]["metadata"]["usage"]["outputTokens"] == 12
    counted = client.count_tokens(modelId=MODEL, input={"converse": {"messages": MESSAGES}})
    assert counted["inputTokens"] == served.count_tokens([{"role": "user", "content": WORDS}])
    delta(served, before, engine_before)


def test_a_forced_call_and_its_result(client: Any) -> None:
    config = {"tools": [TOOL], "toolChoice": {"any": {}}}
    inference = {"maxTokens": 60, "temperature": 0.0}
    first = client.converse(modelId=MODEL, messages=MESSAGES, toolConfig=config, inferenceConfig=inference)
    message = first["output"]["message"]
    use = message["content"][0]["toolUse"]
    assert first["stopReason"] == "tool_use" and isinstance(use["input"]["rainy"], bool)
    result = {"toolUseId": use["toolUseId"], "content": [{"json": {"sky": "blue"}}]}
    messages = [*MESSAGES, message, {"role": "user", "content": [{"toolResult": result}]}]
    last = client.converse(modelId=MODEL, messages=messages, inferenceConfig={"maxTokens": 4})
    assert last["usage"]["outputTokens"] == 4


def test_bodies_of_three_vendors_are_counted_to_the_token(served: Served, client: Any) -> None:
    engine_before, before = served.idle(), Counter(served.gateway.tokens())
    chat = {"messages": [{"role": "user", "content": WORDS}], "temperature": 0.0, "max_tokens": 8}
    prompt = served.count_tokens([{"role": "user", "content": WORDS}])
    told = {}
    for name, body in (
        ("anthropic", {**chat, "anthropic_version": "bedrock-2023-05-31"}),
        ("openai", chat),
        ("llama", {"prompt": "Once upon a time, there", "max_gen_len": 8, "temperature": 0.0}),
    ):
        whole = client.invoke_model(modelId=MODEL, body=json.dumps(body).encode())
        headers = whole["ResponseMetadata"]["HTTPHeaders"]
        assert headers["x-amzn-bedrock-output-token-count"] == "8"
        stream = client.invoke_model_with_response_stream(modelId=MODEL, body=json.dumps(body).encode())["body"]
        events = [json.loads(event["chunk"]["bytes"]) for event in stream]
        metrics = events[-1]["amazon-bedrock-invocationMetrics"]
        assert metrics["outputTokenCount"] == 8
        told[name] = metrics["inputTokenCount"] + metrics["cacheReadInputTokenCount"]
        if name != "llama":
            counted = client.count_tokens(modelId=MODEL, input={"invokeModel": {"body": json.dumps(body).encode()}})
            assert counted["inputTokens"] == prompt == told[name]
    assert 0 < told["llama"] < prompt + 8
    delta(served, before, engine_before)
