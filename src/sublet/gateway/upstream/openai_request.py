"""A request that came in the engines' own dialect, OpenAI's: read as far as the gateway needs it, and passed on.

Of a prompt, nothing is read that is not text: what else a client puts there may take long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from sublet.gateway.metering.estimate import chat_tokens, text_tokens, utf8_bytes
from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.form import NAMED
from sublet.gateway.upstream.dialects import ABSENT, EngineParameters
from sublet.gateway.upstream.openai_body import (
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    EngineBody,
    fitting,
    present,
)


@dataclass(slots=True)
class OpenAIRequest:
    """See requests.form.Unread. `parameters` are the fields that only some engines know, `models` those that only some models know."""

    body: EngineBody
    parameters: EngineParameters | None = None
    models: dict[str, str] | None = None

    def beginning(self, size: int) -> bytes:
        body = self.body
        raw = (
            body.messages if isinstance(body, ChatBody) else body.prompt if isinstance(body, CompletionBody) else ABSENT
        )
        return bytes(memoryview(raw)[:size])

    def prompt_estimate(self) -> int:
        body = self.body
        if isinstance(body, ChatBody):
            turns = _turns_of(body.messages)
            return chat_tokens(sum(map(_turn_bytes, turns)), len(body.tools) if present(body.tools) else 0, len(turns))
        if isinstance(body, CompletionBody):
            return _prompts_tokens(body.prompt)
        return _prompts_tokens(body.input) if isinstance(body, EmbeddingBody) else 0

    def prompt_tokens_min(self, token_bytes_max: int) -> int:
        body = self.body
        if isinstance(body, ChatBody):
            if len(body.messages) <= token_bytes_max:
                return 0
            return -(-sum(map(_turn_bytes, _turns_of(body.messages))) // token_bytes_max)
        raw = (
            body.prompt
            if isinstance(body, CompletionBody)
            else body.input
            if isinstance(body, EmbeddingBody)
            else Raw()
        )
        value = _values(raw)
        if value and isinstance(value[0], int):
            return len(value)
        return max(
            (len(item) if isinstance(item, list) else -(-_text_bytes(item) // token_bytes_max) for item in value),
            default=0,
        )

    def tools(self) -> tuple[dict[str, dict[str, Any]], str]:
        body = self.body
        assert isinstance(body, ChatBody)
        try:
            tools = _tools(body.tools)
            choice = _choice(body.tool_choice) if present(body.tool_choice) else "auto"
        except _unread as error:
            raise InvalidRequestError(f"Invalid value for tools: {str(error)[:200]}", param="tools") from error
        if isinstance(choice, _Choice):
            choice = NAMED + choice.function.name
        elif choice not in ("auto", "required", "none"):
            raise InvalidRequestError(f"tool_choice can't be {choice[:80]!r}", param="tool_choice")
        return {tool.function.name: tool.function.parameters or {} for tool in tools}, choice

    def fit(self, schema: Mapping[str, Any] | None) -> None:
        body = self.body
        assert isinstance(body, ChatBody)
        body.tools = body.tool_choice = ABSENT
        body.parallel_tool_calls = None
        if schema is not None:
            body.response_format = fitting(schema)


class _Function(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    function: _Function


class _Named(msgspec.Struct):
    name: str


class _Choice(msgspec.Struct):
    function: _Named


class _Called(msgspec.Struct):
    name: Raw = ABSENT
    arguments: Raw = ABSENT


class _Use(msgspec.Struct):
    function: _Called = msgspec.field(default_factory=_Called)


class _Part(msgspec.Struct):
    text: Raw = ABSENT


class _Turn(msgspec.Struct):
    """A message of a prompt, of which nothing is read that is not text: what else a client puts there may take long."""

    content: Raw = ABSENT
    reasoning_content: Raw = ABSENT
    reasoning: Raw = ABSENT
    refusal: Raw = ABSENT
    tool_calls: Raw = ABSENT


_tools = msgspec.json.Decoder(list[_Tool]).decode
_choice = msgspec.json.Decoder(str | _Choice).decode
_turns = msgspec.json.Decoder(list[_Turn]).decode
_parts = msgspec.json.Decoder(list[_Part]).decode
_uses = msgspec.json.Decoder(list[_Use]).decode
_string = msgspec.json.Decoder(str).decode
_unread = (msgspec.MsgspecError, RecursionError)


def _turns_of(raw: Raw) -> list[_Turn]:
    try:
        return _turns(raw)
    except _unread:
        return []


def _turn_bytes(turn: _Turn) -> int:
    found = _raw_bytes(turn.reasoning_content) or _raw_bytes(turn.reasoning)
    found += _raw_bytes(turn.refusal) + _raw_bytes(turn.content)
    try:
        if _begins(turn.content, b"["):
            found += sum(_raw_bytes(part.text) for part in _parts(turn.content))
        if _begins(turn.tool_calls, b"["):
            calls = [use.function for use in _uses(turn.tool_calls)]
            found += sum(_raw_bytes(call.name) + _raw_bytes(call.arguments) for call in calls)
    except _unread:
        pass
    return found


def _begins(raw: Raw, sign: bytes) -> bool:
    return len(raw) > 0 and memoryview(raw)[:1] == sign


def _raw_bytes(raw: Raw) -> int:
    """Bytes of the text that `raw` is; 0 where it is none."""
    return utf8_bytes(_string(raw)) if _begins(raw, b'"') else 0


def _text_bytes(value: Any) -> int:
    return utf8_bytes(value) if isinstance(value, str) else 0


def _prompts_tokens(raw: Raw) -> int:
    value = _values(raw)
    if value and isinstance(value[0], int):
        return len(value)
    return sum(len(item) if isinstance(item, list) else text_tokens(_text_bytes(item)) for item in value)


def _values(raw: Raw) -> list[Any]:
    """What the field holds, as a list."""
    try:
        value = msgspec.json.decode(raw) if len(raw) else []
    except (msgspec.MsgspecError, RecursionError):
        return []
    return value if isinstance(value, list) else [value]
