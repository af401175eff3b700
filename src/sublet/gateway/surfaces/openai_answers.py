"""What OpenAI's clients are answered: whole answers, streams, and errors, with Sublet's names in place of the engine's."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw

from sublet.gateway.refusals import EngineFailedError
from sublet.gateway.requests.call import Call
from sublet.gateway.requests.form import CHAT, COMPLETION, EMBEDDING
from sublet.gateway.surfaces.surface import Counts, Identity
from sublet.gateway.upstream.dialects import ABSENT
from sublet.gateway.upstream.engine_error import engine_error
from sublet.gateway.upstream.openai_body import present
from sublet.values.errors import SubletError

FINGERPRINT = "sublet"
ORDINARY_TRIES = 4
"""Chunks of a stream from which the shape of an ordinary one is learnt, if the first of them are not ordinary."""

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_ROLE = Raw(b'[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]')
_CHOICES = b'"choices":'
_BRACKET, _BACKSLASH = ord("]"), ord("\\")


class _Whole(msgspec.Struct, forbid_unknown_fields=True):
    """A whole answer to a chat with nothing but what OpenAI's have."""

    choices: Raw
    usage: Raw
    id: Raw = ABSENT
    object: Raw = ABSENT
    created: Raw = ABSENT
    model: Raw = ABSENT
    system_fingerprint: Raw = ABSENT
    timings: Raw = ABSENT


class _Delta(msgspec.Struct, forbid_unknown_fields=True):
    content: str


class _OrdinaryChoice(msgspec.Struct, forbid_unknown_fields=True):
    """A choice of a chunk that adds text and nothing else."""

    index: Literal[0]
    delta: _Delta
    finish_reason: None = None
    logprobs: None = None


_whole = msgspec.json.Decoder(_Whole).decode
_ordinary_choice = msgspec.json.Decoder(tuple[_OrdinaryChoice]).decode
_fields = msgspec.json.Decoder(dict[str, Raw])
_encode = msgspec.json.Encoder().encode


def ordinary_answer(call: Call, identity: Identity, body: bytes, counts: Counts) -> bytes:
    """See surface.QuickSurface."""
    if call.kind != CHAT or call.told:
        return b""
    try:
        fields = _whole(body)
    except (msgspec.MsgspecError, RecursionError):
        return b""
    counts.usage(fields.usage)
    if not counts.final:
        return b""
    return (
        b'{"id":"chatcmpl-%b","object":"chat.completion","created":%d,"model":%b,"choices":%b,"usage":%b,'
        b'"system_fingerprint":"%b"}'
        % (
            identity.request_id[4:].encode(),
            identity.created_s,
            _encode(identity.model),
            fields.choices,
            fields.usage,
            FINGERPRINT.encode(),
        )
    )


def answer(call: Call, identity: Identity, body: bytes) -> bytes:
    """See surface.Surface."""
    try:
        fields = _fields.decode(body)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EngineFailedError from error
    if ("data" if call.kind == EMBEDDING else "choices") not in fields:
        raise engine_error(200, body)
    fields.pop("timings", None)
    return _encode({**own_names(fields, identity, call.kind), **call.told})


