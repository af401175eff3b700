"""Counts the tokens of one request from what the engine says, chunk by chunk."""

from __future__ import annotations

import msgspec

from sublet.gateway.model import Tokens

_TIMINGS = b',"timings":{'


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


_usage = msgspec.json.Decoder(_Holder)
_timings = msgspec.json.Decoder(_Timings)


class Meter:
    """What a request has used so far.

    Three sources, the better one wins: the engine's final `usage`; its running count in each chunk (`timings` of
    llama.cpp, `usage` in every chunk of others); and where it has neither, one token for each chunk that carries text,
    which is never more than the truth. Input tokens that no engine reported are not billed.
    """

    __slots__ = ("final", "input", "input_cached", "output")

    def __init__(self) -> None:
        self.input = 0
        self.input_cached = 0
        self.output = 0
        self.final = False

    def chunk(self, payload: bytes) -> bytes:
        """Count a chunk of a stream; returns it without llama.cpp's timings."""
        at = payload.rfind(_TIMINGS)
        if at > 0 and payload.endswith(b"}}"):
            try:
                said = _timings.decode(payload[at + 11 : -1])
            except (msgspec.MsgspecError, RecursionError):
                said = None
            if said is not None:
                payload = payload[:at] + b"}"
                if not self.final:
                    self._set(said.cache_n + said.prompt_n, said.cache_n, said.predicted_n)
        elif not self.final and (b'"content":"' in payload or b'"text":"' in payload or b'"arguments":"' in payload):
            self.output += 0 if b'"content":""' in payload or b'"text":""' in payload else 1
        if b'"usage"' in payload:
            self.whole(payload)
        return payload

    def whole(self, body: bytes) -> None:
        """Take the `usage` of a whole answer, or of a chunk that has one."""
        try:
            usage = _usage.decode(body).usage
        except (msgspec.MsgspecError, RecursionError):
            return
        if usage is None or (usage.prompt_tokens is None and usage.completion_tokens is None):
            return
        details = usage.prompt_tokens_details
        cached = details.cached_tokens if details is not None else 0
        self._set(usage.prompt_tokens or 0, cached or 0, usage.completion_tokens or 0)
        self.final = True

    def tokens(self) -> Tokens:
        return Tokens(self.input, self.input_cached, self.output)

    def state(self) -> tuple[int, int, int, bool]:
        """The counts, for `restore`."""
        return self.input, self.input_cached, self.output, self.final

    def restore(self, state: tuple[int, int, int, bool]) -> None:
        self.input, self.input_cached, self.output, self.final = state

    def _set(self, input: int, input_cached: int, output: int) -> None:
        self.input = max(input, 0)
        self.input_cached = min(max(input_cached, 0), self.input)
        self.output = max(output, 0)
