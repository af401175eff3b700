"""Amazon Bedrock's Converse requests, as its SDKs write them, and the gateway's own form of them.

Format: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html. What becomes of each field is in
bedrock_fields.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.form import FLEX, NAMED, ChatRequest, Image, Role, Sampling, Text, Tool, ToolUse, Turn
from sublet.gateway.surfaces.reading import read, unsupported

STOPS_MAX = 16
_Word = Annotated[str, Meta(max_length=4096)]


class Shape(Struct, rename="camel", forbid_unknown_fields=True, kw_only=True):
    """What Amazon's shapes have in common: names in camel case, and no field that is not known."""


class CachePoint(Shape):
    """A hint where the prompt may be cached."""

    type: Literal["default"] = "default"
    ttl: Literal["5m", "1h"] | None = None


class ImageSource(Shape):
    """The bytes of a picture, in base64."""

    bytes: str


class ImageBlock(Shape):
    """A picture."""

    format: Literal["png", "jpeg", "gif", "webp"]
    source: ImageSource


class ToolUseBlock(Shape):
    """The model asked for a tool."""

    tool_use_id: _Word
    name: _Word
    input: Raw


class ResultContent(Shape):
    """A part of what a tool gave."""

    text: str | None = None
    json: Raw = Raw(b"")
    image: ImageBlock | None = None


class ToolResultBlock(Shape):
    """What a tool gave."""

    tool_use_id: _Word
    content: list[ResultContent]
    status: Literal["success", "error"] | None = None
    type: None = None


class Block(Shape):
    """One of text, image, tool use and its result, reasoning and a cache point."""

    text: str | None = None
    image: ImageBlock | None = None
    tool_use: ToolUseBlock | None = None
    tool_result: ToolResultBlock | None = None
    reasoning_content: dict[str, Any] | None = None
    cache_point: CachePoint | None = None


class Message(Shape):
    """A turn."""

    role: Literal["user", "assistant", "system"]
    content: list[Block]


class System(Shape):
    """A part of the system prompt."""

    text: str | None = None
    cache_point: CachePoint | None = None


class Inference(Shape):
    """How the answer is drawn."""

    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    stop_sequences: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(max_length=STOPS_MAX)] | None = None


class InputSchema(Shape):
    """The schema of a tool's input."""

    json: dict[str, Any]


class ToolSpec(Shape):
    """A tool of the client's own."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,64}$")]
    input_schema: InputSchema
    description: str = ""
    strict: bool | None = None


class ToolItem(Shape):
    """A tool, or a cache point."""

    tool_spec: ToolSpec | None = None
    cache_point: CachePoint | None = None
    system_tool: None = None


class NamedTool(Shape):
    """The tool that has to be called."""

    name: _Word


class ToolChoice(Shape):
    """Whether and which tool has to be called."""

    auto: dict[str, Any] | None = None
    any: dict[str, Any] | None = None
    tool: NamedTool | None = None


class ToolConfig(Shape):
    """The tools."""

    tools: list[ToolItem]
    tool_choice: ToolChoice | None = None


class Performance(Shape):
    """How fast the answer comes."""

    latency: Literal["standard"] = "standard"


class ServiceTier(Shape):
    """Under which tier the request is served."""

    type: Literal["default", "flex"]


class More(Struct, forbid_unknown_fields=True):
    """Fields of the model's own."""

    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None


class Converse(Shape):
    """The body of a request."""

    messages: list[Message] = []
    system: list[System] | None = None
    inference_config: Inference | None = None
    tool_config: ToolConfig | None = None
    additional_model_request_fields: More | None = None
    request_metadata: Annotated[dict[str, _Word], Meta(max_length=16)] | None = None
    performance_config: Performance | None = None
    service_tier: ServiceTier | None = None
    # Refused by name, unless null.
    guardrail_config: None = None
    prompt_variables: None = None
    additional_model_response_field_paths: None = None
    output_config: None = None
    project_identifier: None = None


class Invocation(Shape):
    """The body of an InvokeModel, in base64."""

    body: str


class CountInput(Shape):
    """What is to be counted: one of the two."""

    converse: Converse | None = None
    invoke_model: Invocation | None = None


class Count(Shape):
    """The body of a count."""

    input: CountInput


_converse = msgspec.json.Decoder(Converse)
_count = msgspec.json.Decoder(Count)


def converse_of(body: bytes, model: str, *, stream: bool) -> ChatRequest:
    """A request for an answer. Raises InvalidRequestError."""
    return _chat_of(read(_converse, body), model, stream=stream)


