"""Bedrock's surface: framing, paths, what its requests become, what its clients are told, and which fields there are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.eventstream import EventStreamBuffer
from botocore.exceptions import ClientError, EventStreamError
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, chunk, timings

from sublet.gateway.model import ModelRoute, Tokens
from sublet.gateway.refusals import (
    EngineTimeoutError,
    InsufficientQuotaError,
    InvalidApiKeyError,
    InvalidRequestError,
    QueueFullError,
)
from sublet.gateway.surfaces.bedrock import BedrockSurface
from sublet.gateway.surfaces.bedrock_fields import FIELDS
from sublet.gateway.surfaces.event_stream import framed, headers_of
from sublet.gateway.surfaces.fields import REFUSED
from sublet.gateway.surfaces.surface import Identity, Surface
from sublet.gateway.upstream.writer import check, for_engine

CLIENTS: list[Any] = []
SURFACE = BedrockSurface()
IDENTITY = Identity("req_0011", "toy", 1_700_000_000)
CAN = frozenset({"chat", "tools", "json_schema", "images"})
ROUTE = ModelRoute("toy", "engine-model", CAN, 4096, 1, (), dialect="vllm")
WEATHER: dict[str, Any] = {"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object"}}}}


def user(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "content": list(blocks) or [{"text": "hi"}]}


def bound(method: str = "converse") -> Surface:
    found = SURFACE.find(f"/model/{MODEL}/{method}".encode(), b"")
    assert found is not None
    return found[0]


def asked(**fields: Any) -> dict[str, Any]:
    call = bound().parse("chat", json.dumps({"messages": [user()], **fields}).encode())
    check(call, ROUTE)
    return json.loads(for_engine(call, ROUTE))


def events(told: bytes) -> list[tuple[str, dict[str, Any]]]:
    buffer = EventStreamBuffer()
    buffer.add_data(told)
    return [
        (event.headers.get(":event-type") or event.headers[":exception-type"], json.loads(event.payload))
        for event in buffer
    ]


def streamed(*choices: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    surface = bound("converse-stream")
    call = surface.parse("chat", json.dumps({"messages": [user()]}).encode())
    form = surface.stream(call, IDENTITY)
    told = b"".join(form.event(json.dumps({"choices": [{"index": 0, **choice}]}).encode()) for choice in choices)
    return events(told + form.end())


@given(st.binary(max_size=300), st.text(min_size=1, max_size=40), st.integers(1, 50))
def test_frames_are_read_by_amazons_own_decoder_however_they_are_cut(payload: bytes, kind: str, size: int) -> None:
    frame = framed(headers_of(event_type=kind, message_type="event"), payload) * 2
    buffer = EventStreamBuffer()
    found = []
    for start in range(0, len(frame), size):
        buffer.add_data(frame[start : start + size])
        found += list(buffer)
    assert [(event.headers, event.payload) for event in found] == [
        ({":event-type": kind, ":message-type": "event"}, payload)
    ] * 2


def test_paths_name_model_and_kind() -> None:
    surface, kind = SURFACE.find(b"/model/sublet.m-v1%3A0%2Fx/converse", b"")  # type: ignore[misc]
    assert surface.parse("chat", json.dumps({"messages": [user()]}).encode()).model == "sublet.m-v1:0/x"
    assert kind == "chat" and SURFACE.find(b"/model/a/count-tokens", b"")[1] == "count"  # type: ignore[index]
    for path in (b"/model/a/invoke-x", b"/model/a", b"/model//converse"):
        assert SURFACE.find(path, b"") is None, path


def test_messages_become_turns() -> None:
    image = {"image": {"format": "png", "source": {"bytes": "AAAA"}}}
    use = {"toolUseId": "t1", "name": "weather", "input": {"at": "Oslo"}}
    result = {"toolUseId": "t1", "status": "error", "content": [{"json": {"sky": "blue"}}, {"text": "no"}, image]}
    found = asked(
        system=[{"text": "Be brief."}, {"cachePoint": {"type": "default"}}, {"text": "Rules."}],
        messages=[
            user({"text": "What?"}, image),
            {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"reasoningText": {"text": "hm"}}},
                    {"text": "I look."},
                    {"toolUse": use},
                ],
            },
            user({"toolResult": result}, {"text": "go on"}),
        ],
    )
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert found["messages"] == [
        {"role": "system", "content": "Be brief.\n\nRules."},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, picture]},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": 'Error: {"sky": "blue"}\nno'},
        {"role": "user", "content": [picture, {"type": "text", "text": "go on"}]},
    ]


@pytest.mark.parametrize(
    ("fields", "engine"),
    [
        ({"inferenceConfig": {"maxTokens": 5, "temperature": 0.5, "topP": 0.1}}, {"max_tokens": 5, "temperature": 0.5}),
        ({"inferenceConfig": {"stopSequences": ["A"]}}, {"stop": ["A"]}),
        ({"additionalModelRequestFields": {"top_k": 4}}, {"top_k": 4}),
        ({"toolConfig": {"tools": [WEATHER], "toolChoice": {"any": {}}}}, {"tool_choice": "required"}),
        ({"toolConfig": {"tools": [WEATHER], "toolChoice": {"auto": {}}}}, {"tool_choice": "auto"}),
        (
            {"toolConfig": {"tools": [WEATHER], "toolChoice": {"tool": {"name": "weather"}}}},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
    ],
)
def test_fields_reach_the_engine(fields: dict[str, Any], engine: dict[str, Any]) -> None:
    found = asked(**fields)
    assert {name: found[name] for name in engine} == engine


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"messages": []}, "messages", "at least one"),
        ({"messages": [user({"document": {}})]}, "messages[0].content[0].document", "not supported"),
        ({"messages": [user({})]}, "messages[0].content", "a block must be"),
        ({"additionalModelRequestFields": {"x": 1}}, "additionalModelRequestFields.x", "not supported"),
        ({"performanceConfig": {"latency": "optimized"}}, "performanceConfig.latency", "optimized"),
        ({"toolConfig": {"tools": [WEATHER], "toolChoice": {"tool": {"name": "x"}}}}, "toolConfig.toolChoice", "'x'"),
    ],
)
def test_what_can_not_be_honored_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        asked(**fields)
    assert words in refused.value.message and refused.value.details.get("param") == param


def test_every_field_of_the_sdk_is_in_the_table_and_those_that_are_refused_are() -> None:
    shapes = runtime("http://127.0.0.1:1", "x").meta.service_model
    assert set(shapes.operation_model("Converse").input_shape.members) <= {item.name for item in FIELDS["Converse"]}
    assert set(shapes.shape_for("ContentBlock").members) <= {item.name for item in FIELDS["Blocks"]}
    assert set(shapes.operation_model("InvokeModel").input_shape.members) == {
        item.name for item in FIELDS["InvokeModel"]
    }
    for item in FIELDS["Converse"]:
        if item.fate == REFUSED:
            with pytest.raises(InvalidRequestError, match=item.name):
                asked(**{item.name: {"x": 1}})
    page = (Path(__file__).parents[2] / "docs" / "bedrock.md").read_text()
    shown = set(re.findall(r"^\| `([a-zA-Z_]+)` \|", page, re.MULTILINE))
    assert {item.name for items in FIELDS.values() for item in items} <= shown


def test_an_answer_has_its_blocks_and_counts() -> None:
    surface = bound()
    call = surface.parse("chat", json.dumps({"messages": [user()]}).encode())
    call.counts = Tokens(10, 4, 7)
    use = {"id": "call_1", "function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}
    message = {"content": "I look.", "reasoning_content": "hm", "tool_calls": [use]}
    body = json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}).encode()
    found = json.loads(surface.answer(call, IDENTITY, body))
    assert found["output"]["message"]["content"] == [
        {"reasoningContent": {"reasoningText": {"text": "hm"}}},
        {"text": "I look."},
        {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"at": "Oslo"}}},
    ]
    assert found["stopReason"] == "tool_use" and found["metrics"]["latencyMs"] >= 0
    assert found["usage"] == {
        "inputTokens": 6,
        "outputTokens": 7,
        "totalTokens": 17,
        "cacheReadInputTokens": 4,
        "cacheWriteInputTokens": 0,
    }


def test_a_stream_has_a_block_for_each_piece() -> None:
    found = streamed(
        {"delta": {"reasoning_content": "hm"}},
        {"delta": {"content": "He"}},
        {"delta": {"content": "y"}},
        {"delta": {"tool_calls": [{"index": 0, "id": "c0", "function": {"name": "a", "arguments": ""}}]}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}},
        {"delta": {}, "finish_reason": "tool_calls"},
    )
    assert [(kind, event.get("contentBlockIndex")) for kind, event in found] == [
        ("messageStart", None),
        *[("contentBlockDelta", 0), ("contentBlockStop", 0)],
        *[("contentBlockDelta", 1), ("contentBlockDelta", 1), ("contentBlockStop", 1)],
        *[("contentBlockStart", 2), ("contentBlockDelta", 2), ("contentBlockStop", 2)],
        ("messageStop", None),
        ("metadata", None),
    ]
    assert found[-2][1] == {"stopReason": "tool_use"}


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (QueueFullError("full"), 503, "ServiceUnavailableException"),
        (InvalidApiKeyError(), 403, "AccessDeniedException"),
        (InsufficientQuotaError("used up"), 400, "ServiceQuotaExceededException"),
        (InsufficientQuotaError("for now", retry_after_s=1.0), 429, "ThrottlingException"),
        (EngineTimeoutError(), 408, "ModelTimeoutException"),
    ],
)
def test_errors_have_amazons_types(error: Any, status: int, kind: str) -> None:
    assert SURFACE.status(error) == status
    assert SURFACE.refusal_headers(error) == f"x-amzn-errortype: {kind}\r\n".encode()


@pytest.fixture(autouse=True)
def closed_clients() -> Iterator[None]:
    """Close what `runtime` made."""
    yield
    while CLIENTS:
        CLIENTS.pop().close()


def runtime(url: str, key: str, service: str = "bedrock-runtime") -> Any:
    """A client of the SDK. It sends bearer keys over TLS only, so that here the header is set for it."""
    config = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1})
    client = boto3.client(service, endpoint_url=url, region_name="us-east-1", config=config)
    CLIENTS.append(client)
    client.meta.events.register(
        "before-send.*", lambda request, **_: request.headers.__setitem__("Authorization", f"Bearer {key}")
    )
    return client


def test_a_gateway_serves_amazons_sdk(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway()
    client = runtime(gateway.url, gateway.key)
    asked: dict[str, Any] = {"modelId": MODEL, "messages": [user()]}
    whole = client.converse(**asked)
    assert whole["output"]["message"]["content"] == [{"text": "Hello"}] and whole["usage"]["outputTokens"] == 3
    assert whole["ResponseMetadata"]["RequestId"].startswith("req_")
    told = list(client.converse_stream(**asked)["stream"])
    text = "".join(event["contentBlockDelta"]["delta"]["text"] for event in told if "contentBlockDelta" in event)
    assert text == "Hello" and told[-1]["metadata"]["usage"] == whole["usage"]
    counted = client.count_tokens(modelId=MODEL, input={"converse": {"messages": [user({"text": "x" * 40})]}})
    assert counted["inputTokens"] == 14
    listed = runtime(gateway.url, gateway.key, "bedrock").list_foundation_models()["modelSummaries"]
    assert [model["modelId"] for model in listed] == [MODEL]
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.converse(**{**asked, "modelId": "nobody"})
    with pytest.raises(ClientError, match="AccessDeniedException"):
        runtime(gateway.url, "wrong").converse(**asked)
    with pytest.raises(ClientError, match="UnknownOperationException"):
        client.list_async_invokes()

    async def script(answering: Answering) -> None:
        await answering.stream(chunk("Hel", timings=timings(5, 1)), done=False)
        answering.writer.close()

    engine.script = script
    with pytest.raises(EventStreamError, match="modelStreamErrorException"):
        list(client.converse_stream(**asked)["stream"])
