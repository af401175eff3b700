"""Every shipped surface passes its suite, and the suite catches surfaces that break a promise each."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from sublet.conformance import Check, NonconformingError
from sublet.conformance.surfaces import CHECKS, PUBLIC, SurfaceStage
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import (
    ChatRequest,
    EmbeddingRequest,
    Image,
    Role,
    Sampling,
    Text,
    Tool,
    ToolUse,
    Turn,
)
from sublet.gateway.surfaces.anthropic import AnthropicSurface
from sublet.gateway.surfaces.anthropic_fields import FIELDS as ANTHROPIC
from sublet.gateway.surfaces.bedrock import BedrockSurface
from sublet.gateway.surfaces.bedrock_fields import FIELDS as BEDROCK
from sublet.gateway.surfaces.gemini import GeminiSurface
from sublet.gateway.surfaces.gemini_fields import FIELDS as GEMINI
from sublet.gateway.surfaces.openai import OpenAISurface
from sublet.gateway.surfaces.openai_fields import NAMES as OPENAI
from sublet.gateway.surfaces.registry import SURFACES
from sublet.gateway.surfaces.responses import ResponsesSurface
from sublet.gateway.surfaces.responses_fields import FIELDS as RESPONSES
from sublet.gateway.surfaces.surface import Headers, Identity, StreamForm, Surface
from sublet.gateway.upstream.writer import check, for_engine
from sublet.values.errors import SubletError

MESSAGES = [{"role": "user", "content": "How many words?"}]
REQUESTS: dict[str, dict[str, Any]] = {
    "chat": {"model": PUBLIC, "messages": MESSAGES, "max_tokens": 9},
    "completions": {"model": PUBLIC, "prompt": "How many words?", "max_tokens": 9},
    "embeddings": {"model": PUBLIC, "input": ["How many", "words?"]},
}


def bodies(stream: bool) -> dict[str, bytes]:
    if not stream:
        return {kind: json.dumps(body).encode() for kind, body in REQUESTS.items()}
    return {
        kind: json.dumps({**body, "stream": True}).encode() for kind, body in REQUESTS.items() if kind != "embeddings"
    }


def said(body: bytes) -> str:
    [choice] = json.loads(body)["choices"]
    return str(choice["text"] if "text" in choice else choice["message"]["content"])


def streamed_said(told: bytes) -> str:
    events = [line[6:] for line in told.decode().split("\n") if line.startswith("data: ")]
    choices = [choice for event in events if event != "[DONE]" for choice in json.loads(event)["choices"]]
    return "".join(choice.get("text") or choice.get("delta", {}).get("content") or "" for choice in choices)


def openai_stage(surface: Surface) -> SurfaceStage:
    return SurfaceStage(
        surface,
        bodies(False),
        bodies(True),
        said,
        streamed_said,
        lambda body: str(json.loads(body)["error"]["message"]),
        fields=sorted(set().union(*OPENAI.values())),
    )


def anthropic_stage(surface: Surface) -> SurfaceStage:
    asked = {"model": PUBLIC, "messages": MESSAGES}

    def streamed_said(told: bytes) -> str:
        events = [json.loads(line[6:]) for line in told.decode().split("\n") if line.startswith("data: ")]
        return "".join(event.get("delta", {}).get("text", "") for event in events)

    return SurfaceStage(
        surface,
        {"chat": json.dumps({**asked, "max_tokens": 9}).encode(), "count": json.dumps(asked).encode()},
        {"chat": json.dumps({**asked, "max_tokens": 9, "stream": True}).encode()},
        lambda body: "".join(block["text"] for block in json.loads(body)["content"]),
        streamed_said,
        lambda body: str(json.loads(body)["error"]["message"]),
        headers=((b"x-api-key", b"sublet_conformance"),),
        fields=[item.name for item in ANTHROPIC["Messages"]],
    )


def responses_stage(surface: Surface) -> SurfaceStage:
    asked = {"model": PUBLIC, "input": [{"role": "user", "content": "How many words?"}]}

    def said(body: bytes) -> str:
        items = json.loads(body)["output"]
        return "".join(part["text"] for item in items if item["type"] == "message" for part in item["content"])

    def streamed_said(told: bytes) -> str:
        events = [json.loads(line[6:]) for line in told.decode().split("\n") if line.startswith("data: ")]
        assert [event["sequence_number"] for event in events] == list(range(len(events)))
        return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")

    body = json.dumps(asked).encode()
    return SurfaceStage(
        surface,
        {"chat": body, "count": body},
        {"chat": json.dumps({**asked, "stream": True}).encode()},
        said,
        streamed_said,
        lambda body: str(json.loads(body)["error"]["message"]),
        fields=[item.name for item in RESPONSES["Responses"]],
    )


def gemini_stage(surface: Surface) -> SurfaceStage:
    def bound(method: str) -> Surface:
        found = surface.find(f"/v1beta/models/{PUBLIC}:{method}".encode(), b"alt=sse")
        assert found is not None
        return found[0]

    def text(response: dict[str, Any]) -> str:
        return "".join(part.get("text", "") for part in response["candidates"][0]["content"]["parts"])

    content = {"role": "user", "parts": [{"text": "How many words?"}]}
    chat = json.dumps({"contents": [content]}).encode()
    return SurfaceStage(
        bound("generateContent"),
        {"chat": chat, "count": chat, "embeddings": json.dumps({"content": content}).encode()},
        {"chat": chat},
        lambda body: text(json.loads(body)),
        lambda told: "".join(text(json.loads(part[6:])) for part in told.decode().split("\r\n") if part),
        lambda body: str(json.loads(body)["error"]["message"]),
        headers=((b"x-goog-api-key", b"sublet_conformance"),),
        fields=[item.name for items in GEMINI.values() for item in items],
        streaming=bound("streamGenerateContent"),
    )


def bedrock_stage(surface: Surface) -> SurfaceStage:
    def bound(method: str) -> Surface:
        found = surface.find(f"/model/{PUBLIC}/{method}".encode(), b"")
        assert found is not None
        return found[0]

    def streamed_said(told: bytes) -> str:
        buffer = EventStreamBuffer()
        buffer.add_data(told)
        return "".join(json.loads(event.payload).get("delta", {}).get("text", "") for event in buffer)

    asked = {"messages": [{"role": "user", "content": [{"text": "How many words?"}]}]}
    return SurfaceStage(
        bound("converse"),
        {"chat": json.dumps(asked).encode(), "count": json.dumps({"input": {"converse": asked}}).encode()},
        {"chat": json.dumps(asked).encode()},
        lambda body: "".join(block["text"] for block in json.loads(body)["output"]["message"]["content"]),
        streamed_said,
        lambda body: str(json.loads(body)["message"]),
        fields=[item.name for items in BEDROCK.values() for item in items],
        streaming=bound("converse-stream"),
    )


STAGES: dict[type[Any], Callable[[Surface], SurfaceStage]] = {
    OpenAISurface: openai_stage,
    AnthropicSurface: anthropic_stage,
    ResponsesSurface: responses_stage,
    GeminiSurface: gemini_stage,
    BedrockSurface: bedrock_stage,
}


@pytest.mark.parametrize("surface", SURFACES, ids=lambda surface: type(surface).__name__)
@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_every_shipped_surface_conforms(surface: Surface, check: Check[SurfaceStage]) -> None:
    check(STAGES[type(surface)](surface))


def test_no_two_surfaces_have_one_path() -> None:
    paths = [path for surface in SURFACES for path in surface.routes]
    assert len(paths) == len(set(paths))
    assert all(check.promise.endswith(".") for check in CHECKS)


class Flawed(OpenAISurface):
    """OpenAI's surface with one thing wrong."""

    def __init__(self, flaw: str) -> None:
        self.flaw = flaw
        self.read = 0
        if flaw == "slash":
            self.routes = {b"/v1/chat/completions/": "chat"}
        self._only: StreamForm | None = None

    def secret(self, headers: Headers) -> bytes:
        return b"always" if self.flaw == "any_key" else super().secret(headers)

    def parse(self, kind: str, body: bytes) -> Call:
        if self.flaw == "trusts":
            json.loads(body)["model"].strip()
        if self.flaw == "takes_nothing" and body == b"{}":
            body = bodies(False)[kind]
        call = super().parse(kind, body)
        self.read += 1
        if self.flaw == "remembers":
            call.output_tokens_max = self.read
        if self.flaw == "never_streams":
            call.stream = False
        if self.flaw == "needs_nothing":
            call.needs = ()
        return call

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        if self.flaw == "passes_on":
            return body
        if self.flaw == "trusts_engines":
            json.loads(body)["choices"]
        return super().answer(call, identity, body)

    def stream(self, call: Call, identity: Identity) -> Any:
        form = super().stream(call, identity)
        if self.flaw == "one_stream":
            self._only = self._only or form
            return self._only
        return FlawedStream(form, self.flaw)

    def refusal(self, error: SubletError) -> bytes:
        return b'{"error": {"message": "no"}}' if self.flaw == "curt" else super().refusal(error)


