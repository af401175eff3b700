"""Gemini's surface: paths, keys, what its requests become, what its clients are told, and which fields there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from google.genai import types
from tests.gateway.harness import MODEL, Answering, Running, ScriptedEngine, chunk, timings

from sublet.gateway.model import ModelRoute, Tokens
from sublet.gateway.refusals import EngineFailedError, InvalidRequestError, QueueFullError
from sublet.gateway.surfaces.fields import REFUSED
from sublet.gateway.surfaces.gemini import GeminiSurface
from sublet.gateway.surfaces.gemini_fields import FIELDS
from sublet.gateway.surfaces.gemini_schema import json_schema_of
from sublet.gateway.surfaces.surface import Identity, Surface
from sublet.gateway.upstream.writer import check, for_engine
from sublet.values.errors import UnauthenticatedError

SURFACE = GeminiSurface()
IDENTITY = Identity("req_0011", "toy", 1_700_000_000)
CAN = frozenset({"chat", "tools", "json_schema", "images", "reasoning", "embeddings"})
ROUTE = ModelRoute("toy", "engine-model", CAN, 4096, 1, (), dialect="vllm")
WEATHER: dict[str, Any] = {
    "name": "weather",
    "parameters": {"type": "OBJECT", "properties": {"at": {"type": "STRING", "nullable": True}}},
}
TOOLS: dict[str, Any] = {"tools": [{"functionDeclarations": [WEATHER]}]}


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts) or [{"text": "hi"}]}


def bound(method: str = "generateContent", query: bytes = b"alt=sse") -> Surface:
    found = SURFACE.find(f"/v1beta/models/{MODEL}:{method}".encode(), query)
    assert found is not None
    return found[0]


def asked(**fields: Any) -> dict[str, Any]:
    call = bound().parse("chat", json.dumps({"contents": [user()], **fields}).encode())
    check(call, ROUTE)
    return json.loads(for_engine(call, ROUTE))


def configured(**config: Any) -> dict[str, Any]:
    return asked(generationConfig=config)


def answered(choice: dict[str, Any], **fields: Any) -> dict[str, Any]:
    surface = bound()
    call = surface.parse("chat", json.dumps({"contents": [user()], **fields}).encode())
    call.counts = Tokens(10, 4, 7)
    told = surface.answer(call, IDENTITY, json.dumps({"choices": [{"index": 0, **choice}]}).encode())
    found: dict[str, Any] = json.loads(told)
    # A field of the API that the SDK's type of a generated answer does not have yet; the SDK leaves it out.
    usage = {name: count for name, count in found["usageMetadata"].items() if name != "serviceTier"}
    types.GenerateContentResponse.model_validate(found | {"usageMetadata": usage})
    return found


def streamed(*choices: dict[str, Any], query: bytes = b"alt=sse", **fields: Any) -> list[dict[str, Any]]:
    surface = bound("streamGenerateContent", query)
    call = surface.parse("chat", json.dumps({"contents": [user()], **fields}).encode())
    assert call.stream
    form = surface.stream(call, IDENTITY)
    told = form.keep_alive() + b"".join(
        form.event(json.dumps({"choices": [{"index": 0, **choice}]}).encode()) for choice in choices
    )
    told += form.end()
    if query != b"alt=sse":
        return json.loads(told)
    return [json.loads(part[6:]) for part in told.decode().split("\r\n") if part]


def test_paths_name_model_method_and_kind() -> None:
    assert SURFACE.find(b"/v1/models/org%2Fm:embedContent", b"")[1] == "embeddings"  # type: ignore[index]
    assert SURFACE.find(b"/v1beta/models/a:countTokens", b"")[1] == "count"  # type: ignore[index]
    for path in (b"/v1/models/a:predict", b"/v2/models/a:generateContent", b"/v1/models/a", b"/v1/chat/completions"):
        assert SURFACE.find(path, b"") is None, path
    surface, _ = SURFACE.find(b"/v1/models/org%2Fm:generateContent", b"")  # type: ignore[misc]
    assert surface.parse("chat", json.dumps({"contents": [user()]}).encode()).model == "org/m"


def test_contents_become_turns() -> None:
    found = asked(
        systemInstruction={"parts": [{"text": "Be brief."}]},
        contents=[
            user({"text": "What is this?"}, {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}),
            {
                "role": "model",
                "parts": [
                    {"text": "hm", "thought": True},
                    {"text": "I look."},
                    {"functionCall": {"id": "c1", "name": "weather", "args": {"at": "Oslo"}}, "thoughtSignature": "x"},
                ],
            },
            user({"functionResponse": {"id": "c1", "name": "weather", "response": {"sky": "blue"}}}),
            {"parts": [{"text": "go on"}]},
        ],
    )
    assert found["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at":"Oslo"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"sky": "blue"}'},
        {"role": "user", "content": "go on"},
    ]


@pytest.mark.parametrize(
    ("config", "engine"),
    [
        ({"temperature": 0.5, "topP": 0.1, "topK": 40.0, "seed": 3}, {"temperature": 0.5, "top_p": 0.1, "top_k": 40, "seed": 3}),
        ({"maxOutputTokens": 5, "stopSequences": ["A"]}, {"max_tokens": 5, "stop": ["A"]}),
        ({"max_output_tokens": 5, "stop_sequences": ["A"]}, {"max_tokens": 5, "stop": ["A"]}),
        ({"candidateCount": 3, "presencePenalty": 1}, {"n": 3, "presence_penalty": 1}),
        ({"frequencyPenalty": -1}, {"frequency_penalty": -1}),
        ({"responseMimeType": "application/json"}, {"response_format": {"type": "json_object"}}),
        ({"responseLogprobs": True, "logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"thinkingConfig": {"thinkingBudget": 0}}, {"reasoning_effort": "none"}),
        ({"thinkingConfig": {"thinkingBudget": -1}}, {"reasoning_effort": "medium"}),
        ({"thinkingConfig": {"thinkingLevel": "HIGH"}}, {"reasoning_effort": "high"}),
    ],
)  # fmt: skip
def test_the_config_reaches_the_engine(config: dict[str, Any], engine: dict[str, Any]) -> None:
    found = configured(**config)
    assert {name: found[name] for name in engine} == engine


@pytest.mark.parametrize(
    ("calling", "choice"),
    [
        ({"mode": "ANY"}, "required"),
        ({"mode": "AUTO"}, "auto"),
        ({"mode": "NONE"}, "none"),
        (
            {"mode": "ANY", "allowedFunctionNames": ["weather"]},
            {"type": "function", "function": {"name": "weather"}},
        ),
    ],
)
def test_tools_and_which_has_to_be_called(calling: dict[str, Any], choice: Any) -> None:
    found = asked(**TOOLS, toolConfig={"functionCallingConfig": calling})
    assert found["tool_choice"] == choice
    assert found["tools"][0]["function"]["parameters"] == {
        "type": "object",
        "properties": {"at": {"type": ["string", "null"]}},
    }


def test_schemas_of_google_become_json_schema() -> None:
    schema = {
        "type": "OBJECT",
        "properties": {
            "b": {"type": "ARRAY", "items": {"type": "INTEGER", "format": "int32"}, "minItems": "1", "max_items": 3},
            "a": {"anyOf": [{"type": "STRING", "enum": ["x"], "format": "enum"}, {"type": "NUMBER", "example": 1}]},
            "default": {"type": "BOOLEAN", "description": "d"},
        },
        "required": ["a"],
        "propertyOrdering": ["a", "b"],
    }
    found = json_schema_of(schema)
    assert found == {
        "type": "object",
        "required": ["a"],
        "properties": {
            "a": {"anyOf": [{"type": "string", "enum": ["x"]}, {"type": "number"}]},
            "b": {"type": "array", "items": {"type": "integer"}, "minItems": 1, "maxItems": 3},
            "default": {"type": "boolean", "description": "d"},
        },
    }
    assert list(found["properties"]) == ["a", "b", "default"]
    asked_schema = configured(responseMimeType="application/json", responseSchema=schema)["response_format"]
    assert asked_schema["json_schema"]["schema"] == found
    for bad in ({"type": "TEXT"}, {"type": "ARRAY", "minItems": "many"}):
        with pytest.raises(InvalidRequestError, match="responseSchema"):
            json_schema_of(bad)


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"tools": [{"googleSearch": {}}]}, "tools[0].googleSearch", "not supported"),
        ({"tools": [{"google_search": {}}]}, "tools[0].googleSearch", "not supported"),
        ({"cachedContent": "x"}, "cachedContent", "not supported"),
        ({"generationConfig": {"speechConfig": {}}}, "generationConfig.speechConfig", "not supported"),
        ({"generationConfig": {"responseModalities": ["IMAGE"]}}, "generationConfig.responseModalities[0]", "IMAGE"),
        ({"generationConfig": {"responseSchema": {}}}, "generationConfig.responseMimeType", "application/json"),
        ({"generationConfig": {"fun": 1}}, "generationConfig.fun", "not supported"),
        ({"contents": []}, "contents", "send at least one message"),
        ({"contents": [{"role": "model", "parts": [{}]}]}, "contents[0]", "a part must have"),
        ({"contents": [user({"fileData": {"fileUri": "https://x", "mimeType": "video/mp4"}})]}, "contents[0]: fileData", "video"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "ANY"}}}, "toolConfig", "requires tools"),
        ({**TOOLS, "toolConfig": {"functionCallingConfig": {"allowedFunctionNames": ["x"]}}}, "toolConfig", "'x'"),
    ],
)  # fmt: skip
def test_what_can_not_be_honored_is_refused_by_name(fields: dict[str, Any], param: str, words: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        asked(**fields)
    assert words in refused.value.message and refused.value.details.get("param") == param


def camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def test_every_field_of_the_sdk_is_in_the_table_and_those_that_are_refused_are() -> None:
    config = {camel(name) for name in types.GenerationConfig.model_fields}
    assert config <= {item.name for item in FIELDS["Generation config"]}
    # Of Google's other service alone, which the SDK does not send to this API.
    others = {"toolCall", "toolResponse", "audioTranscription", "mediaProcessing", "speechMetadata", "documentMetadata"}
    others |= {"spreadsheetMetadata", "audioMetadata"}
    parts = {camel(name) for name in types.Part.model_fields} - others
    assert parts <= {item.name for item in FIELDS["Parts"]}
    functions = {camel(name) for name in types.FunctionDeclaration.model_fields}
    assert functions == {item.name for item in FIELDS["Functions"]}
    for item in FIELDS["Generation config"]:
        assert configured(**{item.name: None}) == asked(), item.name
        if item.fate == REFUSED:
            with pytest.raises(InvalidRequestError, match=item.name):
                configured(**{item.name: {"x": 1}})
    for item in FIELDS["Parts"]:
        if item.fate == REFUSED:
            with pytest.raises(InvalidRequestError, match=item.name):
                asked(contents=[user({"text": "x", item.name: {"x": 1}})])
    page = (Path(__file__).parents[2] / "docs" / "gemini.md").read_text()
    shown = set(re.findall(r"^\| `([a-zA-Z]+)` \|", page, re.MULTILINE))
    assert {item.name for items in FIELDS.values() for item in items} <= shown


def test_answers_are_told_as_candidates() -> None:
    use = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"at": "Oslo"}'}}
    message = {"content": "I look.", "reasoning_content": "hm", "tool_calls": [use]}
    choice = {"message": message, "finish_reason": "tool_calls"}
    call = {"functionCall": {"id": "call_1", "name": "weather", "args": {"at": "Oslo"}}}
    assert answered(choice) == {
        "candidates": [
            {"content": {"parts": [{"text": "I look."}, call], "role": "model"}, "finishReason": "STOP", "index": 0}
        ],
        "usageMetadata": {
            "promptTokenCount": 10,
            "candidatesTokenCount": 7,
            "totalTokenCount": 17,
            "cachedContentTokenCount": 4,
            "serviceTier": "standard",
        },
        "modelVersion": "toy",
        "responseId": "0011",
    }
    shown = answered(choice, generationConfig={"thinkingConfig": {"includeThoughts": True}})
    assert shown["candidates"][0]["content"]["parts"][0] == {"text": "hm", "thought": True}
    logprobs = {"content": [{"token": "I", "logprob": -0.5, "top_logprobs": [{"token": "I", "logprob": -0.5}]}]}
    likely = answered({"message": {"content": "I"}, "finish_reason": "length", "logprobs": logprobs})["candidates"][0]
    assert likely["finishReason"] == "MAX_TOKENS"
    assert likely["logprobsResult"]["topCandidates"] == [{"candidates": [{"token": "I", "logProbability": -0.5}]}]


@pytest.mark.parametrize("query", [b"alt=sse", b""])
def test_a_stream_has_texts_whole_calls_and_an_end(query: bytes) -> None:
    def tool(index: int, arguments: str, **more: Any) -> dict[str, Any]:
        return {"delta": {"tool_calls": [{"index": index, "function": {"arguments": arguments, **more}, **more}]}}

    found = streamed(
        {"delta": {"role": "assistant", "content": ""}},
        {"delta": {"reasoning_content": "hm"}},
        {"delta": {"content": "50 % "}},
        {"delta": {"content": "off"}},
        tool(0, "", id="c0", name="a"),
        tool(0, '{"x":'),
        tool(0, "1}"),
        tool(1, "{}", id="c1", name="b"),
        {"delta": {}, "finish_reason": "length"},
        query=query,
    )
    parts = [response["candidates"][0]["content"]["parts"] for response in found]
    assert parts == [
        [{"text": "50 % "}],
        [{"text": "off"}],
        [{"functionCall": {"id": "c0", "name": "a", "args": {"x": 1}}}],
        [{"functionCall": {"id": "c1", "name": "b", "args": {}}}],
        [{"text": ""}],
    ]
    assert found[-1]["candidates"][0]["finishReason"] == "MAX_TOKENS" and "usageMetadata" in found[-1]


def test_errors_have_googles_statuses_and_details() -> None:
    def told(error: Any) -> dict[str, Any]:
        return json.loads(SURFACE.refusal(error))["error"]

    busy = told(QueueFullError("full", retry_after_s=2.0))
    assert (busy["code"], busy["status"]) == (503, "UNAVAILABLE")
    assert busy["details"] == [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "2s"}]
    wrong = told(InvalidRequestError("x is wrong", param="x"))
    assert wrong["status"] == "INVALID_ARGUMENT" and wrong["details"][0]["fieldViolations"][0]["field"] == "x"
    assert told(UnauthenticatedError("who?"))["status"] == "UNAUTHENTICATED"
    assert (told(EngineFailedError())["code"], SURFACE.status(EngineFailedError())) == (500, 500)


def test_a_gateway_answers_streams_counts_embeds_and_refuses_in_googles_form(
    make_gateway: Any, engine: ScriptedEngine
) -> None:
    gateway: Running = make_gateway()
    path = f"/v1beta/models/{MODEL}"
    body = {"contents": [user()]}
    whole = gateway.post(body, path=f"{path}:generateContent")
    assert whole.json["candidates"][0]["content"]["parts"] == [{"text": "Hello"}]
    for key in (gateway.key, ""):
        by_query = gateway.post(body, path=f"{path}:generateContent?key={key}", key="wrong")
        assert by_query.status == (200 if key else 401)
    streamed = gateway.post(body, path=f"{path}:streamGenerateContent?alt=sse")
    assert streamed.headers["content-type"] == "text/event-stream"
    last = json.loads(streamed.body.decode().split("\r\n")[-3][6:])
    assert last["usageMetadata"]["candidatesTokenCount"] == 3
    array = gateway.post(body, path=f"{path}:streamGenerateContent")
    assert array.headers["content-type"] == "application/json" and len(array.json) == 3
    assert gateway.post({"contents": [user({"text": "x" * 40})]}, path=f"{path}:countTokens").json == {
        "totalTokens": 14
    }
    embedded = gateway.post({"content": user()}, path=f"{path}:embedContent")
    assert embedded.status == 400 and "embeddings" in embedded.json["error"]["message"]
    listed = gateway.get(f"/v1beta/models?key={gateway.key}", key="wrong").json["models"]
    assert [item["name"] for item in listed] == [f"models/{MODEL}"]
    assert gateway.get(f"{path}").json["name"] == f"models/{MODEL}"
    assert gateway.get("/v1/models").json["object"] == "list"
    for missing in ("/v1beta/nothing", "/v1beta/models/nobody"):
        refused = gateway.get(missing)
        assert (refused.status, refused.json["error"]["status"]) == (404, "NOT_FOUND")


def test_a_stream_that_breaks_off_ends_with_the_error_and_the_key_is_in_no_answer(
    make_gateway: Any, engine: ScriptedEngine
) -> None:
    gateway: Running = make_gateway()

    async def script(answering: Answering) -> None:
        await answering.stream(chunk("Hel", timings=timings(5, 1)), done=False)
        answering.writer.close()

    engine.script = script
    path = f"/v1beta/models/{MODEL}:streamGenerateContent"
    told = gateway.post({"contents": [user()]}, path=path).json
    assert told[-1]["error"]["status"] == "INTERNAL"
    for url in ("/v1beta/models/nobody:generateContent", "/v1beta/nothing", "/v1/models/x:predict"):
        refused = gateway.post({"contents": [user()]}, path=f"{url}?key=sublet_canary")
        assert refused.status >= 400 and b"canary" not in refused.body
