"""Requests of OpenAI's Responses API, and the gateway's own form of them.

Format: https://platform.openai.com/docs/api-reference/responses. What becomes of each field is in responses_fields.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.form import FLEX, NAMED, ChatRequest, Image, Role, Sampling, Text, Tool, ToolUse, Turn
from sublet.gateway.surfaces.reading import read, unsupported

_Word = Annotated[str, Meta(max_length=4096)]
_Status = Literal["in_progress", "completed", "incomplete"]
LOGPROBS = "message.output_text.logprobs"


class InputText(Struct, tag_field="type", tag="input_text", forbid_unknown_fields=True):
    """A text of the user."""

    text: str
    prompt_cache_breakpoint: Any = None


class InputImage(Struct, tag_field="type", tag="input_image", forbid_unknown_fields=True):
    """A picture, by its URL."""

    image_url: Annotated[str, Meta(pattern="^(https?:|data:)")]
    detail: Literal["low", "high", "auto", "original"] | None = None
    file_id: None = None
    prompt_cache_breakpoint: Any = None


class OutputText(Struct, tag_field="type", tag="output_text", forbid_unknown_fields=True):
    """A text of the model."""

    text: str
    annotations: Any = None
    logprobs: Any = None
    parsed: Any = None


class Refusal(Struct, tag_field="type", tag="refusal", forbid_unknown_fields=True):
    """What the model would not do."""

    refusal: str


Part = InputText | InputImage | OutputText | Refusal


class Message(Struct, forbid_unknown_fields=True):
    """A message, of whichever side."""

    role: Literal["user", "assistant", "system", "developer"]
    content: str | list[Part]
    type: Literal["message"] = "message"
    id: _Word | None = None
    status: _Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCall(Struct, forbid_unknown_fields=True):
    """The model asked for a function."""

    type: str
    call_id: str
    name: str
    arguments: str
    id: _Word | None = None
    status: _Status | None = None
    parsed_arguments: Any = None
    caller: Any = None
    namespace: None = None
    runs_async: Literal[False] | None = msgspec.field(default=None, name="async")


class FunctionOutput(Struct, forbid_unknown_fields=True):
    """What a function gave."""

    type: str
    call_id: str
    output: str | list[InputText]
    id: _Word | None = None
    status: _Status | None = None
    name: _Word | None = None
    caller: Any = None
    namespace: None = None


class Kind(Struct):
    """What kind of an item or a tool it is."""

    type: str | None = None


class FunctionTool(Struct, forbid_unknown_fields=True):
    """A function of the client's own."""

    type: str
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    parameters: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None
    allowed_callers: list[Literal["direct"]] | None = None
    defer_loading: Literal[False] | None = None
    output_schema: None = None
    runs_async: Literal[False] | None = msgspec.field(default=None, name="async")


class Allowed(Struct):
    """A tool by its name."""

    name: str
    type: Literal["function"] = "function"


class Choice(Struct, forbid_unknown_fields=True):
    """Which tool has to be called, or which may be."""

    type: Literal["function", "allowed_tools"]
    name: str | None = None
    mode: Literal["auto", "required"] = "auto"
    tools: list[Allowed] = []


