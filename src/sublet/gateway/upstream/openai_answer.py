"""An engine's answers, whole or in chunks, as every surface but OpenAI's own reads them."""

from __future__ import annotations

from typing import Any

import msgspec

from sublet.gateway.refusals import EngineFailedError
from sublet.gateway.upstream.engine_error import engine_error


class Function(msgspec.Struct):
    """The tool that is asked for, or a piece of that."""

    name: str | None = None
    arguments: str | None = None


class ToolCall(msgspec.Struct):
    """One tool that the model asks for."""

    index: int = 0
    id: str | None = None
    function: Function | None = None


class Said(msgspec.Struct):
    """What the model says: a whole message, or a piece of one."""

    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[ToolCall] | None = None

    @property
    def thought(self) -> str:
        """Reasoning, by whichever name the engine gives it."""
        return self.reasoning_content or self.reasoning or ""


class Choice(msgspec.Struct):
    """One of the answers. `stop_reason` (vLLM) and `matched_stop` (SGLang) name the sequence that ended it."""

    index: int = 0
    delta: Said | None = None
    message: Said | None = None
    finish_reason: str | None = None
    stop_reason: Any = None
    matched_stop: Any = None
    logprobs: Any = None

    @property
    def stopped_by(self) -> str | None:
        """The stop sequence that ended the answer, where the engine names it."""
        found = self.stop_reason or self.matched_stop
        return found if isinstance(found, str) else None


class _Answer(msgspec.Struct):
    choices: list[Choice] | None = None
    error: Any = None


class _Embedding(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Embeddings(msgspec.Struct):
    data: list[_Embedding] | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int


class _Counted(msgspec.Struct):
    usage: _Usage


_answer = msgspec.json.Decoder(_Answer)
_embeddings = msgspec.json.Decoder(_Embeddings)
_counted = msgspec.json.Decoder(_Counted)
_EMPTY = Said()


def choices_of(payload: bytes) -> list[Choice]:
    """The choices of a chunk or of a whole answer. Raises EngineFailedError, or the error that the payload tells of."""
    try:
        found = _answer.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EngineFailedError from error
    if found.choices is None or found.error is not None:
        raise engine_error(200, payload)
    return found.choices


def message_of(body: bytes) -> tuple[Said, Choice]:
    """The message of a whole answer, and its choice. Raises as `choices_of`."""
    choices = choices_of(body)
    if not choices:
        raise EngineFailedError
    return choices[0].message or _EMPTY, choices[0]


def embeddings_of(body: bytes) -> list[list[float]]:
    """The vectors of an answer, in order. Raises EngineFailedError, or the error that the body tells of."""
    try:
        found = _embeddings.decode(body).data
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EngineFailedError from error
    if found is None:
        raise engine_error(200, body)
    return [item.embedding for item in sorted(found, key=lambda item: item.index)]


def counted_of(body: bytes) -> int:
    """The tokens of a conversation that was counted. Raises EngineFailedError."""
    try:
        return _counted.decode(body).usage.prompt_tokens
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EngineFailedError from error
