"""Requests that depend on the state that their sender has seen: the headers, and answers that carry a tag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from starlette.requests import Request
from starlette.responses import Response

from sublet.values.etags import Condition, tag_of
from sublet.values.wire import as_answer, json_of

T = TypeVar("T")


class Tagged(Response, Generic[T]):
    """An answer of type `T` with its entity tag, or 304 without it."""

    media_type = "application/json"


def if_match(request: Request) -> Condition:
    """A dependency: what the sender of a change says it has seen. Raises InvalidInputError."""
    return Condition.read("If-Match", request.headers.getlist("if-match"))


def shown(request: Request, kind: type[T], document: Mapping[str, Any], state: Any = None) -> Tagged[T]:
    """The answer that a document describes, with its tag, or 304 if the sender has it already. `state` is what the tag is made
    from, if that is not the document."""
    tag = tag_of(document if state is None else state)
    if Condition.read("If-None-Match", request.headers.getlist("if-none-match")).holds(tag):
        return Tagged(status_code=304, headers={"etag": tag})
    return Tagged(json_of(as_answer(kind, document)), headers={"etag": tag})


def changed(kind: type[T], document: Mapping[str, Any], state: Any = None) -> Tagged[T]:
    """The answer after a change, with its new tag."""
    return Tagged(json_of(as_answer(kind, document)), headers={"etag": tag_of(document if state is None else state)})
