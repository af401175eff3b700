"""An engine's body: OpenAI's API, which engines speak, with what some of them know beyond it.

OpenAI's own surface reads straight into these (openai_request.py); every other surface writes a request in the gateway's own form
(requests/form.py), which `body_of` turns into one of these.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from sublet.gateway.requests.form import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    NAMED,
    ChatRequest,
    EmbeddingRequest,
    Image,
    Role,
    Text,
    Tool,
    Turn,
)
from sublet.gateway.upstream.dialects import ABSENT, Dialect, EngineParameters

ENGINE_PATHS = {CHAT: b"/v1/chat/completions", COMPLETION: b"/v1/completions", EMBEDDING: b"/v1/embeddings"}

_NULL = b"null"
_INCLUDE_USAGE = Raw(b'{"include_usage":true}')
_RUNNING_USAGE = Raw(b'{"include_usage":true,"continuous_usage_stats":true}')
_encode = msgspec.json.Encoder().encode

PositiveInt = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Penalty = Annotated[float, Meta(ge=-2, le=2)]
Stop = str | Annotated[list[str], Meta(max_length=16)]


class EngineBody(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What an engine is asked: the fields that every kind of call may have. Large values stay unread."""

    model: str
    stream: bool | None = None
    stream_options: Raw = ABSENT
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    timings_per_token: bool | None = None


class GenerationBody(EngineBody, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What steers the making of text, in a chat or without."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop: Stop | None = None
    seed: int | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: Raw = ABSENT
    n: Annotated[int, Meta(ge=1, le=128)] | None = None


class ChatBody(GenerationBody, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """A chat."""

    messages: Raw = ABSENT
    max_tokens: PositiveInt | None = None
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
    # The length first: comparing would copy the whole of a long field.
    return len(value) > 0 and (len(value) != len(_NULL) or bytes(value) != _NULL)


def written(body: EngineBody, dialect: Dialect, *, stream: bool) -> bytes:
    """The body as an engine that speaks `dialect` gets it: usage is always reported."""
    if stream:
        body.stream = True
        body.stream_options = _RUNNING_USAGE if dialect.running_usage else _INCLUDE_USAGE
        body.timings_per_token = True if dialect.timings else None
    else:
        body.stream = None
        body.stream_options = ABSENT
    return _encode(body)


def with_more(
    body: bytes,
    dialect: Dialect,
    capabilities: frozenset[str],
    parameters: EngineParameters | None,
    asked: Mapping[str, str],
) -> bytes:
    """A written body with the fields that only some engines (`parameters`) or models (`asked`) know, as the dialect words them."""
    more: dict[str, Any] = {
        name: value for name, value in asked.items() if (name if name == "verbosity" else "reasoning") in capabilities
    }
    if parameters is not None:
        for name, value in msgspec.structs.asdict(parameters).items():
            if is_sent(value):
                more.setdefault(dialect.renamed.get(name, name), value)
    return body if not more else body[:-1] + b"," + _encode(more)[1:]


def is_sent(value: Any) -> bool:
    """Whether a parameter was sent."""
    return present(value) if isinstance(value, Raw) else value is not None


def body_of(request: ChatRequest | EmbeddingRequest) -> EngineBody:
    """A request in the gateway's own form, in the engines' dialect."""
    if isinstance(request, EmbeddingRequest):
        return EmbeddingBody(
            model=request.model, input=Raw(_encode(list(request.texts))), dimensions=request.dimensions
        )
    sampling = request.sampling
    found = ChatBody(
        model=request.model,
        stream=request.stream or None,
        messages=Raw(_encode([_message(turn) for turn in request.turns])),
        max_tokens=request.output_tokens_max,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        stop=list(sampling.stop) or None,
        seed=sampling.seed,
        presence_penalty=sampling.presence_penalty,
        frequency_penalty=sampling.frequency_penalty,
        n=request.answers if request.answers > 1 else None,
        logprobs=True if request.top_logprobs is not None else None,
        top_logprobs=request.top_logprobs or None,
    )
    if request.tools:
        found.tools = Raw(_encode([_tool(tool) for tool in request.tools]))
        if request.tool_choice:
            found.tool_choice = Raw(_encode(_choice(request.tool_choice)))
        found.parallel_tool_calls = request.parallel
    if request.schema is not None:
        found.response_format = fitting(request.schema)
    elif request.json:
        found.response_format = Raw(b'{"type":"json_object"}')
    return found


def fitting(schema: Mapping[str, Any]) -> Raw:
    """The response format of an answer that has to fit a JSON Schema."""
    return Raw(_encode({"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}))


def _message(turn: Turn) -> dict[str, Any]:
    texts = [part.text for part in turn.parts if isinstance(part, Text)]
    plain = len(texts) == len(turn.parts)
    content: Any = "".join(texts) if plain else [_part(part) for part in turn.parts]
    if turn.role is Role.TOOL:
        return {"role": "tool", "tool_call_id": turn.answers, "content": content}
    message: dict[str, Any] = {"role": turn.role.value, "content": content}
    if turn.uses:
        message["content"] = content or None
        message["tool_calls"] = [
            {"id": use.id, "type": "function", "function": {"name": use.name, "arguments": use.arguments}}
            for use in turn.uses
        ]
    return message


def _part(part: Text | Image) -> dict[str, Any]:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    return {"type": "image_url", "image_url": {"url": part.url}}


def _tool(tool: Tool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description, "parameters": tool.schema}
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": function}


def _choice(choice: str) -> Any:
    if not choice.startswith(NAMED):
        return choice
    return {"type": "function", "function": {"name": choice.removeprefix(NAMED)}}
