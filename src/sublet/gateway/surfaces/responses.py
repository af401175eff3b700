"""The surface of OpenAI's Responses API. What is to be remembered is sent again, or was stored and is gone on from.

Format: https://platform.openai.com/docs/api-reference/responses and .../responses-streaming. What becomes of each field is in
responses_fields.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from sublet.gateway.refusals import ResponseCanceledError
from sublet.gateway.requests.call import CHOICE, OUTPUT, PROMPT, Call, Counts, Kept
from sublet.gateway.requests.form import CHAT, COUNT, CountRequest
from sublet.gateway.surfaces.openai import OpenAISurface
from sublet.gateway.surfaces.reading import unsupported
from sublet.gateway.surfaces.responses_request import Asked, request_of
from sublet.gateway.surfaces.surface import CommonSurface, Identity
from sublet.gateway.upstream.openai_answer import Choice, Said, ToolCall, choices_of, counted_of, message_of
from sublet.values.errors import SubletError

_FIELDS = {
    PROMPT: "input",
    OUTPUT: "max_output_tokens",
    CHOICE: "tool_choice",
    "tools": "tools",
    "images": "input",
    "json_schema": "text.format",
    "reasoning": "reasoning.effort",
    "verbosity": "text.verbosity",
}
"""See requests.call.Call."""
_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_DELTA = (
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":"%b","output_index":%d,'
    b'"content_index":0,"delta":%b,"logprobs":[],"sequence_number":%d}\n\n'
)
_MESSAGE, _REFUSAL, _REASONING, _CALL = "output_text", "refusal", "reasoning_text", "function_call_arguments"
_encode = msgspec.json.Encoder().encode


class _Previous(msgspec.Struct):
    previous_response_id: str | None = None
    background: bool | None = None


_previous = msgspec.json.Decoder(_Previous).decode
_openai = OpenAISurface()


class ResponsesSurface(CommonSurface):
    """See gateway.surface.Surface."""

    routes = {b"/v1/responses": CHAT, b"/v1/responses/input_tokens": COUNT}  # noqa: RUF012
    stream_content_type = b"text/event-stream; charset=utf-8"
    background = False
    """Whether it reads requests that are carried out in the background."""

    def __init__(self, earlier: Sequence[Raw] | None = None) -> None:
        """`earlier` are the items of the stored response that a request goes on from, and of those before it."""
        self._earlier = earlier

    def continues(self, body: bytes) -> str:
        """See front.recalling.RecallingSurface."""
        if self._earlier is not None or b"previous_response_id" not in body:
            return ""
        try:
            return _previous(body).previous_response_id or ""
        except (msgspec.MsgspecError, RecursionError):
            # Said with its reason when the request is read.
            return ""

    def backgrounded(self, body: bytes) -> bool:
        """See front.recalling.RecallingSurface."""
        if b"background" not in body:
            return False
        try:
            return bool(_previous(body).background)
        except (msgspec.MsgspecError, RecursionError):
            return False

    def after(self, earlier: Sequence[Raw]) -> ResponsesSurface:
        """See front.recalling.RecallingSurface."""
        return ResponsesSurface(earlier)

    def parse(self, kind: str, body: bytes) -> Call:
        earlier = self._earlier or ()
        request, asked = request_of(body, earlier)
        if asked.background and not self.background:
            raise unsupported("background", "the operator has turned it off; leave it out, or set it to false")
        if kind == COUNT:
            return Call.of(CountRequest(request), _FIELDS)
        call = Call.of(request, _FIELDS)
        call.more = _echo(asked)
        call.earlier_bytes = sum(map(len, earlier))
        if asked.store:
            call.kept = Kept(asked.input, asked.previous_response_id or "")
        if request.effort not in ("", "none"):
            call.needs += ("reasoning",)
        if request.verbosity not in ("", "medium"):
            call.needs += ("verbosity",)
        return call

    def stream(self, call: Call, identity: Identity) -> ResponsesStream:
        return ResponsesStream(identity, call)

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        if call.kind == COUNT:
            return _encode({"object": "response.input_tokens", "input_tokens": counted_of(body)})
        said, choice = message_of(body)
        items = _Items(identity)
        if said.thought:
            items.add(_REASONING, text=said.thought)
        if said.content or not (said.refusal or said.tool_calls):
            items.add(_MESSAGE, text=said.content or "", logprobs=_logprobs(choice))
        if said.refusal:
            items.add(_REFUSAL, text=said.refusal)
        for use in said.tool_calls or ():
            function = use.function
            arguments = (function.arguments or "") if function else ""
            items.add(_CALL, text=arguments, call_id=use.id or "", name=(function.name or "") if function else "")
        reason = choice.finish_reason
        return _encode(response_of(identity, call, items.done(complete=reason not in _INCOMPLETE), reason or "stop"))

    def refusal(self, error: SubletError) -> bytes:
        return _openai.refusal(error)


class _Item:
    """One item of the output while it is made."""

    __slots__ = ("call_id", "id", "kind", "logprobs", "name", "parts", "tool")

    def __init__(self, kind: str, item_id: str, call_id: str, name: str) -> None:
        self.kind = kind
        self.id = item_id
        self.call_id = call_id
        self.name = name
        self.tool = -1
        self.parts: list[str] = []
        self.logprobs: list[Any] = []

    @property
    def text(self) -> str:
        return "".join(self.parts)

    def part(self, text: str) -> dict[str, Any]:
        """The part of its content, with so much text."""
        if self.kind == _REFUSAL:
            return {"type": _REFUSAL, "refusal": text}
        if self.kind == _REASONING:
            return {"type": _REASONING, "text": text}
        logprobs = self.logprobs if text else []
        return {"type": _MESSAGE, "text": text, "annotations": [], "logprobs": logprobs}

    def told(self, status: str) -> dict[str, Any]:
        """The item; without its content while it is in progress."""
        text = "" if status == "in_progress" else self.text
        if self.kind == _CALL:
            return {
                "id": self.id,
                "type": "function_call",
                "status": status,
                "call_id": self.call_id,
                "name": self.name,
                "arguments": text,
            }
        content = [] if status == "in_progress" else [self.part(text)]
        if self.kind == _REASONING:
            return {"id": self.id, "type": "reasoning", "status": status, "summary": [], "content": content}
        return {"id": self.id, "type": "message", "status": status, "role": "assistant", "content": content}


class _Items:
    """The output, item by item."""

    _PREFIXES = {_REASONING: "rs_", _CALL: "fc_"}  # noqa: RUF012

    def __init__(self, identity: Identity) -> None:
        self._base = identity.request_id.removeprefix("req_")
        self.all: list[_Item] = []

    def add(
        self, kind: str, *, text: str = "", call_id: str = "", name: str = "", logprobs: list[Any] | None = None
    ) -> _Item:
        item = _Item(kind, f"{self._PREFIXES.get(kind, 'msg_')}{self._base}{len(self.all):02x}", call_id, name)
        if text:
            item.parts.append(text)
        item.logprobs = logprobs or []
        self.all.append(item)
        return item

    def done(self, *, complete: bool) -> list[dict[str, Any]]:
        """The items of an answer that has ended: the last one may have broken off."""
        return [item.told("completed" if complete or item is not self.all[-1] else "incomplete") for item in self.all]


class ResponsesStream:
    """A stream of typed events, numbered from 0: an item for reasoning, the message, and each call."""

    __slots__ = ("_call", "_delta_id", "_identity", "_items", "_open", "_reason", "_sequence", "final")

    def __init__(self, identity: Identity, call: Call) -> None:
        self._identity = identity
        self._call = call
        self._items = _Items(identity)
        self._open: _Item | None = None
        # Of the open message.
        self._delta_id = b""
        self._sequence = 0
        self._reason = "stop"
        self.final = b""
        """The response, once `end` was called."""

    def event(self, payload: bytes) -> bytes:
        choices = choices_of(payload)
        begun = b"" if self._sequence else self._begin()
        if not choices:
            return begun
        choice = choices[0]
        said = choice.delta
        if said is not None:
            item = self._open
            text = said.content
            if text and item is not None and item.kind == _MESSAGE and _nothing_else(choice, said):
                item.parts.append(text)
                self._sequence += 1
                return _DELTA % (self._delta_id, len(self._items.all) - 1, _encode(text), self._sequence - 1)
            begun += self._say(said, choice)
        if choice.finish_reason is not None:
            self._reason = choice.finish_reason
            begun += self._close(complete=choice.finish_reason not in _INCOMPLETE)
        return begun

    def end(self) -> bytes:
        out = b"" if self._sequence else self._begin()
        if not self._items.all:
            out += self._start(self._items.add(_MESSAGE))
        complete = self._reason not in _INCOMPLETE
        out += self._close(complete=complete)
        response = response_of(self._identity, self._call, self._items.done(complete=complete), self._reason)
        self.final = _encode(response)
        return out + self._event("response.completed" if complete else "response.incomplete", response=response)

    def failure(self, error: SubletError) -> bytes:
        out = b"" if self._sequence else self._begin()
        out += self._event("error", code=error.code, message=error.message, param=error.details.get("param"))
        response = response_of(self._identity, self._call, self._items.done(complete=False), "stop")
        response = stopped(response, error)
        self.final = _encode(response)
        return out + self._event("response.failed", response=response)

    def keep_alive(self) -> bytes:
        return b": keep-alive\n\n"

    def _begin(self) -> bytes:
        response = response_of(self._identity, self._call, [], None)
        return self._event("response.created", response=response) + self._event(
            "response.in_progress", response=response
        )

    def _say(self, said: Said, choice: Choice) -> bytes:
        out = b""
        if said.thought:
            out += self._text(_REASONING, said.thought)
        if said.content:
            out += self._text(_MESSAGE, said.content, _logprobs(choice))
        if said.refusal:
            out += self._text(_REFUSAL, said.refusal)
        for use in said.tool_calls or ():
            out += self._use(use)
        return out

    def _text(self, kind: str, text: str, logprobs: list[Any] | None = None) -> bytes:
        out = b""
        if self._open is None or self._open.kind != kind:
            out = self._start(self._items.add(kind))
        item = self._open
        assert item is not None
        item.parts.append(text)
        more: dict[str, Any] = {"logprobs": logprobs or []} if kind == _MESSAGE else {}
        item.logprobs += logprobs or []
        return out + self._of_part(f"response.{kind}.delta", delta=text, **more)

    def _use(self, use: ToolCall) -> bytes:
        out = b""
        function = use.function
        item = self._open
        if item is None or item.kind != _CALL or item.tool != use.index:
            item = self._items.add(_CALL, call_id=use.id or "", name=(function.name or "") if function else "")
            item.tool = use.index
            out = self._start(item)
        if function is not None and function.arguments:
            item.parts.append(function.arguments)
            out += self._of_item("response.function_call_arguments.delta", delta=function.arguments)
        return out

    def _start(self, item: _Item) -> bytes:
        closed = self._close(complete=True)
        self._open = item
        self._delta_id = item.id.encode()
        out = closed + self._event(
            "response.output_item.added", output_index=len(self._items.all) - 1, item=item.told("in_progress")
        )
        if item.kind != _CALL:
            out += self._of_part("response.content_part.added", part=item.part(""))
        return out

    def _close(self, *, complete: bool) -> bytes:
        item = self._open
        if item is None:
            return b""
        text = item.text
        if item.kind == _CALL:
            out = self._of_item("response.function_call_arguments.done", name=item.name, arguments=text)
        else:
            name = "refusal" if item.kind == _REFUSAL else "text"
            more: dict[str, Any] = {"logprobs": item.logprobs} if item.kind == _MESSAGE else {}
            out = self._of_part(f"response.{item.kind}.done", **{name: text}, **more)
            out += self._of_part("response.content_part.done", part=item.part(text))
        told = item.told("completed" if complete else "incomplete")
        out += self._event("response.output_item.done", output_index=len(self._items.all) - 1, item=told)
        self._open = None
        return out

    def _of_part(self, kind: str, **fields: Any) -> bytes:
        return self._of_item(kind, content_index=0, **fields)

    def _of_item(self, kind: str, **fields: Any) -> bytes:
        assert self._open is not None
        return self._event(kind, item_id=self._open.id, output_index=len(self._items.all) - 1, **fields)

    def _event(self, kind: str, **fields: Any) -> bytes:
        self._sequence += 1
        return event(kind, self._sequence - 1, **fields)


def event(kind: str, sequence: int, **fields: Any) -> bytes:
    """An event of a stream. Its number comes last, where streams that are gone on with look for it."""
    told = _encode({"type": kind, **fields, "sequence_number": sequence})
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), told)


def stopped(response: dict[str, Any], error: SubletError) -> dict[str, Any]:
    """A response that ended before its time."""
    if error.code == ResponseCanceledError.code:
        return {**response, "status": "cancelled", "error": None}
    return {**response, "status": "failed", "error": {"code": "server_error", "message": error.message}}


def _nothing_else(choice: Choice, said: Said) -> bool:
    return (
        said.tool_calls is None
        and said.refusal is None
        and choice.finish_reason is None
        and choice.logprobs is None
        and not said.thought
    )


def _echo(asked: Asked) -> dict[str, Any]:
    """What of a request its response repeats."""
    text = asked.text
    form = msgspec.to_builtins(text.format) if text is not None and text.format is not None else {"type": "text"}
    reasoning = asked.reasoning
    return {
        "previous_response_id": asked.previous_response_id,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "max_tool_calls": asked.max_tool_calls,
        "metadata": asked.metadata or {},
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "top_logprobs": asked.top_logprobs or 0,
        "text": {
            "format": {name: value for name, value in form.items() if value is not None},
            "verbosity": (text.verbosity if text is not None else None) or "medium",
        },
        "tool_choice": asked.tool_choice or "auto",
        "tools": asked.tools or [],
        "reasoning": {"effort": reasoning.effort if reasoning else None, "summary": None},
        "user": asked.user,
        "safety_identifier": asked.safety_identifier,
        "prompt_cache_key": asked.prompt_cache_key,
    }


def response_of(identity: Identity, call: Call, output: list[dict[str, Any]], reason: str | None) -> dict[str, Any]:
    """The response as it is now: in progress without a `reason`."""
    cut = _INCOMPLETE.get(reason or "")
    return {
        "id": "resp_" + identity.request_id.removeprefix("req_"),
        "object": "response",
        "created_at": identity.created_s,
        "status": "in_progress" if reason is None else "incomplete" if cut else "completed",
        "model": identity.model,
        "output": output,
        "error": None,
        "incomplete_details": {"reason": cut} if cut else None,
        "background": False,
        "service_tier": call.tier or ("scale" if call.served else "default"),
        "store": call.kept is not None,
        "truncation": "disabled",
        **call.more,
        "usage": None if reason is None else _usage(call.counts),
    }


def _usage(counts: Counts) -> dict[str, Any]:
    return {
        "input_tokens": counts.input,
        "input_tokens_details": {"cached_tokens": counts.input_cached, "cache_write_tokens": 0},
        "output_tokens": counts.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": counts.input + counts.output,
    }


def _logprobs(choice: Choice) -> list[Any]:
    found = choice.logprobs.get("content") if isinstance(choice.logprobs, dict) else None
    return found if isinstance(found, list) else []
