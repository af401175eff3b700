"""Reads what engines say of the tokens of an answer, chunk by chunk, and of one that is whole."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from sublet.gateway.metering.estimate import answer_tokens, utf8_bytes
from sublet.gateway.metering.meter import Meter
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import EMBEDDING

_TIMINGS = b',"timings":{'
_USAGE_KEY = b',"usage":{'
_CONTENT = b'"content":"'
_QUOTE = ord('"')
# Texts that are not empty, whatever space stands around the colon: answers, reasoning, arguments of tool calls.
_TEXTS = re.compile(
    rb'"(?:content|text|reasoning_content|reasoning|thinking|refusal|arguments|name)"\s*:\s*"((?:[^"\\]|\\.)+)"'
)


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Holder(msgspec.Struct):
    usage: _Usage | None = None


class _Timings(msgspec.Struct):
    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


_running = msgspec.json.Decoder(_Usage)
_usage = msgspec.json.Decoder(_Holder)
_timings = msgspec.json.Decoder(_Timings)


class EngineMeter(Meter):
    """A meter that is fed with an engine's answer as it comes.

    Running counts are `timings` of llama.cpp, or the `usage` that others put into each chunk when asked.
    """

    __slots__ = ()

    def chunk(self, payload: bytes, running: bool = False) -> bytes:
        """Count a chunk of a stream; returns it without what only the gateway asked for: llama.cpp's timings, and with
        `running` the usage of a chunk that carries an answer."""
        if running and (at := payload.rfind(_USAGE_KEY)) > 0 and self._run(payload, at):
            return payload[:at] + b"}"
        at = payload.rfind(_TIMINGS)
        if at > 0 and payload.endswith(b"}}"):
            try:
                said = _timings.decode(payload[at + 11 : -1])
            except (msgspec.MsgspecError, RecursionError):
                said = None
            if said is not None:
                payload = payload[:at] + b"}"
                if not self.final:
                    self.running = True
                    self.take(said.cache_n + said.prompt_n, said.cache_n, said.predicted_n)
        elif not self.final and not self.running:
            self._estimate(payload)
        if b'"usage"' in payload:
            self.whole(payload)
            if running and self.final and _carries_answer(payload):
                # A running count in another shape: the final one is yet to come.
                self.final, self.running = False, True
        return payload

    def whole(self, body: bytes) -> None:
        """Take the `usage` of a whole answer, or of a chunk that has one."""
        try:
            usage = _usage.decode(body).usage
        except (msgspec.MsgspecError, RecursionError):
            return
        if usage is not None:
            self._final(usage)

    def usage(self, raw: Raw) -> None:
        """Take the `usage` of a whole answer that was found already."""
        try:
            self._final(_running.decode(raw))
        except (msgspec.MsgspecError, RecursionError):
            return

    def _final(self, usage: _Usage) -> None:
        if usage.prompt_tokens is None and usage.completion_tokens is None:
            return
        details = usage.prompt_tokens_details
        cached = details.cached_tokens if details is not None else 0
        self.take(usage.prompt_tokens or 0, cached or 0, usage.completion_tokens or 0)
        self.final = True

    def finish_whole(self, call: Call, body: bytes) -> None:
        """`finish` for a whole answer, as the engine gave it."""
        unknown = not self.output and call.kind != EMBEDDING
        self.finish(call, answer_tokens(call, _answer_bytes(body)) if unknown else 0)

    def _run(self, payload: bytes, at: int) -> bool:
        """Take the running usage at the end of a chunk; whether there is one, and the chunk is more than a usage."""
        if not _carries_answer(payload):
            return False
        try:
            usage = _running.decode(payload[at + len(_USAGE_KEY) - 1 : -1])
        except (msgspec.MsgspecError, RecursionError):
            return False
        if usage.prompt_tokens is None and usage.completion_tokens is None:
            return False
        details = usage.prompt_tokens_details
        self.running = True
        self.take(
            usage.prompt_tokens or 0,
            (details.cached_tokens or 0) if details is not None else self.input_cached,
            usage.completion_tokens or 0,
        )
        return True

    def _estimate(self, payload: bytes) -> None:
        at = payload.find(_CONTENT)
        if at > 0 and payload[at + len(_CONTENT)] != _QUOTE:
            # The usual chunk, at the price of two searches.
            start = at + len(_CONTENT)
            self.text(payload.find(b'"', start) - start)
        else:
            found = [len(text[1]) for text in _TEXTS.finditer(payload)]
            if found:
                self.text(sum(found))


def _carries_answer(payload: bytes) -> bool:
    return b'"choices":[]' not in payload and b'"choices": []' not in payload


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
    return utf8_bytes(value) if isinstance(value, str) else 0
