"""Requests that depend on the state that their sender has seen: the headers, and answers that carry a tag."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sublet.values.etags import Condition, tag_of


def if_match(request: Request) -> Condition:
    """A dependency: what the sender of a change says it has seen. Raises InvalidInputError."""
    return Condition.read("If-Match", request.headers.getlist("if-match"))


def shown(request: Request, document: dict[str, Any], state: Any = None) -> Response:
    """A document with its tag, or 304 where the sender has it already. `state` is what the tag is made from, where that is not
    the document."""
    tag = tag_of(document if state is None else state)
    if Condition.read("If-None-Match", request.headers.getlist("if-none-match")).holds(tag):
        return Response(status_code=304, headers={"etag": tag})
    return JSONResponse(document, headers={"etag": tag})


def changed(document: dict[str, Any], state: Any = None) -> Response:
    """What a change made, with its new tag."""
    return JSONResponse(document, headers={"etag": tag_of(document if state is None else state)})
