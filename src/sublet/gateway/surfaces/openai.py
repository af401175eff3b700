"""OpenAI's surface: chat completions, completions and embeddings, as its SDKs ask and expect them.

Format: https://platform.openai.com/docs/api-reference. What becomes of each field is in openai_fields.py. Fields that neither
OpenAI nor the model's engine knows are refused, as OpenAI does.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, cast, get_args

import msgspec
from msgspec import Raw

from sublet.gateway.refusals import InvalidRequestError
from sublet.gateway.requests.call import CHOICE, OUTPUT, PROMPT, Call
from sublet.gateway.requests.form import CHAT, COMPLETION, EMBEDDING
from sublet.gateway.surfaces.openai_answers import OpenAIStream, answer, error_fields, ordinary_answer
from sublet.gateway.surfaces.openai_fields import DESCRIBED, NAMES, UNSUPPORTED, described
from sublet.gateway.surfaces.surface import CommonSurface, Counts, Identity
from sublet.gateway.upstream.dialects import ABSENT, PARAMETERS, READ_PARAMETERS, EngineParameters
from sublet.gateway.upstream.openai_body import (
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    EngineBody,
    GenerationBody,
    present,
)
from sublet.gateway.upstream.openai_request import OpenAIRequest
from sublet.gateway.upstream.scripts import PROMPT_IDS_MAX, prompts_of
from sublet.values.errors import SubletError

ROUTES = {b"/v1/chat/completions": CHAT, b"/v1/completions": COMPLETION, b"/v1/embeddings": EMBEDDING}
MESSAGES_MAX = 4096
_UNKNOWN_FIELD = re.compile(r"contains unknown field `(.*)`")
_AT_FIELD = re.compile(r"at `\$\.([A-Za-z_]+)")
_MISSING_FIELD = re.compile(r"missing required field `(.*)`")


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`stream_options`."""

    include_usage: bool = False
    include_obfuscation: bool = False


Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


class Speaker(msgspec.Struct, gc=False):
    """Who speaks a chat message."""

    role: Role


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
_messages = msgspec.json.Decoder(list[Message]).decode
_speakers = msgspec.json.Decoder(list[Speaker]).decode
_fields = msgspec.json.Decoder(dict[str, Raw])
_stream_options = msgspec.json.Decoder(StreamOptions)
_response_format = msgspec.json.Decoder(ResponseFormat)
_encode = msgspec.json.Encoder().encode

_PARAMS = {
    CHAT: {
        PROMPT: "messages",
        OUTPUT: "max_tokens",
        CHOICE: "tool_choice",
        "tools": "tools",
        "json_schema": "response_format",
        "images": "messages",
        "audio": "messages",
        "files": "messages",
        "reasoning": "reasoning_effort",
        "verbosity": "verbosity",
    },
    COMPLETION: {PROMPT: "prompt", OUTPUT: "max_tokens", "suffix": "suffix"},
    EMBEDDING: {PROMPT: "input"},
}
"""See requests.call.Call: what refusals call the fields."""

_OPEN_BRACKET, _QUOTE = ord("["), ord('"')

_PART_NEEDS = {"text": "", "refusal": "", "image_url": "images", "input_audio": "audio", "file": "files"}
_UNREAD = ("logit_bias", "response_format", "tools", "tool_choice", "stream_options")
COMPLETION_TOKENS_DEFAULT = 16
LOGIT_BIAS_MAX = 1024
INPUTS_MAX = 2048
PARAMETER_BYTES_MAX = 512 * 1024


class OpenAISurface(CommonSurface):
    """See gateway.surface.Surface."""

    routes = ROUTES
    stream_content_type = b"text/event-stream; charset=utf-8"

    def parse(self, kind: str, body: bytes) -> Call:
        call, fields = _decoded(kind, body)
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
            call.answers = call.prompts = _count_prompts(fields)
            call.echoes = bool(fields.echo)
        elif isinstance(fields, EmbeddingBody):
            call.needs = (kind, *call.needs)
            _check_embedding(fields)
        if isinstance(fields, GenerationBody):
            if fields.n == 1:
                fields.n = None
            elif fields.n is not None:
                call.answers *= fields.n
            if present(fields.logit_bias) and bytes(fields.logit_bias).count(b":") > LOGIT_BIAS_MAX:
                raise InvalidRequestError(f"logit_bias may have at most {LOGIT_BIAS_MAX} entries", param="logit_bias")
            call.include_usage = _includes_usage(fields)
        call.output_tokens_max = fields.max_tokens
        call.stream = bool(fields.stream)
        return call

    def reserved(self, call: Call) -> None:
        if call.kind == CHAT:
            # As OpenAI calls capacity that is committed to a customer.
            call.told = {**call.told, "service_tier": "scale"}

    def stream(self, call: Call, identity: Identity) -> OpenAIStream:
        return OpenAIStream(identity, call)

    def ordinary_answer(self, call: Call, identity: Identity, body: bytes, counts: Counts) -> bytes:
        return ordinary_answer(call, identity, body, counts)

    def answer(self, call: Call, identity: Identity, body: bytes) -> bytes:
        return answer(call, identity, body)

    def refusal(self, error: SubletError) -> bytes:
        return _encode({"error": error_fields(error)})


