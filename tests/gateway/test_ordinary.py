"""The short ways through the gateway, against the long ones: whatever an engine sends, both say and count the same."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sublet.gateway.model import ModelRoute
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import CHAT, ChatRequest
from sublet.gateway.requests.reply import Reply
from sublet.gateway.surfaces.openai import OpenAISurface
from sublet.gateway.surfaces.surface import Identity
from sublet.gateway.upstream.engine_meter import EngineMeter

MODEL = ModelRoute("m", "m", frozenset({"chat"}), 4096, 1)
IDENTITY = Identity("req_0123", "m", 1_700_000_000)

TEXTS = st.sampled_from(
    ["word ", "", "a\nb", 'say "x"', "back\\", "content", "é🙂", "\r", "data: {}\n\n", "usage", "x" * 300]
)
DELTAS = st.one_of(
    TEXTS.map(lambda text: {"content": text}),
    st.just({}),
    st.just({"role": "assistant", "content": ""}),
    TEXTS.map(lambda text: {"reasoning_content": text}),
    TEXTS.map(lambda text: {"content": "x", "refusal": text}),
    st.just({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": '{"a":1}'}}]}),
)
CHOICES = st.one_of(
    st.builds(lambda delta: [{"index": 0, "delta": delta, "finish_reason": None}], DELTAS),
    st.builds(lambda delta: [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": "stop"}], DELTAS),
    st.builds(lambda one, two: [{"index": 0, "delta": one}, {"index": 1, "delta": two}], DELTAS, DELTAS),
    st.just([]),
)
MORE = st.sampled_from(
    [
        {},
        {},
        {},
        {"usage": None},
        {"usage": {"prompt_tokens": 5, "completion_tokens": 7}},
        {"timings": {"cache_n": 0, "prompt_n": 5, "predicted_n": 1}},
        {"error": {"message": "no"}},
    ]
)


def event(choices: Any, more: Any, ends: str, spaced: bool, ascii: bool) -> bytes:
    fields = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "e", "choices": choices, **more}
    separators = (", ", ": ") if spaced else (",", ":")
    return (f"data: {json.dumps(fields, separators=separators, ensure_ascii=ascii)}" + ends * 2).encode()


EVENTS = st.builds(event, CHOICES, MORE, st.sampled_from(["\n", "\n", "\r\n"]), st.just(False), st.booleans())


def relayed(pieces: list[bytes], *, short: bool, include_usage: bool) -> tuple[bytes, Any, str]:
    reply = Reply(
        OpenAISurface(), Call(CHAT, "m", ChatRequest("m", ()), stream=True, include_usage=include_usage), IDENTITY
    )
    reply.begin(MODEL)
    reply.head(200, None)
    sent = b""
    for piece in pieces:
        out = reply.ordinary(piece) if short else b""
        if not out:
            out, done, failure = reply.relay(piece)
            if done or failure is not None:
                return sent + out, reply.meter.state(), failure.code if failure else "done"
        sent += out
    return sent, reply.meter.state(), ""


@settings(max_examples=200)
@given(st.lists(EVENTS, min_size=1, max_size=12), st.lists(st.integers(0, 4000), max_size=3), st.booleans())
@example([event([{"index": 0, "delta": {"content": "abc"}}], {}, "\n", False, True)] * 5, [], False)
def test_c23_an_event_taken_by_position_is_what_it_is_when_it_is_read(
    events: list[bytes], cuts: list[int], include_usage: bool
) -> None:
    stream = b"".join(events)
    at = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    ragged = [stream[one:two] for one, two in pairwise(at)]
    for pieces in (events, ragged):
        found = [relayed(pieces, short=short, include_usage=include_usage) for short in (True, False)]
        assert found[0] == found[1]


def test_an_ordinary_stream_takes_the_short_way() -> None:
    reply = Reply(OpenAISurface(), Call(CHAT, "m", ChatRequest("m", ()), stream=True), IDENTITY)
    reply.begin(MODEL)
    reply.head(200, None)
    taken = []
    for text in ("", "one ", "two ", "three\n", 'say "x"'):
        piece = event([{"index": 0, "delta": {"content": text}, "finish_reason": None}], {}, "\n", False, True)
        taken.append(bool(out := reply.ordinary(piece)))
        if not out:
            reply.relay(piece)
    assert taken == [False, False, True, True, False]
    # The last one has 11 bytes.
    assert reply.meter.output == max(4, -(-(4 + 4 + 7 + 5) // 4))


WHOLE = {
    "id": "x",
    "object": "chat.completion",
    "created": 1,
    "model": "e",
    "choices": [{"message": {"content": "hi"}}],
}
USAGE = {"prompt_tokens": 5, "completion_tokens": 7, "prompt_tokens_details": {"cached_tokens": 2}}


@pytest.mark.parametrize(
    "more",
    [
        {"usage": USAGE},
        {"usage": USAGE, "system_fingerprint": "fp", "timings": {"cache_n": 1}},
        {"usage": {"prompt_tokens": None}},
        {"usage": None},
        {},
        {"usage": USAGE, "kv_transfer_params": None, "prompt_logprobs": None},
        {"usage": USAGE, "service_tier": "flex"},
    ],
)
def test_a1_a_whole_answer_read_once_is_what_it_is_when_it_is_read_twice(more: dict[str, Any]) -> None:
    body = json.dumps(WHOLE | more).encode()
    call = Call(CHAT, "m", ChatRequest("m", ()))
    quick = Reply(OpenAISurface(), call, IDENTITY)
    quick.begin(MODEL)
    quick.head(200, None)
    quick.collect(body, 1 << 20)
    quick.complete()
    meter = EngineMeter()
    meter.whole(body)
    whole = OpenAISurface().answer(call, IDENTITY, body)
    meter.finish_whole(call, body)
    assert json.loads(quick.whole) == json.loads(whole)
    assert (quick.meter.tokens(), quick.meter.counted) == (meter.tokens(), meter.counted)
