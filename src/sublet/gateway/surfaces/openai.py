"""OpenAI's surface: chat completions, completions and embeddings, as its SDKs ask and expect them.

Format: https://platform.openai.com/docs/api-reference. Fields that OpenAI does not know are refused as OpenAI does; those
that it knows and that only describe the caller (`user`, `metadata`, …) are accepted and go no further.
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

import msgspec
from msgspec import Raw

from sublet.gateway.call import (
    ABSENT,
    CHAT,
    COMPLETION,
    EMBEDDING,
    Call,
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    EngineBody,
    GenerationBody,
    present,
)
from sublet.gateway.refusals import EngineFailedError, InvalidRequestError
from sublet.gateway.surface import Headers, Identity
from sublet.values.errors import SubletError

ROUTES = {b"/v1/chat/completions": CHAT, b"/v1/completions": COMPLETION, b"/v1/embeddings": EMBEDDING}
MESSAGES_MAX = 4096
FINGERPRINT = "sublet"

_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
_UNKNOWN_FIELD = re.compile(r"contains unknown field `(.*)`")
_AT_FIELD = re.compile(r"at `\$\.([A-Za-z_]+)")
_MISSING_FIELD = re.compile(r"missing required field `(.*)`")


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`stream_options`."""

    include_usage: bool = False
    include_obfuscation: bool = False


# What OpenAI's clients may say of themselves: accepted, and not passed on.
_DESCRIPTION = (
    "user",
    "metadata",
    "store",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "reasoning_effort",
    "verbosity",
    "modalities",
)


def _described(body: type[EngineBody]) -> msgspec.json.Decoder[EngineBody]:
    """A decoder of `body` that takes a description of the caller as well."""
    fields = [(name, Any, None) for name in _DESCRIPTION]
    wide = msgspec.defstruct(
        f"Described{body.__name__}", fields, bases=(body,), omit_defaults=True, forbid_unknown_fields=True, kw_only=True
    )
    return msgspec.json.Decoder(wide)


Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Message(msgspec.Struct):
    """As much of a chat message as the gateway needs to look at."""

    role: Role
    content: Raw = ABSENT


class ResponseFormat(msgspec.Struct):
    """`response_format`."""

    type: str


# Most requests describe nothing: the narrow form is tried first.
_NARROW: dict[str, msgspec.json.Decoder[Any]] = {
    CHAT: msgspec.json.Decoder(ChatBody),
    COMPLETION: msgspec.json.Decoder(CompletionBody),
    EMBEDDING: msgspec.json.Decoder(EmbeddingBody),
}
_WIDE = {CHAT: _described(ChatBody), COMPLETION: _described(CompletionBody), EMBEDDING: _described(EmbeddingBody)}
_messages = msgspec.json.Decoder(list[Message])
_fields = msgspec.json.Decoder(dict[str, Raw])
_stream_options = msgspec.json.Decoder(StreamOptions)
_response_format = msgspec.json.Decoder(ResponseFormat)
_encode = msgspec.json.Encoder().encode

_ROLE = Raw(b'[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]')

_BRACKET = ord("]")

# Fields that OpenAI knows and that would change the answer in a way that no engine here can honour.
_UNSUPPORTED = ("prediction", "audio", "web_search_options", "functions", "function_call")


