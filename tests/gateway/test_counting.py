"""No free tokens: whatever an engine says of its counts, what was delivered is billed, and the bill says how it was counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.gateway.harness import (
    MODEL,
    Answering,
    Running,
    ScriptedEngine,
    ask,
    chunk,
    event,
    post,
    until,
    usage,
    whole,
)
from tests.gateway.test_openai_surface import ROUTE, parse

from sublet.gateway.metering.estimate import prompt_tokens, prompt_tokens_min
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    ChatRequest,
    EmbeddingRequest,
    Image,
    Role,
    Text,
    ToolUse,
    Turn,
)
from sublet.gateway.upstream.engine_meter import EngineMeter
from sublet.gateway.upstream.writer import for_engine
from sublet.store.tables.models import models
from sublet.wiring.requests import request_usage

WORDS = "word " * 20_000
PROMPT = [{"role": "user", "content": WORDS}]
PROMPT_ESTIMATE = len(WORDS) // 4 + 4


def speak(gateway: Running, dialect: str) -> None:
    """Say in the catalog which server the model's URL is."""

    def write(connection: Any) -> None:
        entry = connection.execute(select(models.c.entry).where(models.c.name == MODEL)).scalar_one()
        entry = {**entry, "source": {**entry["source"], "dialect": dialect}}
        connection.execute(update(models).where(models.c.name == MODEL).values(entry=entry))

    gateway.store.write(write)


def cut(gateway: Running, mark: bytes, **fields: Any) -> dict[str, Any]:
    """Leave a stream once `mark` came; the record of it."""
    before = len(gateway.journal("settle"))
    wire = gateway.wire()
    wire.send(post(ask(stream=True, messages=PROMPT, **fields), gateway.key))
    assert mark in wire.read_until(mark)
    wire.close()
    until(lambda: len(gateway.journal("settle")) > before)
    return gateway.journal("settle")[-1]


def sends(*payloads: bytes) -> Any:
    async def script(answering: Answering) -> None:
        await answering.head()
        for payload in payloads:
            await answering.part(payload)
        await answering.gone()

    return script


@pytest.mark.parametrize(("dialect", "spaced"), [("vllm", False), ("sglang", False), ("vllm", True)])
def test_a_cut_stream_is_billed_by_the_running_count_of_an_engine_that_has_it(
    gateway: Running, engine: ScriptedEngine, dialect: str, spaced: bool
) -> None:
    speak(gateway, dialect)
    chunks = [
        {**chunk(""), "usage": usage(20_013, 0)},
        {**chunk("one"), "usage": usage(20_013, 1)},
        {**chunk("two"), "usage": usage(20_013, 3, 16)},
    ]
    engine.script = sends(*(event(json.dumps(item) if spaced else item) for item in chunks))
    until(lambda: cut(gateway, b"two") and "continuous_usage_stats" in engine.asked[-1].body["stream_options"])
    record = cut(gateway, b"two")
    assert (record["input"], record["input_cached"], record["output"]) == (20_013, 16, 3)
    assert record["counted"] == "running" and record["incomplete"]


@pytest.mark.parametrize("spaced", [False, True])
def test_a_client_gets_no_running_counts_and_the_final_one_only_if_it_asked(
    gateway: Running, engine: ScriptedEngine, spaced: bool
) -> None:
    speak(gateway, "vllm")

    async def script(answering: Answering) -> None:
        chunks: list[dict[str, Any]] = [
            {**chunk("a"), "usage": usage(7, 1)},
            {**chunk("b"), "usage": usage(7, 2)},
            {**chunk(finish="stop"), "usage": usage(7, 3)},
            {**chunk(), "choices": [], "usage": usage(7, 3)},
        ]
        await answering.stream(*(json.dumps(item) if spaced else item for item in chunks))

    engine.script = script
    until(
        lambda: gateway.post(ask(stream=True)) and engine.asked[-1].body["stream_options"].get("continuous_usage_stats")
    )
    plain = gateway.post(ask(stream=True))
    assert plain.text == "ab" and all("usage" not in item for item in plain.chunks)
    asked = gateway.post(ask(stream=True, stream_options={"include_usage": True}))
    assert [item.get("usage") for item in asked.chunks if item["choices"]] == [None] * len(asked.chunks[:-1])
    assert asked.chunks[-1]["usage"] == usage(7, 3)
    assert "counted" not in gateway.journal("settle")[-1]


def test_a_cut_stream_of_an_engine_without_counts_is_estimated_prompt_and_all(
    gateway: Running, engine: ScriptedEngine
) -> None:
    engine.script = sends(*(event(chunk(f"t{number}")) for number in range(3)))
    record = cut(gateway, b"t2")
    assert (record["input"], record["output"], record["counted"]) == (PROMPT_ESTIMATE, 3, "estimate")
    until(lambda: len(gateway.events) == 2)
    assert {item.counted for item in gateway.events} == {"estimate"}
    for item in request_usage(gateway.events):
        assert dict(item.dimensions) == {"model": MODEL, "pool": "pool_x", "counted": "estimate"}


REASONING = [
    {"reasoning_content": "thinking hard"},
    {"reasoning": "thinking hard"},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"a": 1}'}}]},
]


