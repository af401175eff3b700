"""Google Gemini's surface: content, streams of it, counts and embeddings, as its SDKs ask and expect them.

Format: https://ai.google.dev/api/generate-content. The model and what is asked of it stand in the path, so there is a surface for each
path. What becomes of each field is in gemini_fields.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qs, unquote

import msgspec

from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.call import CHOICE, OUTPUT, PROMPT, Call
from sublet.gateway.requests.form import CHAT, COUNT, EMBEDDING, CountRequest
from sublet.gateway.surfaces.gemini_request import chat_of, count_of, embedding_of
from sublet.gateway.surfaces.reading import object_of
from sublet.gateway.surfaces.surface import (
    QUERY_KEY_HEADER,
    Allowance,
    CommonSurface,
    Headers,
    Identity,
    Surface,
    secret_of,
)
from sublet.gateway.upstream.openai_answer import Choice, Said, choices_of, counted_of, embeddings_of
from sublet.values.errors import SubletError

_PATH = re.compile(rb"/(?:v1|v1beta)/models/(.{1,400}):([a-zA-Z]{1,40})")
_KINDS = {
    b"generateContent": CHAT,
    b"streamGenerateContent": CHAT,
    b"countTokens": COUNT,
    b"embedContent": EMBEDDING,
    b"batchEmbedContents": EMBEDDING,
}
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    405: "UNIMPLEMENTED",
    408: "DEADLINE_EXCEEDED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FIELDS = {
    PROMPT: "contents",
    OUTPUT: "generationConfig.maxOutputTokens",
    CHOICE: "toolConfig",
    "tools": "tools",
    "images": "contents",
    "json_schema": "generationConfig.responseMimeType",
    "reasoning": "generationConfig.thinkingConfig",
    "top_k": "generationConfig.topK",
}
"""See requests.call.Call."""
_REASONS = {"length": "MAX_TOKENS", "content_filter": "SAFETY"}
_RPC = "type.googleapis.com/google.rpc."
_encode = msgspec.json.Encoder().encode


class GeminiSurface(CommonSurface):
    """See gateway.surface.Surface. This one is for what has no model in its path."""

    routes: dict[bytes, str] = {}  # noqa: RUF012
    stream_content_type = b"text/event-stream"
    mark = QUERY_KEY_HEADER
    prefixes: tuple[bytes, ...] = (b"/v1beta",)

    def find(self, path: bytes, query: bytes) -> tuple[Surface, str] | None:
        found = _PATH.fullmatch(path)
        kind = _KINDS.get(found[2]) if found else None
        if found is None or kind is None:
            return None
        sse = parse_qs(query.decode("latin-1")).get("alt") == ["sse"]
        return ModelSurface(unquote(found[1].decode("latin-1")), found[2], sse=sse), kind

    def secret(self, headers: Headers) -> bytes:
        return next((value.strip() for name, value in headers if name == QUERY_KEY_HEADER), b"") or secret_of(headers)

    def parse(self, kind: str, body: bytes) -> Call:
        raise InvalidRequestError("The path does not contain a model; call /v1beta/models/MODEL:generateContent")

    def stream(self, call: Call, identity: Identity) -> GeminiStream:
        return GeminiStream(identity, call, sse=self.stream_content_type == GeminiSurface.stream_content_type)

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        if call.kind == COUNT:
            return _encode({"totalTokens": counted_of(body)})
        if call.kind == EMBEDDING:
            found = [{"values": values} for values in embeddings_of(body)]
            return _encode({"embeddings": found} if call.more else {"embedding": found[0] if found else {}})
        candidates = [_candidate(call, choice) for choice in choices_of(body)]
        return _encode({"candidates": candidates, "usageMetadata": _usage(call), **_names(identity)})

    def refusal(self, error: SubletError) -> bytes:
        return _encode({"error": _error(self.status(error), error)})

    def status(self, error: SubletError) -> int:
        if error.status in _STATUSES:
            return error.status
        # Google has no others: what a gateway says of an engine is internal, and what is wrong with a request is wrong with it.
        return 500 if error.status >= 500 else 400

    def headers(self, request_id: str, allowance: Allowance | None) -> bytes:
        return b"x-request-id: %b\r\n" % request_id.encode()

    def models(self, routes: Sequence[ModelRoute]) -> dict[str, Any]:
        return {"models": [self.model(route) for route in routes]}

    def model(self, route: ModelRoute) -> dict[str, Any]:
        methods = ["generateContent", "streamGenerateContent", "countTokens"] if CHAT in route.capabilities else []
        methods += ["embedContent", "batchEmbedContents"] if EMBEDDING in route.capabilities else []
        return {
            "name": f"models/{route.name}",
            "version": "1",
            "displayName": route.name,
            "description": "",
            "inputTokenLimit": route.context_tokens,
            "outputTokenLimit": route.context_tokens,
            "supportedGenerationMethods": methods,
        }


class ModelSurface(GeminiSurface):
    """What is asked of one model. `sse`: a stream is one of events, else an array of JSON that is written bit by bit."""

    def __init__(self, model: str, method: bytes, *, sse: bool) -> None:
        self._model = model
        self._method = method
        self.stream_content_type = GeminiSurface.stream_content_type if sse else b"application/json"

    def parse(self, kind: str, body: bytes) -> Call:
        if kind == COUNT:
            return Call.of(CountRequest(count_of(body, self._model)), _FIELDS)
        if kind == EMBEDDING:
            several = self._method == b"batchEmbedContents"
            call = Call.of(embedding_of(body, self._model, several=several), {PROMPT: "content"})
            call.more = several
            return call
        request, thoughts = chat_of(body, self._model, stream=self._method == b"streamGenerateContent")
        call = Call.of(request, _FIELDS)
        call.more = thoughts
        return call


class _Calls:
    """The function calls of one candidate: Google tells each whole, so its pieces are kept until it is."""

    __slots__ = ("_arguments", "_id", "_index", "_name", "open")

    def __init__(self) -> None:
        self.open = False
        self._index = -1
        self._id = self._name = ""
        self._arguments: list[str] = []

    def take(self, said: Said) -> list[dict[str, Any]]:
        """The parts of the calls that are whole now."""
        parts: list[dict[str, Any]] = []
        for use in said.tool_calls or ():
            if not self.open or use.index != self._index:
                parts += self.finish()
                self.open = True
                self._index, self._id = use.index, use.id or ""
                self._name = (use.function.name or "") if use.function else ""
            if use.function is not None and use.function.arguments:
                self._arguments.append(use.function.arguments)
        return parts

    def finish(self) -> list[dict[str, Any]]:
        """The part of the last one."""
        if not self.open:
            return []
        self.open = False
        arguments = "".join(self._arguments)
        self._arguments = []
        return [_call_part(self._id, self._name, arguments)]


class GeminiStream:
    """A stream of responses, which has why it ended and the counts in its last one."""

    __slots__ = ("_begun", "_call", "_calls", "_delta", "_identity", "_reasons", "_sse")

    def __init__(self, identity: Identity, call: Call, *, sse: bool) -> None:
        self._identity = identity
        self._call = call
        self._sse = sse
        self._begun = False
        self._calls: dict[int, _Calls] = {}
        self._reasons: dict[int, str] = {}
        # Everything around the text of an ordinary event.
        names = _encode(_names(identity))[1:]
        self._delta = b'{"candidates":[{"content":{"parts":[{"text":%b}],"role":"model"},"index":%d}],' + names.replace(
            b"%", b"%%"
        )

    def event(self, payload: bytes) -> bytes:
        choices = choices_of(payload)
        if len(choices) == 1:
            choice = choices[0]
            said = choice.delta
            if said is not None and said.content and choice.finish_reason is None and _text_alone(choice, said):
                return self._told(self._delta % (_encode(said.content), choice.index))
        candidates = [found for choice in choices if (found := self._candidate(choice)) is not None]
        return self._told(_encode({"candidates": candidates, **_names(self._identity)})) if candidates else b""

    def end(self) -> bytes:
        candidates = []
        for index in sorted(self._reasons) or [0]:
            reason = _REASONS.get(self._reasons.get(index, "stop"), "STOP")
            content = {"parts": [{"text": ""}], "role": "model"}
            candidates.append({"content": content, "finishReason": reason, "index": index})
        last = {"candidates": candidates, "usageMetadata": _usage(self._call), **_names(self._identity)}
        return self._told(_encode(last)) + (b"" if self._sse else b"]")

    def failure(self, error: SubletError) -> bytes:
        return self._told(GeminiSurface().refusal(error)) + (b"" if self._sse else b"]")

    def keep_alive(self) -> bytes:
        # Its SDK takes a comment for a part of the answer.
        return b"\r\n"

    def _candidate(self, choice: Choice) -> dict[str, Any] | None:
        """What an event adds to a candidate, where it adds something."""
        said = choice.delta or Said()
        calls = self._calls.setdefault(choice.index, _Calls())
        parts = _parts(said, thoughts=bool(self._call.more)) + calls.take(said)
        if choice.finish_reason is not None:
            self._reasons[choice.index] = choice.finish_reason
            parts += calls.finish()
        if not parts:
            return None
        found: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": choice.index}
        return {**found, **_logprobs(choice)}

    def _told(self, response: bytes) -> bytes:
        if self._sse:
            return b"data: %b\r\n\r\n" % response
        begun, self._begun = self._begun, True
        return (b",\r\n" if begun else b"[") + response


def _candidate(call: Call, choice: Choice) -> dict[str, Any]:
    said = choice.message or Said()
    parts = _parts(said, thoughts=bool(call.more))
    for use in said.tool_calls or ():
        function = use.function
        parts.append(
            _call_part(use.id or "", (function.name or "") if function else "", function.arguments if function else "")
        )
    return {
        "content": {"parts": parts or [{"text": ""}], "role": "model"},
        "finishReason": _REASONS.get(choice.finish_reason or "stop", "STOP"),
        "index": choice.index,
        **_logprobs(choice),
    }


def _parts(said: Said, *, thoughts: bool) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": said.thought, "thought": True}] if thoughts and said.thought else []
    text = said.content or said.refusal
    return [*parts, {"text": text}] if text else parts


def _call_part(call_id: str, name: str, arguments: str | None) -> dict[str, Any]:
    return {"functionCall": {"id": call_id, "name": name, "args": object_of(arguments)}}


def _text_alone(choice: Choice, said: Said) -> bool:
    return not said.thought and said.refusal is None and said.tool_calls is None and choice.logprobs is None


def _logprobs(choice: Choice) -> dict[str, Any]:
    """The likelihood of each token, as Google words it."""
    found = choice.logprobs.get("content") if isinstance(choice.logprobs, dict) else None
    if not isinstance(found, list):
        return {}
    items = [item for item in found if isinstance(item, dict)]
    tops = [[_likely(top) for top in item.get("top_logprobs") or () if isinstance(top, dict)] for item in items]
    return {
        "logprobsResult": {
            "chosenCandidates": [_likely(item) for item in items],
            "topCandidates": [{"candidates": candidates} for candidates in tops],
        }
    }


def _likely(item: dict[str, Any]) -> dict[str, Any]:
    return {"token": item.get("token"), "logProbability": item.get("logprob")}


def _names(identity: Identity) -> dict[str, Any]:
    return {"modelVersion": identity.model, "responseId": identity.request_id.removeprefix("req_")}


def _usage(call: Call) -> dict[str, Any]:
    counts = call.counts
    found: dict[str, Any] = {
        "promptTokenCount": counts.input,
        "candidatesTokenCount": counts.output,
        "totalTokenCount": counts.input + counts.output,
        "serviceTier": call.tier or ("priority" if call.served else "standard"),
    }
    return {**found, "cachedContentTokenCount": counts.input_cached} if counts.input_cached else found


def _error(status: int, error: SubletError) -> dict[str, Any]:
    details: list[dict[str, Any]] = []
    if (field := error.details.get("param")) is not None:
        violation = {"field": field, "description": error.message}
        details.append({"@type": f"{_RPC}BadRequest", "fieldViolations": [violation]})
    if (wait_s := error.details.get("retry_after_s")) is not None:
        details.append({"@type": f"{_RPC}RetryInfo", "retryDelay": f"{max(1, round(wait_s))}s"})
    told = {"code": status, "message": error.message, "status": _STATUSES[status]}
    return {**told, "details": details} if details else told
