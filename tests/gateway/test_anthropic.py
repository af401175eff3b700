"""Anthropic's surface: what its requests become, what its clients are told, and which fields there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import MessageCountTokensParams, ToolParam, message_create_params
from anthropic.types.beta import message_create_params as beta_params
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, Wire, chunk, timings, usage

from sublet.gateway.model import ModelRoute, Tokens
from sublet.gateway.refusals import InsufficientQuotaError, InvalidRequestError, QueueFullError
from sublet.gateway.requests.call import NOTHING
from sublet.gateway.surfaces.anthropic import AnthropicSurface
from sublet.gateway.surfaces.anthropic_fields import FIELDS
from sublet.gateway.surfaces.fields import REFUSED
from sublet.gateway.surfaces.surface import Allowance, Identity
from sublet.gateway.upstream.writer import check, for_engine

SURFACE = AnthropicSurface()
IDENTITY = Identity("req_0011", "toy", 1_700_000_000)
CAN = frozenset({"chat", "tools", "json_schema", "images", "reasoning"})
ROUTE = ModelRoute("toy", "engine-model", CAN, 4096, 1, (), dialect="vllm")
WEATHER: dict[str, Any] = {
    "name": "weather",
    "description": "The weather",
    "input_schema": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
}


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": MODEL, "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}], **fields}


def asked(**fields: Any) -> dict[str, Any]:
    """What the engine is asked."""
    call = SURFACE.parse("chat", json.dumps(ask(**fields)).encode())
    check(call, ROUTE)
    return json.loads(for_engine(call, ROUTE))


def answered(choice: dict[str, Any], counts: Tokens = NOTHING, **fields: Any) -> dict[str, Any]:
    call = SURFACE.parse("chat", json.dumps(ask(**fields)).encode())
    call.counts = counts
    return json.loads(SURFACE.answer(call, IDENTITY, json.dumps({"choices": [{"index": 0, **choice}]}).encode()))


def streamed(*choices: dict[str, Any], **fields: Any) -> list[dict[str, Any]]:
    call = SURFACE.parse("chat", json.dumps(ask(stream=True, **fields)).encode())
    form = SURFACE.stream(call, IDENTITY)
    told = b"".join(form.event(json.dumps({"choices": [{"index": 0, **choice}]}).encode()) for choice in choices)
    return events(told + form.end())


def events(told: bytes) -> list[dict[str, Any]]:
    found = []
    for part in told.decode().split("\n\n")[:-1]:
        name, data = part.split("\n")
        event = json.loads(data.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        found.append(event)
    return found


def test_a_request_as_claude_code_sends_it_reaches_the_engine_whole() -> None:
    hint = {"type": "ephemeral", "ttl": "1h"}
    tools = [{**WEATHER, "name": f"tool_{number}", "cache_control": hint} for number in range(40)]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": True, "cache_control": hint}
    found = asked(
        system=[{"type": "text", "text": "You code.", "cache_control": hint}, {"type": "text", "text": "Rules."}],
        tools=tools,
        tool_choice={"type": "auto", "disable_parallel_tool_use": True},
        metadata={"user_id": "u"},
        stream=True,
        thinking={"type": "enabled", "budget_tokens": 31_999},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        temperature=1,
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": "two"}]},
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "x"},
                    {"type": "text", "text": "I look.", "citations": None},
                    {"type": "tool_use", "id": "toolu_1", "name": "tool_0", "input": {"at": "Oslo"}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {**result, "content": [{"type": "text", "text": "no such place"}, image]},
                    {"type": "text", "text": "go on"},
                ],
            },
        ],
    )
    assert found["messages"] == [
        {"role": "system", "content": "You code.\n\nRules."},
        {"role": "user", "content": "one\ntwo"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "toolu_1", "type": "function", "function": {"name": "tool_0", "arguments": '{"at": "Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "toolu_1", "content": "Error: no such place"},
        {
            "role": "user",
            "content": [
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "text", "text": "go on"},
            ],
        },
    ]
    assert len(found["tools"]) == 40 and found["tool_choice"] == "auto" and found["parallel_tool_calls"] is False
    assert found["reasoning_effort"] == "high" and found["temperature"] == 1 and found["max_tokens"] == 9
    assert "metadata" not in found and "thinking" not in found


@pytest.mark.parametrize(
    ("fields", "engine"),
    [
        ({"tools": [WEATHER], "tool_choice": {"type": "any"}}, {"tool_choice": "required"}),
        (
            {"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "weather"}},
            {"tool_choice": {"type": "function", "function": {"name": "weather"}}},
        ),
        ({"tools": [{**WEATHER, "strict": True}], "tool_choice": {"type": "none"}}, {"tool_choice": "none"}),
        ({"stop_sequences": ["A", "B"], "top_k": 5, "top_p": 0.5}, {"stop": ["A", "B"], "top_k": 5, "top_p": 0.5}),
        ({"thinking": {"type": "disabled"}}, {"reasoning_effort": "none"}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, {"reasoning_effort": "max"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"reasoning_effort": "low"}),
        ({"system": "S"}, {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "hi"}]}),
        (
            {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "He"}]},
            {"continue_final_message": True, "add_generation_prompt": False},
        ),
    ],
)
def test_fields_reach_the_engine(fields: dict[str, Any], engine: dict[str, Any]) -> None:
    found = asked(**fields)
    assert {name: found[name] for name in engine} == engine


def test_a_schema_is_the_engines_response_format() -> None:
    schema = {"type": "object"}
    for fields in ({"output_config": {"format": {"type": "json_schema", "schema": schema}}},):
        assert asked(**fields)["response_format"]["json_schema"]["schema"] == schema


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"max_tokens": 0}, "max_tokens", ">= 1"),
        ({"temperature": 1.5}, "temperature", "<= 1"),
        ({"container": "x"}, "container", "not supported"),
        ({"speed": "fast"}, "speed", "fast"),
        ({"messages": []}, "messages", "at least one"),
        ({"messages": [{"role": "user", "content": [{"type": "document"}]}]}, "messages[0].content[0].type", "document"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "tool"),
        ({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": ""}]}]}, "messages[0]", "text and image"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type", "web_search_20250305"),
        ({"tools": [{**WEATHER, "type": "bash_20250124"}]}, "tools[0].type", "define the tool"),
        ({"tools": [{**WEATHER, "input_examples": [{}]}]}, "tools[0].input_examples", "not supported"),
        ({"tools": [{"name": "x"}]}, "tools[0].input_schema", "missing"),
        ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading", "not supported"),
        ({"tools": [WEATHER], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice", "not in tools"),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "requires tools"),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, "context_management.edits[0].type", ""),
        ({"stop_sequences": [""]}, "stop_sequences[0]", "length"),
    ],
)  # fmt: skip
def test_what_can_not_be_honored_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        asked(**fields)
    assert words in refused.value.message and refused.value.details.get("param") == param


def test_every_field_of_the_sdk_is_in_the_table_and_those_that_are_refused_are() -> None:
    of_sdk = {
        "Messages": set(message_create_params.MessageCreateParamsBase.__annotations__)
        | set(beta_params.MessageCreateParamsBase.__annotations__)
        | {"stream"},
        "Token counts": set(MessageCountTokensParams.__annotations__),
        "Fields of a tool": set(ToolParam.__annotations__),
    }
    for title, names in of_sdk.items():
        # A header, which the SDK takes out of the body; the sampling fields, which it has by now for old models alone.
        missing = names - {item.name for item in FIELDS[title]} - {"betas"}
        assert not missing, f"{title}: {missing}"
    for item in FIELDS["Messages"]:
        if item.fate == REFUSED:
            with pytest.raises(InvalidRequestError, match=item.name):
                asked(**{item.name: {"x": 1}})
        if item.name not in ("model", "messages", "max_tokens"):
            assert asked(**{item.name: None}) == asked(), item.name


def test_answers_are_told_as_blocks() -> None:
    use = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}
    message = {"content": "I look.", "reasoning_content": "hm", "tool_calls": [use]}
    found = answered({"message": message, "finish_reason": "tool_calls"}, Tokens(10, 4, 7))
    assert found == {
        "id": "msg_0011",
        "type": "message",
        "role": "assistant",
        "model": "toy",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"at": "Oslo"}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 6,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 4,
            "output_tokens": 7,
            "service_tier": "standard",
        },
    }
    thinking = {"type": "adaptive", "display": "omitted"}
    omitted = answered({"message": message, "finish_reason": "tool_calls"}, thinking=thinking)
    assert omitted["content"][0]["thinking"] == ""


@pytest.mark.parametrize(
    ("choice", "reason", "sequence"),
    [
        ({"finish_reason": "stop"}, "end_turn", None),
        ({"finish_reason": "length"}, "max_tokens", None),
        ({"finish_reason": "content_filter"}, "refusal", None),
        ({"finish_reason": "stop", "stop_reason": "END"}, "stop_sequence", "END"),
        ({"finish_reason": "stop", "matched_stop": "END"}, "stop_sequence", "END"),
        ({"finish_reason": "stop", "stop_reason": 128_001}, "end_turn", None),
    ],
)
def test_why_an_answer_ended(choice: dict[str, Any], reason: str, sequence: str | None) -> None:
    found = answered({"message": {"content": ""}, **choice})
    assert (found["stop_reason"], found["stop_sequence"]) == (reason, sequence)
    assert found["content"] == [{"type": "text", "text": ""}]
    delta = streamed({"delta": {"content": "x"}}, {"delta": {}, **choice})[-2]["delta"]
    assert delta == {"stop_reason": reason, "stop_sequence": sequence}


def test_an_input_that_broke_off_is_told_as_text() -> None:
    use = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Os'}}
    found = answered({"message": {"content": None, "tool_calls": [use]}, "finish_reason": "length"})
    assert found["content"] == [
        {"type": "tool_use", "id": "c", "name": "weather", "input": {"INVALID_JSON": '{"at": "Os'}}
    ]


def test_a_stream_has_a_block_for_each_piece() -> None:
    def tool(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        return {"delta": {"tool_calls": [{"index": index, "function": {"arguments": arguments, **more}, **more}]}}

    found = streamed(
        {"delta": {"role": "assistant", "content": ""}},
        {"delta": {"reasoning_content": "h"}},
        {"delta": {"reasoning_content": "m"}},
        {"delta": {"content": "He"}},
        {"delta": {"content": "y"}},
        tool(0, "", id="c0", name="a"),
        tool(0, '{"x"'),
        tool(0, ":1}"),
        tool(1, "{}", id="c1", name="b"),
        {"delta": {}, "finish_reason": "tool_calls"},
    )
    kinds = [(event["type"], event.get("index")) for event in found]
    assert kinds == [
        ("message_start", None),
        *[("content_block_start", 0), ("content_block_delta", 0), ("content_block_delta", 0), ("content_block_stop", 0)],
        *[("content_block_start", 1), ("content_block_delta", 1), ("content_block_delta", 1), ("content_block_stop", 1)],
        *[("content_block_start", 2), ("content_block_delta", 2), ("content_block_delta", 2), ("content_block_stop", 2)],
        *[("content_block_start", 3), ("content_block_delta", 3), ("content_block_stop", 3)],
        ("message_delta", None),
        ("message_stop", None),
    ]  # fmt: skip
    assert [event["content_block"]["type"] for event in found if "content_block" in event] == [
        *["thinking", "text", "tool_use", "tool_use"]
    ]
    assert found[-2]["delta"]["stop_reason"] == "tool_use"


def test_statuses_and_headers_are_anthropics() -> None:
    assert SURFACE.status(QueueFullError("full")) == 529
    assert SURFACE.status(InsufficientQuotaError("used up")) == 402
    assert SURFACE.status(InsufficientQuotaError("for now", retry_after_s=1.0)) == 429
    assert json.loads(SURFACE.refusal(QueueFullError("full")))["error"]["type"] == "overloaded_error"
    told = SURFACE.headers("req_1", Allowance(60, 59, 1, 1_700_000_001)).decode()
    assert told == (
        "request-id: req_1\r\nx-request-id: req_1\r\nanthropic-ratelimit-requests-limit: 60\r\n"
        "anthropic-ratelimit-requests-remaining: 59\r\nanthropic-ratelimit-requests-reset: 2023-11-14T22:13:21Z\r\n"
    )


def raw(gateway: Running, head: str) -> Any:
    wire: Wire = gateway.wire()
    try:
        wire.send(head.encode())
        return wire.answer()
    finally:
        wire.close()


def test_a_gateway_answers_streams_counts_and_refuses_in_anthropics_form(
    make_gateway: Any, engine: ScriptedEngine
) -> None:
    gateway: Running = make_gateway(llamacpp=True)
    whole = gateway.post(ask(), path="/v1/messages?beta=true")
    assert whole.status == 200 and whole.json["content"] == [{"type": "text", "text": "Hello"}]
    assert whole.json["usage"]["input_tokens"] == 5 and whole.json["usage"]["output_tokens"] == 3
    assert whole.headers["request-id"] == "req_" + whole.json["id"].removeprefix("msg_")
    told = events(gateway.post(ask(stream=True), path="/v1/messages").body)
    assert told[0]["message"]["usage"]["input_tokens"] == 5, "the engine counts as it goes"
    assert told[-2]["usage"]["output_tokens"] == 3 and told[-1]["type"] == "message_stop"
    missing = gateway.post(ask(model="nope"), path="/v1/messages")
    assert (missing.status, missing.json["error"]["type"]) == (404, "not_found_error")
    listed = raw(
        gateway,
        f"GET /v1/models HTTP/1.1\r\nhost: x\r\nx-api-key: {gateway.key}\r\nanthropic-version: 2023-06-01\r\n\r\n",
    )
    assert [model["type"] for model in listed.json["data"]] == ["model"] and listed.json["has_more"] is False
    for path in ("/v1/models", "/v1/models/toy", "/v1/nothing"):
        refused = raw(
            gateway, f"GET {path} HTTP/1.1\r\nhost: x\r\nx-api-key: no\r\nanthropic-version: 2023-06-01\r\n\r\n"
        )
        assert refused.json["type"] == "error" and refused.headers["request-id"].startswith("req_"), path
    assert gateway.get("/v1/models").json["object"] == "list"


def test_a_count_asks_the_engine_and_is_not_billed(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway(llamacpp=True)

    async def script(answering: Answering) -> None:
        paths = {"/apply-template": {"prompt": "<hi>"}, "/tokenize": {"tokens": [1, 2, 3, 4]}}
        await answering.answer(paths[answering.asked.path])

    engine.script = script
    body = {name: value for name, value in ask().items() if name != "max_tokens"}
    counted = gateway.post(body, path="/v1/messages/count_tokens")
    assert (counted.status, counted.json) == (200, {"input_tokens": 4})
    assert [asked.path for asked in engine.asked] == ["/apply-template", "/tokenize"]
    assert engine.asked[0].body["messages"] == [{"role": "user", "content": "hi"}]
    [settled] = gateway.settled(1)
    assert settled.get("input", 0) == settled.get("output", 0) == 0


def test_a_count_for_an_engine_that_shows_no_tokenizer_is_the_estimate(
    make_gateway: Any, engine: ScriptedEngine
) -> None:
    gateway: Running = make_gateway()
    body = {"model": MODEL, "messages": [{"role": "user", "content": "x" * 40}]}
    assert gateway.post(body, path="/v1/messages/count_tokens").json == {"input_tokens": 14}
    assert engine.asked == []
    assert gateway.settled(1)[0].get("input", 0) == 0


def test_an_engine_that_dies_ends_the_stream_with_an_error_event(make_gateway: Any, engine: ScriptedEngine) -> None:
    gateway: Running = make_gateway()

    async def script(answering: Answering) -> None:
        await answering.stream(chunk("Hel", timings=timings(5, 1)), done=False)
        answering.writer.close()

    engine.script = script
    told = gateway.post(ask(stream=True), path="/v1/messages").body
    last = told.decode().split("\n\n")[-2]
    assert last.startswith("event: error\n") and '"api_error"' in last and "message_stop" not in told.decode()


def test_counts_are_those_that_are_billed_where_the_engine_counts_nothing(
    make_gateway: Any, engine: ScriptedEngine
) -> None:
    gateway: Running = make_gateway()

    async def script(answering: Answering) -> None:
        await answering.stream(chunk("Hello there"), chunk(finish="stop"))

    engine.script = script
    found = events(gateway.post(ask(stream=True), path="/v1/messages").body)[-2]["usage"]
    [settled] = gateway.settled(1)
    assert (found["input_tokens"], found["output_tokens"]) == (settled["input"], settled["output"]) != (0, 0)
    assert usage(1, 1)


def test_the_page_shows_every_field() -> None:
    page = (Path(__file__).parents[2] / "docs" / "anthropic.md").read_text()
    shown = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    assert {item.name for items in FIELDS.values() for item in items} <= shown
