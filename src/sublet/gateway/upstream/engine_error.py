"""What an engine's error means: whose business it is, and what the client and the operator are told of it."""

from __future__ import annotations

import re
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec

from sublet.gateway.refusals import (
    ContextLengthError,
    EngineBusyError,
    EngineError,
    EngineFailedError,
    EngineMisconfiguredError,
    EngineOverloadedError,
    EngineTimeoutError,
    InvalidRequestError,
    RequestTooLargeError,
    UnprocessableRequestError,
)
from sublet.values.clock import Clock
from sublet.values.errors import SubletError
from sublet.values.text import cleaned_line

_SAID_MAX = 500
RETRY_AFTER_S_MAX = 3600.0
BUSY_S = 2.0

_SECRETS = re.compile(
    r"(?i)\b(?:bearer\s+\S+|sk-[\w*.…-]+|(?:org|proj|key|user|acct)[-_][\w-]{6,})|eyJ[\w-]{10,}[\w.-]*"
)
_PLACES = re.compile(r"https?://[^\s\"']+|(?:/[\w.@+-]+){2,}|\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b")
_CUSTOMERS = {"invalid_request_error": 400, "badrequesterror": 400, "bad_request_error": 400, "validation_error": 422}
_BY_TYPE = _CUSTOMERS | {
    "authentication_error": 401,
    "invalid_api_key": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "model_not_found": 404,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "overloaded_error": 529,
    "timeout_error": 504,
    "exceed_context_size_error": 400,
    "context_length_exceeded": 400,
}

LLAMACPP_TOO_LONG = "exceed_context_size_error"


class _Said(msgspec.Struct):
    message: Any = None
    type: Any = None
    code: Any = None
    param: Any = None
    object: Any = None
    detail: Any = None
    error: Any = None
    n_prompt_tokens: Any = None
    n_ctx: Any = None


_said = msgspec.json.Decoder(_Said)


def engine_error(status: int, body: bytes, wait_s: float | None = None) -> SubletError:
    """The error that an answer of `status` with `body` is; of status 200, the error that its body tells of.

    `wait_s` is what its `Retry-After` says. The engine's own words reach the client where the request was at fault or must
    wait, without secrets, paths and addresses; the operator gets them always, without secrets (EngineError.said).
    """
    message, names, param = _words(body)
    if status == 200:
        status = _status_of(names)
    told = cleaned_line(_PLACES.sub("…", _SECRETS.sub("…", message)), _SAID_MAX)
    found = _error_of(status, names, told, param, wait_s)
    if isinstance(found, EngineError):
        found.engine_status = status
        found.said = cleaned_line(_SECRETS.sub("…", message), _SAID_MAX)
    return found


def retry_after_s(value: bytes, clock: Clock) -> float | None:
    """The seconds of a `Retry-After` header, as seconds or as a date; None where it says nothing usable."""
    text = value.decode("latin-1").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, TypeError):
            return None
        if at.tzinfo is None:
            return None
        seconds = (at - clock.now()).total_seconds()
    return min(seconds, RETRY_AFTER_S_MAX) if seconds >= 0 else None


def _error_of(status: int, names: tuple[str, ...], told: str, param: str | None, wait_s: float | None) -> SubletError:
    if status in (400, 413, 422):
        too_long = LLAMACPP_TOO_LONG in names or "context_length_exceeded" in names
        if too_long or ("context" in told and "token" in told):
            return ContextLengthError(
                f"The model's context is too short for this request: {told}", param=param or "messages"
            )
        kinds = {400: InvalidRequestError, 413: RequestTooLargeError, 422: UnprocessableRequestError}
        return kinds[status](f"The model can't answer this request: {told or 'it gave no reason'}", param=param)
    if status == 429:
        shown_s = BUSY_S if wait_s is None else wait_s
        reason = f" ({told})" if told else ""
        return EngineBusyError(
            f"The model's server takes no more requests now{reason}; try again in {shown_s:.0f} s",
            retry_after_s=shown_s,
        )
    if status in (503, 529):
        shown_s = BUSY_S if wait_s is None else wait_s
        return EngineOverloadedError(
            f"The model's server is overloaded or still starting; try again in {shown_s:.0f} s", retry_after_s=shown_s
        )
    if status in (408, 504):
        return EngineTimeoutError()
    if status in (401, 402, 403, 404, 405) or 300 <= status < 400:
        return EngineMisconfiguredError()
    return EngineFailedError()


def _words(body: bytes) -> tuple[str, tuple[str, ...], str | None]:
    """Message, type and code, and field of an error in any of the usual shapes."""
    try:
        outer = _said.decode(body)
    except (msgspec.MsgspecError, RecursionError):
        # Not an error of an API: a proxy's page, say. Its first words may still help the operator.
        return body[:_SAID_MAX].decode(errors="replace"), (), None
    inner = outer.error
    if isinstance(inner, str):
        return inner, _names(outer), None
    found = msgspec.convert(inner, _Said) if isinstance(inner, dict) else outer
    if LLAMACPP_TOO_LONG in _names(found):
        return _context_sentence(found.n_prompt_tokens, found.n_ctx), _names(found), None
    message = found.message if found.message is not None else found.detail
    text = message if isinstance(message, str) else "" if message is None else msgspec.json.encode(message).decode()
    return text, _names(found), found.param if isinstance(found.param, str) else None


def _context_sentence(prompt_tokens: Any, context_tokens: Any) -> str:
    """What llama.cpp's numbers mean to anyone who sent the prompt: its own sentence tells an operator to raise a setting."""
    if not isinstance(prompt_tokens, int) or not isinstance(context_tokens, int):
        return "shorten the prompt"
    return (
        f"the prompt has {prompt_tokens:,} tokens, and the context holds {context_tokens:,}, prompt and answer together; "
        "shorten the prompt"
    )


def _names(said: _Said) -> tuple[str, ...]:
    return tuple(str(item).lower() for item in (said.code, said.type) if isinstance(item, str | int))


def _status_of(names: tuple[str, ...]) -> int:
    for name in names:
        if name.isdecimal() and 400 <= int(name[:6]) < 600:
            return int(name)
        if name in _BY_TYPE:
            return _BY_TYPE[name]
    return 500
