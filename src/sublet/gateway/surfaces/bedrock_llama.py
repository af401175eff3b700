"""Meta Llama's bodies of Bedrock's InvokeModel: a prompt that holds the model's own template, and its continuation.

Format: https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-meta.html.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct

from sublet.gateway.refusals import EngineFailedError
from sublet.gateway.requests.call import OUTPUT, PROMPT, Call
from sublet.gateway.requests.form import COMPLETION
from sublet.gateway.surfaces.reading import read
from sublet.gateway.upstream.engine_error import engine_error
from sublet.gateway.upstream.openai_body import CompletionBody
from sublet.gateway.upstream.openai_request import OpenAIRequest
from sublet.values.errors import SubletError

GENERATED_DEFAULT = 512
"""Amazon's default of `max_gen_len`."""
GENERATED_MAX = 8192
_FIELDS = {PROMPT: "prompt", OUTPUT: "max_gen_len"}
"""See requests.call.Call."""


class Prompt(Struct, forbid_unknown_fields=True):
    """The body of a request."""

    prompt: Annotated[str, Meta(min_length=1)]
    max_gen_len: Annotated[int, Meta(ge=1, le=GENERATED_MAX)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    # Refused by name, unless null.
    images: None = None


class _Choice(Struct):
    text: str = ""
    finish_reason: str | None = None


class _Answer(Struct):
    choices: list[_Choice] | None = None
    error: Any = None


_prompt = msgspec.json.Decoder(Prompt)
_answer = msgspec.json.Decoder(_Answer)
_encode = msgspec.json.Encoder().encode


def llama_call(body: bytes, model: str, *, stream: bool) -> Call:
    """A request for a continuation. Raises InvalidRequestError."""
    asked = read(_prompt, body)
    tokens = asked.max_gen_len or GENERATED_DEFAULT
    engine = CompletionBody(
        model=model,
        prompt=Raw(_encode(asked.prompt)),
        max_tokens=tokens,
        temperature=asked.temperature,
        top_p=asked.top_p,
        stream=stream or None,
    )
    return Call(
        COMPLETION,
        model,
        OpenAIRequest(engine),
        output_tokens_max=tokens,
        stream=stream,
        include_usage=True,
        needs=(COMPLETION,),
        fields=_FIELDS,
    )


def llama_answer(call: Call, body: bytes) -> bytes:
    """A whole continuation."""
    choices = _choices_of(body)
    if not choices:
        raise EngineFailedError
    counts = call.counts
    return _encode(
        {
            "generation": choices[0].text,
            "prompt_token_count": counts.input,
            "generation_token_count": counts.output,
            "stop_reason": _reason(choices[0].finish_reason),
        }
    )


class LlamaStream:
    """A continuation in pieces, as events whose data is a piece each; the first one tells the prompt's tokens."""

    __slots__ = ("_call", "_reason", "_told")

    def __init__(self, call: Call) -> None:
        self._call = call
        self._reason = "stop"
        self._told = False

    def event(self, payload: bytes) -> bytes:
        choices = _choices_of(payload)
        if not choices:
            return b""
        if choices[0].finish_reason is not None:
            self._reason = _reason(choices[0].finish_reason)
        return self._piece(choices[0].text, None) if choices[0].text else b""

    def end(self) -> bytes:
        return self._piece("", self._reason)

    def failure(self, error: SubletError) -> bytes:
        return b""

    def keep_alive(self) -> bytes:
        return b""

    def _piece(self, text: str, reason: str | None) -> bytes:
        counts = self._call.counts
        # An engine that counts at the end alone has not said how long the prompt is when its first piece comes.
        tells = not self._told and (counts.input > 0 or reason is not None)
        self._told = self._told or tells
        piece = {
            "generation": text,
            "prompt_token_count": counts.input if tells else None,
            "generation_token_count": counts.output,
            "stop_reason": reason,
        }
        return b"data: %b\n\n" % _encode(piece)


def _choices_of(payload: bytes) -> list[_Choice]:
    try:
        found = _answer.decode(payload)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EngineFailedError from error
    if found.choices is None or found.error is not None:
        raise engine_error(200, payload)
    return found.choices


def _reason(reason: str | None) -> str:
    return "length" if reason == "length" else "stop"
