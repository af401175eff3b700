"""Reads a vendor's request into typed fields, and says what is wrong with it in one sentence that names the field."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec

from sublet.gateway.refusals import InvalidRequestError

_Asked = TypeVar("_Asked")

_AT = re.compile(r" - at `\$\.?([^`]*)`")
_UNKNOWN = re.compile(r"contains unknown field `(.*?)`")
_MISSING = re.compile(r"missing required field `(.*?)`")
_KIND = re.compile(r"Invalid value '?(.*?)'? - at")


def read(decoder: msgspec.json.Decoder[_Asked], body: bytes, at: str = "") -> _Asked:
    """The body, or what stands `at` a place in it, as the decoder's type. Raises InvalidRequestError."""
    try:
        if not body.isascii():
            # What is kept unread is not checked by the decoder.
            body.decode()
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidRequestError("The body is not valid UTF-8; encode it as UTF-8") from error
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply; flatten it") from error
    except msgspec.ValidationError as error:
        raise refused_field(str(error), at) from error
    except msgspec.MsgspecError as error:
        raise InvalidRequestError(f"The body is not a JSON object: {error}") from error


def refused_field(words: str, at: str = "") -> InvalidRequestError:
    """The refusal that msgspec's words of what stands `at` a place mean."""
    if found := _AT.search(words):
        at = _joined(at, found[1][:200])
    if unknown := _UNKNOWN.search(words):
        name = _joined(at, unknown[1][:80])
        return InvalidRequestError(f"{name} is not supported here; leave it out", param=name)
    if missing := _MISSING.search(words):
        name = _joined(at, missing[1][:80])
        return InvalidRequestError(f"{name} is missing", param=name)
    if words.startswith("Expected `null`"):
        return unsupported(at)
    kind = _KIND.search(words)
    if kind and at.endswith(".type"):
        return InvalidRequestError(f"{at}: {kind[1][:80]!r} is not supported here", param=at)
    return InvalidRequestError(
        f"Invalid value{' for ' + at if at else ''}: {_AT.sub('', words)[:300]}", param=at or None
    )


def unsupported(name: str, words: str = "") -> InvalidRequestError:
    """The refusal of a field, by its name and the reason."""
    return InvalidRequestError(f"{name} is not supported here{': ' + words if words else '; leave it out'}", param=name)


def object_of(raw: Any) -> dict[str, Any]:
    """JSON that a model wrote as the arguments of a tool, as an object; where it broke off in the middle, what there is of it under
    `INVALID_JSON`."""
    try:
        found = msgspec.json.decode(raw or "{}")
    except (msgspec.MsgspecError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": raw}


def _joined(at: str, name: str) -> str:
    return f"{at}.{name}" if at and name else at or name
