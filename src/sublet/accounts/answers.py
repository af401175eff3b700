"""Routes whose functions return their answer as a wire type, and the types that they declare."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any, get_args

from fastapi.routing import APIRoute
from starlette.responses import Response

from sublet.values.wire import is_answer, json_of


class AnswerRoute(APIRoute):
    """Writes the wire type that a route's function returns as JSON, once.

    FastAPI would make a validator for each route of each application, check again the answer that `as_answer` has checked, and
    do it outside of the thread that made the answer.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        options["response_model"] = None
        super().__init__(path, _writing(endpoint, options.get("status_code") or 200), **options)


def answer_type(endpoint: Callable[..., Any]) -> type | None:
    """The wire type that a route's function declares to return, or None if it returns none: text, a file, or nothing."""
    function = inspect.unwrap(endpoint)
    told = function.__annotations__.get("return")
    if isinstance(told, str):
        told = eval(told, function.__globals__)  # noqa: S307 - an annotation of our own code
    return next((kind for kind in _parts(told) if is_answer(kind)), None)


def _parts(told: Any) -> list[Any]:
    return [told] if not get_args(told) else [part for inner in get_args(told) for part in _parts(inner)]


def _writing(endpoint: Callable[..., Any], status: int) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(endpoint):

        @wraps(endpoint)
        async def write_later(*given: Any, **named: Any) -> Any:
            return _response(await endpoint(*given, **named), status)

        return write_later

    @wraps(endpoint)
    def write(*given: Any, **named: Any) -> Any:
        return _response(endpoint(*given, **named), status)

    return write


def _response(made: Any, status: int) -> Any:
    if is_answer(type(made)):
        return Response(json_of(made), status, media_type="application/json")
    return made
