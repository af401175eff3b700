"""Google Gemini's requests, as its SDKs write them, and the gateway's own form of them.

Format: https://ai.google.dev/api/generate-content and .../embeddings. What becomes of each field is in gemini_fields.py. Fields may be
written with capitals or with underscores, as at Google.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Raw, Struct

from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.form import (
    FLEX,
    NAMED,
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
from sublet.gateway.surfaces.gemini_schema import json_schema_of
from sublet.gateway.surfaces.reading import read, unsupported

STOPS_MAX, CANDIDATES_MAX, EMBEDDINGS_MAX = 16, 8, 1024
_Word = Annotated[str, Meta(max_length=4096)]
_Body = TypeVar("_Body")


class Message(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What Google's messages have in common: names in camel case, and no field that is not known."""


class Blob(Message):
    """A file in the request."""

    mime_type: _Word
    data: str
    display_name: None = None


class FileData(Message):
    """A file elsewhere."""

    file_uri: Annotated[str, Meta(pattern="^https?://", max_length=8192)]
    mime_type: _Word = "image/*"
    display_name: None = None


class FunctionCall(Message):
    """The model asked for a function."""

    name: _Word
    args: dict[str, Any] | None = None
    id: _Word | None = None


class FunctionResponse(Message):
    """What a function gave."""

    name: _Word
    response: Raw = Raw(b"null")
    id: _Word | None = None
    parts: None = None
    scheduling: None = None
    will_continue: Literal[False] | None = None


class Part(Message):
    """One of text, a file, a call and its answer."""

    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: Blob | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None
    executable_code: None = None
    code_execution_result: None = None
    video_metadata: None = None
    media_resolution: None = None
    part_metadata: dict[str, Any] | None = None


class Content(Message):
    """A turn."""

    parts: list[Part] | None = None
    role: Literal["user", "model", "function", "system"] | None = None


class FunctionDeclaration(Message):
    """A function of the client's own."""

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    description: str = ""
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    behavior: Literal["BLOCKING", "UNSPECIFIED"] | None = None


class Tools(Message):
    """Functions; all other kinds of tools are Google's own."""

    function_declarations: list[FunctionDeclaration] | None = None
    google_search: None = None
    google_search_retrieval: None = None
    google_maps: None = None
    code_execution: None = None
    url_context: None = None
    computer_use: None = None
    file_search: None = None
    mcp_servers: None = None


class CallingConfig(Message):
    """Whether and which function has to be called."""

    mode: Literal["MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"] | None = None
    allowed_function_names: list[_Word] | None = None
    stream_function_call_arguments: Literal[False] | None = None


class ToolConfig(Message):
    """How tools are used."""

    function_calling_config: CallingConfig | None = None
    retrieval_config: None = None
    include_server_side_tool_invocations: Literal[False] | None = None


class ThinkingConfig(Message):
    """How much the model thinks."""

    include_thoughts: bool | None = None
    thinking_budget: Annotated[int, Meta(ge=-1)] | None = None
    thinking_level: Literal["THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH", "XHIGH"] | None = None


