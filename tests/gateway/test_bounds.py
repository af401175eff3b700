"""Bodies that are made to take long: what holds the loop is refused before it is read (C23), and what surely does not fit a
model's context before an engine is asked."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from tests.gateway.harness import Running, ScriptedEngine, ask, chunk, event, post, until
from tests.gateway.test_counting import sends

from sublet.accounts.service import Accounts
from sublet.gateway.metering.estimate import prompt_tokens, prompt_tokens_min
from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import ContextLengthError, InvalidRequestError
from sublet.gateway.requests.bounds import BRACKETS_MAX, SMALL_BYTES, STRINGS_MAX, check_structure
from sublet.gateway.requests.context import TOKEN_BYTES_MAX, check_context
from sublet.gateway.requests.form import CHAT, COMPLETION, EMBEDDING
from sublet.gateway.surfaces.openai import OpenAISurface
from sublet.store.tables.accounts import api_keys

SURFACE = OpenAISurface()
SIZE = 9_000_000
CPU_S_MAX = 0.35
"""Of the loop's thread, on a machine that others use as well: without the bounds these bodies take from 0.4 to 2.5 s."""


def filled(item: str) -> str:
    return ",".join([item] * (SIZE // (len(item) + 1)))


HOSTILE = {
    "stop": '"stop":[' + filled('"a"') + "]",
    "messages": '"messages":[' + filled('{"role":"user"}') + "]",
    "parts": '"messages":[{"role":"user","content":[' + filled('{"type":"text","text":"a"}') + "]}]",
    "nested": '"messages":[{"role":"user","content":"a","more":[' + filled("[1]") + "]}]",
    "objects": '"tools":[' + filled("{}") + "]",
    "metadata": '"metadata":{"a":[' + filled("[1]") + "]}",
    "numbers": '"metadata":{"a":[' + filled("1") + "]}",
    "names": ",".join(f'"z{number}":1' for number in range(700_000)),
    "repeated": filled('"user":1'),
    "logit_bias": '"logit_bias":{' + filled('"1":1') + "}",
    "token ids": '"allowed_token_ids":[' + filled("1") + "]",
    "words": '"bad_words":[' + filled('"a"') + "]",
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("kind", [CHAT, COMPLETION, EMBEDDING])
def test_c23_no_body_holds_the_loop(name: str, kind: str) -> None:
    body = f'{{"model":"m",{HOSTILE[name]}}}'.encode()
    began = time.thread_time()
    with pytest.raises(InvalidRequestError):
        check_structure(body)
        SURFACE.parse(kind, body)
    assert time.thread_time() - began < CPU_S_MAX


@pytest.mark.parametrize("field", ["prompt", "input"])
def test_c23_lists_of_prompts_are_bounded_before_they_are_read(field: str) -> None:
    kind = COMPLETION if field == "prompt" else EMBEDDING
    for items in (filled("1"), ",".join(['"a"'] * 3000)):
        body = f'{{"model":"m","{field}":[{items}]}}'.encode()
        began = time.thread_time()
        with pytest.raises(InvalidRequestError) as refused:
            check_structure(body)
            SURFACE.parse(kind, body)
        assert refused.value.details["param"] == field
        assert time.thread_time() - began < CPU_S_MAX


def test_long_texts_pass_whatever_they_say() -> None:
    code = json.dumps('int main() { return a[0] ? "x" : "\\\\"; }\n' * 60_000)
    check_structure(f'{{"model":"m","messages":[{{"role":"user","content":{code}}}]}}'.encode())
    check_structure(b'"a"' * (SMALL_BYTES // 3))
    for sign, most in (('"a",', STRINGS_MAX), ("[", BRACKETS_MAX)):
        check_structure(f'{{"a":[{sign * (most - 2)}'.encode() + b" " * SMALL_BYTES)
        with pytest.raises(InvalidRequestError):
            check_structure(f'{{"a":[{sign * (most + 2)}'.encode() + b" " * SMALL_BYTES)


def test_c23_an_estimate_reads_nothing_but_texts() -> None:
    nested = "[" + ",".join(["[1]"] * (BRACKETS_MAX - 20)) + "]"
    body = f'{{"model":"m","messages":[{{"role":"user","content":"abcdefgh","more":{nested}}}]}}'.encode()
    call = SURFACE.parse(CHAT, body)
    began = time.thread_time()
    assert prompt_tokens(call) == 6
    assert time.thread_time() - began < CPU_S_MAX


MESSAGES: list[tuple[Any, int]] = [
    ({"role": "user", "content": "abcdefgh"}, 8),
    ({"role": "user", "content": None}, 0),
    ({"role": "user", "content": [{"type": "text", "text": "é"}, {"type": "text", "text": 'a"\n'}]}, 5),
    ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:" + "x" * 99}}]}, 0),
    ({"role": "assistant", "content": "a", "reasoning": "bc", "refusal": "def"}, 6),
    ({"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]}, 3),
    ({"role": "assistant", "content": "a", "tool_calls": "no list", "reasoning_content": 5}, 1),
]


@pytest.mark.parametrize(("message", "size"), MESSAGES)
def test_texts_of_a_prompt_are_counted_in_bytes(message: Any, size: int) -> None:
    call = SURFACE.parse(CHAT, json.dumps({"model": "m", "messages": [message]}).encode())
    assert prompt_tokens(call) == -(-size // 4) + 4
    assert prompt_tokens_min(call, 1) == size


def test_a_prompt_that_can_not_fit_is_refused() -> None:
    model = ModelRoute("m", "m", frozenset(), 100, 1)
    cases: list[tuple[str, str, Any, bool]] = [
        (CHAT, "messages", [{"role": "user", "content": "x" * TOKEN_BYTES_MAX * 100}], False),
        (CHAT, "messages", [{"role": "user", "content": "x" * (TOKEN_BYTES_MAX * 100 + 1)}], True),
        (COMPLETION, "prompt", "x" * (TOKEN_BYTES_MAX * 100 + 1), True),
        (COMPLETION, "prompt", list(range(100)), False),
        (COMPLETION, "prompt", list(range(101)), True),
        (COMPLETION, "prompt", [[1] * 60, [1] * 60], False),
        (EMBEDDING, "input", ["x" * TOKEN_BYTES_MAX * 60] * 3, False),
        (EMBEDDING, "input", ["x", "x" * (TOKEN_BYTES_MAX * 100 + 1)], True),
    ]
    for kind, field, value, refused in cases:
        body = json.dumps({"model": "m", field: value}).encode()
        call = SURFACE.parse(kind, body)
        if not refused:
            check_context(call, len(body), model)
            continue
        with pytest.raises(ContextLengthError, match="maximum context length is 100 tokens") as found:
            check_context(call, len(body), model)
        assert found.value.details["param"] == field
        check_context(call, len(body), ModelRoute("m", "m", frozenset(), 100, 1, context_known=False))


def test_a_prompt_that_can_not_fit_reaches_no_engine_and_uses_nothing_up(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(llamacpp=True, requests_per_minute_max=3)
    long = ask(messages=[{"role": "user", "content": "x" * (2048 * TOKEN_BYTES_MAX + 1)}])
    for _ in range(5):
        answer = gateway.post(long)
        assert answer.status == 400 and answer.json["error"]["code"] == "context_length_exceeded"
        assert answer.json["error"]["param"] == "messages"
    assert engine.asked == [] and gateway.post(ask()).status == 200


@pytest.mark.parametrize("how", ["waits", "streams", "expires"])
def test_b18_what_is_under_way_for_a_key_that_is_no_longer_valid_ends_and_bills_what_was_delivered(
    gateway: Running, engine: ScriptedEngine, how: str
) -> None:
    engine.script = sends(*(event(chunk(f"t{number}")) for number in range(2 if how != "waits" else 0)))
    wire = gateway.wire()
    wire.send(post(ask(stream=how != "waits"), gateway.key))
    if how == "waits":
        until(lambda: engine.asked)
    else:
        wire.read_until(b"t1")
    if how == "expires":
        ends_at = gateway.store.clock.now()
        gateway.store.write(lambda connection: connection.execute(update(api_keys).values(expires_at=ends_at)))
    else:
        Accounts(gateway.store).revoke_key(gateway.key_id)
    if how == "waits":
        answer = wire.answer()
        assert answer.status == 401 and answer.json["error"]["code"] == "invalid_api_key"
    else:
        rest = wire.read_until(b"invalid_api_key")
        assert b"[DONE]" not in rest
    record = gateway.settled(1)[0]
    assert (record["reason"], record["incomplete"]) == ("invalid_api_key", True)
    assert record.get("output", 0) == (0 if how == "waits" else 2)
    assert gateway.post(ask()).status == 401