class OpenAIStream:
    """A stream of chunks with Sublet's id, model and time in place of the engine's.

    The bytes before and after `choices` are the same in every chunk of a stream. They are learnt from the first chunk and
    replaced by position in the others; a chunk that is not of that shape is parsed. Of chunks that only add text those around
    the text are the same as well, and are learnt from one of the first of them (surface.QuickForm).
    """

    __slots__ = (
        "_begun",
        "_call",
        "_head",
        "_identity",
        "_new_head",
        "_new_tail",
        "_tail",
        "_text_head",
        "_text_new_head",
        "_text_new_tail",
        "_text_tail",
        "_tries",
        "around",
    )

    def __init__(self, identity: Identity, call: Call) -> None:
        self._identity = identity
        self._call = call
        self._begun = call.kind != CHAT
        self._head = self._tail = b""
        self._new_head = self._new_tail = b""
        self._text_head = self._text_tail = self._text_new_head = self._text_new_tail = b""
        self._tries = ORDINARY_TRIES if call.kind == CHAT and not call.running else 0
        self.around = 0

    def ordinary(self, data: bytes) -> bytes:
        head, tail = self._text_head, self._text_tail
        if not head or not data.startswith(head) or not data.endswith(tail):
            return b""
        text = data[len(head) : -len(tail)]
        # With a quote, a line end or an escape before the tail there may be more than text, or more than one event.
        if not text or text[-1] == _BACKSLASH or b'"' in text or b"\n" in text or b"\r" in text:
            return b""
        return b"%b%b%b" % (self._text_new_head, text, self._text_new_tail)

    def event(self, payload: bytes) -> bytes:
        head, tail = self._head, self._tail
        # Nothing but `choices`, which ends in a bracket, may stand between the two.
        if tail and payload.startswith(head) and payload.endswith(tail) and payload[-len(tail) - 1] == _BRACKET:
            choices = payload[len(head) : -len(tail)]
            if self._tries:
                self._learn_text(choices)
            return b"%b%b%b" % (self._new_head, choices, self._new_tail)
        return self._parsed(payload)

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"

    def failure(self, error: SubletError) -> bytes:
        return b"data: %b\n\n" % _encode({"error": error_fields(error)})

    def keep_alive(self) -> bytes:
        return b": keep-alive\n\n"

    def _parsed(self, payload: bytes) -> bytes:
        try:
            fields = _fields.decode(payload)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise EngineFailedError from error
        choices = fields.get("choices")
        if choices is None or present(fields.get("error", ABSENT)):
            raise engine_error(200, payload)
        has_usage = bytes(fields.get("usage", b"null")) != b"null"
        if not self._call.include_usage or (self._call.running and bytes(choices) != b"[]"):
            fields.pop("usage", None)
            if has_usage and bytes(choices) == b"[]":
                return b""
        if not has_usage and b"usage" not in payload:
            self._learn(payload, fields, bytes(choices))
        event = b"data: %b\n\n" % _encode(self._named(fields))
        if not self._begun:
            self._begun = True
            if b'"role":' not in bytes(choices):
                # Clients expect the role in the first chunk; llama.cpp leaves it out when it reports timings.
                first = self._named({**fields, "choices": _ROLE})
                first.pop("usage", None)
                return b"data: %b\n\n%b" % (_encode(first), event)
        return event

    def _named(self, fields: dict[str, Raw]) -> dict[str, Any]:
        return {**own_names(fields, self._identity, self._call.kind, chunk=True), **self._call.told}

    def _learn(self, payload: bytes, fields: dict[str, Raw], choices: bytes) -> None:
        marked = _CHOICES + choices
        at = payload.find(marked)
        if at < 0:
            return
        others = {name: value for name, value in fields.items() if name != "choices"}
        opening = _encode(self._named(others))
        self._head, self._tail = payload[:at], payload[at + len(marked) :]
        self._new_head, self._new_tail = b"data: " + opening[:-1] + b",", b"}\n\n"

    def _learn_text(self, choices: bytes) -> None:
        """Learn what stands around the text, if `choices` has text and nothing else."""
        self._tries -= 1
        try:
            text = _ordinary_choice(choices.partition(_CHOICES)[2])[0].delta.content.encode()
        except (msgspec.MsgspecError, RecursionError, UnicodeEncodeError):
            return
        quoted = b'"%b"' % text
        # Only text without escapes stands there as it is; a text like "content" may stand there twice.
        if not text or choices.count(quoted) != 1:
            return
        at = choices.find(quoted) + 1
        before, after = choices[:at], choices[at + len(text) :]
        self._text_head = b"data: %b%b" % (self._head, before)
        self._text_tail = b"%b%b\n\n" % (after, self._tail)
        self._text_new_head, self._text_new_tail = self._new_head + before, after + self._new_tail
        self.around = len(self._text_head) + len(self._text_tail)
        self._tries = 0


def own_names(fields: dict[str, Raw], identity: Identity, kind: str, *, chunk: bool = False) -> dict[str, Any]:
    """The fields of an answer or a chunk under Sublet's names."""
    if kind == EMBEDDING:
        return {**fields, "model": identity.model}
    shape = "text_completion" if kind == COMPLETION else "chat.completion.chunk" if chunk else "chat.completion"
    return {
        **fields,
        "id": ("cmpl-" if kind == COMPLETION else "chatcmpl-") + identity.request_id.removeprefix("req_"),
        "object": shape,
        "created": identity.created_s,
        "model": identity.model,
        "system_fingerprint": FINGERPRINT,
    }


def error_fields(error: SubletError) -> dict[str, Any]:
    """An error as OpenAI words it."""
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    if error.code == "insufficient_quota":
        # As OpenAI tells it from a rate limit.
        kind = error.code
    return {"message": error.message, "type": kind, "param": error.details.get("param"), "code": error.code}
