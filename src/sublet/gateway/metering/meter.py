"""Counts the tokens of one request from what the engine says, chunk by chunk."""

from __future__ import annotations

import re

import msgspec
from msgspec import Raw

from sublet.gateway.metering.estimate import answer_tokens, prompt_tokens, text_tokens
from sublet.gateway.model import Tokens
from sublet.gateway.requests.call import Call
from sublet.gateway.upstream.openai_body import EMBEDDING

ENGINE, RUNNING, ESTIMATE = "engine", "running", "estimate"

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


class Meter:
    """What a request has used so far, and how that is known (`counted`).

    The better source wins: the engine's final `usage` (ENGINE); its running count in each chunk (RUNNING), which is `timings`
    of llama.cpp or `usage` of others; and where it has neither, an estimate from what was delivered (ESTIMATE, see
    estimate.py): at least one token for each chunk that carries text. The prompt is estimated at the end alone, by `finish`.
    """

    __slots__ = ("_chunks", "_text_bytes", "final", "input", "input_cached", "output", "running")

    def __init__(self) -> None:
        self.input = 0
        self.input_cached = 0
        self.output = 0
        self.final = False
        self.running = False
        self._chunks = self._text_bytes = 0

    @property
    def counted(self) -> str:
        """How the counts are known, for the record."""
        return ENGINE if self.final else RUNNING if self.running else ESTIMATE

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
                    self._set(said.cache_n + said.prompt_n, said.cache_n, said.predicted_n)
        elif not self.final and not self.running:
            self._estimate(payload)
        if b'"usage"' in payload:
            self.whole(payload)
            if running and self.final and _carries_answer(payload):
                # A running count in another shape: the final one is yet to come.
                self.final, self.running = False, True
        return payload

    def text(self, size: int) -> None:
        """Count a chunk of `size` bytes of text that is known to have nothing else to count."""
        if not self.final and not self.running:
            self._chunks += 1
            self._text_bytes += size
            self.output = max(self._chunks, text_tokens(self._text_bytes))

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
        self._set(usage.prompt_tokens or 0, cached or 0, usage.completion_tokens or 0)
        self.final = True

    def finish(self, call: Call, body: bytes) -> None:
        """What was delivered and nobody counted is estimated: all of it, or the prompt or the answer alone where the engine
        reports nothing of it. `body` is a whole answer as the engine gave it, empty for a stream."""
        output = self.output
        if body and not output and call.kind != EMBEDDING:
            output = answer_tokens(call, body)
        elif not output:
            output = max(self._chunks, text_tokens(self._text_bytes))
        prompt = self.input or prompt_tokens(call)
        if (prompt, output) != (self.input, self.output):
            self.final = self.running = False
            self.input, self.output = prompt, output

    def tokens(self) -> Tokens:
        return Tokens(self.input, self.input_cached, self.output)

    def state(self) -> tuple[int, int, int, bool, bool, int, int]:
        """The counts, for `restore`."""
        return (
            self.input,
            self.input_cached,
            self.output,
            self.final,
            self.running,
            self._chunks,
            self._text_bytes,
        )

    def restore(self, state: tuple[int, int, int, bool, bool, int, int]) -> None:
        self.input, self.input_cached, self.output, self.final, self.running, self._chunks, self._text_bytes = state

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
        self._set(
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

    def _set(self, input: int, input_cached: int, output: int) -> None:
        self.input = max(input, 0)
        self.input_cached = min(max(input_cached, 0), self.input)
        self.output = max(output, 0)


def _carries_answer(payload: bytes) -> bool:
    return b'"choices":[]' not in payload and b'"choices": []' not in payload