def count_of(body: bytes, model: str) -> ChatRequest | str:
    """A request for a count: of a conversation, or of the body of an InvokeModel, in base64. Raises InvalidRequestError."""
    found = read(_count, body).input
    if (found.converse is None) == (found.invoke_model is None):
        raise InvalidRequestError("input must have either converse or invokeModel", param="input")
    if found.invoke_model is not None:
        return found.invoke_model.body
    assert found.converse is not None
    return _chat_of(found.converse, model, stream=False)


def _chat_of(asked: Converse, model: str, *, stream: bool) -> ChatRequest:
    if not asked.messages:
        raise InvalidRequestError("messages is empty; send at least one message", param="messages")
    inference = asked.inference_config or Inference()
    more = asked.additional_model_request_fields or More()
    tools = tuple(
        Tool(spec.name, spec.description, spec.input_schema.json, strict=spec.strict)
        for item in (asked.tool_config.tools if asked.tool_config is not None else ())
        if (spec := item.tool_spec) is not None
    )
    return ChatRequest(
        model,
        tuple(_turns_of(asked)),
        output_tokens_max=inference.max_tokens,
        sampling=Sampling(
            temperature=inference.temperature,
            top_p=inference.top_p,
            top_k=more.top_k or None,
            stop=tuple(inference.stop_sequences or ()),
        ),
        tools=tools,
        tool_choice=_choice_of(asked.tool_config, tools),
        stream=stream,
        tier=FLEX if asked.service_tier is not None and asked.service_tier.type == FLEX else "",
    )


def _choice_of(config: ToolConfig | None, tools: tuple[Tool, ...]) -> str:
    choice = config.tool_choice if config is not None else None
    if choice is None:
        return ""
    if choice.tool is not None:
        if choice.tool.name not in {tool.name for tool in tools}:
            name = choice.tool.name[:80]
            raise InvalidRequestError(f"toolConfig.toolChoice: {name!r} is not in tools", param="toolConfig.toolChoice")
        return NAMED + choice.tool.name
    return "required" if choice.any is not None else "auto"


def _turns_of(asked: Converse) -> Iterator[Turn]:
    system = [item.text for item in asked.system or () if item.text is not None]
    if system:
        yield Turn(Role.SYSTEM, (Text("\n\n".join(system)),))
    for index, message in enumerate(asked.messages):
        at = f"messages[{index}]"
        uses = tuple(
            ToolUse(use.tool_use_id, use.name, bytes(use.input).decode())
            for block in message.content
            if (use := block.tool_use) is not None
        )
        results = [block.tool_result for block in message.content if block.tool_result is not None]
        parts = [part for block in message.content if (part := _part_of(block, at)) is not None]
        if message.role == "assistant":
            if results or any(isinstance(part, Image) for part in parts):
                raise InvalidRequestError(
                    f"{at}: an assistant message can only contain text, toolUse and reasoningContent blocks", param=at
                )
            yield Turn(Role.ASSISTANT, tuple(parts), uses)
            continue
        if uses:
            raise InvalidRequestError(f"{at}: toolUse is only allowed in assistant messages", param=at)
        for result in results:
            text, images = _result_of(result)
            parts = [*images, *parts]
            yield Turn(Role.TOOL, (Text(text),), answers=result.tool_use_id)
        if parts or not results:
            yield Turn(Role.SYSTEM if message.role == "system" else Role.USER, tuple(parts))


def _result_of(result: ToolResultBlock) -> tuple[str, list[Image]]:
    """What a tool gave as text, and its pictures."""
    texts = [item.text if item.text is not None else bytes(item.json).decode() for item in result.content]
    text = "\n".join(item for item in texts if item)
    images = [_image_of(item.image) for item in result.content if item.image is not None]
    return f"Error: {text}" if result.status == "error" else text, images


def _part_of(block: Block, at: str) -> Text | Image | None:
    """What a block says; None for tools, which stand beside that, and for what the model is not shown."""
    if block.text is not None:
        return Text(block.text)
    if block.image is not None:
        return _image_of(block.image)
    if (
        block.tool_use is None
        and block.tool_result is None
        and block.reasoning_content is None
        and block.cache_point is None
    ):
        raise unsupported(
            f"{at}.content", "a block must be text, image, toolUse, toolResult, reasoningContent or cachePoint"
        )
    return None


def _image_of(image: ImageBlock) -> Image:
    return Image(f"data:image/{image.format};base64,{image.source.bytes}")
