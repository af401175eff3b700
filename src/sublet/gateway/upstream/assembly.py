"""Puts a whole answer together from an engine's stream.

llama.cpp notices that the client of a whole answer has gone only after a second in which no other request of it made a
token, so in practice it goes on to the end; the client of a stream it misses at the next token. So it is asked for a
stream always.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from sublet.gateway.refusals import EngineFailedError
from sublet.gateway.requests.form import COMPLETION
from sublet.gateway.upstream.engine_error import engine_error


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int = 0
    id: str | None = None
    type: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Logprobs(msgspec.Struct):
    content: list[Any] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    logprobs: _Logprobs | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] | None = None
    error: Any = None
    usage: Raw = Raw(b"")


_chunk = msgspec.json.Decoder(_Chunk)
_encode = msgspec.json.Encoder().encode


class Assembler:
    """Collects the chunks of one answer with one choice."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._refusal: list[str] = []
        self._tool_calls: dict[int, dict[str, Any]] = {}
        self._logprobs: list[Any] = []
        self._finish_reason: str | None = None
        self._usage = Raw(b"null")

    def take(self, payload: bytes) -> None:
        """Add a chunk. Raises EngineFailedError where it is none, the error that it tells of where it is one."""
        try:
            chunk = _chunk.decode(payload)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise EngineFailedError from error
        if chunk.choices is None or chunk.error is not None:
            raise engine_error(200, payload)
        if len(chunk.usage) and bytes(chunk.usage) != b"null":
            # A copy: the Raw is a view that would keep the whole payload.
            self._usage = Raw(bytes(chunk.usage))
        for choice in chunk.choices[:1]:
            self._take_choice(choice)

    def body(self) -> bytes:
        """The answer as the engine would have given it whole."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": self._finish_reason or "stop"}
        choice["logprobs"] = {"content": self._logprobs} if self._logprobs else None
        if self._kind == COMPLETION:
            choice["text"] = "".join(self._content)
        else:
            choice["message"] = self._message()
        return _encode({"choices": [choice], "usage": self._usage})

    def _take_choice(self, choice: _Choice) -> None:
        if choice.finish_reason is not None:
            self._finish_reason = choice.finish_reason
        if choice.logprobs is not None and choice.logprobs.content:
            self._logprobs.extend(choice.logprobs.content)
        if choice.text:
            self._content.append(choice.text)
        delta = choice.delta
        if delta is None:
            return
        if delta.content:
            self._content.append(delta.content)
        if delta.reasoning_content:
            self._reasoning.append(delta.reasoning_content)
        if delta.refusal:
            self._refusal.append(delta.refusal)
        for part in delta.tool_calls or ():
            self._take_tool_call(part)

    def _take_tool_call(self, part: _ToolCall) -> None:
        call = self._tool_calls.setdefault(
            part.index, {"id": "", "type": "function", "function": {"name": "", "arguments": ""}}
        )
        call["id"] = part.id or call["id"]
        call["type"] = part.type or call["type"]
        if part.function is not None:
            call["function"]["name"] += part.function.name or ""
            call["function"]["arguments"] += part.function.arguments or ""

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(self._content)}
        if self._reasoning:
            message["reasoning_content"] = "".join(self._reasoning)
        message["refusal"] = "".join(self._refusal) or None
        if self._tool_calls:
            message["content"] = message["content"] or None
            message["tool_calls"] = [call for _, call in sorted(self._tool_calls.items())]
        return message
