"""Anthropic's requests, as its SDKs write them, and the gateway's own form of them.

Format: https://docs.claude.com/en/api/messages. What becomes of each field is in anthropic_fields.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.form import NAMED, ChatRequest, Image, Role, Sampling, Text, Tool, ToolUse, Turn
from sublet.gateway.surfaces.reading import read, unsupported

STOPS_MAX = 16
_Bytes = Annotated[str, Meta(max_length=64 * 1024 * 1024)]


class CacheControl(Struct, forbid_unknown_fields=True):
    """`cache_control`, a hint."""

    type: Literal["ephemeral"] = "ephemeral"
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(Struct, tag_field="type", tag="text", forbid_unknown_fields=True):
    """A text."""

    text: str
    cache_control: CacheControl | None = None
    citations: Any = None


class Base64Source(Struct, tag_field="type", tag="base64", forbid_unknown_fields=True):
    """A picture in the request."""

    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: _Bytes


class UrlSource(Struct, tag_field="type", tag="url", forbid_unknown_fields=True):
    """A picture elsewhere."""

    url: Annotated[str, Meta(pattern="^https?://", max_length=8192)]


class ImageBlock(Struct, tag_field="type", tag="image", forbid_unknown_fields=True):
    """A picture."""

    source: Base64Source | UrlSource
    cache_control: CacheControl | None = None


class ToolUseBlock(Struct, tag_field="type", tag="tool_use", forbid_unknown_fields=True):
    """The model asked for a tool."""

    id: str
    name: str
    input: msgspec.Raw
    cache_control: CacheControl | None = None
    caller: Any = None
    toolset_name: None = None


class ToolResultBlock(Struct, tag_field="type", tag="tool_result", forbid_unknown_fields=True):
    """What a tool gave."""

    tool_use_id: str
    content: str | list[TextBlock | ImageBlock] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None
    toolset_name: None = None


class ThinkingBlock(Struct, tag_field="type", tag="thinking", forbid_unknown_fields=True):
    """What the model thought before an earlier answer."""

    thinking: str
    signature: str | None = None
    cache_control: CacheControl | None = None


class RedactedBlock(Struct, tag_field="type", tag="redacted_thinking", forbid_unknown_fields=True):
    """The same, unreadable."""

    data: str


Block = TextBlock | ImageBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock | RedactedBlock


class Message(Struct, forbid_unknown_fields=True):
    """A turn."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


class ToolKind(Struct):
    """What kind of a tool it is."""

    type: str | None = None


class CustomTool(Struct, forbid_unknown_fields=True):
    """A tool of the client's own."""

    name: Annotated[str, Meta(pattern="^[a-zA-Z0-9_-]{1,128}$")]
    input_schema: dict[str, Any]
    description: str = ""
    type: str | None = None
    cache_control: CacheControl | None = None
    strict: bool | None = None
    eager_input_streaming: bool | None = None
    defer_loading: bool | None = None
    allowed_callers: list[Literal["direct"]] | None = None


class ToolChoice(Struct, forbid_unknown_fields=True):
    """Whether and which tool has to be called."""

    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Struct, forbid_unknown_fields=True):
    """Whether the model is to think first."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Meta(ge=1024)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class OutputFormat(Struct, forbid_unknown_fields=True):
    """The form that the answer has to have."""

    type: Literal["json_schema"]
    schema: dict[str, Any]


class OutputConfig(Struct, forbid_unknown_fields=True):
    """How the answer is made."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: OutputFormat | None = None


class Metadata(Struct, forbid_unknown_fields=True):
    """Who is behind the request."""

    user_id: Annotated[str, Meta(max_length=4096)] | None = None


class Edit(Struct):
    """A rule of what of earlier turns the model is not shown."""

    type: Literal["clear_thinking_20251015"]


class ContextManagement(Struct, forbid_unknown_fields=True):
    """Rules of what of earlier turns the model is not shown."""

    edits: list[Edit] = []


