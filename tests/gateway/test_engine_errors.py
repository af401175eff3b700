"""What an engine's errors become: the customer's business word for word, the operator's in his log, metrics and list of models."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from structlog.testing import capture_logs
from tests.gateway.harness import (
    MODEL,
    Answering,
    Running,
    ScriptedEngine,
    Wire,
    add_replica,
    ask,
    chunk,
    event,
    post,
    timings,
    until,
    whole,
)

from sublet.commands.models import line_of
from sublet.gateway.model import GatewaySettings, ModelRoute, ReplicaRoute
from sublet.gateway.refusals import (
    EngineBusyError,
    EngineDownError,
    EngineFailedError,
    EngineMisconfiguredError,
    EngineTimeoutError,
    EngineUnreachableError,
)
from sublet.gateway.requests.admission import RETRIES_MAX, Admission
from sublet.gateway.upstream.engine_error import engine_error, retry_after_s
from sublet.gateway.upstream.engine_health import COOL_S_MAX, ReplicaHealth
from sublet.models.service import TROUBLES_SHOWN, Models

CUSTOMERS = [
    # status, body, expected status, code, words
    (400, {"error": {"message": "n is too large", "param": "n"}}, 400, "invalid_request", "n is too large"),
    (413, {"error": {"message": "image too big"}}, 413, "request_too_large", "image too big"),
    (422, {"detail": [{"loc": ["body", "stop"], "msg": "bad stop"}]}, 422, "unprocessable_request", "bad stop"),
    (400, {"object": "error", "message": "odd roles", "code": 400}, 400, "invalid_request", "odd roles"),
    (
        400,
        {"error": {"message": "maximum context length is 9 tokens", "code": "context_length_exceeded"}},
        400,
        "context_length_exceeded",
        "maximum context length is 9 tokens",
    ),
    (
        400,
        {
            "error": {
                "code": 400,
                "message": "request (9000 tokens) exceeds the available context size (2048 tokens), try increasing it",
                "type": "exceed_context_size_error",
                "n_prompt_tokens": 9000,
                "n_ctx": 2048,
            }
        },
        400,
        "context_length_exceeded",
        "the prompt has 9,000 tokens, and the context holds 2,048, prompt and answer together; shorten the prompt",
    ),
    (
        400,
        {"error": {"message": "try increasing it", "type": "exceed_context_size_error"}},
        400,
        "context_length_exceeded",
        "too short for this request: shorten the prompt",
    ),
    (
        200,
        {"error": {"message": "no such tool", "type": "invalid_request_error"}},
        400,
        "invalid_request",
        "no such tool",
    ),
    (200, {"error": {"message": "slow down", "code": 429}}, 429, "engine_busy", "slow down"),
    (429, {"error": {"message": "slow down"}}, 429, "engine_busy", "slow down"),
]
OPERATORS = [
    (
        401,
        {"error": {"message": "Incorrect API key provided: sk-abc123"}},
        502,
        "engine_misconfigured",
        "configuration",
    ),
    (403, {"error": "forbidden"}, 502, "engine_misconfigured", "configuration"),
    (404, {"error": {"message": "The model `x` does not exist"}}, 502, "engine_misconfigured", "configuration"),
    (408, b"", 504, "engine_timeout", "timeout"),
    (500, {"error": {"message": "CUDA error"}}, 502, "engine_failed", "failed"),
    (502, b"<html>Bad Gateway</html>", 502, "engine_failed", "failed"),
    (503, {"error": {"message": "loading"}}, 503, "engine_overloaded", "overloaded"),
    (504, b"", 504, "engine_timeout", "timeout"),
    (529, {"type": "error", "error": {"type": "overloaded_error"}}, 503, "engine_overloaded", "overloaded"),
    (200, {"error": {"message": "worker died"}}, 502, "engine_failed", "failed"),
    (200, {"object": "error", "message": "no", "code": 401}, 502, "engine_misconfigured", "configuration"),
    (301, b"", 502, "engine_misconfigured", "configuration"),
]


def answering(status: int, body: Any) -> Any:
    async def script(answering: Answering) -> None:
        if status == 200 and answering.asked.body.get("stream"):
            # An error in the first event of a stream.
            await answering.stream(json.loads(json.dumps(body)))
        else:
            await answering.answer(body, status)

    return script


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "body", "expected", "code", "words"), CUSTOMERS)
def test_what_is_the_customers_business_reaches_him_with_status_and_words(
    gateway: Running, engine: ScriptedEngine, status: int, body: Any, expected: int, code: str, words: str, stream: bool
) -> None:
    engine.script = answering(status, body)
    answer = gateway.post(ask(stream=stream))
    assert (answer.status, answer.json["error"]["code"]) == (expected, code)
    assert words in answer.json["error"]["message"]
    assert gateway.tokens() == {}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("status", "body", "expected", "code", "kind"), OPERATORS)
def test_what_is_the_operators_business_is_in_his_metrics_and_log(
    gateway: Running, engine: ScriptedEngine, status: int, body: Any, expected: int, code: str, kind: str, stream: bool
) -> None:
    engine.script = answering(status, body)
    with capture_logs() as logs:
        answer = gateway.post(ask(stream=stream))
    assert (answer.status, answer.json["error"]["code"]) == (expected, code)
    assert b"sk-abc" not in answer.body and b"CUDA" not in answer.body and b"html" not in answer.body
    series = f'sublet_gateway_engine_failures_total{{kind="{kind}",model="{MODEL}"'
    assert gateway.metric(series.split("{")[0]) == 1 and series in gateway.operator_get("/metrics").body.decode()
    line = next(line for line in logs if line["event"] == "engine failed")
    assert line["kind"] == kind and line["request"] == answer.headers["x-request-id"] and "sk-abc" not in str(line)
    if status != 200:
        assert line["status"] == status


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "body"),
    [(500, {}), (503, {}), (429, {}), (401, {}), (404, {}), (529, {}), (200, {"error": {"code": 500}})],
)
def test_another_replica_is_asked_before_the_first_token(
    make_gateway: Callable[..., Running], engine: ScriptedEngine, status: int, body: Any, stream: bool
) -> None:
    gateway = make_gateway()
    other = ScriptedEngine()
    other.script = answering(status, body)
    try:
        add_replica(gateway.store, MODEL, other.url)
        until(lambda: gateway.post(ask(stream=stream)).status == 200 and other.asked)
        answers = [gateway.post(ask(stream=stream)) for _ in range(4)]
        assert [answer.status for answer in answers] == [200] * 4
        assert all("error" not in answer.body.decode() for answer in answers)
    finally:
        other.stop()


def test_after_the_first_token_nothing_is_tried_again(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway()
    other = ScriptedEngine()

    async def breaks(answering: Answering) -> None:
        await answering.head()
        await answering.part(event(chunk("one", timings=timings(5, 1))))
        await answering.part(event({"error": {"message": "out of memory"}}))
        await answering.end()

    engine.script = other.script = breaks
    try:
        add_replica(gateway.store, MODEL, other.url)
        answer = gateway.post(ask(stream=True))
        assert answer.text == "one" and json.loads(answer.events[-1])["error"]["code"] == "engine_failed"
        assert len(engine.asked) + len(other.asked) == 1
    finally:
        other.stop()


def test_an_error_beside_choices_ends_a_stream(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        await answering.stream(chunk("a"), chunk("b"), {**chunk(""), "error": {"code": 502, "message": "gone"}})

    engine.script = script
    answer = gateway.post(ask(stream=True))
    assert answer.text == "ab" and "[DONE]" not in answer.events
    assert json.loads(answer.events[-1])["error"]["code"] == "engine_failed"


def test_the_time_to_wait_is_the_engines_and_is_kept(gateway: Running, engine: ScriptedEngine) -> None:
    async def script(answering: Answering) -> None:
        await answering.send(b"HTTP/1.1 429 X\r\nretry-after: 17\r\ncontent-length: 0\r\n\r\n")

    engine.script = script
    answer = gateway.post(ask())
    assert (answer.status, answer.headers["retry-after"]) == (429, "17")
    again = gateway.post(ask())
    assert again.status == 429 and 15 <= int(again.headers["retry-after"]) <= 17
    assert len(engine.asked) == 1, "it was told to wait, so it is not asked"


def test_a_wrong_key_of_the_operator_is_found_at_once(gateway: Running, engine: ScriptedEngine) -> None:
    engine.script = answering(401, {"error": {"message": "Incorrect API key provided: sk-abc123"}})
    gateway.post(ask())
    models = Models(gateway.store)
    row = until(lambda: next((row for row in models.rows() if row.troubles), None))
    assert (row.troubles[0].status, row.troubles[0].kind) == (401, "configuration")
    assert "Incorrect API key provided" in str(row.troubles[0]) and "sk-abc" not in str(row.as_dict())
    assert row.as_dict()["replicas"][0]["troubles"][0]["status"] == 401
    assert ": configuration, 401: Incorrect API key" in line_of(row.as_dict(), {})["trouble"]
    engine.script = answering(200, whole())
    until(lambda: gateway.post(ask()).status == 200)
    until(lambda: not any(row.troubles for row in models.rows()))


def test_troubles_of_a_dead_gateway_are_not_shown(gateway: Running, engine: ScriptedEngine, clock: Any) -> None:
    engine.script = answering(500, {})
    gateway.post(ask())
    models = Models(gateway.store)
    until(lambda: any(row.troubles for row in models.rows()))
    gateway.stop()
    clock.advance(TROUBLES_SHOWN.total_seconds() + 1)
    assert not any(row.troubles for row in models.rows())


def test_a_dead_server_costs_nobody_a_wait(gateway: Running, engine: ScriptedEngine) -> None:
    engine.close_port()
    began = time.monotonic()
    answers = [gateway.post(ask()) for _ in range(10)]
    assert time.monotonic() - began < 5
    assert {answer.status for answer in answers} == {503}
    assert {answer.json["error"]["code"] for answer in answers} == {"engine_down"}
    assert all(int(answer.headers["retry-after"]) >= 1 for answer in answers)


def test_requests_that_wait_are_told_when_the_server_is_shut(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(slots=1)
    asked = asyncio.Event()

    async def script(answering: Answering) -> None:
        await asked.wait()
        await answering.answer({"error": {"message": "no such key"}}, 401)

    engine.script = script
    wires = [gateway.wire() for _ in range(3)]
    for wire in wires:
        wire.send(post(ask(), gateway.key))
    until(lambda: gateway.metric("sublet_gateway_waiting") == 2)
    engine.loop.call_soon_threadsafe(asked.set)
    assert sorted(wire.answer().status for wire in wires) == [502, 503, 503]


@pytest.fixture
def silent(engine: ScriptedEngine) -> Iterator[list[Wire]]:
    async def script(answering: Answering) -> None:
        await answering.gone()

    engine.script = script
    wires: list[Wire] = []
    yield wires
    for wire in wires:
        wire.close()


@pytest.mark.parametrize("stream", [False, True])
def test_a_hanging_server_is_given_up_after_the_time_that_is_set_for_the_model(
    make_gateway: Callable[..., Running], engine: ScriptedEngine, silent: list[Wire], stream: bool
) -> None:
    gateway = make_gateway(overrides={MODEL: {"first_event_s_max": 0.3}})
    answer = gateway.post(ask(stream=stream))
    assert (answer.status, answer.json["error"]["code"]) == (504, "engine_timeout")
    assert gateway.metric('sublet_gateway_engine_failures_total{kind="timeout"'.split("{")[0]) == 1


def test_a_whole_answer_that_stops_halfway_is_given_up(
    make_gateway: Callable[..., Running], engine: ScriptedEngine
) -> None:
    gateway = make_gateway(silence_s_max=0.3)

    async def script(answering: Answering) -> None:
        await answering.send(b"HTTP/1.1 200 X\r\ncontent-length: 100\r\n\r\n{")
        await answering.gone()

    engine.script = script
    assert gateway.post(ask()).status == 504


# Health by itself


ROUTE = ModelRoute("m", "m", frozenset(), 1, 0, (ReplicaRoute("a", "http://a", 4), ReplicaRoute("b", "http://b", 4)))


def admission() -> Admission:
    return Admission(GatewaySettings(data_dir=None))  # type: ignore[arg-type]


def test_a_replica_that_is_shut_gets_one_probe_and_opens_on_its_success() -> None:
    health = ReplicaHealth()
    health.failed(EngineUnreachableError(), 0.0)
    assert not health.admits(0.5) and health.admits(1.0)
    health.probing = True
    assert not health.admits(1.0)
    health.failed(EngineUnreachableError(), 1.0)
    assert not health.admits(2.9) and health.admits(3.0)
    health.succeeded()
    assert health.admits(3.0) and not health.cools(3.0)
    for _ in range(30):
        health.failed(EngineMisconfiguredError(), 0.0)
    assert health.until == COOL_S_MAX


def test_failures_of_single_requests_shut_nothing_and_a_second_timeout_does() -> None:
    health = ReplicaHealth()
    for _ in range(10):
        health.failed(EngineFailedError(), 0.0)
    assert health.admits(0.0) and health.cools(0.0)
    health.succeeded()
    health.failed(EngineTimeoutError(), 0.0)
    assert health.admits(0.0)
    health.failed(EngineTimeoutError(), 0.0)
    assert not health.admits(0.0)


def test_one_that_cools_down_is_passed_over_and_all_that_are_shut_are_refused_at_once() -> None:
    found = admission()
    first = found.pick(ROUTE, 0.0)
    assert first is not None
    first.in_flight -= 1
    first.health.failed(EngineFailedError(), 0.0)
    second = found.pick(ROUTE, 0.5)
    assert second is not None and second is not first
    second.health.failed(EngineUnreachableError(), 0.5)
    assert found.pick(ROUTE, 0.6) is first
    first.health.failed(EngineUnreachableError(), 0.6)
    with pytest.raises(EngineDownError, match="try again in 1 s"):
        found.pick(ROUTE, 0.7)
    # An engine of our own is being restarted: it is worth a try, and a wait.
    assert found.pick(replace(ROUTE, timings=True), 0.7) is not None
    busy = admission()
    for _ in ROUTE.replicas:
        taken = busy.pick(ROUTE, 0.0)
        assert taken is not None
        taken.health.failed(EngineBusyError(retry_after_s=17.0), 0.0)
    with pytest.raises(EngineBusyError) as refused:
        busy.pick(ROUTE, 2.0)
    assert refused.value.details["retry_after_s"] == 15.0


def test_retries_are_bounded_by_what_succeeds() -> None:
    found = admission()
    assert [found.may_retry(ROUTE) for _ in range(int(RETRIES_MAX) + 2)] == [True] * int(RETRIES_MAX) + [False] * 2
    for _ in range(5):
        found.queue(ROUTE).note_service(1.0)
    assert found.may_retry(ROUTE) and not found.may_retry(ROUTE)


def test_secrets_paths_and_addresses_stay_out_of_what_a_client_is_told() -> None:
    body = {
        "error": {
            "message": "key sk-live-123 of org-abcdef12 at https://inner.example/v1 (10.0.0.7:8000) in /srv/models/a.gguf\n\x1b[31m"
        }
    }
    told = engine_error(400, json.dumps(body).encode()).message
    for word in ("sk-live", "org-abcdef12", "inner.example", "10.0.0.7", "/srv", "\x1b", "\n"):
        assert word not in told


def test_the_time_to_wait_may_be_a_number_or_a_date(clock: Any) -> None:
    at = (clock.now() + timedelta(seconds=30)).strftime("%a, %d %b %Y %H:%M:%S GMT").encode()
    assert retry_after_s(b"17", clock) == 17 and retry_after_s(b" 1.5 ", clock) == 1.5
    assert retry_after_s(at, clock) == pytest.approx(30, abs=1)
    assert [retry_after_s(value, clock) for value in (b"", b"soon", b"-1", b"nan")] == [None] * 4
