"""OpenAI's surface: chat completions, completions and embeddings, as its SDKs ask and expect them.

Format: https://platform.openai.com/docs/api-reference. What becomes of each field is in openai_fields.py. Fields that neither
OpenAI nor the model's engine knows are refused, as OpenAI does.
"""

from __future__ import annotations

import re
from typing import Any, Literal, get_args

import msgspec
from msgspec import Raw

from sublet.gateway.refusals import EngineFailedError, InvalidRequestError
from sublet.gateway.requests.call import Call
from sublet.gateway.surfaces.openai_fields import DESCRIBED, NAMES, UNSUPPORTED, described
from sublet.gateway.surfaces.surface import CommonSurface, Identity
from sublet.gateway.upstream.dialects import ABSENT, PARAMETERS, EngineParameters
from sublet.gateway.upstream.engine_error import engine_error
from sublet.gateway.upstream.openai_body import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    EngineBody,
    GenerationBody,
    present,
)
from sublet.gateway.upstream.scripts import prompts_of
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


Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Message(msgspec.Struct):
    """As much of a chat message as the gateway needs to look at."""

    role: Role
    content: Raw = ABSENT


class ResponseFormat(msgspec.Struct):
    """`response_format`."""

    type: str


class Part(msgspec.Struct):
    """As much of a part of a message as the gateway needs to look at."""

    type: str


# Most requests have nothing but these fields: they are read at once, and all others field by field.
_NARROW: dict[str, msgspec.json.Decoder[Any]] = {
    CHAT: msgspec.json.Decoder(ChatBody),
    COMPLETION: msgspec.json.Decoder(CompletionBody),
    EMBEDDING: msgspec.json.Decoder(EmbeddingBody),
}
_parameters = msgspec.json.Decoder(EngineParameters)
_parts = msgspec.json.Decoder(list[Part])
_messages = msgspec.json.Decoder(list[Message])
_fields = msgspec.json.Decoder(dict[str, Raw])
_stream_options = msgspec.json.Decoder(StreamOptions)
_response_format = msgspec.json.Decoder(ResponseFormat)
_encode = msgspec.json.Encoder().encode

_ROLE = Raw(b'[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]')

_BRACKET, _OPEN_BRACKET, _QUOTE = ord("]"), ord("["), ord('"')

_PART_NEEDS = {"text": "", "refusal": "", "image_url": "images", "input_audio": "audio", "file": "files"}
_UNREAD = ("logit_bias", "response_format", "tools", "tool_choice", "stream_options")
COMPLETION_TOKENS_DEFAULT = 16
LOGIT_BIAS_MAX = 1024


class OpenAISurface(CommonSurface):
    """See gateway.surface.Surface."""

    routes = ROUTES
    stream_content_type = b"text/event-stream; charset=utf-8"

    def parse(self, kind: str, body: bytes) -> Call:
        call = _decoded(kind, body)
        fields = call.body
        if b"null" in body:
            _forget_nulls(fields)
        if fields.timings_per_token is not None:
            raise _unknown("timings_per_token")
        if isinstance(fields, ChatBody):
            call.needs = (kind, *_chat_needs(fields), *call.needs)
            if fields.max_completion_tokens is not None:
                fields.max_tokens, fields.max_completion_tokens = fields.max_completion_tokens, None
        elif isinstance(fields, CompletionBody):
            call.needs = (kind, *_completion_needs(fields), *call.needs)
            call.prompts = _count_prompts(fields)
        elif isinstance(fields, EmbeddingBody):
            call.needs = (kind, *call.needs)
            _check_embedding(fields)
        if isinstance(fields, GenerationBody):
            if fields.n == 1:
                fields.n = None
            if present(fields.logit_bias) and bytes(fields.logit_bias).count(b":") > LOGIT_BIAS_MAX:
                raise InvalidRequestError(f"logit_bias may have at most {LOGIT_BIAS_MAX} entries", param="logit_bias")
            call.include_usage = _includes_usage(fields)
        call.stream = bool(fields.stream)
        return call

    def stream(self, call: Call, identity: Identity) -> OpenAIStream:
        return OpenAIStream(identity, call)

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        try:
            fields = _fields.decode(body)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise EngineFailedError from error
        if ("data" if call.kind == EMBEDDING else "choices") not in fields:
            raise engine_error(200, body)
        fields.pop("timings", None)
        return _encode({**_own_names(fields, identity, call.kind), **call.told})

    def refusal(self, error: SubletError) -> bytes:
        return _encode({"error": _error_fields(error)})


class OpenAIStream:
    """A stream of chunks with Sublet's id, model and time in place of the engine's.

    The bytes before and after `choices` are the same in every chunk of a stream. They are learnt from the first chunk and
    replaced by position in the others; a chunk that is not of that shape is parsed.
    """

    __slots__ = ("_begun", "_call", "_head", "_identity", "_new_head", "_new_tail", "_tail")

    def __init__(self, identity: Identity, call: Call) -> None:
        self._identity = identity
        self._call = call
        self._begun = call.kind != CHAT
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
        return {**_own_names(fields, self._identity, self._call.kind, chunk=True), **self._call.told}

    def _learn(self, payload: bytes, fields: dict[str, Raw], choices: bytes) -> None:
        marked = b'"choices":' + choices
        at = payload.find(marked)
        if at < 0:
            return
        others = {name: value for name, value in fields.items() if name != "choices"}
        opening = _encode(self._named(others))
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