@pytest.mark.parametrize("spaced", [False, True])
@pytest.mark.parametrize("delta", REASONING)
def test_reasoning_and_tool_calls_are_not_free_whatever_space_the_json_has(
    gateway: Running, engine: ScriptedEngine, delta: dict[str, Any], spaced: bool
) -> None:
    payload = {**chunk(), "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    text = json.dumps(payload) if spaced else json.dumps(payload, separators=(",", ":"))
    engine.script = sends(event(text), event(text))
    record = cut(gateway, b'finish_reason":null}]')
    assert record["output"] >= 1 and record["input"] == PROMPT_ESTIMATE and record["counted"] == "estimate"


def test_long_chunks_are_counted_by_their_text(gateway: Running, engine: ScriptedEngine) -> None:
    engine.script = sends(event(json.dumps(chunk("x" * 4000))), event(chunk("END")))
    assert cut(gateway, b"END")["output"] == 1001


@pytest.mark.parametrize("silence", ["absent", "null", "empty", "zero"])
def test_a_whole_answer_without_usage_is_estimated(gateway: Running, engine: ScriptedEngine, silence: str) -> None:
    answer = whole("x" * 40)
    del answer["timings"]
    if silence == "absent":
        del answer["usage"]
    else:
        answer["usage"] = {"null": None, "empty": {}, "zero": usage(0, 0)}[silence]

    async def script(answering: Answering) -> None:
        await answering.answer(answer)

    engine.script = script
    assert gateway.post(ask(messages=PROMPT)).status == 200
    record = gateway.settled(1)[0]
    assert (record["input"], record["output"], record["counted"]) == (PROMPT_ESTIMATE, 10, "estimate")


def test_what_an_engine_counts_is_left_as_it_is(gateway: Running) -> None:
    gateway.post(ask(messages=PROMPT))
    record = gateway.settled(1)[0]
    assert (record["input"], record["output"]) == (5, 3) and "counted" not in record


def test_a_client_that_got_nothing_pays_nothing(make_gateway: Callable[..., Running], engine: ScriptedEngine) -> None:
    gateway = make_gateway()
    engine.script = sends()
    wire = gateway.wire()
    wire.send(post(ask(stream=True, messages=PROMPT), gateway.key))
    until(lambda: engine.asked)
    wire.close()
    record = gateway.settled(1)[0]
    assert record["status"] == 499 and "input" not in record and "output" not in record


@pytest.mark.parametrize("counts", [{"usage": usage(20_013, 0)}, {}])
def test_an_engine_that_dies_before_its_first_token_is_billed_nothing(
    gateway: Running, engine: ScriptedEngine, counts: dict[str, Any]
) -> None:
    async def script(answering: Answering) -> None:
        await answering.head()
        await answering.part(event({**chunk(""), **counts}))
        answering.writer.close()

    engine.script = script
    answer = gateway.post(ask(stream=True, messages=PROMPT))
    assert "error" in json.loads(answer.events[-1])
    record = gateway.settled(1)[0]
    assert "input" not in record and "output" not in record


def test_the_estimate_of_a_prompt() -> None:
    chat = parse(
        {"model": "toy", "messages": [{"role": "system", "content": "x" * 8}, {"role": "user", "content": "é" * 4}]}
    )
    assert prompt_tokens(chat) == 4 + 2 * 4
    parts = [{"type": "text", "text": "x" * 8}, {"type": "image_url", "image_url": {"url": "data:" + "x" * 9000}}]
    assert prompt_tokens(parse({"model": "toy", "messages": [{"role": "user", "content": parts}]}, CHAT)) == 2 + 4
    assert prompt_tokens(parse({"model": "toy", "prompt": [1, 2, 3]}, COMPLETION)) == 3
    assert prompt_tokens(parse({"model": "toy", "prompt": "x" * 9}, COMPLETION)) == 3
    assert prompt_tokens(parse({"model": "toy", "input": ["x" * 8, "y"]}, EMBEDDING)) == 3
    assert prompt_tokens(parse({"model": "toy", "input": [[1, 2], [3]]}, EMBEDDING)) == 3


def test_the_estimate_of_an_answer_leaves_an_echo_out() -> None:
    body = json.dumps({"choices": [{"text": "x" * 40}]}).encode()
    asked: tuple[tuple[dict[str, Any], int], ...] = (
        ({"prompt": "x" * 32}, 10),
        ({"prompt": "x" * 32, "echo": True}, 2),
        ({"prompt": "x" * 40, "echo": True, "max_tokens": 0}, 0),
    )
    for fields, tokens in asked:
        meter = EngineMeter()
        meter.finish_whole(parse({"model": "toy", **fields}, COMPLETION), body)
        assert (meter.output, meter.counted) == (tokens, "estimate")


def test_a_prompt_in_the_gateways_own_form_is_estimated_as_the_same_one_that_passes_unread() -> None:
    turns = [Turn(Role.SYSTEM, (Text("x" * 8),)), Turn(Role.USER, (Text("é" * 4), Image("https://x/y.png")))]
    turns.append(Turn(Role.ASSISTANT, uses=(ToolUse("t1", "weather", '{"at": "Oslo"}'),)))
    own = Call.of(ChatRequest("toy", tuple(turns)))
    passed = parse({"model": "toy", **json.loads(for_engine(own, ROUTE))}, CHAT)
    assert prompt_tokens(own) == prompt_tokens(passed) == -(-(8 + 8 + 7 + 14) // 4) + 3 * 4
    assert prompt_tokens_min(own, 1) == prompt_tokens_min(passed, 1) == 8 + 8 + 7 + 14
    embedded = Call.of(EmbeddingRequest("toy", ("x" * 8, "y")))
    assert (prompt_tokens(embedded), prompt_tokens_min(embedded, 4)) == (3, 2)


def test_a_count_that_comes_late_replaces_the_estimate() -> None:
    meter = EngineMeter()
    meter.chunk(json.dumps(chunk("x" * 400)).encode())
    assert (meter.output, meter.counted) == (100, "estimate")
    meter.chunk(json.dumps({**chunk(), "choices": [], "usage": usage(9, 80)}).encode())
    assert (meter.input, meter.output, meter.counted) == (9, 80, "engine")
