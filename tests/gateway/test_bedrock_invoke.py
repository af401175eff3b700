"""Bedrock's InvokeModel: which body is whose, what its clients are answered, whole and streamed, and the lists of models."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
from anthropic import AnthropicBedrock
from botocore.exceptions import ClientError, EventStreamError
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, chunk, timings, usage
from tests.gateway.test_bedrock import SURFACE, closed_clients, runtime

from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.call import Call
from sublet.gateway.surfaces.bedrock import model_named, selected
from sublet.gateway.surfaces.bedrock_fields import FIELDS
from sublet.gateway.surfaces.bedrock_invoke import counted, invoked, tier_of
from sublet.gateway.surfaces.fields import REFUSED
from sublet.gateway.upstream.writer import check, for_engine

__all__ = ["closed_clients"]

CAN = frozenset({"chat", "completions", "tools", "json_schema"})
ROUTE = ModelRoute("toy", "engine-model", CAN, 4096, 1, (), dialect="vllm")
MESSAGES = [{"role": "user", "content": "hi"}]
ANTHROPIC: dict[str, Any] = {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": MESSAGES}
OPENAI: dict[str, Any] = {"messages": MESSAGES, "max_completion_tokens": 9}
LLAMA: dict[str, Any] = {"prompt": "<|begin_of_text|>hi", "max_gen_len": 9, "temperature": 0.5}


def call_of(body: dict[str, Any], **more: Any) -> Call:
    return invoked(json.dumps(body).encode(), "toy", stream=more.pop("stream", False), **more)


def asked(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    call = call_of(body, **more)
    check(call, ROUTE)
    found: dict[str, Any] = json.loads(for_engine(call, ROUTE))
    return found


@pytest.mark.parametrize(
    ("body", "engine"),
    [
        ({**ANTHROPIC, "system": "Be brief."}, [{"role": "system", "content": "Be brief."}, *MESSAGES]),
        ({**ANTHROPIC, "anthropic_beta": ["fast"], "stream": True}, MESSAGES),
        ({**OPENAI, "model": "another", "stream": True}, MESSAGES),
    ],
)
def test_chats_reach_the_engine_in_every_format(body: dict[str, Any], engine: Any) -> None:
    found = asked(body)
    assert (found["model"], found["messages"], found["max_tokens"]) == ("engine-model", engine, 9)
    assert "stream" not in found and asked(body, stream=True)["stream"] is True


def test_a_prompt_of_llamas_is_continued() -> None:
    found = asked(LLAMA)
    assert found == {"model": "engine-model", "prompt": LLAMA["prompt"], "max_tokens": 9, "temperature": 0.5}
    assert asked({"prompt": "x"})["max_tokens"] == 512
    with pytest.raises(InvalidRequestError, match="completions"):
        check(call_of(LLAMA), ModelRoute("toy", "e", frozenset({"chat"}), 4096, 1, ()))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({}, "none of the forms"),
        ({"inputText": "hi"}, "none of the forms"),
        ({**ANTHROPIC, "anthropic_version": "1"}, "bedrock-2023-05-31"),
        ({"messages": MESSAGES, "anthropic_beta": ["x"]}, "anthropic_version"),
        ({**ANTHROPIC, "max_tokens": 0}, "max_tokens"),
        ({"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {}}, "Nova"),
        ({**LLAMA, "max_gen_len": 0}, "max_gen_len"),
        ({**LLAMA, "images": ["AAAA"]}, "images is not supported"),
        ({**LLAMA, "top_k": 4}, "top_k"),
    ],
)
def test_other_bodies_are_refused(body: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        call_of(body)


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b"{", b'{"messages":' + b"[" * 5000])
def test_what_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        invoked(body, "toy", stream=False)
    with pytest.raises(InvalidRequestError):
        counted(base64.b64encode(body).decode(), "toy")
    with pytest.raises(InvalidRequestError, match="base64"):
        counted("*", "toy")


def test_headers_that_would_change_the_answer_are_honored_or_refused() -> None:
    assert tier_of([(b"x-amzn-bedrock-service-tier", b"flex")]) == "flex"
    assert tier_of([(b"x-amzn-bedrock-service-tier", b"default")]) == ""
    assert call_of(ANTHROPIC, tier="flex").tier == call_of(LLAMA, tier="flex").tier == "flex"
    refused = [item.name for item in FIELDS["InvokeModel"] if item.fate == REFUSED]
    for name in refused:
        header = f"x-amzn-bedrock-{name.lower()}".encode()
        with pytest.raises(InvalidRequestError, match=name):
            tier_of([(header, b"x")])
    with pytest.raises(InvalidRequestError, match="priority"):
        tier_of([(b"x-amzn-bedrock-service-tier", b"priority")])


def test_models_are_known_by_name_and_arn() -> None:
    assert model_named("arn:aws:bedrock:us-east-1::foundation-model/meta/x:0") == "meta/x:0"
    assert model_named("arn:aws:bedrock:us-east-1:12:inference-profile/x") != "x"
    found = SURFACE.find(b"/model/arn%3Aaws%3Abedrock%3Asublet%3A%3Afoundation-model%2Ftoy/invoke", b"")
    assert found is not None and found[0].parse("chat", json.dumps(OPENAI).encode()).model == "toy"


def test_lists_are_filtered_as_amazons() -> None:
    embeds = ModelRoute("e", "e", frozenset({"embeddings"}), 512, 1, ())
    routes = [ROUTE, embeds]
    assert selected(routes, {"byOutputModality": "EMBEDDING"}) == [embeds]
    assert selected(routes, {"byProvider": "Sublet", "byInferenceType": "ON_DEMAND"}) == routes
    assert selected(routes, {"byCustomizationType": "FINE_TUNING"}) == selected(routes, {"byProvider": "Meta"}) == []
    with pytest.raises(InvalidRequestError, match="byColor"):
        selected(routes, {"byColor": "red"})


@pytest.fixture
def client(make_gateway: Any, engine: ScriptedEngine) -> Iterator[Any]:
    gateway: Running = make_gateway(llamacpp=True)
    client = runtime(gateway.url, gateway.key)
    client.gateway = gateway
    yield client


def told(client: Any, body: dict[str, Any], **more: Any) -> list[dict[str, Any]]:
    found = client.invoke_model_with_response_stream(modelId=MODEL, body=json.dumps(body).encode(), **more)
    assert found["contentType"] == "application/json"
    return [json.loads(event["chunk"]["bytes"]) for event in found["body"]]


def whole(client: Any, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    found = client.invoke_model(modelId=MODEL, body=json.dumps(body).encode())
    assert found["contentType"] == "application/json"
    return json.loads(found["body"].read()), found["ResponseMetadata"]["HTTPHeaders"]


def test_anthropic_bodies(client: Any) -> None:
    answer, headers = whole(client, ANTHROPIC)
    assert answer["type"] == "message" and answer["content"] == [{"type": "text", "text": "Hello"}]
    assert headers["x-amzn-bedrock-output-token-count"] == str(answer["usage"]["output_tokens"])
    assert headers["x-amzn-bedrock-input-token-count"] == str(answer["usage"]["input_tokens"])
    assert int(headers["x-amzn-bedrock-invocation-latency"]) >= 0
    events = told(client, ANTHROPIC)
    assert [event["type"] for event in events][:2] == ["message_start", "content_block_start"]
    assert "".join(event.get("delta", {}).get("text", "") for event in events) == "Hello"
    metrics = events[-1]["amazon-bedrock-invocationMetrics"]
    assert events[-1]["type"] == "message_stop" and metrics["outputTokenCount"] == answer["usage"]["output_tokens"]
    assert metrics["inputTokenCount"] == answer["usage"]["input_tokens"]


def test_openai_bodies(client: Any) -> None:
    answer, headers = whole(client, OPENAI)
    assert answer["choices"][0]["message"]["content"] == "Hello" and answer["model"] == MODEL
    assert headers["x-amzn-bedrock-output-token-count"] == str(answer["usage"]["completion_tokens"])
    events = told(client, OPENAI)
    text = "".join(choice["delta"].get("content") or "" for event in events for choice in event["choices"])
    assert text == "Hello" and events[-1]["choices"] == []
    assert events[-1]["amazon-bedrock-invocationMetrics"]["outputTokenCount"] == answer["usage"]["completion_tokens"]


def test_llama_bodies(client: Any, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        pieces = [("Hel", None), ("lo", None), ("", "length")]
        chunks = [
            {"choices": [{"index": 0, "text": text, "finish_reason": reason}], "timings": timings(5, number + 1)}
            for number, (text, reason) in enumerate(pieces)
        ]
        await answering.stream(*chunks, {"choices": [], "usage": usage(5, 3)})

    engine.script = script
    answer, headers = whole(client, LLAMA)
    assert answer == {
        "generation": "Hello",
        "prompt_token_count": 5,
        "generation_token_count": 3,
        "stop_reason": "length",
    }
    assert headers["x-amzn-bedrock-input-token-count"] == "5"
    events = told(client, LLAMA)
    assert [event["generation"] for event in events] == ["Hel", "lo", ""]
    assert [event["prompt_token_count"] for event in events] == [5, None, None]
    assert events[-1]["stop_reason"] == "length" and events[-1]["generation_token_count"] == 3
    assert events[-1]["amazon-bedrock-invocationMetrics"]["inputTokenCount"] == 5


def test_counts_models_and_errors(client: Any, engine: ScriptedEngine) -> None:
    async def tokenizing(answering: Answering) -> None:
        paths = {"/apply-template": {"prompt": "<hi>"}, "/tokenize": {"tokens": [1, 2, 3, 4]}}
        await answering.answer(paths[answering.asked.path])

    before, engine.script = engine.script, tokenizing
    for body in (ANTHROPIC, OPENAI, LLAMA):
        wanted = {"invokeModel": {"body": json.dumps(body).encode()}}
        assert client.count_tokens(modelId=MODEL, input=wanted)["inputTokens"] == 4
    assert [asked.path for asked in engine.asked] == ["/apply-template", "/tokenize"] * 2 + ["/tokenize"]
    engine.script = before
    gateway: Running = client.gateway
    control = runtime(gateway.url, gateway.key, "bedrock")
    arn = control.list_foundation_models(byOutputModality="TEXT")["modelSummaries"][0]["modelArn"]
    assert control.list_foundation_models(byProvider="Meta")["modelSummaries"] == []
    for name in (MODEL, arn):
        assert control.get_foundation_model(modelIdentifier=name)["modelDetails"]["modelId"] == MODEL
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        control.get_foundation_model(modelIdentifier="nobody")
    for body in ({}, {**ANTHROPIC, "x": 1}):
        with pytest.raises(ClientError, match="ValidationException"):
            client.invoke_model(modelId=MODEL, body=json.dumps(body).encode())
    with pytest.raises(ClientError, match="guardrailIdentifier"):
        client.invoke_model(modelId=MODEL, body=b"{}", guardrailIdentifier="g", guardrailVersion="1")

    async def script(answering: Answering) -> None:
        await answering.stream(chunk("Hel", timings=timings(5, 1)), done=False)
        answering.writer.close()

    engine.script = script
    with pytest.raises(EventStreamError, match="modelStreamErrorException"):
        told(client, ANTHROPIC)


def test_flex_is_honored_and_told(client: Any) -> None:
    found = client.invoke_model(modelId=MODEL, body=json.dumps(ANTHROPIC).encode(), serviceTier="flex")
    assert found["serviceTier"] == "flex"
    gateway: Running = client.gateway
    assert gateway.settled(1)[0]["tier"] == "flex"


def test_anthropics_own_client_for_bedrock(client: Any) -> None:
    gateway: Running = client.gateway
    with AnthropicBedrock(base_url=gateway.url, api_key=gateway.key, aws_region="us-east-1", max_retries=0) as bedrock:
        asked: dict[str, Any] = {"model": MODEL, "max_tokens": 9, "messages": MESSAGES}
        answer = bedrock.messages.create(**asked)
        assert answer.content[0].text == "Hello"  # type: ignore[union-attr]
        with bedrock.messages.stream(**asked) as stream:
            assert "".join(stream.text_stream) == "Hello"
            assert stream.get_final_message().usage.output_tokens == answer.usage.output_tokens