def _decoded(kind: str, body: bytes) -> Call:
    try:
        if not body.isascii():
            # Fields that are passed on unread are not checked by the JSON decoder.
            body.decode()
        try:
            narrow: EngineBody = _NARROW[kind].decode(body)
            return Call(kind, narrow.model, narrow)
        except msgspec.ValidationError:
            return _field_by_field(kind, _fields.decode(body))
    except UnicodeDecodeError as error:
        raise InvalidRequestError("The body is not UTF-8; encode it so") from error
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply; flatten it") from error
    except msgspec.ValidationError as error:
        raise _refused_field(str(error)) from error
    except msgspec.MsgspecError as error:
        raise InvalidRequestError(f"The body is not a JSON object: {error}") from error


def _field_by_field(kind: str, fields: dict[str, Raw]) -> Call:
    """A request with fields that not every engine gets. Raises InvalidRequestError, or what msgspec says of the rest."""
    others: dict[str, Raw] = {}
    parameters: dict[str, Raw] = {}
    rest: dict[str, Raw] = {}
    for name, value in fields.items():
        if not present(value) and (name in NAMES[kind] or name in PARAMETERS):
            continue
        if name in UNSUPPORTED:
            raise _unknown(name)
        if name in DESCRIBED and name in NAMES[kind]:
            others[name] = value
        elif name in PARAMETERS and kind != EMBEDDING:
            parameters[name] = value
        else:
            rest[name] = value
    body: EngineBody = _NARROW[kind].decode(_encode(rest))
    found = described(others)
    call = Call(kind, body.model, body, needs=found.needs, asked=found.asked, told=found.told)
    if parameters:
        call.parameters = _parameters.decode(_encode(parameters))
    return call


def _forget_nulls(fields: EngineBody) -> None:
    """Fields that are passed on unread are absent where they are null, like all others."""
    for name in _UNREAD:
        value = getattr(fields, name, None)
        if value is not None and not present(value):
            setattr(fields, name, ABSENT)


def _unknown(name: str) -> InvalidRequestError:
    if name in UNSUPPORTED:
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
    needs = _parts_need(messages)
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


def _parts_need(messages: list[Message]) -> list[str]:
    """The capabilities that the parts of messages need. A message of plain text has none."""
    needs: list[str] = []
    for message in messages:
        content = message.content
        if not len(content) or memoryview(content)[0] != _OPEN_BRACKET:
            continue
        try:
            parts = _parts.decode(content)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise InvalidRequestError(f"Invalid value for messages: {str(error)[:200]}", param="messages") from error
        for part in parts:
            need = _PART_NEEDS.get(part.type)
            if need is None:
                raise InvalidRequestError(
                    f"Invalid value for messages: a part is one of {', '.join(_PART_NEEDS)}, not {part.type[:80]!r}",
                    param="messages",
                )
            if need and need not in needs:
                needs.append(need)
    return needs


def _completion_needs(fields: CompletionBody) -> list[str]:
    if fields.best_of not in (None, fields.n or 1):
        raise InvalidRequestError("best_of must be as many as n", param="best_of")
    fields.best_of = None
    if fields.max_tokens is None:
        fields.max_tokens = COMPLETION_TOKENS_DEFAULT
    if fields.max_tokens == 0 and not fields.echo:
        raise InvalidRequestError("max_tokens must be at least 1, or 0 with echo", param="max_tokens")
    if not fields.suffix:
        fields.suffix = None
    return ["suffix"] if fields.suffix else []


def _count_prompts(fields: CompletionBody) -> int:
    if not present(fields.prompt):
        raise InvalidRequestError("Missing required parameter: 'prompt'", param="prompt")
    if memoryview(fields.prompt)[0] == _QUOTE:
        return 1
    try:
        found = prompts_of(fields.prompt)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequestError(
            "Invalid value for prompt: it is a text, a list of token ids, or a list of either", param="prompt"
        ) from error
    return len(found)


def _check_embedding(fields: EmbeddingBody) -> None:
    for name, sent in (
        ("stream", fields.stream is not None),
        ("stream_options", present(fields.stream_options)),
        ("max_tokens", fields.max_tokens is not None),
    ):
        if sent:
            raise _unknown(name)
    if not present(fields.input):
        raise InvalidRequestError("Missing required parameter: 'input'", param="input")


def _includes_usage(fields: EngineBody) -> bool:
    if not present(fields.stream_options):
        return False
    if not fields.stream:
        raise InvalidRequestError("stream_options is only for stream: true", param="stream_options")
    try:
        return _stream_options.decode(fields.stream_options).include_usage
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequestError(f"Invalid value for stream_options: {error}", param="stream_options") from error
