"""What both clients share and what needs no connection: requests, when to try again, and what an answer means."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import lru_cache
from importlib import import_module
from typing import Any, get_args, get_type_hints
from urllib.parse import quote, urlencode

import msgspec

from sublet.client.operations import BYTES, DOCUMENT, NONE, Operation
from sublet.values.errors import (
    ConflictError,
    ForbiddenError,
    InvalidInputError,
    LimitExceededError,
    NotFoundError,
    StorageFullError,
    SubletError,
    UnauthenticatedError,
    UnavailableError,
    all_error_types,
)
from sublet.values.ids import new_id
from sublet.values.wire import wire_name

TRIES_MAX = 4
PAUSE_S_MAX = 10.0
PAUSE_FIRST_S = 0.2
_REPEATABLE = frozenset({"GET", "PUT", "DELETE"})
_PASSING = frozenset({502, 504})
_TOLD_WHEN = frozenset({429, 503})

# Not every program loads every part's errors: one of an unknown code is at least told by its status.
_BY_STATUS: dict[int, type[SubletError]] = {
    kind.status: kind
    for kind in (
        InvalidInputError,
        UnauthenticatedError,
        ForbiddenError,
        NotFoundError,
        ConflictError,
        LimitExceededError,
        UnavailableError,
        StorageFullError,
    )
}


class NoAnswerError(Exception):
    """No answer came. `begun` is whether the service may have seen the request."""

    def __init__(self, reason: str, *, begun: bool) -> None:
        super().__init__(reason)
        self.begun = begun


@dataclass(frozen=True, slots=True)
class Request:
    """What goes over the connection. `repeatable`: carrying it out twice does no more than once. `progress` is told how many bytes
    of the body have been sent."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes | None
    repeatable: bool
    progress: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def request_for(
    operation: Operation, arguments: tuple[str, ...], if_match: str | None = None, **options: Any
) -> Request:
    """As `request_of`, on condition that what it changes is still as the tag `if_match` says. Such a request is not tried again:
    had it been carried out, its own change would refuse it. Raises TypeError where the operation changes nothing in place."""
    request = request_of(operation, arguments, **options)
    if if_match is None:
        return request
    if not operation.edits:
        raise TypeError(f"{operation.id} takes no if_match")
    return replace(request, headers={**request.headers, "If-Match": if_match}, repeatable=False)


def request_of(
    operation: Operation,
    arguments: tuple[str, ...],
    body: Any = None,
    query: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    content_type: str = "application/json",
) -> Request:
    """The request of an operation. Every POST carries an idempotency key, a new one where none is given, so that it can be
    tried again. Raises TypeError for arguments, a body or query parameters that the operation does not have."""
    if len(arguments) != len(operation.parameters):
        raise TypeError(f"{operation.id} takes {', '.join(operation.parameters) or 'no argument'}")
    unknown = set(query or ()) - set(operation.query)
    if unknown or (body is not None and not operation.body):
        raise TypeError(f"{operation.id} takes no {', '.join(sorted(unknown)) or 'body'}")
    path = operation.path
    for name, value in zip(operation.parameters, arguments, strict=True):
        if value in ("", ".", ".."):
            raise InvalidInputError(f"{name} is {value!r}, which is not a valid id or name")
        path = path.replace("{" + name + "}", quote(value, safe=""))
    return plain_request(operation.method, path, body, query, idempotency_key, content_type)


def plain_request(
    method: str,
    path: str,
    body: Any = None,
    query: Mapping[str, Any] | None = None,
    idempotency_key: str | None = None,
    content_type: str = "application/json",
) -> Request:
    """A request by its path. A body that is no bytes is written as JSON."""
    given = {name: _text(value) for name, value in (query or {}).items() if value is not None}
    target = path + (f"?{urlencode(given, doseq=True)}" if given else "")
    headers: dict[str, str] = {"Accept": "*/*"}
    if method == "POST":
        headers["Idempotency-Key"] = idempotency_key or new_id("req")
    content = body if body is None or isinstance(body, bytes) else msgspec.json.encode(_document(body))
    if content is not None:
        headers["Content-Type"] = content_type
    return Request(method, target, headers, content, method in _REPEATABLE or "Idempotency-Key" in headers)