class OpenAISurface:
    """See gateway.surface.Surface."""

    routes = ROUTES
    stream_content_type = b"text/event-stream; charset=utf-8"

    def secret(self, headers: Headers) -> bytes:
        for name, value in headers:
            if name == b"authorization":
                return value[7:] if value[:7].lower() == b"bearer " else b""
        return b""

    def parse(self, kind: str, body: bytes) -> Call:
        fields = _decoded(kind, body)
        if fields.timings_per_token is not None:
            raise _unknown("timings_per_token")
        if isinstance(fields, ChatBody):
            needs = (kind, *_chat_needs(fields))
            if fields.max_completion_tokens is not None:
                fields.max_tokens, fields.max_completion_tokens = fields.max_completion_tokens, None
        elif isinstance(fields, CompletionBody):
            needs = (kind,)
            _check_prompt(fields)
            if fields.best_of not in (None, 1):
                raise InvalidRequestError("best_of must be 1", param="best_of")
            fields.best_of = None
        else:
            needs = (kind,)
            if not isinstance(fields, EmbeddingBody) or not present(fields.input):
                raise InvalidRequestError("Missing required parameter: 'input'", param="input")
        if isinstance(fields, GenerationBody):
            if fields.n not in (None, 1):
                # llama.cpp reports the usage of one choice only, so that several could not be billed right.
                raise InvalidRequestError("n must be 1; send a request for each answer", param="n")
            fields.n = None
        return Call(kind, fields.model, fields, bool(fields.stream), _includes_usage(fields), needs)

    def stream(self, call: Call, identity: Identity) -> OpenAIStream:
        return OpenAIStream(identity, call.kind, call.include_usage)

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        try:
            fields = _fields.decode(body)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise EngineFailedError from error
        if not fields:
            raise EngineFailedError
        fields.pop("timings", None)
        return _encode(_own_names(fields, identity, call.kind))

    def refusal(self, error: SubletError) -> bytes:
        return _encode({"error": _error_fields(error)})


class OpenAIStream:
    """A stream of chunks with Sublet's id, model and time in place of the engine's.

    The bytes before and after `choices` are the same in every chunk of a stream. They are learnt from the first chunk and
    replaced by position in the others; a chunk that is not of that shape is parsed.
    """

    __slots__ = ("_begun", "_head", "_identity", "_include_usage", "_kind", "_new_head", "_new_tail", "_tail")

    def __init__(self, identity: Identity, kind: str, include_usage: bool) -> None:
        self._identity = identity
        self._kind = kind
        self._include_usage = include_usage
        self._begun = kind != CHAT
        self._head = self._tail = b""
        self._new_head = self._new_tail = b""

    def event(self, payload: bytes) -> bytes:
        head, tail = self._head, self._tail
        # Nothing but `choices`, which ends in a bracket, may stand between the two.
        if tail and payload.startswith(head) and payload.endswith(tail) and payload[-len(tail) - 1] == _BRACKET:
            return b"%b%b%b" % (self._new_head, payload[len(head) : -len(tail)], self._new_tail)
        return self._parsed(payload)

    def end(self) -> bytes:
        return b"data: [DONE]\n\n"

    def failure(self, error: SubletError) -> bytes:
        return b"data: %b\n\n" % _encode({"error": _error_fields(error)})

    def keep_alive(self) -> bytes:
        return b": keep-alive\n\n"

    def _parsed(self, payload: bytes) -> bytes:
        try:
            fields = _fields.decode(payload)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise EngineFailedError from error
        choices = fields.get("choices")
        if choices is None:
            raise EngineFailedError
        has_usage = bytes(fields.get("usage", b"null")) != b"null"
        if not self._include_usage:
            fields.pop("usage", None)
            if has_usage and bytes(choices) == b"[]":
                return b""
        if not has_usage and b"usage" not in payload:
            self._learn(payload, fields, bytes(choices))
        event = b"data: %b\n\n" % _encode(_own_names(fields, self._identity, self._kind, chunk=True))
        if not self._begun:
            self._begun = True
            if b'"role":' not in bytes(choices):
                # Clients expect the role in the first chunk; llama.cpp leaves it out when it reports timings.
                first = _own_names({**fields, "choices": _ROLE}, self._identity, self._kind, chunk=True)
                first.pop("usage", None)
                return b"data: %b\n\n%b" % (_encode(first), event)
        return event

    def _learn(self, payload: bytes, fields: dict[str, Raw], choices: bytes) -> None:
        marked = b'"choices":' + choices
        at = payload.find(marked)
        if at < 0:
            return
        others = {name: value for name, value in fields.items() if name != "choices"}
        opening = _encode(_own_names(others, self._identity, self._kind, chunk=True))
        self._head, self._tail = payload[:at], payload[at + len(marked) :]
        self._new_head, self._new_tail = b"data: " + opening[:-1] + b",", b"}\n\n"


def _own_names(fields: dict[str, Raw], identity: Identity, kind: str, *, chunk: bool = False) -> dict[str, Any]:
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


