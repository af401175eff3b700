"""Amazon Bedrock's InvokeModel and its stream: bodies in the form of a model's own vendor.

Format: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html. At Amazon the model decides which form
a body has; here the body shows it, since any model can answer any of them: Anthropic's messages (`anthropic_version`), OpenAI's chat
(`messages`), and Meta Llama's prompts (`prompt`). What becomes of the fields of each is in bedrock_fields.py.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from dataclasses import replace
from typing import Any

import msgspec
from msgspec import Raw

from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import CHAT, COMPLETION, COUNT, FLEX, ChatRequest
from sublet.gateway.surfaces.anthropic import AnthropicSurface
from sublet.gateway.surfaces.bedrock_llama import LlamaStream, llama_answer, llama_call
from sublet.gateway.surfaces.event_stream import exception, framed, headers_of
from sublet.gateway.surfaces.openai import OpenAISurface
from sublet.gateway.surfaces.reading import read, unsupported
from sublet.gateway.surfaces.surface import Headers, Identity, StreamForm
from sublet.gateway.upstream.openai_answer import counted_of
from sublet.values.errors import SubletError

_ANTHROPIC_VERSION = re.compile(rb'"(bedrock-)?[0-9]{4}-[0-9]{2}-[0-9]{2}"')
"""Amazon's is bedrock-2023-05-31; Anthropic's own client for Bedrock writes the date of its API."""
_CHUNK = headers_of(event_type="chunk", content_type="application/json", message_type="event")
_METRICS = "amazon-bedrock-invocationMetrics"
_DATA = b"data: "
_SERVICE_TIER = b"x-amzn-bedrock-service-tier"
# Headers of Amazon's that would change the answer, by their names in its SDKs.
_REFUSED_HEADERS = {
    b"x-amzn-bedrock-guardrailidentifier": "guardrailIdentifier",
    b"x-amzn-bedrock-guardrailversion": "guardrailVersion",
    b"x-amzn-bedrock-projectidentifier": "projectIdentifier",
}
_fields = msgspec.json.Decoder(dict[str, Raw])
_betas = msgspec.json.Decoder(list[str] | None)
_encode = msgspec.json.Encoder().encode
_anthropic = AnthropicSurface()
_openai = OpenAISurface()


def tier_of(headers: Headers) -> str:
    """The tier that the headers ask for. Raises InvalidRequestError for a header that can't be honored."""
    tier = ""
    for name, value in headers:
        if name in _REFUSED_HEADERS:
            raise unsupported(_REFUSED_HEADERS[name])
        if name == _SERVICE_TIER:
            if value not in (b"default", FLEX.encode()):
                raise unsupported("serviceTier", f"{value[:40].decode('latin-1')!r}; it must be default or flex")
            tier = FLEX if value != b"default" else ""
    return tier


def invoked(body: bytes, model: str, *, stream: bool, tier: str = "") -> Call:
    """A body in one of the three forms as a request for an answer. Raises InvalidRequestError."""
    fields = read(_fields, body)
    if "anthropic_version" in fields or "anthropic_beta" in fields:
        call = _messages(fields, model, stream=stream)
    elif "messages" in fields:
        for name, words in (("inferenceConfig", "Amazon Nova's"), ("schemaVersion", "Amazon Nova's")):
            if name in fields:
                raise unsupported(name, f"{words} bodies are not supported; use Converse")
        call = _openai.parse(CHAT, _bound(fields, model, stream=stream))
    elif "prompt" in fields:
        call = llama_call(body, model, stream=stream)
    else:
        raise InvalidRequestError(
            "The body has none of the forms that are supported: Anthropic's (anthropic_version and messages), "
            "OpenAI's (messages), and Meta Llama's (prompt)"
        )
    call.tier = tier or call.tier
    return call


def counted(body: str, model: str) -> Call:
    """A body, in base64, whose prompt is to be counted. Raises InvalidRequestError."""
    at = "input.invokeModel.body"
    try:
        call = invoked(base64.b64decode(body, validate=True), model, stream=False)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequestError(f"{at} is not base64", param=at) from error
    return replace(call, kind=COUNT, output_tokens_max=None, answers=1, echoes=False)


