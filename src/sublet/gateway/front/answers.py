"""The bytes of answers that the gateway gives by itself."""

from __future__ import annotations

import math
from http import HTTPStatus

from sublet.values.errors import SubletError

_STATUS_LINES = {status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus}

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
CLOSE = b"connection: close\r\n"


def status_line(status: int) -> bytes:
    """The status line of an answer."""
    return _STATUS_LINES.get(status) or b"HTTP/1.1 %d Error\r\n" % status


def json_answer(status: int, headers: bytes, body: bytes, *, bodiless: bool = False) -> bytes:
    """A whole answer with a JSON body, which is only announced to a HEAD request (`bodiless`)."""
    return b"%bcontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
        status_line(status),
        headers,
        len(body),
        b"" if bodiless else body,
    )


def refusal_headers(error: SubletError) -> bytes:
    """What a refusal says in headers: when to come again, and what would be taken instead."""
    headers = b""
    retry_after_s = error.details.get("retry_after_s")
    if retry_after_s is not None:
        headers = b"retry-after: %d\r\n" % max(1, math.ceil(retry_after_s))
    allow = error.details.get("allow")
    if allow is not None:
        headers += b"allow: %b\r\n" % allow.encode()
    if error.status == 401:
        headers += b"www-authenticate: Bearer\r\n"
    elif error.status == 415:
        headers += b"accept-encoding: gzip, identity\r\n"
    return headers