class FlawedStream:
    def __init__(self, form: StreamForm, flaw: str) -> None:
        self.form, self.flaw, self.kept = form, flaw, b""

    def event(self, payload: bytes) -> bytes:
        if self.flaw == "passes_events_on":
            return b"data: " + payload + b"\n\n"
        told = self.form.event(payload)
        if self.flaw == "holds_back":
            self.kept, told = told, self.kept
        return told

    def end(self) -> bytes:
        return self.kept + self.form.end()

    def failure(self, error: SubletError) -> bytes:
        return b"" if self.flaw == "fails_silently" else self.form.failure(error)

    def keep_alive(self) -> bytes:
        chatter = b'data: {"choices": [{"delta": {"content": "wait"}}]}\n\n'
        return chatter if self.flaw == "chatters" else self.form.keep_alive()


BROKEN = {
    "slash": "its_routes_are_paths_of_known_kinds",
    "any_key": "it_finds_the_key",
    "never_streams": "it_reads_what_is_asked",
    "needs_nothing": "it_reads_what_is_asked",
    "remembers": "each_request_is_its_own",
    "trusts": "nonsense_is_refused_by_a_sentence",
    "takes_nothing": "nonsense_is_refused_by_a_sentence",
    "passes_on": "an_answer_is_told_in_its_own_form",
    "passes_events_on": "a_stream_is_told_in_its_own_form",
    "holds_back": "a_stream_is_told_in_its_own_form",
    "chatters": "a_stream_is_told_in_its_own_form",
    "one_stream": "two_streams_do_not_mix",
    "trusts_engines": "what_an_engine_garbles_is_an_engine_failure",
    "fails_silently": "a_failure_is_told_in_mid_stream",
    "curt": "refusals_have_the_sentence",
}


