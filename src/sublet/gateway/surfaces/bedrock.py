"""Amazon Bedrock's surface: Converse, InvokeModel, their streams and counts, as its SDKs ask and expect them.

Format: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime.html. The model and what
is asked of it stand in the path, so there is a surface for each path. What becomes of each field is in bedrock_fields.py.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from sublet.gateway.model import ModelRoute
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.call import OUTPUT, PROMPT, Call
from sublet.gateway.requests.form import CHAT, COMPLETION, COUNT, CountRequest
from sublet.gateway.surfaces.bedrock_invoke import InvokeStream, count_headers, counted, invoke_answer, invoked, tier_of
from sublet.gateway.surfaces.bedrock_request import converse_of, count_of
from sublet.gateway.surfaces.event_stream import exception, framed, headers_of
from sublet.gateway.surfaces.reading import object_of, unsupported
from sublet.gateway.surfaces.sigv4 import Signature, signature_of
from sublet.gateway.surfaces.surface import Allowance, CommonSurface, Headers, Identity, StreamForm, Surface
from sublet.gateway.upstream.openai_answer import Choice, Said, ToolCall, choices_of, counted_of, message_of
from sublet.values.errors import SubletError

_PATH = re.compile(rb"/model/([^/]{1,2048})/(converse|converse-stream|count-tokens|invoke|invoke-with-response-stream)")
_ARN = re.compile(r"arn:[a-z-]+:bedrock:[a-z0-9-]*:[0-9]*:foundation-model/(.+)")
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "content_filtered"}
# Amazon has no other statuses for these.
_STATUSES = {401: 403, 402: 400, 405: 404, 413: 400, 415: 400, 422: 400, 431: 400, 502: 424, 504: 408}
_TYPES = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_TYPES_OF_CODES = {
    "route_not_found": "UnknownOperationException",
    "unknown_access_key": "UnrecognizedClientException",
    "signature_mismatch": "InvalidSignatureException",
    "clock_skew": "InvalidSignatureException",
    "incomplete_signature": "IncompleteSignatureException",
}
_EVENTS = {
    name: headers_of(event_type=name, content_type="application/json", message_type="event")
    for name in (
        "messageStart",
        "contentBlockStart",
        "contentBlockDelta",
        "contentBlockStop",
        "messageStop",
        "metadata",
    )
}
_DELTA = _EVENTS["contentBlockDelta"]
PROVIDER = "sublet"
_encode = msgspec.json.Encoder().encode
_FIELDS = {PROMPT: "messages", OUTPUT: "inferenceConfig.maxTokens"}
"""See requests.call.Call."""


class BedrockSurface(CommonSurface):
    """See gateway.surface.Surface. This one is for what has no model in its path."""

    routes: dict[bytes, str] = {}  # noqa: RUF012
    stream_content_type = b"application/vnd.amazon.eventstream"
    mark = b"amz-sdk-invocation-id"
    prefixes: tuple[bytes, ...] = (b"/model/", b"/foundation-models")

    def find(self, path: bytes, query: bytes) -> tuple[Surface, str] | None:
        found = _PATH.fullmatch(path)
        if found is None:
            return None
        model, method = model_named(unquote(found[1].decode("latin-1"))), found[2]
        stream = method.endswith(b"-stream")
        surface = InvokeSurface(model, stream=stream) if method[:6] == b"invoke" else ModelSurface(model, stream=stream)
        return surface, COUNT if method == b"count-tokens" else CHAT

    def signature(self, headers: Headers) -> Signature | None:
        return signature_of(headers)

    def parse(self, kind: str, body: bytes) -> Call:
        raise InvalidRequestError("The path does not contain a model; call /model/MODEL/converse")

    def stream(self, call: Call, identity: Identity) -> StreamForm:
        return ConverseStream(call)

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        if call.kind == COUNT:
            return _encode({"inputTokens": counted_of(body)})
        said, choice = message_of(body)
        content: list[dict[str, Any]] = []
        if said.thought:
            content.append({"reasoningContent": {"reasoningText": {"text": said.thought}}})
        text = said.content or said.refusal
        if text or not said.tool_calls:
            content.append({"text": text or ""})
        for use in said.tool_calls or ():
            function = use.function
            name, arguments = (function.name, function.arguments) if function else ("", "")
            content.append({"toolUse": {"toolUseId": use.id or "", "name": name or "", "input": object_of(arguments)}})
        message = {"role": "assistant", "content": content}
        return _encode({"output": {"message": message}, "stopReason": _stop(choice, said), **_figures(call)})

    def refusal(self, error: SubletError) -> bytes:
        return _encode({"message": error.message})

    def status(self, error: SubletError) -> int:
        if error.code == "insufficient_quota" and "retry_after_s" not in error.details:
            return 400
        status = _STATUSES.get(error.status, error.status)
        return status if status in _TYPES else 500 if status >= 500 else 400

    def headers(self, request_id: str, allowance: Allowance | None) -> bytes:
        told = request_id.encode()
        return b"x-amzn-requestid: %b\r\nx-request-id: %b\r\n" % (told, told)

    def refusal_headers(self, error: SubletError) -> bytes:
        status = self.status(error)
        kind = (
            "ServiceQuotaExceededException" if error.code == "insufficient_quota" and status == 400 else _TYPES[status]
        )
        kind = _TYPES_OF_CODES.get(error.code, kind)
        return b"x-amzn-errortype: %b\r\n" % kind.encode()

    def models(self, routes: Sequence[ModelRoute]) -> dict[str, Any]:
        return {"modelSummaries": [_described(route) for route in routes]}

    def model(self, route: ModelRoute) -> dict[str, Any]:
        return {"modelDetails": _described(route)}


class ModelSurface(BedrockSurface):
    """What is asked of one model."""

    def __init__(self, model: str, *, stream: bool) -> None:
        self._model = model
        self._stream = stream

    def parse(self, kind: str, body: bytes) -> Call:
        if kind == COUNT:
            asked = count_of(body, self._model)
            return counted(asked, self._model) if isinstance(asked, str) else Call.of(CountRequest(asked), _FIELDS)
        call = Call.of(converse_of(body, self._model, stream=self._stream), _FIELDS)
        call.more = time.monotonic()
        return call


class InvokeSurface(ModelSurface):
    """One model, asked in the form of its own vendor. Each request has one of its own."""

    def __init__(self, model: str, *, stream: bool) -> None:
        super().__init__(model, stream=stream)
        self._tier = ""
        self._started_s = time.monotonic()

    def secret(self, headers: Headers) -> bytes:
        # This is where a surface sees the headers.
        self._tier = tier_of(headers)
        return super().secret(headers)

    def parse(self, kind: str, body: bytes) -> Call:
        self._started_s = time.monotonic()
        return invoked(body, self._model, stream=self._stream, tier=self._tier)

    def stream(self, call: Call, identity: Identity) -> StreamForm:
        return InvokeStream(call, identity)

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        return invoke_answer(call, identity, body)

    def headers(self, request_id: str, allowance: Allowance | None) -> bytes:
        content = b"x-amzn-bedrock-content-type: application/json\r\n" if self._stream else b""
        tier = b"x-amzn-bedrock-service-tier: %b\r\n" % self._tier.encode() if self._tier else b""
        return super().headers(request_id, allowance) + content + tier

    def counted_headers(self, call: Call) -> bytes:
        """See requests.exchange.CountedSurface."""
        return count_headers(call, self._started_s)


class ConverseStream:
    """A stream of framed events: a block for each piece of reasoning, text or tool use, one after the other."""

    __slots__ = ("_block", "_call", "_index", "_reason", "_tool")

    def __init__(self, call: Call) -> None:
        self._call = call
        # The kind of the block that is open; None before the first event, empty between blocks.
        self._block: str | None = None
        self._index = -1
        self._tool = -1
        self._reason = "end_turn"

    def event(self, payload: bytes) -> bytes:
        choices = choices_of(payload)
        begun = b"" if self._block is not None else self._begin()
        if not choices:
            return begun
        choice = choices[0]
        said = choice.delta
        if said is not None:
            text = said.content or said.refusal
            if said.thought:
                begun += self._delta("reasoning", {"reasoningContent": {"text": said.thought}})
            if text:
                begun += self._text(text)
            for use in said.tool_calls or ():
                begun += self._use(use)
        if choice.finish_reason is not None:
            self._reason = _stop(choice, said)
            begun += self._close()
        return begun

    def end(self) -> bytes:
        out = b"" if self._block is not None else self._begin()
        if self._index < 0:
            out += self._text("")
        out += self._close() + _event("messageStop", {"stopReason": self._reason})
        return out + _event("metadata", _figures(self._call))

    def failure(self, error: SubletError) -> bytes:
        return exception(error.status, error.message)

    def keep_alive(self) -> bytes:
        # There is no event that says nothing.
        return b""

    def _begin(self) -> bytes:
        self._block = ""
        return _event("messageStart", {"role": "assistant"})

    def _text(self, text: str) -> bytes:
        closed = self._switch("text") if self._block != "text" else b""
        payload = b'{"contentBlockIndex":%d,"delta":{"text":%b}}' % (self._index, _encode(text))
        return closed + framed(_DELTA, payload)

    def _delta(self, kind: str, delta: dict[str, Any]) -> bytes:
        closed = self._switch(kind) if self._block != kind else b""
        return closed + _event("contentBlockDelta", {"contentBlockIndex": self._index, "delta": delta})

    def _use(self, use: ToolCall) -> bytes:
        out = b""
        function = use.function
        if self._block != "tool" or self._tool != use.index:
            self._tool = use.index
            out = self._switch("tool")
            start = {"toolUse": {"toolUseId": use.id or "", "name": (function.name or "") if function else ""}}
            out += _event("contentBlockStart", {"contentBlockIndex": self._index, "start": start})
        if function is not None and function.arguments:
            out += self._delta("tool", {"toolUse": {"input": function.arguments}})
        return out

    def _switch(self, kind: str) -> bytes:
        closed = self._close()
        self._block = kind
        self._index += 1
        return closed

    def _close(self) -> bytes:
        if not self._block:
            return b""
        self._block = ""
        return _event("contentBlockStop", {"contentBlockIndex": self._index})


def model_named(identifier: str) -> str:
    """The name of a model that is asked for by its name or by its ARN."""
    found = _ARN.fullmatch(identifier)
    return found[1] if found else identifier


def selected(routes: Sequence[ModelRoute], query: Mapping[str, str]) -> list[ModelRoute]:
    """The models that a list's filters leave. Raises InvalidRequestError for a filter that is not known."""
    tests: dict[str, Callable[[ModelRoute, str], bool]] = {
        "byProvider": lambda route, wanted: wanted.lower() == PROVIDER,
        "byOutputModality": lambda route, wanted: wanted == _output(route),
        "byInferenceType": lambda route, wanted: wanted == "ON_DEMAND",
        "byCustomizationType": lambda route, wanted: False,
    }
    for name in query:
        if name not in tests:
            raise unsupported(name[:80])
    return [route for route in routes if all(tests[name](route, wanted) for name, wanted in query.items())]