class GenerationConfig(Message):
    """How the answer is drawn."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[float, Meta(ge=0, le=2**31 - 1)] | None = None
    candidate_count: Annotated[int, Meta(ge=1, le=CANDIDATES_MAX)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    stop_sequences: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(max_length=STOPS_MAX)] | None = None
    seed: int | None = None
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    response_mime_type: Literal["text/plain", "application/json"] | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    response_logprobs: bool | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    thinking_config: ThinkingConfig | None = None
    response_modalities: list[Literal["TEXT", "MODALITY_UNSPECIFIED"]] | None = None
    # Refused by name, unless null.
    media_resolution: None = None
    speech_config: None = None
    audio_timestamp: None = None
    routing_config: None = None
    model_selection_config: None = None
    image_config: None = None
    enable_enhanced_civic_answers: None = None
    enable_affective_dialog: None = None
    response_format: None = None
    translation_config: None = None
    audio_transcription_config: None = None


class SafetySetting(Message):
    """From when on a kind of content is held back."""

    category: _Word
    threshold: _Word
    method: _Word | None = None


class Generate(Message):
    """The body of a request for an answer."""

    contents: list[Content]
    model: _Word | None = None
    system_instruction: Content | None = None
    tools: list[Tools] | None = None
    tool_config: ToolConfig | None = None
    generation_config: GenerationConfig | None = None
    safety_settings: list[SafetySetting] | None = None
    service_tier: Literal["unspecified", "standard", "flex", "SERVICE_TIER_UNSPECIFIED", "STANDARD", "FLEX"] | None = (
        None
    )
    labels: dict[str, _Word] | None = None
    store: Literal[False] | None = None
    cached_content: None = None


class Count(Message):
    """The body of a count."""

    contents: list[Content] | None = None
    generate_content_request: Generate | None = None
    model: _Word | None = None
    system_instruction: Content | None = None
    tools: list[Tools] | None = None


class Embed(Message):
    """A text to be embedded."""

    content: Content
    model: _Word | None = None
    task_type: _Word | None = None
    title: _Word | None = None
    output_dimensionality: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    auto_truncate: Literal[False] | None = None


class EmbedBatch(Message):
    """Several."""

    requests: Annotated[list[Embed], Meta(min_length=1, max_length=EMBEDDINGS_MAX)]


_generate = msgspec.json.Decoder(Generate)
_count = msgspec.json.Decoder(Count)
_embed = msgspec.json.Decoder(Embed)
_batch = msgspec.json.Decoder(EmbedBatch)
_any = msgspec.json.Decoder(Any)
_encode = msgspec.json.Encoder().encode
# What is the client's own, where names stay as they are.
_FREE = frozenset(
    "args response parameters parametersJsonSchema parameters_json_schema responseSchema response_schema responseJsonSchema "
    "response_json_schema labels partMetadata part_metadata".split()
)


def chat_of(body: bytes, model: str, *, stream: bool) -> tuple[ChatRequest, bool]:
    """A request for an answer, and whether the client wants to see thoughts. Raises InvalidRequestError."""
    asked = _read(_generate, body)
    config = asked.generation_config or GenerationConfig()
    thinking = config.thinking_config or ThinkingConfig()
    return _chat_of(asked, config, model, stream=stream), bool(thinking.include_thoughts)


def count_of(body: bytes, model: str) -> ChatRequest:
    """A request for a count. Raises InvalidRequestError."""
    asked = _read(_count, body)
    inner = asked.generate_content_request or Generate(
        contents=asked.contents or [], system_instruction=asked.system_instruction, tools=asked.tools
    )
    return _chat_of(inner, inner.generation_config or GenerationConfig(), model, stream=False)


def embedding_of(body: bytes, model: str, *, several: bool) -> EmbeddingRequest:
    """Texts to be embedded. Raises InvalidRequestError."""
    asked = _read(_batch, body).requests if several else [_read(_embed, body)]
    sizes = {item.output_dimensionality for item in asked}
    if len(sizes) > 1:
        raise InvalidRequestError("outputDimensionality must be the same in all requests", param="outputDimensionality")
    texts = []
    for item in asked:
        parts = [part.text for part in item.content.parts or () if part.text is not None]
        if not parts or len(parts) != len(item.content.parts or ()):
            raise InvalidRequestError(
                "content: only text can be embedded; send at least one text part", param="content"
            )
        texts.append("\n".join(parts))
    return EmbeddingRequest(model, tuple(texts), next(iter(sizes)))


def _chat_of(asked: Generate, config: GenerationConfig, model: str, *, stream: bool) -> ChatRequest:
    tools = tuple(
        Tool(
            item.name,
            item.description,
            item.parameters_json_schema or json_schema_of(item.parameters or {"type": "OBJECT"}),
        )
        for group in asked.tools or ()
        for item in group.function_declarations or ()
    )
    choice, tools = _choice_of(asked.tool_config, tools)
    turns = tuple(_turns_of(asked))
    if not any(turn.role is not Role.SYSTEM for turn in turns):
        raise InvalidRequestError("contents is empty; send at least one message", param="contents")
    schema = config.response_json_schema
    if schema is None and config.response_schema is not None:
        schema = json_schema_of(config.response_schema)
    if schema is not None and config.response_mime_type != "application/json":
        raise InvalidRequestError(
            "responseSchema requires responseMimeType application/json", param="generationConfig.responseMimeType"
        )
    return ChatRequest(
        model,
        turns,
        output_tokens_max=config.max_output_tokens,
        sampling=Sampling(
            temperature=config.temperature,
            top_p=config.top_p,
            top_k=int(config.top_k) or None if config.top_k is not None else None,
            seed=config.seed,
            stop=tuple(config.stop_sequences or ()),
            presence_penalty=config.presence_penalty,
            frequency_penalty=config.frequency_penalty,
        ),
        tools=tools,
        tool_choice=choice,
        schema=schema,
        json=schema is None and config.response_mime_type == "application/json",
        answers=config.candidate_count or 1,
        stream=stream,
        effort=_effort_of(config.thinking_config or ThinkingConfig()),
        top_logprobs=(config.logprobs or 0) if config.response_logprobs else None,
        tier=FLEX if (asked.service_tier or "").lower() == FLEX else "",
    )


def _effort_of(thinking: ThinkingConfig) -> str:
    level = thinking.thinking_level
    if level is not None and level != "THINKING_LEVEL_UNSPECIFIED":
        return level.lower()
    budget = thinking.thinking_budget
    if budget is None:
        return ""
    if budget == 0:
        return "none"
    return "medium" if budget < 0 or 4096 < budget <= 16_384 else "low" if budget <= 4096 else "high"


def _choice_of(config: ToolConfig | None, tools: tuple[Tool, ...]) -> tuple[str, tuple[Tool, ...]]:
    """What has to be called, and what may be."""
    calling = (config.function_calling_config if config is not None else None) or CallingConfig()
    if calling.mode == "NONE":
        return "none", tools
    forced = calling.mode == "ANY"
    if forced and not tools:
        raise InvalidRequestError("toolConfig: mode ANY requires tools", param="toolConfig")
    allowed = calling.allowed_function_names
    if allowed:
        missing = set(allowed) - {tool.name for tool in tools}
        if missing:
            name = min(missing)[:80]
            raise InvalidRequestError(f"toolConfig.allowedFunctionNames: {name!r} is not in tools", param="toolConfig")
        tools = tuple(tool for tool in tools if tool.name in allowed)
        if forced and len(tools) == 1:
            return NAMED + tools[0].name, tools
    return "required" if forced else "auto" if calling.mode == "AUTO" else "", tools


def _turns_of(asked: Generate) -> Iterator[Turn]:
    system = asked.system_instruction
    if system is not None and system.parts:
        yield Turn(Role.SYSTEM, tuple(_said(part, "systemInstruction") for part in system.parts))
    for index, content in enumerate(asked.contents):
        at = f"contents[{index}]"
        parts = content.parts or []
        calls = [part.function_call for part in parts if part.function_call is not None]
        answers = [part.function_response for part in parts if part.function_response is not None]
        rest = [
            part for part in parts if part.function_call is None and part.function_response is None and not part.thought
        ]
        said = tuple(_said(part, at) for part in rest)
        if content.role == "model":
            if any(isinstance(part, Image) for part in said) or answers:
                raise InvalidRequestError(f"{at}: model messages can only contain text and function calls", param=at)
            uses = tuple(ToolUse(call.id or call.name, call.name, _encode(call.args or {}).decode()) for call in calls)
            yield Turn(Role.ASSISTANT, said, uses)
            continue
        if calls:
            raise InvalidRequestError(f"{at}: function calls are only allowed in messages with role model", param=at)
        for answer in answers:
            yield Turn(Role.TOOL, (Text(bytes(answer.response).decode()),), answers=answer.id or answer.name)
        if said or not answers:
            yield Turn(Role.SYSTEM if content.role == "system" else Role.USER, said)


def _said(part: Part, at: str) -> Text | Image:
    if part.inline_data is not None:
        if not part.inline_data.mime_type.startswith("image/"):
            raise unsupported(f"{at}: inlineData", f"{part.inline_data.mime_type[:80]!r} is not an image type")
        return Image(f"data:{part.inline_data.mime_type};base64,{part.inline_data.data}")
    if part.file_data is not None:
        if not part.file_data.mime_type.startswith("image/"):
            raise unsupported(f"{at}: fileData", f"{part.file_data.mime_type[:80]!r} is not an image type")
        return Image(part.file_data.file_uri)
    if part.text is None:
        raise InvalidRequestError(
            f"{at}: a part must have text, inlineData, fileData, functionCall or functionResponse", param=at
        )
    return Text(part.text)


def _read(decoder: msgspec.json.Decoder[_Body], body: bytes) -> _Body:
    """The body as Google reads it: with names in either case."""
    try:
        return read(decoder, body)
    except InvalidRequestError:
        if b"_" not in body:
            raise
        try:
            renamed = _encode(_camel(_any.decode(body)))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            renamed = body
        return read(decoder, renamed)


def _camel(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            re.sub(r"_([a-z])", lambda found: found[1].upper(), name): value if name in _FREE else _camel(value)
            for name, value in node.items()
        }
    return [_camel(item) for item in node] if isinstance(node, list) else node
