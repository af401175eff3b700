"""Anthropic's surface: messages and the count of their tokens, as its SDKs ask and expect them.

Format: https://docs.claude.com/en/api/messages and .../build-with-claude/streaming. What becomes of each field is in
anthropic_fields.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from sublet.gateway.model import ModelRoute
from sublet.gateway.requests.call import OUTPUT, PROMPT, Call
from sublet.gateway.requests.form import CHAT, COUNT, CountRequest
from sublet.gateway.surfaces.anthropic_request import Thinking, count_of, messages_of
from sublet.gateway.surfaces.reading import object_of
from sublet.gateway.surfaces.surface import Allowance, CommonSurface, Identity
from sublet.gateway.upstream.openai_answer import Choice, Said, ToolCall, choices_of, counted_of, message_of
from sublet.values.errors import SubletError

_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
_TEXT_DELTA = (
    b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
    b'"delta":{"type":"text_delta","text":%b}}\n\n'
)
_encode = msgspec.json.Encoder().encode
_FIELDS = {PROMPT: "messages", OUTPUT: "max_tokens"}
"""See requests.call.Call."""


class AnthropicSurface(CommonSurface):
    """See gateway.surface.Surface."""

    routes = {b"/v1/messages": CHAT, b"/v1/messages/count_tokens": COUNT}  # noqa: RUF012
    stream_content_type = b"text/event-stream; charset=utf-8"
    mark = b"anthropic-version"

    def parse(self, kind: str, body: bytes) -> Call:
        if kind == COUNT:
            return Call.of(CountRequest(count_of(body)), _FIELDS)
        request, asked = messages_of(body)
        call = Call.of(request, _FIELDS)
        call.more = asked.thinking
        return call

    def stream(self, call: Call, identity: Identity) -> AnthropicStream:
        return AnthropicStream(identity, call)

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        if call.kind == COUNT:
            return _encode({"input_tokens": counted_of(body)})
        said, choice = message_of(body)
        content: list[dict[str, Any]] = []
        if said.thought:
            thinking = "" if _omitted(call) else said.thought
            content.append({"type": "thinking", "thinking": thinking, "signature": ""})
        text = said.content or said.refusal
        if text or not said.tool_calls:
            content.append({"type": "text", "text": text or ""})
        for use in said.tool_calls or ():
            function = use.function
            content.append(
                {
                    "type": "tool_use",
                    "id": use.id or "",
                    "name": function.name if function else "",
                    "input": object_of(function.arguments if function else ""),
                }
            )
        reason, sequence = _stop(choice, said)
        return _encode(
            {
                **_opening(identity),
                "content": content,
                "stop_reason": reason,
                "stop_sequence": sequence,
                "usage": _usage(call),
            }
        )

    def refusal(self, error: SubletError) -> bytes:
        return _encode(self._error(error))

    def status(self, error: SubletError) -> int:
        if error.code == "insufficient_quota" and "retry_after_s" not in error.details:
            # Nothing that trying again would change: clients do not, at this status.
            return 402
        return 529 if error.status == 503 else error.status

    def headers(self, request_id: str, allowance: Allowance | None) -> bytes:
        found = b"request-id: %b\r\nx-request-id: %b\r\n" % (request_id.encode(), request_id.encode())
        if allowance is None:
            return found
        figures = {
            b"requests": allowance,
            b"input-tokens": allowance.input,
            b"output-tokens": allowance.output,
            b"tokens": allowance.tokens,
        }
        for name, one in figures.items():
            if one is not None:
                found += (
                    b"anthropic-ratelimit-%b-limit: %d\r\nanthropic-ratelimit-%b-remaining: %d\r\n"
                    b"anthropic-ratelimit-%b-reset: %b\r\n"
                    % (name, one.limit, name, one.remaining, name, _time(one.reset_at_s).encode())
                )
        return found

    def models(self, routes: Sequence[ModelRoute]) -> dict[str, Any]:
        found = [self.model(route) for route in routes]
        ends = (found[0]["id"], found[-1]["id"]) if found else (None, None)
        return {"data": found, "has_more": False, "first_id": ends[0], "last_id": ends[1]}

    def model(self, route: ModelRoute) -> dict[str, Any]:
        return {
            "type": "model",
            "id": route.name,
            "display_name": route.name,
            "created_at": _time(route.created_s),
            "lifecycle": "active",
            "max_input_tokens": route.context_tokens,
            "max_tokens": route.context_tokens,
        }

    def _error(self, error: SubletError) -> dict[str, Any]:
        status = self.status(error)
        kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
        return {"type": "error", "error": {"type": kind, "message": error.message}}


class AnthropicStream:
    """A stream of events: a block for each piece of thinking, text or tool use, one after the other."""

    __slots__ = ("_block", "_call", "_identity", "_index", "_reason", "_sequence", "_tool")

    def __init__(self, identity: Identity, call: Call) -> None:
        self._identity = identity
        self._call = call
        # The kind of the block that is open; None before the first event, empty between blocks.
        self._block: str | None = None
        self._index = -1
        self._tool = -1
        self._reason: str | None = None
        self._sequence: str | None = None

    def event(self, payload: bytes) -> bytes:
        choices = choices_of(payload)
        begun = b"" if self._block is not None else self._begin()
        if not choices:
            return begun
        choice = choices[0]
        said = choice.delta
        if (
            said is not None
            and self._block == "text"
            and said.content
            and said.tool_calls is None
            and not said.thought
            and choice.finish_reason is None
        ):
            return _TEXT_DELTA % (self._index, _encode(said.content))
        out = [begun]
        if said is not None:
            self._say(said, out)
        if choice.finish_reason is not None:
            self._reason, self._sequence = _stop(choice, said)
            out.append(self._close())
        return b"".join(out)

    def end(self) -> bytes:
        out = b"" if self._block is not None else self._begin()
        if self._index < 0:
            # An answer of no words is an empty text, as at Anthropic.
            out += self._open("text", {"type": "text", "text": ""})
        out += self._close()
        reason = {"stop_reason": self._reason or "end_turn", "stop_sequence": self._sequence}
        usage = _usage(self._call)
        return out + _event("message_delta", delta=reason, usage=usage) + _event("message_stop")

    def failure(self, error: SubletError) -> bytes:
        return b"event: error\ndata: %b\n\n" % AnthropicSurface().refusal(error)

    def keep_alive(self) -> bytes:
        return b'event: ping\ndata: {"type":"ping"}\n\n'

    def _begin(self) -> bytes:
        self._block = ""
        usage = {**_usage(self._call), "output_tokens": 0}
        message = {
            **_opening(self._identity),
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage,
        }
        return _event("message_start", message=message)

    def _say(self, said: Said, out: list[bytes]) -> None:
        if said.thought:
            if self._block != "thinking":
                out.append(self._open("thinking", {"type": "thinking", "thinking": "", "signature": ""}))
            if not _omitted(self._call):
                out.append(self._delta({"type": "thinking_delta", "thinking": said.thought}))
        text = said.content or said.refusal
        if text:
            if self._block != "text":
                out.append(self._open("text", {"type": "text", "text": ""}))
            out.append(_TEXT_DELTA % (self._index, _encode(text)))
        for use in said.tool_calls or ():
            self._use(use, out)

    def _use(self, use: ToolCall, out: list[bytes]) -> None:
        function = use.function
        if self._block != "tool_use" or self._tool != use.index:
            self._tool = use.index
            name = function.name if function else ""
            out.append(self._open("tool_use", {"type": "tool_use", "id": use.id or "", "name": name, "input": {}}))
        if function is not None and function.arguments:
            out.append(self._delta({"type": "input_json_delta", "partial_json": function.arguments}))

    def _open(self, kind: str, block: dict[str, Any]) -> bytes:
        closed = self._close()
        self._block = kind
        self._index += 1
        return closed + _event("content_block_start", index=self._index, content_block=block)

    def _close(self) -> bytes:
        if not self._block:
            return b""
        self._block = ""
        return _event("content_block_stop", index=self._index)

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _event("content_block_delta", index=self._index, delta=delta)


def _event(kind: str, **fields: Any) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), _encode({"type": kind, **fields}))


def _time(epoch_s: int) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _opening(identity: Identity) -> dict[str, Any]:
    return {
        "id": "msg_" + identity.request_id.removeprefix("req_"),
        "type": "message",
        "role": "assistant",
        "model": identity.model,
    }


def _usage(call: Call) -> dict[str, Any]:
    """Cached tokens are told apart from the others, which at Anthropic include none of them."""
    counts = call.counts
    return {
        "input_tokens": counts.input - counts.input_cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": counts.input_cached,
        "output_tokens": counts.output,
        # As Anthropic calls capacity that is committed to a customer.
        "service_tier": "priority" if call.served else "standard",
    }


def _stop(choice: Choice, said: Said | None) -> tuple[str, str | None]:
    """Why the answer ended, and the stop sequence where one ended it and the engine says so."""
    sequence = choice.stopped_by
    if choice.finish_reason == "stop" and sequence is not None:
        return "stop_sequence", sequence
    if choice.finish_reason == "stop" and said is not None and said.tool_calls:
        return "tool_use", None
    return _REASONS.get(choice.finish_reason or "stop", "end_turn"), None


def _omitted(call: Call) -> bool:
    """Whether the client wants to know that the model thinks, and not what."""
    return isinstance(call.more, Thinking) and call.more.display == "omitted"