def _text(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_text(item) for item in value]
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _document(value: Any) -> Any:
    """A wire type as the fields of its JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {wire_name(field.name): _document(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: _document(item) for name, item in value.items()}
    return [_document(item) for item in value] if isinstance(value, list | tuple) else value


def pause_s(request: Request, tried: int, answer: Answer | NoAnswerError) -> float | None:
    """Seconds until the request is worth another try, or None.

    A refusal (429, 503) is tried again only where the service says when, and that is soon; a gateway's 502 and 504 and a
    connection that broke after a growing, random pause. What might be carried out twice is never tried again.
    """
    if tried >= TRIES_MAX or not request.repeatable:
        return None
    if isinstance(answer, NoAnswerError):
        # Where nobody listens, waiting helps nobody.
        return _growing(tried) if answer.begun else None
    if answer.status in _PASSING:
        return _growing(tried)
    if answer.status in _TOLD_WHEN:
        told = answer.headers.get("retry-after", "")
        return float(told) if told.isdecimal() and int(told) <= PAUSE_S_MAX else None
    return None


def _growing(tried: int) -> float:
    return random.uniform(PAUSE_FIRST_S / 2, PAUSE_FIRST_S) * 2.0 ** (tried - 1)


def document_of(answer: Answer, url: str) -> Any:
    """The JSON of an answer. Raises the service's own error where it refused."""
    try:
        found = msgspec.json.decode(answer.body) if answer.body else {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise not_sublet(url) from error
    if 200 <= answer.status < 300:
        return found
    told = found.get("error", {}) if isinstance(found, dict) else {}
    told = told if isinstance(told, dict) else {}
    unknown = InvalidInputError if 400 <= answer.status < 500 else SubletError
    code = str(told.get("code") or "")
    kind = all_error_types().get(code, _BY_STATUS.get(answer.status, unknown))
    details = told.get("details") if isinstance(told.get("details"), dict) else {}
    refused = kind(str(told.get("message") or f"Sublet answered {answer.status}"), **(details or {}))
    # The class of a domain's own error is usually not loaded here; its code is what callers decide by.
    refused.code = code or refused.code
    raise refused


def not_sublet(url: str) -> UnavailableError:
    """What is at the address speaks another language."""
    return UnavailableError(f"what answers at {url} is not Sublet; check SUBLET_URL or your profile")


def answer_of(operation: Operation, answer: Answer, url: str) -> Any:
    """The answer as the operation's type; a document, bytes or None where it has none. Raises the service's own error."""
    if operation.answer == BYTES and 200 <= answer.status < 300:
        return answer.body
    found = document_of(answer, url)
    if operation.answer in (DOCUMENT, BYTES):
        return found
    if operation.answer == NONE:
        return None
    kind = wire_type(operation.answer)
    try:
        return msgspec.convert(_for_python(found, kind), kind)
    except msgspec.ValidationError as error:
        raise UnavailableError(
            f"the response to {operation.id} does not have the format that this client version expects: {error}"
        ) from error


@lru_cache(maxsize=256)
def wire_type(place: str) -> type:
    """The wire type that `domain:Class` names."""
    domain, _, name = place.partition(":")
    found: type = getattr(import_module(f"sublet.{domain}.wire"), name)
    return found


@lru_cache(maxsize=256)
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _for_python(found: Any, kind: Any) -> Any:
    """JSON with the names that a type's fields have in Python, such as `class_` for `class`."""
    if isinstance(found, dict) and is_dataclass(kind) and isinstance(kind, type):
        names = {wire_name(field.name): field.name for field in fields(kind)}
        hints = _hints(kind)
        return {names[name]: _for_python(value, hints[names[name]]) for name, value in found.items() if name in names}
    inner = [argument for argument in get_args(kind) if argument is not type(None)]
    if isinstance(found, list) and inner:
        return [_for_python(item, inner[0]) for item in found]
    if isinstance(found, dict) and inner:
        return (
            {name: _for_python(value, inner[-1]) for name, value in found.items()}
            if getattr(kind, "__origin__", None) is dict
            else _for_python(found, inner[0])
        )
    return found