class CountAsked(Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of a count."""

    model: Annotated[str, Meta(min_length=1)]
    messages: list[Message]
    system: str | list[TextBlock] | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: OutputFormat | None = None
    cache_control: CacheControl | None = None
    context_management: ContextManagement | None = None
    speed: Literal["standard"] | None = None
    # Refused by name, unless null.
    user_profile_id: None = None
    workspace_id: None = None
    mcp_servers: None = None


class MessagesAsked(CountAsked, forbid_unknown_fields=True, kw_only=True):
    """The body of a request for an answer."""

    max_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    stream: bool | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    stop_sequences: (
        Annotated[list[Annotated[str, Meta(min_length=1, max_length=1024)]], Meta(max_length=STOPS_MAX)] | None
    ) = None
    metadata: Metadata | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    container: None = None
    inference_geo: None = None
    diagnostics: None = None
    billing_policy: None = None
    compaction: None = None
    fallback_credit_token: None = None
    fallbacks: None = None
    thread: None = None


_messages = msgspec.json.Decoder(MessagesAsked)
_count = msgspec.json.Decoder(CountAsked)
_kind = msgspec.json.Decoder(ToolKind)
_tool = msgspec.json.Decoder(CustomTool)


def messages_of(body: bytes) -> tuple[ChatRequest, MessagesAsked]:
    """A request for an answer. Raises InvalidRequestError."""
    asked = read(_messages, body)
    sampling = Sampling(
        temperature=asked.temperature,
        top_p=asked.top_p,
        top_k=asked.top_k or None,
        stop=tuple(asked.stop_sequences or ()),
    )
    return _chat_of(asked, asked.max_tokens, sampling, stream=bool(asked.stream)), asked


def count_of(body: bytes) -> ChatRequest:
    """A request for a count. Raises InvalidRequestError."""
    return _chat_of(read(_count, body), None, Sampling(), stream=False)


def _chat_of(asked: CountAsked, tokens_max: int | None, sampling: Sampling, *, stream: bool) -> ChatRequest:
    tools = tuple(_tool_of(raw, f"tools[{index}]") for index, raw in enumerate(asked.tools or ()))
    choice, parallel = _choice_of(asked, tools)
    form = asked.output_format
    effort = ""
    if asked.output_config is not None:
        form = asked.output_config.format or form
        effort = asked.output_config.effort or ""
    turns = tuple(_turns_of(asked))
    if not turns:
        raise InvalidRequestError("messages is empty; send at least one message", param="messages")
    return ChatRequest(
        asked.model,
        turns,
        output_tokens_max=tokens_max,
        sampling=sampling,
        tools=tools,
        tool_choice=choice,
        parallel=parallel,
        schema=form.schema if form is not None else None,
        stream=stream,
        effort=_effort_of(asked.thinking, effort),
    )


def _effort_of(thinking: Thinking | None, effort: str) -> str:
    if thinking is None:
        return effort
    if thinking.type == "disabled":
        return "none"
    if effort or thinking.budget_tokens is None:
        return effort or "medium"
    return "low" if thinking.budget_tokens <= 4096 else "medium" if thinking.budget_tokens <= 16_384 else "high"


def _choice_of(asked: CountAsked, tools: tuple[Tool, ...]) -> tuple[str, bool | None]:
    choice = asked.tool_choice
    if choice is None:
        return "", None
    if not tools and choice.type != "none":
        raise InvalidRequestError("tool_choice requires tools", param="tool_choice")
    parallel = None if choice.disable_parallel_tool_use is None else not choice.disable_parallel_tool_use
    if choice.type != "tool":
        return "required" if choice.type == "any" else choice.type, parallel
    if choice.name not in {tool.name for tool in tools}:
        raise InvalidRequestError(f"tool_choice.name: {str(choice.name)[:80]!r} is not in tools", param="tool_choice")
    return NAMED + choice.name, parallel


def _tool_of(raw: msgspec.Raw, at: str) -> Tool:
    kind = read(_kind, bytes(raw), at).type
    if kind not in (None, "custom"):
        raise unsupported(f"{at}.type", f"{kind[:80]!r} is not a custom tool; define the tool with an input_schema")
    tool = read(_tool, bytes(raw), at)
    if tool.defer_loading:
        raise unsupported(f"{at}.defer_loading")
    return Tool(tool.name, tool.description, tool.input_schema, strict=tool.strict)


def _turns_of(asked: CountAsked) -> Iterator[Turn]:
    system = asked.system
    if system:
        text = system if isinstance(system, str) else "\n\n".join(block.text for block in system)
        yield Turn(Role.SYSTEM, (Text(text),))
    for index, message in enumerate(asked.messages):
        content = message.content
        blocks: list[Block] = [TextBlock(content)] if isinstance(content, str) else content
        if message.role == "assistant":
            yield _assistant(blocks, f"messages[{index}]")
        elif message.role == "user":
            yield from _user(blocks, f"messages[{index}]")
        else:
            yield Turn(Role.SYSTEM, _parts(blocks, f"messages[{index}]"))


def _assistant(blocks: list[Block], at: str) -> Turn:
    uses: list[ToolUse] = []
    texts: list[Block] = []
    for block in blocks:
        if isinstance(block, ToolUseBlock):
            uses.append(ToolUse(block.id, block.name, bytes(block.input).decode()))
        elif isinstance(block, TextBlock):
            texts.append(block)
        elif not isinstance(block, ThinkingBlock | RedactedBlock):
            raise InvalidRequestError(
                f"{at}: an assistant message can only contain text, tool_use and thinking blocks", param=at
            )
    return Turn(Role.ASSISTANT, _parts(texts, at), tuple(uses))


def _user(blocks: list[Block], at: str) -> Iterator[Turn]:
    """The results of tools as turns of their own, then what the user says. Pictures among the results stand with that."""
    rest: list[Block] = []
    for block in blocks:
        if not isinstance(block, ToolResultBlock):
            rest.append(block)
            continue
        content = block.content or ""
        inner = [TextBlock(content)] if isinstance(content, str) else content
        text = "\n".join(part.text for part in inner if isinstance(part, TextBlock))
        rest.extend(part for part in inner if isinstance(part, ImageBlock))
        yield Turn(Role.TOOL, (Text(f"Error: {text}" if block.is_error else text),), answers=block.tool_use_id)
    if rest or not blocks:
        yield Turn(Role.USER, _parts(rest, at))


def _parts(blocks: list[Block], at: str) -> tuple[Text | Image, ...]:
    """Texts that stand side by side become lines of one."""
    found: list[Text | Image] = []
    for block in blocks:
        if isinstance(block, TextBlock):
            if found and isinstance(found[-1], Text):
                found[-1] = Text(f"{found[-1].text}\n{block.text}")
            else:
                found.append(Text(block.text))
        elif isinstance(block, ImageBlock):
            source = block.source
            found.append(
                Image(source.url if isinstance(source, UrlSource) else f"data:{source.media_type};base64,{source.data}")
            )
        else:
            raise InvalidRequestError(f"{at}: this message can only contain text and image blocks", param=at)
    return tuple(found)