class Format(Struct, forbid_unknown_fields=True):
    """The form that the answer has to have."""

    type: Literal["text", "json_schema", "json_object"]
    name: str | None = None
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class TextConfig(Struct, forbid_unknown_fields=True):
    """How the text is made."""

    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class Reasoning(Struct, forbid_unknown_fields=True):
    """How much the model reasons."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: Literal["auto"] | None = None
    mode: Literal["standard"] | None = None


class StreamOptions(Struct, forbid_unknown_fields=True):
    """`stream_options`."""

    include_obfuscation: bool | None = None


class Asked(Struct, forbid_unknown_fields=True, kw_only=True):
    """The body of a request."""

    model: Annotated[str, Meta(min_length=1)]
    input: str | list[Raw]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    text: TextConfig | None = None
    tools: list[Raw] | None = None
    tool_choice: str | Choice | None = None
    parallel_tool_calls: bool | None = None
    reasoning: Reasoning | None = None
    include: Annotated[list[_Word], Meta(max_length=32)] | None = None
    metadata: Annotated[dict[str, Annotated[str, Meta(max_length=512)]], Meta(max_length=16)] | None = None
    truncation: Literal["disabled"] | None = None
    service_tier: Literal["auto", "default", "flex"] | None = None
    store: bool | None = None
    max_tool_calls: Annotated[int, Meta(ge=1)] | None = None
    user: _Word | None = None
    safety_identifier: _Word | None = None
    prompt_cache_key: _Word | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    background: bool | None = None
    previous_response_id: _Word | None = None
    # Refused by name, unless null.
    conversation: Any = None
    prompt: None = None
    moderation: None = None
    image: None = None
    context_management: None = None
    background_options: None = None
    access_programs: None = None


_asked = msgspec.json.Decoder(Asked)
_kind = msgspec.json.Decoder(Kind)
_message = msgspec.json.Decoder(Message)
_call = msgspec.json.Decoder(FunctionCall)
_output = msgspec.json.Decoder(FunctionOutput)
_tool = msgspec.json.Decoder(FunctionTool)


def request_of(body: bytes, earlier: Sequence[Raw] = ()) -> tuple[ChatRequest, Asked]:
    """A request, which goes on from the items `earlier`. Raises InvalidRequestError."""
    asked = read(_asked, body)
    if asked.background and asked.store is False:
        raise InvalidRequestError("store must not be false with background: the response is stored", param="store")
    if asked.conversation is not None:
        raise unsupported("conversation", "use previous_response_id, or send the earlier items in input")
    tools = tuple(_tool_of(raw, f"tools[{index}]") for index, raw in enumerate(asked.tools or ()))
    choice, tools = _choice_of(asked, tools)
    turns = tuple(_turns_of(asked, earlier))
    if not turns:
        raise InvalidRequestError("input is empty; send at least one item", param="input")
    text = asked.text or TextConfig()
    form = text.format or Format("text")
    if form.type == "json_schema" and form.schema is None:
        raise InvalidRequestError("text.format.schema is missing", param="text.format.schema")
    logprobs = asked.top_logprobs
    if logprobs is None and LOGPROBS in (asked.include or ()):
        logprobs = 0
    return ChatRequest(
        asked.model,
        turns,
        output_tokens_max=asked.max_output_tokens,
        sampling=Sampling(temperature=asked.temperature, top_p=asked.top_p),
        tools=tools,
        tool_choice=choice,
        parallel=asked.parallel_tool_calls,
        schema=form.schema if form.type == "json_schema" else None,
        json=form.type == "json_object",
        stream=bool(asked.stream),
        tier=FLEX if asked.service_tier == FLEX else "",
        effort=(asked.reasoning.effort or "") if asked.reasoning is not None else "",
        verbosity=text.verbosity or "",
        top_logprobs=logprobs,
    ), asked


def _tool_of(raw: Raw, at: str) -> Tool:
    kind = read(_kind, bytes(raw), at).type
    if kind != "function":
        raise unsupported(
            f"{at}.type", f"there is no built-in tool {str(kind)[:80]!r}; only function tools are supported"
        )
    tool = read(_tool, bytes(raw), at)
    return Tool(tool.name, tool.description or "", tool.parameters or {"type": "object"}, strict=tool.strict)


def _choice_of(asked: Asked, tools: tuple[Tool, ...]) -> tuple[str, tuple[Tool, ...]]:
    """What has to be called, and what may be."""
    choice = asked.tool_choice
    if choice is None or choice in ("auto", "none"):
        return choice or "" if isinstance(choice, str) else "", tools
    names = {tool.name for tool in tools}
    wanted: tuple[str, ...] = ()
    if isinstance(choice, Choice):
        wanted = (choice.name or "",) if choice.type == "function" else tuple(tool.name for tool in choice.tools)
    elif choice != "required":
        raise InvalidRequestError(f"tool_choice: {choice[:80]!r} is not auto, none or required", param="tool_choice")
    if not tools or not names.issuperset(wanted):
        missing = next((name for name in wanted if name not in names), "a tool")
        raise InvalidRequestError(f"tool_choice: {missing[:80]!r} is not in tools", param="tool_choice")
    if isinstance(choice, Choice) and choice.type == "function":
        return NAMED + wanted[0], tools
    if isinstance(choice, Choice):
        return choice.mode, tuple(tool for tool in tools if tool.name in wanted)
    return choice, tools


def _turns_of(asked: Asked, earlier: Sequence[Raw]) -> Iterator[Turn]:
    if asked.instructions:
        yield Turn(Role.SYSTEM, (Text(asked.instructions),))
    own = asked.input
    if isinstance(own, str) and not earlier:
        yield Turn(Role.USER, (Text(own),))
        return
    items = [Raw(msgspec.json.encode({"role": "user", "content": own}))] if isinstance(own, str) else own
    # The calls of the model are items of their own here, and part of its turn everywhere else.
    pending: Turn | None = None
    for index, raw in enumerate((*earlier, *items), -len(earlier)):
        turn = _turn_of(raw, f"input[{index}]")
        if turn is None:
            continue
        if pending is not None and turn.role is Role.ASSISTANT and turn.uses and not turn.parts:
            pending = replace(pending, uses=pending.uses + turn.uses)
            continue
        if pending is not None:
            yield pending
        pending = turn if turn.role is Role.ASSISTANT else None
        if pending is None:
            yield turn
    if pending is not None:
        yield pending


def _turn_of(raw: Raw, at: str) -> Turn | None:
    """The turn that an item is; None for what the model is not shown."""
    content = bytes(raw)
    kind = read(_kind, content, at).type or "message"
    if kind == "message":
        message = read(_message, content, at)
        role = Role.SYSTEM if message.role in ("system", "developer") else Role(message.role)
        said = message.content
        parts = (Text(said),) if isinstance(said, str) else tuple(_part_of(part) for part in said)
        if role is Role.ASSISTANT and any(isinstance(part, Image) for part in parts):
            raise InvalidRequestError(f"{at}: assistant messages can only contain text", param=at)
        return Turn(role, parts)
    if kind == "function_call":
        call = read(_call, content, at)
        return Turn(Role.ASSISTANT, uses=(ToolUse(call.call_id, call.name, call.arguments),))
    if kind == "function_call_output":
        found = read(_output, content, at)
        output = found.output
        text = output if isinstance(output, str) else "\n".join(part.text for part in output)
        return Turn(Role.TOOL, (Text(text),), answers=found.call_id)
    if kind == "reasoning":
        return None
    if kind == "item_reference":
        raise unsupported(f"{at}.type", "items can't be referenced; send the item itself, or use previous_response_id")
    raise unsupported(f"{at}.type", f"items of type {kind[:80]!r} belong to tools that are not supported")


def _part_of(part: Part) -> Text | Image:
    if isinstance(part, InputImage):
        return Image(part.image_url)
    return Text(part.refusal if isinstance(part, Refusal) else part.text)