def _error_fields(error: SubletError) -> dict[str, Any]:
    kind = _TYPES.get(error.status, "invalid_request_error" if error.status < 500 else "server_error")
    if error.code == "insufficient_quota":
        # As OpenAI tells it from a rate limit.
        kind = error.code
    return {"message": error.message, "type": kind, "param": error.details.get("param"), "code": error.code}


def _decoded(kind: str, body: bytes) -> EngineBody:
    try:
        if not body.isascii():
            # Fields that are passed on unread are not checked by the JSON decoder.
            body.decode()
        try:
            narrow: EngineBody = _NARROW[kind].decode(body)
            return narrow
        except msgspec.ValidationError:
            return _without_description(_WIDE[kind].decode(body))
    except UnicodeDecodeError as error:
        raise InvalidRequestError("The body is not UTF-8; encode it so") from error
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply; flatten it") from error
    except msgspec.ValidationError as error:
        raise _refused_field(str(error)) from error
    except msgspec.MsgspecError as error:
        raise InvalidRequestError(f"The body is not a JSON object: {error}") from error


def _without_description(fields: Any) -> EngineBody:
    if fields.modalities not in (None, ["text"]):
        raise InvalidRequestError('modalities must be ["text"]; other kinds are not supported', param="modalities")
    for name in _DESCRIPTION:
        setattr(fields, name, None)
    body: EngineBody = fields
    return body


def _unknown(name: str) -> InvalidRequestError:
    if name in _UNSUPPORTED:
        return InvalidRequestError(f"{name} is not supported here; leave it out", param=name)
    return InvalidRequestError(f"Unrecognized request argument supplied: {name}", param=name)


def _refused_field(words: str) -> InvalidRequestError:
    if found := _UNKNOWN_FIELD.search(words):
        return _unknown(found[1][:80])
    if found := _MISSING_FIELD.search(words):
        return InvalidRequestError(f"Missing required parameter: '{found[1][:80]}'", param=found[1][:80])
    found = _AT_FIELD.search(words)
    return InvalidRequestError(f"Invalid value: {words}", param=found[1] if found else None)


def _chat_needs(fields: ChatBody) -> list[str]:
    raw = fields.messages
    if not present(raw):
        raise InvalidRequestError("Missing required parameter: 'messages'", param="messages")
    try:
        messages = _messages.decode(raw)
    except RecursionError as error:
        raise InvalidRequestError("messages are nested too deeply; flatten them", param="messages") from error
    except msgspec.MsgspecError as error:
        roles = f"; a role is one of {', '.join(get_args(Role))}" if "enum value" in str(error) else ""
        raise InvalidRequestError(f"Invalid value for messages: {str(error)[:200]}{roles}", param="messages") from error
    if not 1 <= len(messages) <= MESSAGES_MAX:
        raise InvalidRequestError(f"messages must have 1 to {MESSAGES_MAX} entries", param="messages")
    needs = []
    text = bytes(raw)
    if b'"image_url"' in text or b'"input_audio"' in text or b'"file"' in text:
        needs.append("images")
    if present(fields.tools) and bytes(fields.tools) != b"[]":
        needs.append("tools")
    else:
        fields.tools = fields.tool_choice = ABSENT
        fields.parallel_tool_calls = None
    if present(fields.response_format):
        try:
            wanted = _response_format.decode(fields.response_format).type
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InvalidRequestError(f"Invalid value for response_format: {error}", param="response_format") from error
        if wanted != "text":
            needs.append("json_schema")
    return needs


def _check_prompt(fields: CompletionBody) -> None:
    if not present(fields.prompt):
        raise InvalidRequestError("Missing required parameter: 'prompt'", param="prompt")
    text = bytes(fields.prompt)
    if text[:1] == b'"':
        return
    try:
        if msgspec.json.decode(text, type=list[int]):
            return
    except (msgspec.MsgspecError, RecursionError):
        pass
    raise InvalidRequestError(
        "prompt must be one string or one list of token ids; send a request for each", param="prompt"
    )


def _includes_usage(fields: EngineBody) -> bool:
    if not present(fields.stream_options):
        return False
    if not fields.stream:
        raise InvalidRequestError("stream_options is only for stream: true", param="stream_options")
    try:
        return _stream_options.decode(fields.stream_options).include_usage
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequestError(f"Invalid value for stream_options: {error}", param="stream_options") from error
