"""The one internal form of a request. Every surface parses into it; the engine gets it in OpenAI's dialect."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from sublet.gateway.model import ModelRoute

CHAT = "chat"
COMPLETION = "completions"
EMBEDDING = "embeddings"

ENGINE_PATHS = {CHAT: b"/v1/chat/completions", COMPLETION: b"/v1/completions", EMBEDDING: b"/v1/embeddings"}

ABSENT = Raw(b"")
"""A field that was not sent. (msgspec has no union of Raw and None.)"""

_NULL = b"null"
_INCLUDE_USAGE = Raw(b'{"include_usage":true}')
_encode = msgspec.json.Encoder().encode

PositiveInt = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Stop = str | Annotated[list[str], Meta(max_length=16)]


class EngineBody(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What an engine is asked: the fields that every kind of call may have. Large values stay unread."""

    model: str
    stream: bool | None = None
    stream_options: Raw = ABSENT
    max_tokens: PositiveInt | None = None
    timings_per_token: bool | None = None


class GenerationBody(EngineBody, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What steers the making of text, in a chat or without."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: Stop | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Raw = ABSENT
    n: int | None = None


class ChatBody(GenerationBody, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A chat."""

    messages: Raw = ABSENT
    max_completion_tokens: PositiveInt | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    response_format: Raw = ABSENT
    tools: Raw = ABSENT
    tool_choice: Raw = ABSENT
    parallel_tool_calls: bool | None = None


class CompletionBody(GenerationBody, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A text to be continued."""

    prompt: Raw = ABSENT
    suffix: str | None = None
    echo: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    best_of: int | None = None


class EmbeddingBody(EngineBody, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """Texts to be embedded."""

    input: Raw = ABSENT
    encoding_format: str | None = None
    dimensions: PositiveInt | None = None


def present(value: Raw) -> bool:
    """Whether a field was sent and is not null."""
    return len(value) > 0 and bytes(value) != _NULL


@dataclass(slots=True)
class Call:
    """One request to a model. `needs` are the capabilities without which it can't be answered as asked."""

    kind: str
    model: str
    body: EngineBody
    stream: bool = False
    include_usage: bool = False
    needs: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)

    def for_engine(self, route: ModelRoute) -> bytes:
        """The request's body as the engine of `route` gets it: its own model name, usage always reported."""
        body = self.body
        body.model = route.engine_model
        if self.stream or (route.stream_only and self.kind != EMBEDDING):
            body.stream = True
            body.stream_options = _INCLUDE_USAGE
            if route.timings:
                body.timings_per_token = True
        else:
            body.stream = None
            body.stream_options = ABSENT
        return _encode(body)