def _described(route: ModelRoute) -> dict[str, Any]:
    return {
        "modelId": route.name,
        "modelArn": f"arn:aws:bedrock:sublet::foundation-model/{route.name}",
        "modelName": route.name,
        "providerName": PROVIDER,
        "inputModalities": ["TEXT", "IMAGE"] if "images" in route.capabilities else ["TEXT"],
        "outputModalities": [_output(route)],
        "responseStreamingSupported": _output(route) == "TEXT",
        "customizationsSupported": [],
        "inferenceTypesSupported": ["ON_DEMAND"],
        "modelLifecycle": {"status": "ACTIVE"},
    }


def _output(route: ModelRoute) -> str:
    return "TEXT" if CHAT in route.capabilities or COMPLETION in route.capabilities else "EMBEDDING"


def _event(name: str, payload: dict[str, Any]) -> bytes:
    return framed(_EVENTS[name], _encode(payload))


def _stop(choice: Choice, said: Said | None) -> str:
    if choice.finish_reason == "stop" and choice.stopped_by is not None:
        return "stop_sequence"
    if choice.finish_reason == "stop" and said is not None and said.tool_calls:
        return "tool_use"
    return _REASONS.get(choice.finish_reason or "stop", "end_turn")


def _figures(call: Call) -> dict[str, Any]:
    """The counts, of which those from the cache stand apart, and how long it took."""
    counts = call.counts
    fresh = counts.input - counts.input_cached
    usage = {
        "inputTokens": fresh,
        "outputTokens": counts.output,
        "totalTokens": counts.input + counts.output,
        "cacheReadInputTokens": counts.input_cached,
        "cacheWriteInputTokens": 0,
    }
    latency_ms = int((time.monotonic() - call.more) * 1000) if isinstance(call.more, float) else 0
    served = call.served or call.tier
    tier = {"serviceTier": {"type": served}} if served else {}
    return {"usage": usage, "metrics": {"latencyMs": latency_ms}, **tier}
