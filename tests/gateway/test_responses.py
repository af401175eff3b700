"""The Responses API: what its requests become, what its clients are told, and which fields there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent, response_create_params
from pydantic import TypeAdapter
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, chunk, timings

from sublet.gateway.model import ModelRoute, Tokens
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.surfaces.fields import REFUSED
from sublet.gateway.surfaces.responses import ResponsesSurface
from sublet.gateway.surfaces.responses_fields import FIELDS
from sublet.gateway.surfaces.surface import Identity
from sublet.gateway.upstream.writer import check, for_engine

SURFACE = ResponsesSurface()
IDENTITY = Identity("req_0011", "toy", 1_700_000_000)
CAN = frozenset({"chat", "tools", "json_schema", "images", "reasoning", "verbosity"})
ROUTE = ModelRoute("toy", "engine-model", CAN, 4096, 1, (), dialect="vllm")
WEATHER: dict[str, Any] = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
EVENTS: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "input": "hi", **fields}


def asked(**fields: Any) -> dict[str, Any]:
    call = SURFACE.parse("chat", json.dumps(ask(**fields)).encode())
    check(call, ROUTE)
    return json.loads(for_engine(call, ROUTE))


def answered(choice: dict[str, Any], **fields: Any) -> dict[str, Any]:
    call = SURFACE.parse("chat", json.dumps(ask(**fields)).encode())
    call.counts = Tokens(10, 4, 7)
    told = SURFACE.answer(call, IDENTITY, json.dumps({"choices": [{"index": 0, **choice}]}).encode())
    Response.model_validate_json(told, strict=False)
    return json.loads(told)


def streamed(*choices: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    call = SURFACE.parse("chat", json.dumps(ask(stream=True, **fields)).encode())
    form = SURFACE.stream(call, IDENTITY)
    told = b"".join(form.event(json.dumps({"choices": [{"index": 0, **choice}]}).encode()) for choice in choices)
    return events(told + form.end())


def events(told: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in told.decode().split("\n\n")[:-1]:
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}" and event["sequence_number"] == len(found)
        EVENTS.validate_python(event)
        found.append(event)
    return found


def test_items_become_turns() -> None:
    image = {"type": "input_image", "image_url": "https://x/y.png", "detail": "auto"}
    call = {"type": "function_call", "id": "fc_1", "status": "completed", "name": "weather", "async": None}
    found = asked(
        instructions="Be brief.",
        input=[
            {"role": "developer", "content": "Rules."},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "What is this?"}, image]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]},
            {
                "type": "message",
                "id": "msg_1",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}],
            },
            {**call, "call_id": "c1", "arguments": "{}"},
            {**call, "call_id": "c2", "arguments": '{"a":1}'},
            {"type": "function_call_output", "call_id": "c1", "output": "rain"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "sun"}]},
        ],
    )

    def use(call_id: str, arguments: str) -> dict[str, Any]:
        return {"id": call_id, "type": "function", "function": {"name": "weather", "arguments": arguments}}

    assert found["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "system", "content": "Rules."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            ],
        },
        {"role": "assistant", "content": "I look.", "tool_calls": [use("c1", "{}"), use("c2", '{"a":1}')]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "tool", "tool_call_id": "c2", "content": "sun"},
    ]


@pytest.mark.parametrize(
    ("fields", "engine"),
    [
        ({"max_output_tokens": 5, "temperature": 0.5, "top_p": 0.1}, {"max_tokens": 5, "temperature": 0.5, "top_p": 0.1}),
        ({"tools": [WEATHER], "tool_choice": "required"}, {"tool_choice": "required"}),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "weather"}},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        ({"reasoning": {"effort": "low", "summary": "auto"}}, {"reasoning_effort": "low"}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"tools": [WEATHER], "parallel_tool_calls": False}, {"parallel_tool_calls": False}),
    ],
)  # fmt: skip
def test_fields_reach_the_engine(fields: dict[str, Any], engine: dict[str, Any]) -> None:
    found = asked(**fields)
    assert {name: found[name] for name in engine} == engine


def test_allowed_tools_are_the_only_ones_that_the_engine_gets() -> None:
    allowed = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "weather"}]}
    found = asked(tools=[WEATHER, {**WEATHER, "name": "clock"}], tool_choice=allowed)
    assert [tool["function"]["name"] for tool in found["tools"]] == ["weather"] and found["tool_choice"] == "required"


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"conversation": "conv_1"}, "conversation", "send the earlier items"),
        ({"background": True}, "background", ""),
        ({"truncation": "auto"}, "truncation", "auto"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "no built-in tool 'web_search'"),
        ({"tools": [{"type": "mcp", "server_label": "x"}]}, "tools[0].type", "no built-in tool 'mcp'"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0].type", "send the item itself"),
        ({"input": [{"type": "web_search_call", "id": "x"}]}, "input[0].type", "web_search_call"),
        ({"input": []}, "input", "send at least one item"),
        ({"tool_choice": "required"}, "tool_choice", "not in tools"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}}, "tool_choice", "'x' is not in tools"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema", "missing"),
        ({"service_tier": "priority"}, "service_tier", "priority"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]},
            "input[0].content[0].type",
            "input_file",
        ),
    ],
)
def test_what_can_not_be_honored_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        asked(**fields)
    assert words in refused.value.message and refused.value.details.get("param") == param


def test_every_field_of_the_sdk_is_in_the_table_and_those_that_are_refused_are() -> None:
    of_sdk = set(response_create_params.ResponseCreateParamsBase.__annotations__) | {"stream"}
    assert of_sdk <= {item.name for item in FIELDS["Responses"]}
    for item in FIELDS["Responses"]:
        if item.fate == REFUSED:
            with pytest.raises(InvalidRequestError, match=item.name):
                asked(**{item.name: {"x": 1}})
        if item.name not in ("model", "input"):
            assert asked(**{item.name: None}) == asked(), item.name
    page = (Path(__file__).parents[2] / "docs" / "responses.md").read_text()
    shown = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert {item.name for items in FIELDS.values() for item in items} <= shown


def test_answers_are_told_as_items_with_what_was_asked() -> None:
    use = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    logprobs = {"content": [{"token": "I", "logprob": -0.5, "bytes": [73], "top_logprobs": []}]}
    found = answered(
        {
            "message": {"content": "I look.", "reasoning": "hm", "tool_calls": [use]},
            "finish_reason": "tool_calls",
            "logprobs": logprobs,
        },
        metadata={"a": "b"},
        tools=[WEATHER],
        instructions="Be brief.",
        top_logprobs=0,
    )
    assert [item["type"] for item in found["output"]] == ["reasoning", "message", "function_call"]
    assert found["output"][0]["content"] == [{"type": "reasoning_text", "text": "hm"}]
    assert found["output"][1]["content"][0]["logprobs"] == logprobs["content"]
    assert found["output"][2] == {
        "id": "fc_001102",
        "type": "function_call",
        "status": "completed",
        "call_id": "call_1",
        "name": "weather",
        "arguments": "{}",
    }
    assert (found["id"], found["status"], found["store"], found["metadata"]) == (
        *("resp_0011", "completed", False),
        {"a": "b"},
    )
    assert found["tools"] == [WEATHER] and found["instructions"] == "Be brief."
    assert found["usage"]["input_tokens_details"]["cached_tokens"] == 4 and found["usage"]["total_tokens"] == 17
    cut = answered({"message": {"content": "I lo"}, "finish_reason": "length"})
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert cut["output"][0]["status"] == "incomplete"


def test_a_stream_has_every_event_in_its_order() -> None:
    def tool(arguments: str, **more: Any) -> dict[str, Any]:
        return {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": arguments, **more}, **more}]}}

    found = streamed(
        {"delta": {"role": "assistant", "content": ""}},
        {"delta": {"reasoning_content": "hm"}},
        {"delta": {"content": "He"}},
        {"delta": {"content": "y"}},
        tool("", id="c0", name="weather"),
        tool("{}"),
        {"delta": {}, "finish_reason": "tool_calls"},
    )
    assert [event["type"].removeprefix("response.") for event in found] == [
        *["created", "in_progress"],
        *["output_item.added", "content_part.added", "reasoning_text.delta", "reasoning_text.done"],
        *["content_part.done", "output_item.done"],
        *["output_item.added", "content_part.added", "output_text.delta", "output_text.delta", "output_text.done"],
        *["content_part.done", "output_item.done"],
        *["output_item.added", "function_call_arguments.delta", "function_call_arguments.done", "output_item.done"],
        "completed",
    ]
    output = found[-1]["response"]["output"]
    assert [item["type"] for item in output] == ["reasoning", "message", "function_call"]
    assert output[1]["content"][0]["text"] == "Hey" and output[2]["arguments"] == "{}"
    assert [event["item"] for event in found if event["type"] == "response.output_item.done"] == output
    cut = streamed({"delta": {"content": "He"}}, {"delta": {}, "finish_reason": "length"})
    assert cut[-1]["type"] == "response.incomplete" and cut[-2]["item"]["status"] == "incomplete"


def test_a_gateway_answers_streams_counts_and_fails_in_its_form(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway()
    whole = gateway.post(ask(), path="/v1/responses").json
    assert whole["output"][0]["content"][0]["text"] == "Hello" and whole["usage"]["output_tokens"] == 3
    told = events(gateway.post(ask(stream=True), path="/v1/responses").body)
    assert told[-1]["response"]["usage"] == whole["usage"]
    counted = gateway.post(ask(input="x" * 40), path="/v1/responses/input_tokens").json
    assert counted == {"object": "response.input_tokens", "input_tokens": 14}

    async def script(answering: Answering) -> None:
        await answering.stream(chunk("Hel", timings=timings(5, 1)), done=False)
        answering.writer.close()

    engine.script = script
    broken = events(gateway.post(ask(stream=True), path="/v1/responses").body)
    assert [event["type"] for event in broken[-2:]] == ["error", "response.failed"]
    assert broken[-1]["response"]["status"] == "failed"
    missing = gateway.post(ask(model="nope"), path="/v1/responses")
    assert (missing.status, missing.json["error"]["code"]) == (404, "model_not_found")
