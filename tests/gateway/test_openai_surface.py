"""OpenAI's surface by itself: what it takes, what it refuses, and how it words a stream."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.harness import chunk, event, timings, usage

from sublet.gateway.model import ModelRoute, Tokens
from sublet.gateway.refusals import EngineFailedError, InvalidRequestError
from sublet.gateway.requests.form import CHAT, COMPLETION, EMBEDDING
from sublet.gateway.surfaces.openai import OpenAISurface
from sublet.gateway.surfaces.surface import Identity
from sublet.gateway.upstream.assembly import Assembler
from sublet.gateway.upstream.engine_meter import EngineMeter
from sublet.gateway.upstream.scripts import PROMPT_IDS_MAX, PROMPTS_MAX
from sublet.gateway.upstream.sse import EVENT_BYTES_MAX, EventCutter
from sublet.gateway.upstream.writer import for_engine
from sublet.values.errors import SubletError

SURFACE = OpenAISurface()
IDENTITY = Identity("req_1", "toy", 99)
ROUTE = ModelRoute("toy", "engine-model", frozenset({"chat"}), 2048, 0)


def parse(fields: dict[str, Any] | bytes, kind: str = CHAT) -> Any:
    return SURFACE.parse(kind, fields if isinstance(fields, bytes) else json.dumps(fields).encode())


def ask(**fields: Any) -> dict[str, Any]:
    return {"model": "toy", "messages": [{"role": "user", "content": "hi"}], **fields}


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"model": "toy"}, "messages", "Missing required parameter: 'messages'"),
        ({"messages": []}, "model", "Missing required parameter: 'model'"),
        (ask(messages=None), "messages", "Missing"),
        (ask(messages=[]), "messages", "1 to 4096"),
        (ask(messages="hi"), "messages", "messages"),
        (ask(messages=[{"content": "x"}]), "messages", "role"),
        (
            ask(messages=[{"role": "xx", "content": "x"}]),
            "messages",
            "'xx' - at `$[0].role`; a role is one of system, developer, user, assistant, tool, function",
        ),
        (ask(messages=[{"role": 1, "content": "x"}]), "messages", "role"),
        (ask(foo=1), "foo", "Unrecognized request argument supplied: foo"),
        (ask(timings_per_token=True), "timings_per_token", "Unrecognized"),
        (ask(prompt="x"), "prompt", "Unrecognized"),
        (ask(max_tokens=0), "max_tokens", ">= 1"),
        (ask(max_tokens="5"), "max_tokens", "int"),
        (ask(max_tokens=-1), "max_tokens", ">= 1"),
        (ask(temperature=2.5), "temperature", "<= 2"),
        (ask(top_p=-0.1), "top_p", ">= 0"),
        (ask(n=0), "n", ">= 1"),
        (ask(n=129), "n", "<= 128"),
        (ask(stop=["a"] * 17), "stop", "16"),
        (ask(stream="yes"), "stream", "bool"),
        (ask(stream_options={"include_usage": True}), "stream_options", "requires stream"),
        (ask(stream=True, stream_options={"x": 1}), "stream_options", "stream_options"),
        (ask(response_format="json"), "response_format", "response_format"),
        (ask(functions=[{"name": "f"}]), "functions", "not supported"),
        (ask(modalities=["text", "audio"]), "modalities", "text"),
        (b"[]", None, "object"),
        (b"", None, "JSON"),
        (b"{", None, "JSON"),
        (b'{"model": "toy", "messages": [{"role": "user", "content": "\xff"}]}', None, "UTF-8"),
        (b'{"model":"toy","messages":' + b"[" * 10_000 + b"]" * 10_000 + b"}", None, "nested"),
        (b'{"model":"toy","seed":NaN}', None, "JSON"),
    ],
)
def test_refusals_name_the_field(fields: Any, param: str | None, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse(fields)
    assert words in refused.value.message
    assert refused.value.details.get("param") == param
    error = json.loads(SURFACE.refusal(refused.value))["error"]
    assert error["type"] == "invalid_request_error" and error["param"] == param


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        (ask(), ("chat",)),
        (ask(tools=[]), ("chat",)),
        (ask(tools=[{"type": "function", "function": {"name": "f"}}]), ("chat", "tools")),
        (ask(response_format={"type": "json_schema", "json_schema": {}}), ("chat", "json_schema")),
        (ask(response_format={"type": "text"}), ("chat",)),
        (
            ask(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            ("chat", "images"),
        ),
        (ask(messages=[{"role": "user", "content": 'say "image_url"'}]), ("chat",)),
        (ask(messages=[{"role": "user", "content": "file"}]), ("chat",)),
        (ask(messages=[{"role": "user", "content": [{"type": "text", "text": "file"}]}]), ("chat",)),
        (ask(messages=[{"role": "user", "content": [{"type": "file", "file": {}}]}]), ("chat", "files")),
        (ask(messages=[{"role": "user", "content": [{"type": "input_audio"}]}]), ("chat", "audio")),
    ],
)
def test_what_a_request_needs_of_a_model(fields: Any, needs: tuple[str, ...]) -> None:
    assert parse(fields).needs == needs


def test_completions_take_texts_and_token_ids() -> None:
    for prompt, count in (("x", 1), ([1, 2], 1), (["a", "b"], 2), ([[1], [2, 3], [4]], 3)):
        call = parse({"model": "toy", "prompt": prompt, "n": 2}, COMPLETION)
        assert (call.prompts, call.answers) == (count, 2 * count)
    refusals: list[Any] = [[], None, {"a": 1}, ["a", 1], [[]], [""], ["a", [1]], [1.5], ["a"] * 257]
    for wrong in refusals:
        with pytest.raises(InvalidRequestError) as refused:
            parse({"model": "toy", "prompt": wrong}, COMPLETION)
        assert refused.value.details["param"] == "prompt"
    with pytest.raises(InvalidRequestError):
        parse({"model": "toy"}, EMBEDDING)


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("[" + "1," * PROMPT_IDS_MAX + "1]", "token ids"),
        ("[" + "[1]," * PROMPTS_MAX + "[1]]", "a list of at most"),
        ("[" + '"a",' * PROMPTS_MAX + '"a"]', "a list of at most"),
        ('["a",' + "1," * 10 + "1]", "it must be a string"),
        ("[[1,[2]]]", "it must be a string"),
        ('["a",["b"]]', "it must be a string"),
    ],
)
def test_too_long_a_list_of_prompts_is_refused_before_it_is_decoded(prompt: str, words: str) -> None:
    body = b'{"model":"toy","prompt":' + prompt.encode() + b"}"
    with pytest.raises(InvalidRequestError, match=words):
        OpenAISurface().parse(COMPLETION, body)


@pytest.mark.parametrize("text", ['a "quoted" word, and, "another"', "\\", '\\"', "a,b" * 200_000, "[" * 1000])
def test_a_text_may_hold_what_looks_like_a_list(text: str) -> None:
    for prompt in (text, [text] * 3):
        call = parse({"model": "toy", "prompt": prompt}, COMPLETION)
        assert call.prompts == (1 if isinstance(prompt, str) else 3)


def test_a_logit_bias_has_a_bound() -> None:
    body = {"model": "toy", "prompt": "x", "logit_bias": {str(number): 1 for number in range(1025)}}
    with pytest.raises(InvalidRequestError, match="at most 1024 entries"):
        parse(body, COMPLETION)


@pytest.mark.parametrize(
    ("fields", "param"), [({"max_tokens": 0}, "max_tokens"), ({"best_of": 2}, "best_of"), ({"logprobs": 6}, "logprobs")]
)
def test_completions_refuse_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse({"model": "toy", "prompt": "x", **fields}, COMPLETION)
    assert refused.value.details["param"] == param


def test_the_defaults_of_completions_are_openais() -> None:
    assert json.loads(for_engine(parse({"model": "toy", "prompt": "x"}, COMPLETION), ROUTE))["max_tokens"] == 16
    suffix = parse({"model": "toy", "prompt": "x", "suffix": "y"}, COMPLETION)
    assert suffix.needs == ("completions", "suffix")
    assert parse({"model": "toy", "prompt": "x", "suffix": ""}, COMPLETION).needs == ("completions",)


def test_the_engine_gets_what_was_asked_and_no_more() -> None:
    messages = [{"role": "user", "content": "ä", "name": "n", "tool_calls": []}]
    call = parse(ask(messages=messages, stream=True, logit_bias={"5": 1}, user="u", store=False, tools=[], top_k=5))
    assert json.loads(for_engine(call, replace(ROUTE, dialect="llamacpp"))) == {
        "model": "engine-model",
        "messages": messages,
        "stream": True,
        "stream_options": {"include_usage": True},
        "logit_bias": {"5": 1},
        "top_k": 5,
        "timings_per_token": True,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
known = st.sampled_from(
    [*(name for name in ask()), "max_tokens", "stream", "stop", "tools", "response_format", "n", "user"]
)


@given(st.dictionaries(known | st.text(max_size=8), json_values, max_size=8))
def test_whatever_json_comes_it_is_a_call_or_a_refusal(fields: dict[str, Any]) -> None:
    for kind in (CHAT, COMPLETION, EMBEDDING):
        try:
            call = parse({"model": "toy", **fields}, kind)
        except SubletError as refused:
            json.loads(SURFACE.refusal(refused))
        else:
            assert json.loads(for_engine(call, ROUTE))["model"] == "engine-model"


@given(st.binary(max_size=200))
def test_whatever_bytes_come_it_is_a_call_or_a_refusal(body: bytes) -> None:
    try:
        parse(body)
    except SubletError as refused:
        assert refused.status == 400


# Streams


STREAM: list[dict[str, Any]] = [
    chunk("", timings=timings(9, 0)),
    chunk('quote " and \\ and "model":"engine-model" and \n\n', timings=timings(9, 1, cached=4)),
    chunk("日本語🦙", timings=timings(9, 4, cached=4)),
    {**chunk("tail", finish="stop"), "usage": usage(9, 6, 4)},
    {**chunk(), "choices": [], "usage": usage(9, 6, 4), "timings": timings(9, 6, 4)},
]
WIRE = b": hello\n\n" + b"".join(event(payload) for payload in STREAM) + event("[DONE]")


def run_stream(pieces: list[bytes], include_usage: bool = False) -> tuple[bytes, Tokens, bool]:
    form = SURFACE.stream(parse(ask(stream=True, stream_options={"include_usage": include_usage})), IDENTITY)
    cutter, meter, out, done = EventCutter(), EngineMeter(), b"", False
    for piece in pieces:
        for payload in cutter.feed(piece):
            if payload == b"[DONE]":
                done = True
            else:
                out += form.event(meter.chunk(payload))
    return out, meter.tokens(), done


def test_a2_a_stream_split_at_every_byte_is_the_same_stream() -> None:
    expected = run_stream([WIRE])
    for at in range(len(WIRE)):
        assert run_stream([WIRE[:at], WIRE[at:]]) == expected, at
    assert run_stream([WIRE[at : at + 1] for at in range(len(WIRE))]) == expected
    assert expected[1:] == (Tokens(9, 4, 6), True)


@given(st.lists(st.integers(0, len(WIRE)), max_size=12), st.booleans())
def test_a2_a_stream_split_anywhere_is_the_same_stream(cuts: list[int], carriage_returns: bool) -> None:
    marks = [0, *sorted(cuts), len(WIRE)]
    pieces = [WIRE[start:end] for start, end in pairwise(marks)]
    if carriage_returns:
        text = WIRE.replace(b"\n", b"\r\n")
        pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
    assert run_stream(pieces) == run_stream([WIRE])


def test_the_content_is_untouched_and_the_names_are_ours() -> None:
    out, _, _ = run_stream([WIRE], include_usage=True)
    chunks = [json.loads(part[6:]) for part in out.split(b"\n\n") if part]
    contents = [item["choices"][0]["delta"].get("content") for item in chunks if item["choices"]]
    assert contents == ["", *(item["choices"][0]["delta"].get("content") for item in STREAM[:-1])]
    assert {(item["id"], item["model"], item["created"]) for item in chunks} == {("chatcmpl-1", "toy", 99)}
    assert chunks[-1]["usage"] == usage(9, 6, 4) and chunks[-1]["choices"] == []
    assert not any("timings" in item for item in chunks)


def test_an_engine_that_puts_choices_first_is_renamed_as_well() -> None:
    payloads = [{"choices": chunk(text)["choices"], "created": 1, "id": "x", "model": "m"} for text in ("a", "b", "c")]
    out, _, _ = run_stream([event(payload) for payload in payloads])
    chunks = [json.loads(part[6:]) for part in out.split(b"\n\n") if part]
    assert [item["choices"][0]["delta"].get("content") for item in chunks] == ["", "a", "b", "c"]
    assert {(item["id"], item["model"], item["created"]) for item in chunks} == {("chatcmpl-1", "toy", 99)}


def test_a_chunk_of_another_shape_after_the_first_is_parsed() -> None:
    odd = {"model": "engine-model", "choices": chunk("b")["choices"], "id": "other", "created": 7}
    out, _, _ = run_stream([event(chunk("a")), event(odd), event(chunk("c"))])
    assert b"engine" not in out and b"other" not in out


@pytest.mark.parametrize("payload", [b"not json", b"[]", b"{}", b'{"choices":[', b"[" * 10_000])
def test_a_chunk_that_is_none_fails(payload: bytes) -> None:
    form = SURFACE.stream(parse(ask(stream=True)), IDENTITY)
    with pytest.raises(EngineFailedError):
        form.event(payload)


def test_an_event_that_never_ends_fails() -> None:
    cutter = EventCutter()
    with pytest.raises(EngineFailedError):
        for _ in range(EVENT_BYTES_MAX // 65536 + 2):
            cutter.feed(b"x" * 65536)


def test_fields_of_events_that_are_not_data_are_dropped() -> None:
    assert EventCutter().feed(b"event: x\nid: 1\ndata: a\ndata:b\n\nretry: 5\n\n:c\n\ndata:d\n\n") == [b"a\nb", b"d"]


# Usage


@pytest.mark.parametrize(
    ("reported", "expected"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 4}, Tokens(10, 0, 4)),
        (
            {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}},
            Tokens(10, 6, 4),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": None}, Tokens(10, 0, 4)),
        (
            {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": None}},
            Tokens(10, 0, 4),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 60}},
            Tokens(10, 10, 4),
        ),
        ({"prompt_tokens": -10, "completion_tokens": -4}, Tokens(0, 0, 0)),
        ({"prompt_tokens": 10, "total_tokens": 10}, Tokens(10, 0, 0)),
        ({"prompt_tokens": "10"}, Tokens()),
        ({}, Tokens()),
        (None, Tokens()),
        ([], Tokens()),
    ],
)
def test_a10_usage_as_engines_report_it(reported: Any, expected: Tokens) -> None:
    meter = EngineMeter()
    meter.whole(json.dumps({"usage": reported}).encode())
    assert meter.tokens() == expected


def test_usage_in_the_text_of_an_answer_counts_for_nothing() -> None:
    meter = EngineMeter()
    text = '"usage":{"prompt_tokens":999,"completion_tokens":999},"timings":{"cache_n":9}}'
    payload = json.dumps(chunk(text), separators=(",", ":")).encode()
    assert meter.chunk(payload) == payload
    assert meter.tokens() == Tokens(0, 0, 1)


# Whole answers put together


def assembled(*payloads: dict[str, Any], kind: str = CHAT) -> dict[str, Any]:
    assembler = Assembler(kind)
    for payload in payloads:
        assembler.take(json.dumps(payload).encode())
    body: dict[str, Any] = json.loads(assembler.body())
    return body


def with_delta(**fields: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": None}]}


def test_an_assembled_answer_has_everything_that_the_chunks_had() -> None:
    body = assembled(
        with_delta(role="assistant", content=None),
        with_delta(content="日本"),
        {"choices": [{"delta": {"content": "語"}, "logprobs": {"content": [{"token": "語", "logprob": -0.5}]}}]},
        {"choices": [{"delta": {}, "finish_reason": "length"}]},
        {"choices": [], "usage": usage(3, 4, 1)},
    )
    assert body["usage"] == usage(3, 4, 1)
    choice = body["choices"][0]
    assert choice["message"]["content"] == "日本語" and choice["finish_reason"] == "length"
    assert choice["logprobs"] == {"content": [{"token": "語", "logprob": -0.5}]}


def test_assembled_tool_calls() -> None:
    def part(index: int, **fields: Any) -> dict[str, Any]:
        return with_delta(tool_calls=[{"index": index, **fields}])

    body = assembled(
        part(0, id="a", type="function", function={"name": "f", "arguments": ""}),
        part(1, id="b", type="function", function={"name": "g", "arguments": "{}"}),
        part(0, function={"arguments": '{"x":'}),
        part(0, function={"arguments": "1}"}),
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}]},
    )
    message = body["choices"][0]["message"]
    assert message["content"] is None and body["choices"][0]["finish_reason"] == "tool_calls"
    assert message["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_assembled_completions() -> None:
    body = assembled(
        {"choices": [{"text": "a"}]}, {"choices": [{"text": "b", "finish_reason": "stop"}]}, kind=COMPLETION
    )
    assert body["choices"] == [{"index": 0, "finish_reason": "stop", "logprobs": None, "text": "ab"}]