def invoke_answer(call: Call, identity: Identity, body: bytes) -> bytes:
    """A whole answer of the engine in the form in which it was asked for."""
    if call.kind == COUNT:
        return _encode({"inputTokens": counted_of(body)})
    if call.kind == COMPLETION:
        return llama_answer(call, body)
    return _vendor(call).answer(call, identity, body)


def count_headers(call: Call, started_s: float) -> bytes:
    """The headers that tell the counts of a whole answer: the bodies of some vendors do not."""
    counts = call.counts
    return (
        b"x-amzn-bedrock-input-token-count: %d\r\nx-amzn-bedrock-output-token-count: %d\r\n"
        b"x-amzn-bedrock-cache-read-input-token-count: %d\r\nx-amzn-bedrock-invocation-latency: %d\r\n"
        % (counts.input - counts.input_cached, counts.output, counts.input_cached, _elapsed_ms(started_s))
    )


class InvokeStream:
    """The vendor's own stream, each event of it in a frame; the last one tells the counts besides."""

    __slots__ = ("_call", "_first_ms", "_form", "_started_s")

    def __init__(self, call: Call, identity: Identity) -> None:
        self._call = call
        self._form: StreamForm = LlamaStream(call) if call.kind == COMPLETION else _vendor(call).stream(call, identity)
        self._started_s = time.monotonic()
        self._first_ms = -1

    def event(self, payload: bytes) -> bytes:
        told = self._form.event(payload)
        if told and self._first_ms < 0:
            self._first_ms = _elapsed_ms(self._started_s)
        return b"".join(map(_framed, _payloads(told)))

    def end(self) -> bytes:
        payloads = _payloads(self._form.end())
        # OpenAI's ends in a word that is no JSON: the counts stand in a chunk without an answer, as its own usage does.
        last = payloads.pop() if payloads else b'{"choices":[]}'
        counts = self._call.counts
        metrics = {
            "inputTokenCount": counts.input - counts.input_cached,
            "outputTokenCount": counts.output,
            "cacheReadInputTokenCount": counts.input_cached,
            "invocationLatency": _elapsed_ms(self._started_s),
            "firstByteLatency": max(0, self._first_ms),
        }
        payloads.append(last[:-1] + b',"%b":%b}' % (_METRICS.encode(), _encode(metrics)))
        return b"".join(map(_framed, payloads))

    def failure(self, error: SubletError) -> bytes:
        return exception(error.status, error.message)

    def keep_alive(self) -> bytes:
        # There is no event that says nothing.
        return b""


def _messages(fields: dict[str, Raw], model: str, *, stream: bool) -> Call:
    version = bytes(fields.pop("anthropic_version", Raw(b"null")))
    if not _ANTHROPIC_VERSION.fullmatch(version):
        raise InvalidRequestError('anthropic_version must be "bedrock-2023-05-31"', param="anthropic_version")
    # Names of features: one that needs a field which is not known is refused by that field.
    read(_betas, bytes(fields.pop("anthropic_beta", Raw(b"null"))), "anthropic_beta")
    return _anthropic.parse(CHAT, _bound(fields, model, stream=stream))


def _bound(fields: dict[str, Raw], model: str, *, stream: bool) -> bytes:
    """The body with what stands in the path: the model, and whether the answer is streamed."""
    fields.pop("stream", None)
    bound: dict[str, Any] = {**fields, "model": model}
    if stream:
        bound["stream"] = True
    return _encode(bound)


def _vendor(call: Call) -> AnthropicSurface | OpenAISurface:
    # Only Anthropic's requests are read into the gateway's own form.
    return _anthropic if isinstance(call.asked, ChatRequest) else _openai


def _payloads(told: bytes) -> list[bytes]:
    """The JSON of the events of a stream as the vendor tells them, without those that say nothing."""
    found = []
    for event in told.split(b"\n\n"):
        at = event.find(_DATA)
        if at >= 0 and event.startswith(b"{", at + len(_DATA)):
            found.append(event[at + len(_DATA) :])
    return found


def _framed(payload: bytes) -> bytes:
    return framed(_CHUNK, b'{"bytes":"%b"}' % base64.b64encode(payload))


def _elapsed_ms(started_s: float) -> int:
    return int((time.monotonic() - started_s) * 1000)