@pytest.mark.parametrize(("flaw", "promise"), BROKEN.items())
def test_a_surface_that_breaks_a_promise_is_caught(flaw: str, promise: str) -> None:
    [check] = [check for check in CHECKS if check.name == promise]
    with pytest.raises(NonconformingError):
        check(openai_stage(Flawed(flaw)))


def test_a_request_in_the_gateways_own_form_reaches_an_engine_in_its_dialect() -> None:
    weather = Tool("weather", "The weather of a place", {"type": "object"})
    request = ChatRequest(
        PUBLIC,
        (
            Turn(Role.SYSTEM, (Text("Be brief."),)),
            Turn(Role.USER, (Text("What is this?"), Image("https://x/y.png"))),
            Turn(Role.ASSISTANT, uses=(ToolUse("t1", "weather", '{"at": "Oslo"}'),)),
            Turn(Role.TOOL, (Text("rain"),), answers="t1"),
        ),
        output_tokens_max=64,
        sampling=Sampling(temperature=0.5, top_k=40, stop=("END",)),
        tools=(weather,),
        tool_choice="tool:weather",
        schema={"type": "object"},
        answers=2,
        stream=True,
    )
    call = Call.of(request)
    assert call.needs == ("chat", "images", "tools", "json_schema") and call.answers == 2
    stage = openai_stage(OpenAISurface())
    check(call, stage.route)
    asked = json.loads(for_engine(call, stage.route))
    assert asked["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "rain"},
    ]
    assert (asked["max_tokens"], asked["top_k"], asked["stop"], asked["n"]) == (64, 40, ["END"], 2)
    assert asked["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert asked["response_format"]["json_schema"]["schema"] == {"type": "object"}
    assert asked["stream"] is True and asked["stream_options"]["include_usage"] is True


def test_embeddings_and_empty_requests_in_the_gateways_own_form() -> None:
    stage = openai_stage(OpenAISurface())
    call = Call.of(EmbeddingRequest(PUBLIC, ("a", "b"), dimensions=8))
    assert json.loads(for_engine(call, stage.route)) == {
        "model": "engine-private-name",
        "input": ["a", "b"],
        "dimensions": 8,
    }
    for empty in (EmbeddingRequest(PUBLIC, ()), ChatRequest(PUBLIC, ())):
        with pytest.raises(SubletError):
            Call.of(empty)