def _decoded(kind: str, body: bytes) -> tuple[Call, EngineBody]:
    try:
        if not body.isascii():
            # Fields that are passed on unread are not checked by the JSON decoder.
            body.decode()
        try:
            narrow: EngineBody = _NARROW[kind].decode(body)
            return Call(kind, narrow.model, OpenAIRequest(narrow), fields=_PARAMS[kind]), narrow
        except msgspec.ValidationError:
            return _field_by_field(kind, _fields.decode(body))
    except UnicodeDecodeError as error:
        raise InvalidRequestError("The body is not valid UTF-8; encode it as UTF-8") from error
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply; flatten it") from error
    except msgspec.ValidationError as error:
        raise _refused_field(str(error)) from error
    except msgspec.MsgspecError as error:
        raise InvalidRequestError(f"The body is not a JSON object: {error}") from error


def _field_by_field(kind: str, fields: dict[str, Raw]) -> tuple[Call, EngineBody]:
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
            if name in READ_PARAMETERS and len(value) > PARAMETER_BYTES_MAX:
                raise InvalidRequestError(f"{name} may have at most {PARAMETER_BYTES_MAX:,} bytes", param=name)
            parameters[name] = value
        else:
            rest[name] = value
    body: EngineBody = _NARROW[kind].decode(_encode(rest))
    found = described(others)
    asked = OpenAIRequest(body, models=found.asked)
    if parameters:
        asked.parameters = _parameters.decode(_encode(parameters))
    return Call(
        kind, body.model, asked, needs=found.needs, fields=_PARAMS[kind], told=found.told, tier=found.tier
    ), body


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
    # Without another bracket no message has anything but text.
    plain = bytes(raw).find(b"[", 1) < 0
    try:
        messages: Sequence[Speaker | Message] = _speakers(raw) if plain else _messages(raw)
    except RecursionError as error:
        raise InvalidRequestError("messages are nested too deeply; flatten them", param="messages") from error
    except msgspec.MsgspecError as error:
        roles = f"; a role is one of {', '.join(get_args(Role))}" if "enum value" in str(error) else ""
        raise InvalidRequestError(f"Invalid value for messages: {str(error)[:200]}{roles}", param="messages") from error
    if not 1 <= len(messages) <= MESSAGES_MAX:
        raise InvalidRequestError(f"messages must have 1 to {MESSAGES_MAX} entries", param="messages")
    needs = [] if plain else _parts_need(cast(Sequence[Message], messages))
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


def _parts_need(messages: Sequence[Message]) -> list[str]:
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
        raise InvalidRequestError("best_of must be equal to n", param="best_of")
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
            "Invalid value for prompt: it must be a string, a list of token ids, or a list of either", param="prompt"
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
    content = bytes(fields.input)
    # A quote within a text is escaped, so that of the others two belong to each text.
    texts = (content.count(b'"') - content.count(b'\\"')) // 2
    if texts > INPUTS_MAX:
        raise InvalidRequestError(f"input may have at most {INPUTS_MAX} texts; send several requests", param="input")
    if not texts and content.count(b",") >= PROMPT_IDS_MAX:
        raise InvalidRequestError(f"input may have at most {PROMPT_IDS_MAX} token ids", param="input")


def _includes_usage(fields: EngineBody) -> bool:
    if not present(fields.stream_options):
        return False
    if not fields.stream:
        raise InvalidRequestError("stream_options requires stream: true", param="stream_options")
    try:
        return _stream_options.decode(fields.stream_options).include_usage
    except (msgspec.MsgspecError, RecursionError) as error:
        raise InvalidRequestError(f"Invalid value for stream_options: {error}", param="stream_options") from error
