"""Tokens of texts that no engine counted: an estimate by a stated rule, marked as such on the bill.

The rule: a token for every four bytes of text in UTF-8, rounded up; of an answer at least one for each chunk that carried
text, since no chunk has less; of a chat four more for each message, for what its template adds. English has a token for 4 to
5 bytes, other languages and code have more tokens for the same bytes, so the estimate is at or below the truth for all but
plain English prose. Token ids are counted as they are. Images and sounds are not counted.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from sublet.gateway.requests.call import Call
from sublet.gateway.upstream.dialects import ABSENT
from sublet.gateway.upstream.openai_body import ChatBody, CompletionBody, EmbeddingBody, present

BYTES_PER_TOKEN = 4
MESSAGE_TOKENS = 4


def text_tokens(bytes_of_text: int) -> int:
    """The estimate for so many bytes of text."""
    return -(-bytes_of_text // BYTES_PER_TOKEN)


def prompt_tokens(call: Call) -> int:
    """The estimate for what a request asks an engine to read."""
    body = call.body
    if isinstance(body, ChatBody):
        turns = _turns_of(body.messages)
        tools = len(body.tools) if present(body.tools) else 0
        return text_tokens(sum(map(_turn_bytes, turns))) + text_tokens(tools) + MESSAGE_TOKENS * len(turns)
    if isinstance(body, CompletionBody):
        return _prompts_tokens(body.prompt)
    return _prompts_tokens(body.input) if isinstance(body, EmbeddingBody) else 0


def prompt_tokens_min(call: Call, token_bytes_max: int) -> int:
    """As many tokens as the prompt has at least where none has more than `token_bytes_max` bytes; of embeddings, and of several
    prompts, the longest one. Not the template, tools, images or sounds."""
    body = call.body
    if isinstance(body, ChatBody):
        if len(body.messages) <= token_bytes_max:
            return 0
        return -(-sum(map(_turn_bytes, _turns_of(body.messages))) // token_bytes_max)
    raw = body.prompt if isinstance(body, CompletionBody) else body.input if isinstance(body, EmbeddingBody) else Raw()
    value = _values(raw)
    if value and isinstance(value[0], int):
        return len(value)
    return max(
        (len(item) if isinstance(item, list) else -(-_text_bytes(item) // token_bytes_max) for item in value), default=0
    )


def answer_tokens(call: Call, body: bytes) -> int:
    """The estimate for a whole answer: content, reasoning and the arguments of tool calls, of every choice. The prompt in an
    answer that echoes it is none of it."""
    asked = call.body
    if not isinstance(asked, CompletionBody) or not asked.echo:
        return text_tokens(_answer_bytes(body))
    return 0 if asked.max_tokens == 0 else max(0, text_tokens(_answer_bytes(body)) - prompt_tokens(call))


def _answer_bytes(body: bytes) -> int:
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        return 0
    choices = answer.get("choices") if isinstance(answer, dict) else None
    found = 0
    for choice in choices if isinstance(choices, list) else ():
        if isinstance(choice, dict):
            found += _message_bytes(choice.get("message")) + _text_bytes(choice.get("text"))
    return found


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
    return len(_string(raw).encode(errors="replace")) if _begins(raw, b'"') else 0


def _message_bytes(message: Any) -> int:
    if not isinstance(message, dict):
        return 0
    found = _text_bytes(message.get("reasoning_content") or message.get("reasoning")) + _text_bytes(
        message.get("refusal")
    )
    content = message.get("content")
    if isinstance(content, list):
        found += sum(_text_bytes(part.get("text")) for part in content if isinstance(part, dict))
    else:
        found += _text_bytes(content)
    calls = message.get("tool_calls")
    for call in calls if isinstance(calls, list) else ():
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            found += _text_bytes(function.get("name")) + _text_bytes(function.get("arguments"))
    return found


def _text_bytes(value: Any) -> int:
    return len(value.encode(errors="replace")) if isinstance(value, str) else 0


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
