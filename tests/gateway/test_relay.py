"""The way of a request through the gateway: answers, streams, their usage, and what both sides may do to it.

Names of failure cases (A1, B13, …) are those of docs/gateway.md.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import pytest
from tests.gateway.harness import (
    MODEL,
    Answering,
    Running,
    ScriptedEngine,
    ask,
    chunk,
    event,
    post,
    timings,
    until,
    usage,
    whole,
)


def test_a_whole_answer_has_our_names_and_is_metered(gateway: Running) -> None:
    answer = gateway.post(ask(max_tokens=5))
    assert answer.status == 200
    body = answer.json
    request_id = answer.headers["x-request-id"]
    assert body["id"] == "chatcmpl-" + request_id.removeprefix("req_")
    assert (body["model"], body["system_fingerprint"]) == (MODEL, "sublet")
    assert body["created"] == int(gateway.store.clock.now().timestamp())
    assert "timings" not in body and b"engine" not in answer.body
    assert body["choices"][0]["message"]["content"] == "Hello"
    until(lambda: gateway.tokens() == {"tokens.input": 5, "tokens.output": 3})
    assert {record.request_id for record in gateway.events} == {request_id}


def test_the_engine_gets_its_own_model_name_and_no_descriptions_of_the_caller(
    gateway: Running, engine: ScriptedEngine
) -> None:
    gateway.post(ask(max_completion_tokens=7, user="alice", metadata={"a": "b"}, temperature=0.5, seed=1))
    asked = engine.asked[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.body == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 7,
        "temperature": 0.5,
        "seed": 1,
    }
    assert "authorization" not in asked.headers


def test_a_stream_has_our_names_in_every_chunk(gateway: Running) -> None:
    answer = gateway.post(ask(stream=True, stream_options={"include_usage": True}))
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.events[-1] == "[DONE]"
    assert answer.text == "Hello"
    ours = {(item["id"], item["model"], item["system_fingerprint"]) for item in answer.chunks}
    assert ours == {("chatcmpl-" + answer.headers["x-request-id"].removeprefix("req_"), MODEL, "sublet")}
    assert answer.chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert answer.chunks[-1]["choices"] == [] and answer.chunks[-1]["usage"]["completion_tokens"] == 3
    assert b"timings" not in answer.body and b"engine" not in answer.body


def test_a1_streamed_and_whole_answers_cost_the_same(gateway: Running) -> None:
    first = gateway.post(ask())
    second = gateway.post(ask(stream=True))
    gateway.settled(2)
    until(lambda: len(gateway.events) == 4)
    assert gateway.tokens(first.headers["x-request-id"]) == gateway.tokens(second.headers["x-request-id"])


def test_a3_a_client_that_did_not_ask_gets_no_usage_chunk(gateway: Running) -> None:
    answer = gateway.post(ask(stream=True))
    assert all(item["choices"][0] is not None and "usage" not in item for item in answer.chunks)
    assert answer.events[-1] == "[DONE]"


@pytest.mark.parametrize("events", [0, 1, 3])
def test_a4_a_client_that_cuts_a_stream_pays_what_it_got_and_the_engine_stops(
    gateway: Running, engine: ScriptedEngine, events: int
) -> None:
    async def script(answering: Answering) -> None:
        await answering.head()
        for number in range(events):
            await answering.part(event(chunk(f"t{number}", timings=timings(5, number + 1))))
        await answering.gone()

    engine.script = script
    wire = gateway.wire()
    wire.send(post(ask(stream=True), gateway.key))
    if events:
        wire.read_until(f"t{events - 1}".encode())
    else:
        until(lambda: engine.asked)
    wire.close()
    record = gateway.settled(1)[0]
    assert record["status"] == 499 and record["incomplete"]
    assert (record.get("input", 0), record.get("output", 0)) == ((5, events) if events else (0, 0))
    until(lambda: engine.open == 0)


def test_a5_a_client_that_leaves_a_whole_answer_stops_the_engine_and_pays_nothing(
    gateway: Running, engine: ScriptedEngine
) -> None:
    async def script(answering: Answering) -> None:
        await answering.gone()

    engine.script = script
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key))
    until(lambda: engine.asked)
    wire.close()
    record = gateway.settled(1)[0]
    assert record["status"] == 499 and record["incomplete"] and "output" not in record
    until(lambda: engine.open == 0)
    assert gateway.tokens() == {}


def test_a6_an_engine_that_dies_in_mid_stream_is_an_error_and_what_was_delivered_is_billed(
    gateway: Running, engine: ScriptedEngine
) -> None:
    async def script(answering: Answering) -> None:
        await answering.head()
        await answering.part(event(chunk("one", timings=timings(5, 1))))
        await answering.part(event(chunk("two", timings=timings(5, 2))))
        answering.writer.close()

    engine.script = script
    answer = gateway.post(ask(stream=True))
    assert answer.text == "onetwo"
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"
    assert "[DONE]" not in answer.events
    record = gateway.settled(1)[0]
    assert record["incomplete"] and (record["input"], record["output"]) == (5, 2)
    until(lambda: gateway.tokens() == {"tokens.input": 5, "tokens.output": 2})
    assert all(item.incomplete for item in gateway.events)


def test_a6_an_engine_that_ends_a_stream_without_done_did_not_complete_it(
    gateway: Running, engine: ScriptedEngine
) -> None:
    async def script(answering: Answering) -> None:
        await answering.stream(chunk("one", timings=timings(5, 1)), done=False)
        await answering.end()

    engine.script = script
    answer = gateway.post(ask(stream=True))
    assert "[DONE]" not in answer.events and "error" in answer.events[-1]
    assert gateway.settled(1)[0]["incomplete"]


def test_a6_an_error_event_of_the_engine_ends_the_stream_without_its_words(
    gateway: Running, engine: ScriptedEngine
) -> None:
    async def script(answering: Answering) -> None:
        await answering.stream(chunk("one", timings=timings(5, 1)), '{"error":{"message":"at /srv/model/x.gguf"}}')

    engine.script = script
    answer = gateway.post(ask(stream=True))
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"
    assert b"gguf" not in answer.body
    assert gateway.settled(1)[0]["output"] == 1


def test_a6_a_broken_chunk_is_not_billed(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        good = event(chunk("one", timings=timings(5, 1)))
        await answering.head()
        await answering.part(good + b'data: {"choices":[{,"timings":{"cache_n":0,"prompt_n":5,"predicted_n":2}}\n\n')
        await answering.gone()

    engine.script = script
    answer = gateway.post(ask(stream=True))
    assert answer.text == "one" and "error" in answer.events[-1]
    assert gateway.settled(1)[0]["output"] == 1


def test_a7_ids_of_the_engine_and_of_the_client_do_not_matter(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        await answering.answer({**whole(), "id": None})

    engine.script = script
    answers = [gateway.post(ask(), extra="x-request-id: mine\r\nidempotency-key: mine\r\n") for _ in range(3)]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3 and "mine" not in ids
    until(lambda: gateway.tokens() == {"tokens.input": 15, "tokens.output": 9})


def test_a11_b13_a_request_that_is_tried_twice_is_billed_once(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway()
    calls = 0

    async def script(answering: Answering) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            # The connection is used again, and the engine had closed it.
            answering.writer.close()
            raise ConnectionError
        await answering.answer(whole())

    engine.script = script
    assert gateway.post(ask()).status == 200
    assert gateway.post(ask()).status == 200
    assert calls == 3
    assert len(gateway.settled(2)) == 2
    until(lambda: gateway.tokens() == {"tokens.input": 10, "tokens.output": 6})


def test_c25_the_first_event_reaches_the_client_before_the_second_is_made(
    gateway: Running, engine: ScriptedEngine
) -> None:
    seen = asyncio.Event()

    async def script(answering: Answering) -> None:
        await answering.head()
        await answering.part(event(chunk("one", timings=timings(5, 1))))
        await asyncio.wait_for(seen.wait(), 5)
        await answering.part(event(chunk("two", timings=timings(5, 2))))
        await answering.part(event("[DONE]"))
        await answering.end()

    engine.script = script
    wire = gateway.wire()
    wire.send(post(ask(stream=True), gateway.key))
    wire.read_until(b"one")
    engine.loop.call_soon_threadsafe(seen.set)
    assert b"[DONE]" in wire.read_until(b"[DONE]")
    wire.close()


def test_c26_a_long_silence_is_filled_with_comments(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(keep_alive_comment_s=0.05)
    speak = asyncio.Event()

    async def script(answering: Answering) -> None:
        await asyncio.wait_for(speak.wait(), 5)
        await answering.stream(chunk("late", timings=timings(5, 1)), chunk(finish="stop"))

    engine.script = script
    wire = gateway.wire()
    wire.send(post(ask(stream=True), gateway.key))
    assert b": keep-alive" in wire.read_until(b": keep-alive\n\n")
    engine.loop.call_soon_threadsafe(speak.set)
    assert b"late" in wire.read_until(b"[DONE]")
    wire.close()


def test_an_engine_that_falls_silent_is_given_up(make_gateway: Callable[..., Running], engine: ScriptedEngine) -> None:
    gateway = make_gateway(silence_s_max=0.1)

    async def script(answering: Answering) -> None:
        await answering.head()
        await answering.part(event(chunk("one", timings=timings(5, 1))))
        await answering.gone()

    engine.script = script
    answer = gateway.post(ask(stream=True))
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_timeout"
    assert gateway.settled(1)[0]["output"] == 1
    until(lambda: engine.open == 0)


def test_an_engine_that_never_answers_is_a_504(make_gateway: Callable[..., Running], engine: ScriptedEngine) -> None:
    gateway = make_gateway(answer_s_max=0.1)

    async def script(answering: Answering) -> None:
        await answering.gone()

    engine.script = script
    assert gateway.post(ask()).status == 504
    assert gateway.post(ask(stream=True)).status == 504
    assert [record["reason"] for record in gateway.settled(2)] == ["engine_timeout"] * 2
    assert gateway.tokens() == {}


ENGINE_ERRORS: list[tuple[int, object, int, str]] = [
    (400, {"error": {"message": "bad at /srv/a/b.gguf", "type": "invalid_request_error"}}, 400, "invalid_request"),
    (
        400,
        {"error": {"message": "request (9 tokens) exceeds", "type": "exceed_context_size_error"}},
        400,
        "context_length_exceeded",
    ),
    (500, {"error": {"message": "secret /srv/a"}}, 502, "engine_failed"),
    (503, {"error": {"message": "loading"}}, 503, "engine_overloaded"),
    (500, b"not json", 502, "engine_failed"),
    (200, b"not json", 502, "engine_failed"),
    (200, b"", 502, "engine_failed"),
]


@pytest.mark.parametrize(
    ("stream", "status", "body", "expected", "code"),
    # A stream's head is sent at once, so what follows a 200 is no error of its own there.
    [(stream, *error) for error in ENGINE_ERRORS for stream in (False, True) if not (stream and error[0] == 200)],
)
def test_errors_of_the_engine(
    gateway: Running, engine: ScriptedEngine, status: int, body: object, expected: int, code: str, stream: bool
) -> None:
    async def script(answering: Answering) -> None:
        await answering.answer(body, status)

    engine.script = script
    answer = gateway.post(ask(stream=stream))
    assert (answer.status, answer.json["error"]["code"]) == (expected, code)
    assert b"/srv" not in answer.body and b"secret" not in answer.body
    assert gateway.settled(1)[0]["incomplete"]
    assert gateway.tokens() == {}


def test_an_answer_without_end_is_refused(make_gateway: Callable[..., Running], engine: ScriptedEngine) -> None:
    gateway = make_gateway(answer_bytes_max=100_000)

    async def script(answering: Answering) -> None:
        await answering.head(kind="application/json")
        while not answering.writer.is_closing():
            await answering.part(b"x" * 10_000)

    engine.script = script
    assert gateway.post(ask()).json["error"]["code"] == "answer_too_large"


def test_an_answer_that_is_not_http(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        await answering.send(b"SMTP ready\r\n\r\n")
        await answering.gone()

    engine.script = script
    assert gateway.post(ask()).status in (502, 503)


def test_backpressure_a_client_that_does_not_read_stops_the_engine_and_not_the_memory(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(stalled_client_s_max=0.3)
    sent = 0

    async def script(answering: Answering) -> None:
        nonlocal sent
        await answering.head()
        part = event(chunk("x" * 50_000, timings=timings(5, 1)))
        while not answering.writer.is_closing():
            await answering.part(part)
            sent += len(part)

    engine.script = script
    wire = gateway.wire()
    wire.send(post(ask(stream=True), gateway.key))
    record = gateway.settled(1)[0]
    assert record["status"] == 499
    assert sent < 40_000_000
    until(lambda: engine.open == 0)
    wire.close()


def test_http_1_0_gets_a_stream_without_chunks(gateway: Running) -> None:
    answer = gateway.post(ask(stream=True), version="1.0")
    assert "transfer-encoding" not in answer.headers
    assert answer.body.endswith(b"data: [DONE]\n\n") and answer.text == "Hello"


def test_completions(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        answer = {**whole(), "object": "text_completion", "choices": [{"text": "Hello", "index": 0}]}
        await answering.answer(answer)

    engine.script = script
    body = gateway.post({"model": MODEL, "prompt": "Once"}, path="/v1/completions").json
    assert body["object"] == "text_completion" and body["id"].startswith("cmpl-")
    assert engine.asked[0].path == "/v1/completions" and engine.asked[0].body["prompt"] == "Once"


def test_a2_usage_in_every_shape_of_chunk(gateway: Running, engine: ScriptedEngine) -> None:
    shapes: list[list[dict[str, object]]] = [
        [chunk("Hi"), {**chunk(finish="stop"), "usage": usage(7, 2)}],
        [{**chunk("Hi"), "usage": usage(7, 1)}, {**chunk("!", finish="stop"), "usage": usage(7, 2)}],
        [{**chunk("Hi"), "usage": None}, {**chunk(), "choices": [], "usage": usage(7, 2)}],
        [chunk("Hi", timings=timings(7, 2)), chunk(finish="stop")],
    ]

    async def script(answering: Answering) -> None:
        await answering.stream(*shapes[len(engine.asked) - 1])

    engine.script = script
    for number in range(len(shapes)):
        answer = gateway.post(ask(stream=True))
        assert all("usage" not in item and item["choices"] for item in answer.chunks), number
        until(
            lambda request=answer.headers["x-request-id"]: (
                gateway.tokens(request) == {"tokens.input": 7, "tokens.output": 2}
            )
        )


def test_a5_a_llamacpp_engine_is_asked_for_a_stream_and_the_client_gets_it_whole(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(llamacpp=True)
    answer = gateway.post(ask(max_tokens=5))
    assert engine.asked[0].body["stream"] and engine.asked[0].body["timings_per_token"]
    body = answer.json
    assert body["object"] == "chat.completion" and body["model"] == MODEL
    assert body["choices"] == [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "Hello", "refusal": None},
        }
    ]
    assert body["usage"] == usage(5, 3)
    until(lambda: gateway.tokens() == {"tokens.input": 5, "tokens.output": 3})


def test_a5_a_client_that_leaves_while_its_answer_is_put_together_pays_nothing(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(llamacpp=True)
    sent = asyncio.Event()

    async def script(answering: Answering) -> None:
        await answering.head()
        await answering.part(event(chunk("one", timings=timings(5, 1))))
        sent.set()
        await answering.gone()

    engine.script = script
    wire = gateway.wire()
    wire.send(post(ask(), gateway.key))
    until(sent.is_set)
    wire.close()
    record = gateway.settled(1)[0]
    assert record["status"] == 499 and "output" not in record
    until(lambda: engine.open == 0)


@pytest.mark.parametrize("ending", ["dies", "error", "broken", "no done"])
def test_an_answer_that_can_not_be_put_together_is_a_502_and_costs_nothing(
    make_gateway: Callable[..., Running], engine: ScriptedEngine, ending: str
) -> None:
    gateway = make_gateway(llamacpp=True)

    async def script(answering: Answering) -> None:
        await answering.head()
        await answering.part(event(chunk("one", timings=timings(5, 1))))
        if ending == "error":
            await answering.part(event('{"error":{"message":"x"}}'))
        elif ending == "broken":
            await answering.part(event("{"))
        elif ending == "no done":
            await answering.end()
        answering.writer.close()

    engine.script = script
    assert gateway.post(ask()).status == 502
    assert gateway.settled(1)[0]["incomplete"]
    assert gateway.tokens() == {}
